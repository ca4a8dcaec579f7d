//! A container that a test has made, by way of the runtime's commands.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use super::process::{Output, Spawn, wait_until, with_suffix};
use super::sandbox::{Bundle, Sandbox};

/// A container of a sandbox.
#[derive(Debug)]
pub struct Container<'a> {
    sandbox: &'a Sandbox,
    /// Its id.
    pub id: String,
}

impl<'a> Container<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, bundle: &Bundle) -> Self {
        Self {
            sandbox,
            id: bundle.id.clone(),
        }
    }

    /// Where its init's output goes, without the suffix.
    pub(super) fn stem(&self) -> PathBuf {
        self.sandbox.dir().join(format!("init-{}", self.id))
    }

    /// A call of `command` with `flags` for this container.
    pub fn call(&self, command: &str, flags: &[&str]) -> Spawn {
        self.sandbox.call([command]).args(flags).arg(&self.id)
    }

    /// What its init has written to stdout up to now.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(with_suffix(&self.stem(), ".out")).unwrap_or_default()
    }

    /// What the runtime says of it.
    #[track_caller]
    pub fn state(&self) -> Value {
        let out = self.call("state", &[]).output().succeeded();
        serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("state: {e}: {}", out.stdout))
    }

    /// Its status.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    /// The pid of its init on the host.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().expect("a pid");
        i32::try_from(pid).expect("a pid")
    }

    /// Starts it.
    #[track_caller]
    pub fn start(&self) {
        self.call("start", &[]).output().succeeded();
    }

    /// Runs `args` in it, in the foreground, to their end.
    #[track_caller]
    pub fn exec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.call("exec", &[]).args(args).output()
    }

    /// Runs `script` in it with the container's shell.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.exec(["/bin/sh", "-c", script])
    }

    /// Sends `signal` to its init.
    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.call("kill", &[]).arg(signal).output().succeeded();
    }

    /// Waits until its status is `status`.
    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        wait_until(&format!("{} {status}", self.id), || self.status() == status);
    }

    /// Deletes it; it must be stopped or only created.
    #[track_caller]
    pub fn delete(&self) {
        self.call("delete", &[]).output().succeeded();
    }

    /// Deletes it whatever it does.
    #[track_caller]
    pub fn delete_force(&self) {
        self.call("delete", &["--force"]).output().succeeded();
    }
}
