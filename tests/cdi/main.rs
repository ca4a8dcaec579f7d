//! CDI to the letter: the cases of the reference implementation's tables,
//! re-expressed, and what kusabi promises beyond them.
//!
//! One module per table file of the reference. A table's length is part of its
//! type, so a case cannot get lost. Where kusabi differs from the reference on
//! purpose, the case says why.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod annotations;
mod append;
mod apply;
mod cache;
mod commands;
mod dirs;
mod host;
mod inject;
mod names;
mod random;
mod schema;
mod spec;
mod support;
mod validation;
mod versions;
