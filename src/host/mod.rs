//! What this machine is like, probed once and handed on as plain data.
//!
//! Every probe takes a host root, so that a tree of files is a machine; nothing
//! here decides anything.

pub mod below;
pub mod bounded;
pub mod caller;
pub mod cdi_dirs;
pub mod facts;
pub mod gpu;
pub mod image;
pub mod nodes;
pub mod policy_file;
pub mod secrets;
pub mod survey;
mod trust;
pub mod users;
