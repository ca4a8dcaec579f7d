//! What this machine is like, probed once and handed on as plain data.
//!
//! Every probe takes a host root, so that a tree of files is a machine; nothing
//! here decides anything.

pub mod cdi_dirs;
pub mod facts;
pub mod gpu;
pub mod nodes;
pub mod policy_file;
mod trust;

pub use trust::maps_every_id;
