//! Bundles from service files: what each row of a service file becomes, what is
//! refused and how, which directories are made and removed, and what a container
//! made from a bundle sees, also under other runtimes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod given;
mod json_schema;
mod support;

mod bad;
mod clean;
mod commands;
mod engines;
mod golden;
mod image;
mod inside;
mod library;
mod nested;
mod schema;
