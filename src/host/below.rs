//! Reads regular files below a directory that is not trusted.
//!
//! Links are resolved with the directory as root, whatever moves meanwhile
//! (`openat2(RESOLVE_IN_ROOT)`); what is opened is what was looked at; nothing
//! but a regular file is ever opened, so no FIFO can hold us up and no device is
//! touched.

use std::fs::Metadata;
use std::io::Read as _;
use std::path::Path;

use pathrs::Root;
use pathrs::flags::OpenFlags;

use super::nodes::{io_error, is_absent, metadata};
use crate::error::reason;

/// Why a file has no content for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Nothing is there.
    Absent,
    /// Something is, and this is what is wrong with it.
    Refused(String),
}

impl Unread {
    /// One line, lower case.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Absent => "no such file or directory".to_owned(),
            Self::Refused(reason) => reason.clone(),
        }
    }
}

/// The content of a regular file of at most `limit` bytes, and what it is.
///
/// # Errors
/// [`Unread`]
pub fn read(root: &Root, path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), Unread> {
    let refused = |error: &std::io::Error| Unread::Refused(reason(error));
    let handle = root.resolve(path).map_err(|error| {
        if is_absent(&error) {
            Unread::Absent
        } else {
            refused(&io_error(&error))
        }
    })?;
    let meta = metadata(&handle).map_err(|error| refused(&error))?;
    if !meta.is_file() {
        return Err(Unread::Refused("is not a regular file".to_owned()));
    }
    let file = handle
        .reopen(OpenFlags::O_RDONLY)
        .map_err(|error| refused(&io_error(&error)))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| refused(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(Unread::Refused(format!("has more than {limit} bytes")));
    }
    Ok((bytes, meta))
}

/// Opens a directory as the root of what is read below it.
///
/// # Errors
/// What the system says.
pub fn open(directory: &Path) -> Result<Root, String> {
    // The directory may itself be named by a link: it is the caller's.
    let directory = directory.canonicalize().map_err(|error| reason(&error))?;
    Root::open(directory).map_err(|error| reason(&io_error(&error)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_below_the_root_are_read() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().join("top");
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(tmp.path().join("secret"), "secret").unwrap();
        fs::write(top.join("etc/real"), "content").unwrap();
        symlink("/etc/real", top.join("absolute")).unwrap();
        symlink("../secret", top.join("out")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = open(&top).unwrap();
        let read = |path: &str| read(&root, Path::new(path), 7).map(|(bytes, _)| bytes);
        assert_eq!(read("etc/real").unwrap(), b"content");
        assert_eq!(read("absolute").unwrap(), b"content");
        assert_eq!(read("out"), Err(Unread::Absent));
        assert_eq!(read("../secret"), Err(Unread::Absent));
        assert_eq!(read("none"), Err(Unread::Absent));
        for path in ["fifo", "etc"] {
            assert_eq!(
                read(path).unwrap_err().reason(),
                "is not a regular file",
                "{path}"
            );
        }
        assert!(matches!(read("loop"), Err(Unread::Refused(_))));
        fs::write(top.join("etc/real"), "contents").unwrap();
        assert_eq!(
            read("etc/real").unwrap_err().reason(),
            "has more than 7 bytes"
        );
    }
}
