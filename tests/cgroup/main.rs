//! Real cgroups on a real kernel: what this host has, and a private view of the
//! unified hierarchy alone.
//!
//! Each test runs twice, the second time re-executed in a mount namespace of its
//! own that shows only `cgroup2`. There, controllers that version 1 holds are
//! missing, but placing, freezing and killing are all there. Only cgroups named
//! after the test's own process are ever made.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod child;
mod limits;
mod places;
mod processes;
mod rootless;
mod usage;
mod view;
