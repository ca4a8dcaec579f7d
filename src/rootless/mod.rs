//! What becomes of a configuration when whoever runs it is not root.
//!
//! ```text
//! /etc/subuid, /etc/subgid ─ subid ─▶ ranges ─ mappings ─▶ uid_map, gid_map
//! Document + Caller + maps + host nodes ─ conversion ─▶ Plan
//! ```
//!
//! Every change is an [`Edit`](crate::edit::Edit) with its reason, so that
//! `explain` shows it. A configuration that brings id mappings, or joins a user
//! namespace, was made for its caller and is left alone.
//!
//! Pure: files are read and nodes looked at in [`host::caller`](crate::host::caller).

mod conversion;
mod mappings;
mod subid;

use std::path::PathBuf;

pub use conversion::{Situation, applies, devices, host_file_systems, plan, unmapped};
pub use mappings::{Maps, container_map, is_mapped, parse_map};
pub use subid::{Range, User, ranges};

/// Who runs the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Whether this is another user namespace than the host's first.
    pub in_user_namespace: bool,
}

impl Caller {
    /// Root, with every privilege over the host.
    #[must_use]
    pub fn is_host_root(&self) -> bool {
        self.uid == 0 && !self.in_user_namespace
    }

    /// Anybody but root, wherever.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.uid != 0
    }
}

/// Why a configuration cannot be converted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootlessError {
    /// A line that belongs to the caller and makes no sense.
    #[error("{}:{line}: {reason}; write NAME:FIRST:COUNT", file.display())]
    Line {
        /// `/etc/subuid` or `/etc/subgid`.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Two ranges share ids: one id would have two meanings in the container.
    #[error("{}:{line}: {range} overlaps with {other} of line {other_line}; remove one of them", file.display())]
    Overlap {
        /// `/etc/subuid` or `/etc/subgid`.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As `FIRST:COUNT`.
        range: String,
        /// The earlier range.
        other: String,
        /// Its line.
        other_line: usize,
    },
    /// A range has the id that the container's root is mapped to.
    #[error("{}:{line}: {range} holds the caller's own id {id}, which is the container's root already; remove it from the range", file.display())]
    OwnId {
        /// `/etc/subuid` or `/etc/subgid`.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As `FIRST:COUNT`.
        range: String,
        /// The caller's.
        id: u32,
    },
    /// More ids than the container's numbers can name.
    #[error("{}: the ranges of uid {uid} hold more ids than a container can number; remove some", file.display())]
    TooMany {
        /// `/etc/subuid` or `/etc/subgid`.
        file: PathBuf,
        /// The caller's.
        uid: u32,
    },
    /// A device of the configuration is not on the host.
    #[error("linux.devices: {}: the host has no node for {kind} {major}:{minor}, and a rootless container can have no other", path.display())]
    NoNode {
        /// The path inside the container.
        path: PathBuf,
        /// `c` or `b`.
        kind: &'static str,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A field of the configuration has the wrong type.
    #[error(transparent)]
    Document(#[from] crate::document::DocumentError),
}
