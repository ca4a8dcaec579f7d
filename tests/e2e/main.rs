//! End to end: the runtime under test makes real containers on this kernel, and
//! each test looks at them as a user or an engine would. Most run on the host's
//! own cgroup layout and on a pure cgroup v2 tree.
//!
//! What follows from the runc contract also passes with
//! `KUSABI_TEST_RUNTIME=runc`; what only kusabi does is skipped there.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod assembly;
mod attributes;
mod cdi;
mod cgroup;
mod checkpoint;
mod crash;
mod filter;
mod foreground;
mod gpus;
mod hooks;
mod lifecycle;
mod live;
mod mount_namespace;
mod mounts;
mod namespaces;
mod net_devices;
mod parity;
mod parked;
mod process;
mod readiness;
mod seal;
mod seccomp;
mod terminal;
mod without_cgroups;
