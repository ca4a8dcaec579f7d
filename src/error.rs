//! The one error type that reaches `main`.
//!
//! Each area has its own typed error; this module joins them, decides the exit
//! code, and guarantees the shape callers rely on: one line that starts in lower
//! case and names the object. It may not do I/O.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What an operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure of kusabi. `Display` is the single line shown to the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `config.json` could not be read as a document.
    #[error(transparent)]
    Document(#[from] crate::document::DocumentError),
    /// A CDI specification, name or device is wrong.
    #[error(transparent)]
    Cdi(#[from] crate::cdi::CdiError),
    /// A request for devices is malformed.
    #[error(transparent)]
    Request(#[from] crate::request::RequestError),
    /// The policy cannot be used, or forbids what was asked for.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// GPUs are not as a request needs them.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
    /// Devices are held by others.
    #[error(transparent)]
    Lease(#[from] crate::lease::LeaseError),
    /// An edit cannot be applied to this document.
    #[error(transparent)]
    Edit(#[from] crate::edit::EditError),
    /// The configuration cannot be made fit for a caller without privilege.
    #[error(transparent)]
    Rootless(#[from] crate::rootless::RootlessError),
    /// The cgroup could not be made, read or changed.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// The device filter could not be built, attached or verified.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// The root file system is not fit to be a container's root.
    #[error(transparent)]
    Rootfs(#[from] crate::rootfs::RootfsError),
    /// A service cannot become a container.
    #[error(transparent)]
    Service(#[from] crate::service::ServiceError),
    /// A bundle directory cannot be made or removed.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::BundleError),
    /// Creating, starting or ending a container failed.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// A system call on a named object failed.
    #[error("{action} {}: {}", path.display(), reason(source))]
    Io {
        /// What was tried, as in `open`.
        action: &'static str,
        /// The object it was tried on.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The command line cannot be read.
    #[error(transparent)]
    CommandLine(#[from] Box<crate::cli::UsageError>),
    /// The command line can be read but does not make sense. Exit code 1, as runc.
    #[error("{0}")]
    Usage(String),
    /// A failure that the caller's error stream shows already, because it is also
    /// the container's.
    #[error("{source}")]
    Shown {
        /// The failure itself.
        source: Box<Error>,
    },
    /// A failed `exec` whose exit code callers tell apart (runc: 255).
    #[error("exec failed: {source}")]
    Exec {
        /// The failure itself.
        source: Box<Error>,
    },
}

impl Error {
    /// An I/O failure on `path`, worded as `action path: reason`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// Whether a file is not there.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// The exit code a caller sees: 255 for a failed exec, 3 for a command that
    /// does not exist, else 1, as runc does.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(error) => error.exit_code,
            Self::Exec { .. } => 255,
            _ => 1,
        }
    }
}

/// The reason of an I/O failure as callers of runc match it: the C library's
/// words in lower case, without a number.
#[must_use]
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => &text[..end],
        _ => &text,
    };
    let mut letters = text.chars();
    match letters.next() {
        // Not where the first word is an abbreviation.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A text whose control characters are escaped: what an error quotes of a file
/// or a name must not make lines of its own.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(one_line("a \"b\" \\ 楔"), "a \"b\" \\ 楔");
        assert_eq!(one_line("a\nb\t\u{1b}\u{85}"), "a\\nb\\t\\u{1b}\\u{85}");
    }

    #[test]
    fn reasons_are_gos() {
        let table = [
            (libc::ENOENT, "no such file or directory"),
            (libc::EACCES, "permission denied"),
            (libc::EPERM, "operation not permitted"),
            (libc::ENOTDIR, "not a directory"),
            (libc::EIO, "input/output error"),
        ];
        for (errno, words) in table {
            let error = Error::io("open", "/x", std::io::Error::from_raw_os_error(errno));
            assert_eq!(error.to_string(), format!("open /x: {words}"));
        }
        let other = std::io::Error::other("EOF while parsing");
        assert_eq!(reason(&other), "EOF while parsing");
    }
}
