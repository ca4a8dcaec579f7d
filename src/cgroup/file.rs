//! Reading and writing control files: one system call a value, no file is ever
//! made, and every failure names the file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::{CgroupError, Result};

/// Writes `value` in one `write`, as control files want it.
///
/// # Errors
/// The file does not open (`Io`), or the kernel refuses the value (`Write`).
pub(crate) fn write(path: &Path, value: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(path)
        .map_err(|e| CgroupError::io("open", path, e))?;
    loop {
        match file.write(value.as_bytes()) {
            // Control files take all or nothing.
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(CgroupError::Write {
                    value: value.to_owned(),
                    path: path.to_path_buf(),
                    source,
                });
            }
        }
    }
}

/// The whole text of a control file.
///
/// # Errors
/// The file does not open, or cannot be read.
pub(crate) fn read(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| CgroupError::io("open", path, e))?;
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|e| CgroupError::io("read", path, e))?;
    Ok(text)
}

/// As [`read`]; a file that is not there, or whose cgroup has gone, is `None`.
///
/// # Errors
/// Any other failure.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file with a single number. `max` is the largest; the kernel's negative
/// slips are zero.
///
/// # Errors
/// The file cannot be read, or holds no number.
pub(crate) fn read_number(path: &Path) -> Result<u64> {
    parse_number(read(path)?.trim()).map_err(|reason| CgroupError::Parse {
        path: path.to_path_buf(),
        reason,
    })
}

/// A number as control files write it.
pub(crate) fn parse_number(text: &str) -> std::result::Result<u64, String> {
    if text == "max" {
        return Ok(u64::MAX);
    }
    match (text.parse::<u64>(), text.strip_prefix('-')) {
        (Ok(number), _) => Ok(number),
        (Err(_), Some(digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok(0)
        }
        (Err(_), _) => Err(format!("{text:?} is not a number")),
    }
}

/// The value of `key` in `KEY VALUE` lines.
pub(crate) fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, want) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("max", Some(u64::MAX)),
            ("-5", Some(0)),
            ("-99999999999999999999999", Some(0)),
            ("", None),
            ("-", None),
            ("-a", None),
            ("1 2", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(parse_number(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn keys_match_whole_words() {
        let text = "oom 1\noom_kill 2\npopulated 0\n";
        assert_eq!(value_of(text, "oom"), Some("1"));
        assert_eq!(value_of(text, "oom_kill"), Some("2"));
        assert_eq!(value_of(text, "kill"), None);
    }

    #[test]
    fn nothing_is_ever_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.max");
        let error = write(&path, "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("open {}: no such file or directory", path.display())
        );
        assert!(!path.exists());
        assert!(read_optional(&path).unwrap().is_none());
    }
}
