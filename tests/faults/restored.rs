//! A container in an image, that can be restored again and again.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use kusabi::runtime::fault::Step;
use nix::sys::signal::Signal;

use crate::common::{Bundle, Config, Output, Sandbox, has_criu, host, wait_until};

/// The image of a container that sleeps, and how to restore it. It has no file open,
/// which CRIU would want as it was.
pub struct Image<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
    pid_file: PathBuf,
    directory: PathBuf,
}

impl<'a> Image<'a> {
    /// A container has run, and is in the image; none where CRIU does not work.
    pub fn of_a_sleeper(sandbox: &'a Sandbox) -> Option<Self> {
        if !has_criu() {
            return None;
        }
        // Not looked into by `Snapshot`: CRIU writes logs beside the image.
        let directory = sandbox.dir().join("hooks");
        host::make_dir(&directory);
        let order = directory.join("order");
        let hook = format!("echo createRuntime >> {}", order.display());
        let config = Config::sleeper().hook("createRuntime", &hook);
        let image = Self {
            sandbox,
            bundle: sandbox.bundle(&config),
            pid_file: sandbox.dir().join("pid"),
            directory,
        };
        let null = [Stdio::null(), Stdio::null(), Stdio::null()];
        let [stdin, stdout, stderr] = null;
        sandbox
            .call(["run", "--detach", "--bundle"])
            .arg(&image.bundle.path)
            .arg(image.id())
            .stdio(stdin, stdout, stderr)
            .output()
            .succeeded();
        assert_eq!(image.status(), "running");
        sandbox
            .call(["checkpoint"])
            .args(image.flags())
            .arg(image.id())
            .output()
            .succeeded();
        Some(image)
    }

    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// Version 2's file system must not be remounted by CRIU: other tests use it.
    fn flags(&self) -> Vec<String> {
        let at = |name: &str| self.directory.join(name).to_str().unwrap().to_owned();
        vec![
            "--image-path".into(),
            at("images"),
            "--work-path".into(),
            at("work"),
            "--manage-cgroups-mode".into(),
            "ignore".into(),
        ]
    }

    /// Restores it, with a fault.
    pub fn restore(&self, fault: Option<&str>) -> Output {
        let log = self.sandbox.dir().join("call-restore.log");
        // Absent the first time.
        let _ = fs::remove_file(&log);
        let mut call = self
            .sandbox
            .call(["--log"])
            .arg(&log)
            .args(["restore", "--detach", "--pid-file"])
            .arg(&self.pid_file)
            .arg("--bundle")
            .arg(&self.bundle.path)
            .args(self.flags())
            .arg(self.id())
            .stdio(Stdio::null(), Stdio::null(), Stdio::null());
        if let Some(fault) = fault {
            call = call.env("KUSABI_FAULT", fault);
        }
        let mut out = call.output();
        out.stderr = fs::read_to_string(log).unwrap_or_default();
        out
    }

    #[track_caller]
    pub fn fails(&self, step: Step) {
        let out = self.restore(Some(&format!("{}=error", step.name())));
        out.exited(1)
            .says(&format!("injected failure at {}", step.name()));
    }

    #[track_caller]
    pub fn is_killed(&self, step: Step) {
        let out = self.restore(Some(&format!("{}=kill", step.name())));
        assert_eq!(out.signal, Some(Signal::SIGKILL as i32), "{out}");
    }

    pub fn status(&self) -> String {
        let out = self.sandbox.call(["state", self.id()]).output().succeeded();
        let state: serde_json::Value = serde_json::from_str(&out.stdout).expect("JSON");
        state["status"].as_str().unwrap().to_owned()
    }

    /// Takes the pid file away; whether there was one.
    pub fn take_pid_file(&self) -> bool {
        fs::remove_file(&self.pid_file).is_ok()
    }

    /// Deletes it by force; nothing may be left of it.
    #[track_caller]
    pub fn remove(&self) {
        self.sandbox
            .call(["delete", "--force", self.id()])
            .output()
            .succeeded();
        wait_until("the last process's end", || {
            host::processes_in(self.id()).is_empty()
        });
        assert_eq!(self.sandbox.left(), Vec::<String>::new());
        self.take_pid_file();
    }
}
