//! Why an operation on a cgroup failed, in runc's words where callers match on
//! them.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::path::PathError;
use super::resources::ResourceError;
use super::systemd::SystemdError;

/// What an operation of this module returns.
pub type Result<T, E = CgroupError> = std::result::Result<T, E>;

/// Why an operation of this module failed. `Display` is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A system call on a cgroup file or directory failed.
    #[error("{action} {}: {}", path.display(), reason(source))]
    Io {
        /// What was tried, as in `mkdir`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("failed to write {value:?}: write {}: {}", path.display(), reason(source))]
    Write {
        /// What was written.
        value: String,
        /// The control file.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
    /// A control file has content that cannot be understood.
    #[error("unable to parse {}: {reason}", path.display())]
    Parse {
        /// The control file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `linux.cgroupsPath` or `--cgroup` makes no sense here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// `linux.resources` makes no sense, or not on this version of cgroups.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// There is no cgroup that containers could be made in.
    #[error(transparent)]
    Parent(#[from] super::parent::ParentError),
    /// The cgroup could not be made.
    #[error("unable to apply cgroup configuration: {0}")]
    Create(#[source] Box<CgroupError>),
    /// Without permission to make a cgroup there can be neither limits nor a
    /// path that was asked for.
    #[error(
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {0}"
    )]
    Rootless(#[source] Box<CgroupError>),
    /// The cgroup already holds processes that are not this container's.
    #[error("container's cgroup is not empty: {count} process(es) found")]
    NotEmpty {
        /// How many.
        count: usize,
    },
    /// A process born in this cgroup would never run.
    #[error("container's cgroup unexpectedly frozen")]
    Frozen,
    /// An ancestor has processes or is threaded, so that memory, io and the
    /// like cannot be limited here.
    #[error("cannot enter cgroupv2 {path:?} with domain controllers -- it is in {state}")]
    Domain {
        /// The directory in the way.
        path: PathBuf,
        /// Its `cgroup.type`, in words.
        state: String,
    },
    /// A limit was asked for in a hierarchy the container has no cgroup in.
    #[error("cannot set {controller} limit: container could not join or create cgroup")]
    NoDirectory {
        /// The controller, as in `memory`.
        controller: String,
    },
    /// A value is possible, but not in the cgroup's present state.
    #[error("{0}")]
    Limit(String),
    /// A key of `linux.resources.unified` could not be set.
    #[error("{0}")]
    Unified(String),
    /// The cgroup's processes cannot be frozen or thawed.
    #[error("{0}")]
    Freezer(String),
    /// The cgroup has gone, and with it the container's processes.
    #[error("cgroup not exist")]
    Gone,
    /// A process cannot be born in the cgroup. The kernel takes `0` as "the
    /// process that writes".
    #[error("error adding pid 0 to cgroups: {0}")]
    Join(#[source] Box<CgroupError>),
    /// The cgroup's directories could not be removed.
    #[error("unable to remove container's cgroup: {0}")]
    Remove(#[source] Box<CgroupError>),
    /// systemd did not do what it was asked to.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// Out-of-memory events cannot be had.
    #[error("memory controller missing")]
    NoMemoryController,
}

impl CgroupError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// The error number of the system call that failed, where one did.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } | Self::Write { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Self::Create(inner)
            | Self::Rootless(inner)
            | Self::Join(inner)
            | Self::Remove(inner) => inner.errno(),
            _ => None,
        }
    }

    /// Whether this is a lack of permission in the wide sense: read-only
    /// counts.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EPERM | Errno::EACCES | Errno::EROFS)
        )
    }

    /// Whether a file or directory was not there, or vanished while in use.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::ENODEV))
    }
}

/// The kernel's reason as Go programs print it ("no such file or directory"),
/// because engines match on those words.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(code) = error.raw_os_error() else {
        return text;
    };
    let text = text
        .strip_suffix(&format!(" (os error {code})"))
        .unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .into_iter()
        .flat_map(char::to_lowercase)
        .chain(chars.as_str().chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_runc() {
        let write = CgroupError::Write {
            value: "4".into(),
            path: "/sys/fs/cgroup/x/cpu.weight".into(),
            source: io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(
            write.to_string(),
            "failed to write \"4\": write /sys/fs/cgroup/x/cpu.weight: invalid argument"
        );
        let join = CgroupError::Join(Box::new(CgroupError::io(
            "open",
            "/sys/fs/cgroup/cpu/x/tasks",
            io::Error::from_raw_os_error(libc::ENOENT),
        )));
        assert_eq!(
            join.to_string(),
            "error adding pid 0 to cgroups: open /sys/fs/cgroup/cpu/x/tasks: no such file or directory"
        );
        assert!(join.is_absent() && !join.is_permission());
        // nix has words of its own for these, Go has strerror's.
        for (code, want) in [
            (libc::EAGAIN, "resource temporarily unavailable"),
            (libc::EOPNOTSUPP, "operation not supported"),
            (libc::EBUSY, "device or resource busy"),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(code)), want);
        }
    }
}
