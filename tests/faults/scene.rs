//! A container that can be taken through its life again and again, and what
//! there is of it on the host at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kusabi::lease::{Lease, Store};
use kusabi::runtime::fault::Step;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{Bundle, Config, Output, Sandbox, Spawn, host, wait_until};

/// One container id, its bundle, and the commands on it. Its hooks, one of each
/// stage, write down that they ran.
pub struct Scene<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
    pid_file: PathBuf,
    hooks: PathBuf,
}

impl<'a> Scene<'a> {
    /// A bundle whose container has been made and deleted once, so that what the
    /// runtime keeps for all containers is there.
    pub fn new(sandbox: &'a Sandbox) -> Self {
        let hooks = sandbox.dir().join("hooks");
        host::make_dir(&hooks);
        let outside = hooks.to_str().unwrap();
        let stages = [
            ("prestart", outside),
            ("createRuntime", outside),
            ("createContainer", outside),
            ("startContainer", "/hooks"),
            ("poststart", outside),
            ("poststop", outside),
        ];
        let config = stages.iter().fold(
            Config::sleeper().mount("bind", outside, "/hooks", &["rbind", "rw"]),
            |config, (stage, dir)| config.hook(stage, &format!("echo {stage} >> {dir}/order")),
        );
        let cdi = sandbox.dir().join("cdi");
        host::make_dir(&cdi);
        let spec = json!({
            "cdiVersion": "0.6.0",
            "kind": "demo.kusabi.dev/gpu",
            "devices": [{"name": "0", "containerEdits": {
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            }}],
        });
        fs::write(cdi.join("gpu.json"), spec.to_string()).unwrap();
        let scene = Self {
            sandbox,
            bundle: sandbox.bundle(&config),
            pid_file: sandbox.dir().join("pid"),
            hooks: hooks.join("order"),
        };
        scene.run();
        scene.remove();
        scene
    }

    /// The GPUs that it holds.
    pub fn held(&self) -> Vec<Lease> {
        let mut leases = Store::default().leases().unwrap();
        leases.retain(|lease| lease.container.id == self.id());
        leases
    }

    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    pub fn cgroups_path(&self) -> String {
        self.bundle.cgroups_path()
    }

    pub fn create(&self) -> Spawn {
        self.sandbox
            .call(["create", "--cdi-dir"])
            .arg(self.sandbox.dir().join("cdi"))
            .args(["--device", "demo.kusabi.dev/gpu=0", "--pid-file"])
            .arg(&self.pid_file)
            .arg("--bundle")
            .arg(&self.bundle.path)
            .arg(self.id())
    }

    pub fn start(&self) -> Spawn {
        self.sandbox.call(["start", self.id()])
    }

    pub fn exec(&self) -> Spawn {
        self.sandbox
            .call(["exec", "--detach", "--pid-file"])
            .arg(&self.pid_file)
            .args([self.id(), "/bin/sleep", "100001"])
    }

    pub fn delete(&self, force: bool) -> Spawn {
        let flags: &[&str] = if force { &["--force"] } else { &[] };
        self.sandbox.call(["delete"]).args(flags).arg(self.id())
    }

    /// Creates and starts it. No pid file stays.
    #[track_caller]
    pub fn run(&self) {
        self.create().output().succeeded();
        assert!(self.take_pid_file());
        self.start().output().succeeded();
        assert_eq!(self.status(), "running");
    }

    /// Ends its program.
    #[track_caller]
    pub fn stop(&self) {
        let kill = ["kill", self.id(), "KILL"];
        self.sandbox.call(kill).output().succeeded();
        wait_until("the end of init", || self.status() == "stopped");
    }

    /// Deletes it by force, twice; nothing may be left of it.
    #[track_caller]
    pub fn remove(&self) {
        self.delete(true).output().succeeded();
        wait_until("the last process's end", || {
            host::processes_in(self.id()).is_empty()
        });
        self.delete(true).output().succeeded();
        assert_eq!(self.sandbox.left(), Vec::<String>::new());
        self.take_pid_file();
        self.forget_hooks();
    }

    /// Calls a command whose step fails, which it must say.
    #[track_caller]
    pub fn fails(&self, step: Step, call: Spawn) -> Output {
        let fault = format!("{}=error", step.name());
        let out = call.env("KUSABI_FAULT", fault).output();
        assert!(!matches!(out.code, None | Some(0)), "{out}");
        out.says(&format!("injected failure at {}", step.name()))
    }

    /// Calls a command that is killed after a step.
    #[track_caller]
    pub fn is_killed(&self, step: Step, call: Spawn) -> Output {
        let fault = format!("{}=kill", step.name());
        let out = call.env("KUSABI_FAULT", fault).output();
        assert_eq!(out.signal, Some(Signal::SIGKILL as i32), "{out}");
        out
    }

    #[track_caller]
    fn state(&self) -> Value {
        let state = ["state", self.id()];
        let out = self.sandbox.call(state).output().succeeded();
        serde_json::from_str(&out.stdout).expect("the state is JSON")
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap()
    }

    /// The stage of the hook that ran last, if one did.
    pub fn last_hook(&self) -> Option<String> {
        let text = fs::read_to_string(&self.hooks).ok()?;
        text.lines().last().map(str::to_owned)
    }

    pub fn forget_hooks(&self) {
        // Absent where none has run.
        let _ = fs::remove_file(&self.hooks);
    }

    /// Takes the pid file away; whether there was one. It must hold a pid.
    #[track_caller]
    pub fn take_pid_file(&self) -> bool {
        let Ok(text) = fs::read_to_string(&self.pid_file) else {
            return false;
        };
        text.parse::<i32>().expect("a pid in the pid file");
        fs::remove_file(&self.pid_file).unwrap();
        true
    }

    /// Ends what exec has left in it.
    #[track_caller]
    pub fn end_executed(&self, init: i32) {
        for (pid, _) in host::processes_in(self.id()) {
            if pid != init {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            }
        }
        wait_until("the end of the executed process", || {
            host::processes_in(self.id()).len() == 1
        });
    }
}

/// What there is of a sandbox on the host: mounts, cgroups, processes, files
/// with the content of the containers' records, and the descriptors that a
/// process of it has open.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    traces: Vec<String>,
    files: BTreeMap<PathBuf, String>,
    descriptors: BTreeMap<String, PathBuf>,
}

impl Snapshot {
    /// As it is now, with the descriptors of `process`.
    pub fn of(sandbox: &Sandbox, process: Option<i32>) -> Self {
        let mut traces = host::traces(sandbox.unique());
        traces.sort();
        let mut files = BTreeMap::new();
        list(sandbox.dir(), &mut files);
        Self {
            traces,
            files,
            descriptors: process.map(descriptors).unwrap_or_default(),
        }
    }

    /// Requires that all is still as it was.
    #[track_caller]
    pub fn still_holds(&self, sandbox: &Sandbox, process: Option<i32>) {
        let now = Self::of(sandbox, process);
        // Said first: the content of files is long.
        assert_eq!(now.traces, self.traces);
        assert!(now.files.keys().eq(self.files.keys()), "{:#?}", {
            let names = |files: &BTreeMap<PathBuf, String>| -> BTreeSet<PathBuf> {
                files.keys().cloned().collect()
            };
            &names(&now.files) ^ &names(&self.files)
        });
        assert_eq!(&now, self);
    }
}

/// Everything below `dir` but the output of calls, what tests of the filter need,
/// what hooks wrote, and root file systems, where mount points stay as for any runtime.
fn list(dir: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("call-") || name.starts_with("open.") || name == "node" {
            continue;
        }
        if kind.is_dir() && !["rootfs", "hooks"].contains(&name.as_str()) {
            list(&path, files);
        }
        let content = if kind.is_file() {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        } else {
            format!("{kind:?}")
        };
        files.insert(path, content);
    }
}

fn descriptors(pid: i32) -> BTreeMap<String, PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process lives")
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read_link(entry.path()).unwrap())
        })
        .collect()
}
