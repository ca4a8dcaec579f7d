//! Reading files of somebody else's making, up to a limit: a device, or a file
//! that never ends, must not take all memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::document::Document;
use crate::error::{Error, Result};

/// The most bytes of a file of JSON that a command is given or keeps: what a
/// `config.json` may have.
pub const MAX_JSON: usize = Document::MAX_BYTES;

/// The most bytes of a state file, which holds parts of a `config.json` again.
pub const MAX_STATE: usize = 2 * MAX_JSON;

/// The content of a file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be opened or read, as `open PATH: …`; it is longer.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    drain(file, path, limit)
}

/// The same of a file that is open; `path` names it in errors.
///
/// # Errors
/// It cannot be read; it is longer.
pub fn drain(file: impl Read, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let failed = |source| Error::io("read", path, source);
    let most = u64::try_from(limit).map_or(u64::MAX, |limit| limit.saturating_add(1));
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        let words = format!("more than the limit of {} MiB", limit >> 20);
        return Err(failed(io::Error::other(words)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_more_is_too_much() {
        let path = Path::new("f");
        let of = |length| drain(io::repeat(b'x').take(length), path, 1 << 20);
        assert_eq!(of(1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(
            of((1 << 20) + 1).unwrap_err().to_string(),
            "read f: more than the limit of 1 MiB"
        );
        let endless = read(Path::new("/dev/zero"), 3 << 20).unwrap_err();
        assert_eq!(
            endless.to_string(),
            "read /dev/zero: more than the limit of 3 MiB"
        );
    }
}
