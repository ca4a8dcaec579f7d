//! Debian's engines with the runtime under test: podman as root and as a plain
//! user, containerd through runc's shim, dockerd; and what they are to a built
//! bundle: what they give a container, and the image layouts that they write.
//!
//! Each engine sees a host of its own (see `ground`): a private mount namespace
//! in which `/etc` is an overlay and `/run` is empty, with storage and sockets in
//! the test's directory. What it leaves on the real host is found by the sandbox.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod containerd;
mod contrib;
mod docker;
mod given;
mod ground;
mod layouts;
mod podman;
