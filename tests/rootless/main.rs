//! Containers of a caller who is not root: a plain user that exists only inside
//! the test, with `/etc/passwd`, `/etc/subuid` and `/etc/subgid` of its own in a
//! private mount namespace. The host's files are never touched.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod bundle;
mod commands;
mod delegated;
mod devices;
mod maps;
mod namespace_root;
mod parity;
mod user;
