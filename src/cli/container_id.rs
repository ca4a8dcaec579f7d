//! Container ids: the one word that becomes part of a path.
//!
//! Pure. Every path that is made from an id starts here, so that no `..`, no
//! slash and nothing longer than a file name ever gets further.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use super::values::Refusal;

/// An id that is safe as a file name: ASCII letters, digits and `_ + - .`, not
/// `.` or `..`, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// The longest file name of Linux, in bytes.
const NAME_MAX: usize = 255;

impl ContainerId {
    /// Checks an id.
    ///
    /// # Errors
    /// When it is empty, too long, or has any other character.
    pub fn parse(text: &str) -> Result<Self, InvalidContainerId> {
        if text.is_empty() {
            return Err(InvalidContainerId::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(InvalidContainerId::TooLong(text.len()));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        if !text.bytes().all(allowed) || text == "." || text == ".." {
            return Err(InvalidContainerId::Format(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for ContainerId {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<OsStr> for ContainerId {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why an id is refused; starts with runc's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidContainerId {
    /// No id at all.
    #[error("container id cannot be empty")]
    Empty,
    /// Longer than a file name may be.
    #[error("invalid container ID format: {0} bytes long, the limit is 255")]
    TooLong(usize),
    /// A character that is not allowed, or a name that means a directory.
    #[error("invalid container ID format: {0:?}: only letters, digits and _ + - . are allowed")]
    Format(String),
}

/// For the command line of every command but `exec`.
pub(super) fn argument(text: &str) -> Result<ContainerId, Refusal> {
    ContainerId::parse(text).map_err(|error| Refusal::Alone(error.to_string()))
}

/// For the command line of `exec`.
pub(super) fn exec_argument(text: &str) -> Result<ContainerId, Refusal> {
    ContainerId::parse(text).map_err(|error| Refusal::Exec(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_engines_make() {
        for id in [
            "test_box1",
            "a",
            "k8s.io-3f2a+x",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "...",
            "-leading-dash",
            &"x".repeat(255),
        ] {
            assert_eq!(ContainerId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_would_leave_the_state_directory() {
        for id in [
            "../x", "..", ".", "/", "a/b", "a\0b", "a b", "é", "a\n", "a:b", "%2e",
        ] {
            let error = ContainerId::parse(id).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid container ID format"),
                "{id:?}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(
            ContainerId::parse("").unwrap_err().to_string(),
            "container id cannot be empty"
        );
    }

    #[test]
    fn a_mebibyte_is_refused_without_being_echoed() {
        let error = ContainerId::parse(&"a".repeat(1 << 20))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "invalid container ID format: 1048576 bytes long, the limit is 255"
        );
        assert!(ContainerId::parse(&"x".repeat(256)).is_err());
    }
}
