//! dockerd with this runtime among its `runtimes`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::runtime::{Kind, which};
use crate::common::{Output, Runtime, Sandbox, Spawn, Terminal, on_host, skip};
use crate::containerd::Containerd;
use crate::ground::{DEVICE, Daemon, Ground, SHOW_DEVICE, SHOWN_DEVICE, path, until_it_says};

const IMAGE: &str = "kusabi-test:1";

pub struct Docker<'g> {
    ground: &'g Ground<'g>,
    // Ends before containerd does.
    _daemon: Daemon,
}

impl<'g> Docker<'g> {
    /// `other` is one more runtime, of that name.
    pub fn start(ground: &'g Ground<'g>, containerd: &Containerd<'_>, other: &Path) -> Self {
        let at = |name: &str| ground.path(name);
        let mut runtimes = json!({"kusabi": {"path": ground.runtime}, "other": {"path": other}});
        if let Some(runc) = Runtime::peer(Kind::Runc) {
            runtimes["debian-runc"] = json!({"path": runc.path});
        }
        // `docker-init` and the shim are found in PATH.
        let config = json!({
            "data-root": at("d-data"), "exec-root": at("d-exec"), "pidfile": at("d-pid"),
            "hosts": [format!("unix://{}", at("d").display())],
            "containerd": containerd.socket(),
            "storage-driver": "vfs", "iptables": false, "ip6tables": false, "bridge": "none",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": ground.cgroup_parent(),
            "runtimes": runtimes,
        });
        fs::write(at("daemon.json"), config.to_string()).expect("write");
        let spawn = ground
            .call("dockerd")
            .arg("--config-file")
            .arg(at("daemon.json"));
        let daemon = ground.daemon(spawn, &at("d"));
        let docker = Self {
            ground,
            _daemon: daemon,
        };
        until_it_says("dockerd answers", "kusabi", || {
            docker.docker(&["info", "--format", "{{json .Runtimes}}"])
        });
        docker
    }

    fn call(&self, args: &[&str]) -> Spawn {
        let host = format!("unix://{}", self.ground.path("d").display());
        self.ground
            .call("docker")
            .env("HOME", self.ground.sandbox.dir())
            .args(["--host", &host])
            .args(args)
    }

    pub fn docker(&self, args: &[&str]) -> Output {
        self.call(args).output()
    }

    pub fn import(&self) {
        self.docker(&["import", path(&self.ground.image()), IMAGE])
            .succeeded();
    }

    pub fn run_call(&self, options: &[&str], command: &[&str]) -> Spawn {
        self.call(&["run", "--network=none"])
            .args(options)
            .arg(IMAGE)
            .args(command)
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let mut all = vec!["--runtime=kusabi"];
        all.extend(options);
        self.run_call(&all, command).output()
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        self.docker(&["inspect", "--format", what, name])
            .succeeded()
            .stdout
    }
}

fn docker_runs_and_execs(sandbox: &Sandbox) {
    for program in ["containerd", "dockerd", "docker"] {
        if which(program).is_none() {
            skip!("this host has no {program}");
        }
    }
    let ground = Ground::new(sandbox);
    let containerd = Containerd::start(&ground);
    let docker = Docker::start(&ground, &containerd, &ground.runtime);
    docker.import();

    let run = |command: &[&str]| docker.run(&["--rm"], command);
    assert_eq!(run(&["echo", "hi"]).succeeded().stdout, "hi\n");
    run(&["sh", "-c", "exit 1"]).exited(1);
    run(&["/etc/passwd"]).exited(126).says("permission denied");
    run(&["no-such-program"])
        .exited(127)
        .says("executable file not found in $PATH");

    let shared = ground.path("shared");
    fs::create_dir(&shared).expect("mkdir");
    let volume = format!("{}:/vol", path(&shared));
    let script = "trap 'exit 143' TERM; echo out; echo inside >/vol/file; sleep 100000 & wait";
    docker
        .run(
            &["--detach", "--name=one", "--volume", &volume],
            &["sh", "-c", script],
        )
        .succeeded();
    until_it_says("logs", "out", || docker.docker(&["logs", "one"]));
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "inside\n");
    let out = docker
        .docker(&["exec", "one", "sh", "-c", "id -u; exit 5"])
        .exited(5);
    assert_eq!(out.stdout, "0\n");
    let gone = docker
        .docker(&["exec", "one", "no-such-program"])
        .exited(126);
    assert!(gone.stdout.contains("executable file not found"), "{gone}");
    docker.docker(&["pause", "one"]).succeeded();
    assert_eq!(docker.inspect("one", "{{.State.Status}}"), "paused\n");
    docker.docker(&["unpause", "one"]).succeeded();
    let stats = docker.docker(&["stats", "--no-stream", "--format", "{{.PIDs}}", "one"]);
    assert_eq!(stats.succeeded().stdout, "2\n");
    let top = docker.docker(&["top", "one"]).succeeded();
    assert!(top.stdout.contains("sleep 100000"), "{top}");
    docker
        .docker(&["update", "--pids-limit", "50", "one"])
        .succeeded();
    docker.docker(&["stop", "--time", "20", "one"]).succeeded();
    assert_eq!(docker.inspect("one", "{{.State.ExitCode}}"), "143\n");
    docker.docker(&["start", "one"]).succeeded();
    docker.docker(&["kill", "one"]).succeeded();
    assert_eq!(docker.docker(&["wait", "one"]).succeeded().stdout, "137\n");
    docker.docker(&["start", "one"]).succeeded();
    docker.docker(&["rm", "--force", "one"]).succeeded();

    // Its init, a device of the host's, a terminal.
    if Path::new("/dev/fuse").exists() {
        let script = "stat -c %t:%T /dev/fuse && : </dev/fuse";
        let out = docker.run(&["--rm", "--device=/dev/fuse"], &["sh", "-c", script]);
        assert_eq!(out.succeeded().stdout, "a:e5\n");
        docker
            .run(&["--rm"], &["sh", "-c", "test -e /dev/fuse"])
            .exited(1);
    }
    if which("docker-init").is_some() {
        let out = docker
            .run(&["--rm", "--init"], &["cat", "/proc/1/comm"])
            .succeeded();
        assert_eq!(out.stdout, "docker-init\n");
    }
    let (terminal, slave) = Terminal::open();
    let stdio = || slave.try_clone().expect("dup").into();
    let running = docker
        .run_call(
            &["--runtime=kusabi", "--rm", "--interactive", "--tty"],
            &["sh"],
        )
        .stdio(stdio(), stdio(), stdio())
        .spawn();
    terminal.expect("# ");
    terminal.type_in("tty; exit 9\n");
    terminal.expect("/dev/pts/0");
    running.wait().exited(9);

    // A device. Only newer daemons hand annotations on, so the policy asks.
    assert_eq!(
        docker
            .run(&["--rm"], &["sh", "-c", SHOW_DEVICE])
            .exited(1)
            .stdout,
        ""
    );
    let policy = fs::read_to_string("/etc/kusabi/config.toml").expect("read");
    let asking = format!("{policy}request.devices = [\"{DEVICE}\"]\n");
    fs::write("/etc/kusabi/config.toml", asking).expect("write");
    let out = docker
        .run(&["--rm"], &["sh", "-c", SHOW_DEVICE])
        .succeeded();
    assert_eq!(out.stdout, SHOWN_DEVICE);
    if Runtime::peer(Kind::Runc).is_some() {
        let out = docker
            .run_call(
                &["--runtime=debian-runc", "--rm"],
                &["sh", "-c", SHOW_DEVICE],
            )
            .output();
        assert_eq!((out.code, out.stdout.as_str()), (Some(1), ""), "{out}");
    }
    let left: Value = docker
        .docker(&["ps", "--all", "--quiet"])
        .succeeded()
        .stdout
        .into();
    assert_eq!(left, "");
}

on_host!(docker_runs_and_execs);
