//! The policy file and what hangs on it, as an operator sees it: what is shown
//! and refused, and what containers get.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod delegate;
mod doctor;
mod edits;
mod explained;
mod file;
mod leases;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::{Bundle, Sandbox, Spawn};

/// A policy file of a sandbox.
pub fn policy(sandbox: &Sandbox, text: &str) -> PathBuf {
    let path = sandbox
        .dir()
        .join(format!("policy-{}.toml", sandbox.fresh()));
    write(&path, text);
    path
}

/// A file that a policy may be.
pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// `command` for `bundle` under a policy.
pub fn under(sandbox: &Sandbox, policy: &Path, command: &[&str], bundle: &Bundle) -> Spawn {
    sandbox
        .call(command)
        .env("KUSABI_CONFIG", policy)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
}
