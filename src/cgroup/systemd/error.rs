//! Why systemd did not do what it was asked to.

use std::io;

use super::message::WireError;

/// Why an operation of the systemd driver failed. `Display` is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// `linux.cgroupsPath` is not what this driver reads.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
    )]
    Format {
        /// As written.
        path: String,
    },
    /// The slice is no name of one.
    #[error("invalid slice name: {slice}")]
    Slice {
        /// As written.
        slice: String,
    },
    /// The unit would have no name that systemd takes.
    #[error("linux.cgroupsPath: invalid unit name {unit:?}: use letters, digits and :-_.\\@")]
    Name {
        /// The unit's whole name.
        unit: String,
    },
    /// A manager that belongs to a user cannot delegate version 1.
    #[error("cannot use rootless systemd cgroups manager on cgroup v1")]
    RootlessV1,
    /// An annotation is not a unit property.
    #[error("annotation org.systemd.property.{name}: {reason}")]
    Annotation {
        /// What follows the prefix.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit cannot be said as a property.
    #[error("{0}")]
    Limit(String),
    /// The machine does not run systemd, or its user no manager.
    #[error(
        "failed to connect to dbus: no systemd manager{}: {tried}",
        if *user { " for this user (enable lingering, or log in; XDG_RUNTIME_DIR must be set)" } else { "" }
    )]
    NoManager {
        /// Whether it was a user's that was looked for.
        user: bool,
        /// Each address and why it failed.
        tried: String,
    },
    /// The connection broke.
    #[error("talk to systemd at {address}: {}", crate::error::reason(source))]
    Io {
        /// Which socket.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// What came is not D-Bus.
    #[error("talk to systemd at {address}: {source}")]
    Wire {
        /// Which socket.
        address: String,
        /// Why.
        source: WireError,
    },
    /// systemd refused.
    #[error("{method}{}: {message} ({name})", if unit.is_empty() { String::new() } else { format!(" {unit}") })]
    Refused {
        /// Which method.
        method: String,
        /// For which unit, or empty.
        unit: String,
        /// The error's name, as in `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// In systemd's words.
        message: String,
    },
    /// A unit was not started.
    #[error("error creating systemd unit `{unit}`: got `{result}`")]
    Job {
        /// The unit.
        unit: String,
        /// The job's result, as in `failed`.
        result: String,
    },
    /// A job took too long.
    #[error("timeout waiting for systemd to {action} {unit}")]
    Timeout {
        /// `create` or `remove`.
        action: &'static str,
        /// The unit.
        unit: String,
    },
    /// The process that holds a scope until it has another.
    #[error("hold the scope open: {0}")]
    Keeper(#[source] io::Error),
}

impl SystemdError {
    /// Whether systemd refused with an error of this name.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.ends_with(wanted))
    }
}
