//! Published attacks on container runtimes, replayed against the runtime under
//! test and against runtimes that are known to fall for them.
//!
//! A case is a function that attacks and returns what came of it. The runtime
//! under test must hold; each known-bad runtime that this machine has must not,
//! which shows that the attack works. Known-bad are what `PATH` has, by version,
//! and old runcs in the directory that `KUSABI_TEST_BAD_RUNTIMES` names, called
//! `runc-v1.1.11` and so on.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod canary;
mod console;
mod judge;
mod swap;

mod cgroup;
mod credentials;
mod descriptors;
mod dev;
mod executable;
mod proc;
mod races;
mod state_directory;
