//! GPUs of recorded hosts (`tests/fixtures/hosts`): what is found, what every
//! source of requests comes to in every mode, and what a recording is worth.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod doctor;
mod golden;
mod hosts;
mod links;
mod properties;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use kusabi::gpu::needs;
use kusabi::host::facts::Snapshot;
use kusabi::host::gpu::probe;

/// Every recorded host.
pub const HOSTS: [&str; 14] = [
    "nvidia-1",
    "nvidia-4",
    "nvidia-8",
    "nvidia-switch",
    "nvidia-mig",
    "nvidia-mismatch",
    "amd-8",
    "amd-pairs",
    "amd-partitions",
    "intel",
    "habana-8",
    "mixed",
    "virtual",
    "none",
];

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn host(name: &str) -> PathBuf {
    fixtures().join("hosts").join(name)
}

/// All that a recorded host tells, read once.
pub fn snapshot(name: &str) -> Snapshot {
    static READ: Mutex<BTreeMap<String, Snapshot>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap();
    let known = read
        .entry(name.to_owned())
        .or_insert_with(|| probe(&host(name), &needs(None)).unwrap());
    known.clone()
}

/// What a command did.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs kusabi under a policy, with nothing of the caller's environment that it
/// reads.
pub fn kusabi(policy: &Path, args: &[&str]) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_kusabi"))
        .args(args)
        .stdin(Stdio::null())
        .env("KUSABI_CONFIG", policy)
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("CDI_SPEC_DIRS")
        .output()
        .unwrap();
    Done {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
