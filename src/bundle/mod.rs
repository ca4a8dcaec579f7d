//! Bundles from service files: [`BundleBuilder`], and the directories it makes.
//!
//! ```text
//! service file ─ service::ServiceFile ─┐
//! image, secrets, host ─ host::* ──────┤ BundleBuilder
//!                     service::assemble ▶ config.json + the service's devices
//!          request, gpu, cdi, rootless  ▶ Plan ─ edit::apply ▶ Document
//!                           directory   ▶ config.json, rootfs, marker
//! ```
//!
//! What goes into a `config.json` is decided in [`service`](crate::service),
//! which is pure, and by the same plan as that of every other `config.json`.
//! This module looks things up and writes. A directory that it makes has a
//! marker, and only what the marker accounts for is ever replaced or removed;
//! whenever a process that works in one is killed, the next can build there, and
//! remove what is there.

mod build;
mod builder;
mod clean;
mod contents;
mod directory;
mod facts;
mod gpus;
mod marker;

pub use build::{Built, write_config};
pub use builder::{BundleBuilder, BundleSpec, Machine};
pub use clean::clean;
pub use marker::MARKER;

use std::path::PathBuf;

/// Why a bundle directory cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It holds what kusabi did not make.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// What is in the way.
        path: PathBuf,
        /// Why it counts as somebody else's, and what would help.
        reason: String,
    },
}
