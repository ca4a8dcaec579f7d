//! containerd's runc shim, which dockerd, nerdctl and Kubernetes stand on.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::terminal::ConsoleSocket;
use crate::common::{Bundle, Config, Output, Sandbox, Spawn, on_each_view, wait_until};
use crate::{last_error, log_objects};

on_each_view![
    a_task_lives_and_is_deleted,
    a_terminal_task_lets_go_of_the_shims_pipes,
    follow_ups_after_the_end_are_not_found,
    a_task_that_cannot_start_is_told_in_the_log,
    a_dead_shims_container_is_deleted_by_force,
    restores_are_typed_with_one_dash,
];

/// The shim's state root is one namespace's: containerd adds the name itself.
struct Shim<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
}

impl<'a> Shim<'a> {
    fn new(sandbox: &'a Sandbox, config: &Config) -> Self {
        Self {
            sandbox,
            bundle: sandbox.bundle(config),
        }
    }

    fn log(&self) -> PathBuf {
        self.bundle.path.join("log.json")
    }

    fn pid_file(&self) -> PathBuf {
        self.bundle.path.join("init.pid")
    }

    /// `--root R --log L --log-format json COMMAND FLAGS ID`
    fn call(&self, command: &str, flags: &[&str]) -> Spawn {
        self.sandbox
            .call(["--log"])
            .arg(self.log())
            .args(["--log-format", "json", command])
            .args(flags)
            .arg(&self.bundle.id)
    }

    /// As [`Shim::call`], to its end, which must be good and without a word.
    #[track_caller]
    fn does(&self, command: &str, flags: &[&str]) -> Output {
        let out = self.call(command, flags).output().succeeded();
        assert_eq!(out.stderr, "", "{out}");
        out
    }

    #[track_caller]
    fn create(&self, flags: &[&str]) -> Output {
        let (path, pid) = (self.bundle.path.clone(), self.pid_file());
        let mut all = vec![
            "--bundle",
            path.to_str().unwrap(),
            "--pid-file",
            pid.to_str().unwrap(),
        ];
        all.extend(flags);
        self.call("create", &all).output()
    }

    /// The shim takes the file's content as it is.
    fn pid(&self) -> i32 {
        let text = fs::read_to_string(self.pid_file()).unwrap();
        text.parse().unwrap_or_else(|e| panic!("{e}: {text:?}"))
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.does("state", &[]).stdout).unwrap()
    }
}

fn a_task_lives_and_is_deleted(sandbox: &Sandbox) {
    let shim = Shim::new(sandbox, &Config::sleeper());
    shim.create(&["--no-new-keyring"]).succeeded();
    let pid = shim.pid();
    // The shim watches for lack of memory from here on: the place is final.
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(&shim.bundle.id), "{cgroup}");
    assert_eq!(
        (&shim.state()["status"], &shim.state()["pid"]),
        (&json!("created"), &json!(pid))
    );
    shim.does("start", &[]);
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(),
        cgroup
    );

    let listed = shim.does("ps", &["--format", "json"]).stdout;
    assert_eq!(serde_json::from_str::<Vec<i32>>(&listed).unwrap(), [pid]);
    shim.does("pause", &[]);
    assert_eq!(shim.state()["status"], "paused");
    shim.does("resume", &[]);

    let process = shim.bundle.path.join("process.json");
    let exec_pid = shim.bundle.path.join("exec.pid");
    let spec = json!({"args": ["/bin/sleep", "100000"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&process, spec.to_string()).unwrap();
    let (process, pid_path) = (process.to_str().unwrap(), exec_pid.to_str().unwrap());
    shim.does(
        "exec",
        &["--process", process, "--detach", "--pid-file", pid_path],
    );
    let executed: i32 = fs::read_to_string(&exec_pid).unwrap().parse().unwrap();
    let listed = shim.does("ps", &["--format", "json"]).stdout;
    let mut pids: Vec<i32> = serde_json::from_str(&listed).unwrap();
    pids.sort_unstable();
    let mut wanted = [pid, executed];
    wanted.sort_unstable();
    assert_eq!(pids, wanted);

    let resources = sandbox.dir().join("resources");
    fs::write(&resources, "{}").unwrap();
    let update = shim
        .call("update", &["--resources=-"])
        .stdin_from(&resources);
    update.output().succeeded();
    shim.does("kill", &["--all"]);
    shim.call("kill", &[]).arg("9").output();
    wait_until("the end", || shim.state()["status"] == "stopped");
    shim.does("delete", &[]);
    assert!(
        log_objects(&shim.log())
            .iter()
            .all(|o| o["level"] != "error")
    );
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// The shim reads create's output to its end before it goes on.
fn a_terminal_task_lets_go_of_the_shims_pipes(sandbox: &Sandbox) {
    let config = Config::shell("tty; sleep 100000").set("/process/terminal", true);
    let shim = Shim::new(sandbox, &config);
    let socket = ConsoleSocket::bind(sandbox.dir().join("pty.sock"));
    let mut child = std::process::Command::new(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .arg("--log")
        .arg(shim.log())
        .args(["--log-format", "json", "create", "--bundle"])
        .arg(&shim.bundle.path)
        .arg("--pid-file")
        .arg(shim.pid_file())
        .arg("--console-socket")
        .arg(socket.path())
        .arg(&shim.bundle.id)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    // Would never return if the container held the other ends.
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
    let (terminal, _) = socket.receive();
    shim.does("start", &[]);
    terminal.expect("/dev/");
    shim.does("delete", &["--force"]);
}

fn follow_ups_after_the_end_are_not_found(sandbox: &Sandbox) {
    let shim = Shim::new(sandbox, &Config::shell("exit 0"));
    shim.create(&[]).succeeded();
    shim.does("start", &[]);
    wait_until("the end", || shim.state()["status"] == "stopped");
    // Any of these the shim takes for "not found".
    let gone = [
        "container not running",
        "no such process",
        "os: process already finished",
    ];
    for signal in ["9", "15"] {
        shim.call("kill", &[]).arg(signal).output().exited(1);
        let message = last_error(&shim.log());
        assert!(
            gone.iter().any(|words| message.contains(words)),
            "{message}"
        );
    }
    shim.does("delete", &[]);
    for command in ["delete", "state", "kill", "start", "pause", "resume"] {
        shim.call(command, &[]).output().exited(1);
        assert!(
            last_error(&shim.log()).contains("does not exist"),
            "{command}"
        );
    }
    // Its log is never begun anew.
    assert!(log_objects(&shim.log()).len() >= 8);
}

fn a_task_that_cannot_start_is_told_in_the_log(sandbox: &Sandbox) {
    for (args, words) in [
        (
            &["no-such-program"][..],
            "executable file not found in $PATH",
        ),
        (&["/no/such/program"], "no such file or directory"),
        (&["/etc/passwd"], "permission denied"),
    ] {
        let shim = Shim::new(sandbox, &Config::new(args));
        shim.create(&[]).exited(1);
        let message = last_error(&shim.log());
        assert!(message.contains(words), "{message}");
        assert!(!shim.pid_file().exists());
        shim.call("delete", &[]).output().exited(1);
        assert!(last_error(&shim.log()).contains("does not exist"));
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// Typed by another process, without the flags that the first had.
fn a_dead_shims_container_is_deleted_by_force(sandbox: &Sandbox) {
    let shim = Shim::new(sandbox, &Config::sleeper());
    shim.create(&["--no-pivot=false"]).succeeded();
    shim.does("start", &[]);
    shim.does("delete", &["--force"]);
    // And again: there is nothing to complain about.
    shim.does("delete", &["--force"]);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn restores_are_typed_with_one_dash(sandbox: &Sandbox) {
    let shim = Shim::new(sandbox, &Config::sleeper());
    let (path, images) = (shim.bundle.path.clone(), sandbox.dir().join("no-images"));
    let flags = [
        "--image-path",
        images.to_str().unwrap(),
        "--work-path",
        images.to_str().unwrap(),
        "--detach",
        "--pid-file",
        "/nowhere/init.pid",
        "-no-subreaper",
        "--bundle",
        path.to_str().unwrap(),
    ];
    shim.call("restore", &flags).output().exited(1);
    // What is missing is CRIU or the image, not a flag.
    let message = last_error(&shim.log());
    assert!(
        !message.contains("flag") && !message.contains("Usage"),
        "{message}"
    );
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
