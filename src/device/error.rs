//! Why the device filter could not be made, put in place or found there.

use std::io;
use std::path::PathBuf;

use super::policy::RuleError;
use crate::error::reason;

/// Why an operation of this module failed. Whatever the reason, the container
/// must not run: nobody knows what it could open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A list of rules cannot be honoured.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A path that should be a directory of the v1 devices controller is not.
    #[error("{}: not a directory of the cgroup v1 devices controller", path.display())]
    NotDevicesCgroup {
        /// The path.
        path: PathBuf,
    },
    /// A v1 control file could not be read or opened.
    #[error("{action} {}: {}", path.display(), reason(source))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A rule was refused by the v1 devices controller.
    #[error("write \"{rule}\" to {}: {}{}", path.display(), reason(source), write_hint(source))]
    Write {
        /// The rule, as written.
        rule: String,
        /// `devices.allow` or `devices.deny`.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// `bpf(2)` failed.
    #[error(
        "{action} device filter: {}{}",
        reason(source),
        bpf_hint(action, source)
    )]
    Bpf {
        /// Which operation: `load`, `attach`, `replace`, `detach`, `query`, `identify`.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The filter is not where it was put.
    #[error(
        "device filter is gone: program {id} is not attached to the container's cgroup (attached: {attached}): recreate the container"
    )]
    Gone {
        /// The id of the program that should be attached.
        id: u32,
        /// What is attached instead.
        attached: String,
    },
    /// What is in place allows more than the filter, or cannot be told from it.
    #[error("device filter does not hold: {0}: recreate the container")]
    Changed(String),
    /// A filter of one cgroup version was looked for in the other.
    #[error("device filter was installed for cgroup {installed}, not for cgroup {asked}")]
    WrongVersion {
        /// Where it was put.
        installed: &'static str,
        /// Where it was looked for.
        asked: &'static str,
    },
}

impl DeviceError {
    /// Whether the caller lacks the right to set device filters at all, as a
    /// rootless caller does, in whose container no device node can be made
    /// either. A caller who should have that right must treat it as any error;
    /// a parent cgroup's refusal is never this.
    #[must_use]
    pub fn is_unprivileged(&self) -> bool {
        match self {
            Self::File { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Bpf { action, source } => {
                matches!(*action, "load" | "query") && source.raw_os_error() == Some(libc::EPERM)
            }
            _ => false,
        }
    }
}

fn write_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (does the parent cgroup allow it?)",
        Some(libc::EINVAL) => " (a cgroup with children cannot change its default)",
        _ => "",
    }
}

fn bpf_hint(action: &str, source: &io::Error) -> &'static str {
    match (action, source.raw_os_error()) {
        ("load", Some(libc::EPERM)) => {
            " (needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace; before linux 5.11 also RLIMIT_MEMLOCK)"
        }
        ("load", Some(libc::E2BIG)) => " (too many device rules for the kernel)",
        ("attach", Some(libc::EPERM)) => {
            " (a parent cgroup has a device program that allows none below it)"
        }
        (_, Some(libc::EBADF)) => " (is the directory in a cgroup2 mount?)",
        _ => "",
    }
}
