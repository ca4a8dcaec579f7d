//! The root file system as libcontainer and the assembly leave it, in private
//! mount namespaces: each test runs itself again under `unshare --mount`.
//!
//! libcontainer's own code for devices and links is what runs between the stage
//! and the assembly, called directly.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod attack;
mod ground;
mod mounts;
