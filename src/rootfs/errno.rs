//! pathrs' errors as the errno that callers can act on, and errors in the words
//! that callers match.

use std::io;

use pathrs::error::{Error, ErrorKind};

/// The errno behind a pathrs error; what it noticed as an attack is `EXDEV`, as
/// from `openat2(2)`.
pub(crate) fn from_pathrs(error: &Error) -> io::Error {
    match error.kind() {
        ErrorKind::OsError(Some(errno)) => io::Error::from_raw_os_error(errno),
        ErrorKind::SafetyViolation => io::Error::from_raw_os_error(libc::EXDEV),
        ErrorKind::NotSupported | ErrorKind::NotImplemented => {
            io::Error::from_raw_os_error(libc::ENOSYS)
        }
        ErrorKind::InvalidArgument => io::Error::from_raw_os_error(libc::EINVAL),
        _ => io::Error::other(error.to_string()),
    }
}

/// The kernel's words without the number that Rust appends, in lower case: as Go
/// prints them, and callers match them.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
