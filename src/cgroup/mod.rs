//! The container's cgroup: where it is, what it limits, who is in it.
//!
//! [`Layout`] says which hierarchies exist, [`path`] where the container's
//! directories are (pure), [`Cgroup`] makes them, is stored with the container's
//! state and answers every later command without being told a driver again.
//! Limits go through [`resources`] (typed values, pure) and [`convert`] (files and
//! values, pure) to one writer. Device access is not this module's: it makes the
//! directory that the filter is attached to.
//!
//! Either we make the directories or [`systemd`] does ([`Driver`]).
//!
//! Nothing here moves a process, but for the descriptors of [`Entry`], which a
//! newborn child uses on itself, for [`Cgroup::adopt`], by which a user's systemd
//! takes one over that waits, and [`nested::migrate`], where an operator has
//! allowed it. Nothing else outside the container's own directories
//! is changed, except that version 2 needs its controllers enabled on the way
//! down and version 1's cpusets need values on the way down.

pub mod convert;
pub mod nested;
pub mod parent;
pub mod path;
pub mod resources;
pub mod stats;
pub mod systemd;

mod create;
mod delegate;
mod entry;
mod error;
mod exec;
mod file;
mod freezer;
mod handle;
mod kill;
mod layout;
mod oom;
mod procs;
mod remove;
mod writer;

pub use create::Planned;
pub use delegate::delegated_uid;
pub use entry::Entry;
pub use error::{CgroupError, Result};
pub use exec::ExecPlace;
pub use freezer::FreezerState;
pub use handle::{Cgroup, CgroupSpec, Driver};
pub use layout::{Hierarchy, Layout};
pub use oom::{OomEvent, OomWatch};
pub use path::SubCgroups;
