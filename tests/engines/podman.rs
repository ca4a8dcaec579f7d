//! `podman --runtime`, as root and as a plain user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::host::make_dir;
use crate::common::runtime::{Kind, which};
use crate::common::{Output, Runtime, Sandbox, Spawn, Terminal, on_host, skip, wait_until};
use crate::ground::{DEVICE, Ground, SHOW_DEVICE, SHOWN_DEVICE, path, until_it_says};

/// The plain user's uid and gid.
const UID: u32 = 61_742;
const IMAGE: &str = "localhost/kusabi-test:1";

pub struct Podman<'g> {
    ground: &'g Ground<'g>,
    rootless: bool,
    pub runtime: PathBuf,
    /// What `--runtime-flag` hands on before every command of the runtime.
    runtime_flags: Vec<String>,
    home: PathBuf,
    /// What podman keeps while it runs: it refuses a path of more than fifty
    /// characters, so this one lies right under the sandbox.
    run: PathBuf,
}

impl<'g> Podman<'g> {
    pub fn new(ground: &'g Ground<'g>, rootless: bool) -> Self {
        let home = ground.path("home");
        let run = ground.path("r");
        make_dir(&home);
        make_dir(&run);
        if rootless {
            let append = |file: &str, line: &str| {
                let text = fs::read_to_string(file).unwrap_or_default();
                fs::write(file, text + line).expect("write");
            };
            let line = format!("kusabitest:x:{UID}:{UID}::{}:/bin/sh\n", path(&home));
            append("/etc/passwd", &line);
            append("/etc/group", &format!("kusabitest:x:{UID}:\n"));
            for file in ["/etc/subuid", "/etc/subgid"] {
                fs::write(file, "kusabitest:200000:65536\n").expect("write");
            }
            for dir in [&home, &run] {
                chown(dir, Some(UID), Some(UID)).expect("chown");
            }
        }
        let podman = Self {
            ground,
            rootless,
            runtime: ground.runtime.clone(),
            runtime_flags: Vec::new(),
            home,
            run,
        };
        podman
            .call(&["import", path(&ground.image()), IMAGE])
            .output()
            .succeeded();
        podman
    }

    /// A call of podman, with storage of the test's own.
    fn call(&self, args: &[&str]) -> Spawn {
        let spawn = if self.rootless {
            let id = UID.to_string();
            self.ground.call("setpriv").args([
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "podman",
            ])
        } else {
            self.ground.call("podman")
        };
        spawn
            .env("HOME", &self.home)
            .env(
                "XDG_RUNTIME_DIR",
                if self.rootless { path(&self.run) } else { "" },
            )
            .env("TMPDIR", &self.run)
            .current_dir(&self.home)
            .args(["--root", path(&self.home.join("storage")), "--runroot"])
            .arg(self.run.join("s"))
            .arg("--tmpdir")
            .arg(self.run.join("libpod"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file", "--runtime"])
            .arg(&self.runtime)
            .args(
                self.runtime_flags
                    .iter()
                    .flat_map(|flag| ["--runtime-flag", flag]),
            )
            .args(args)
    }

    pub fn podman(&self, args: &[&str]) -> Output {
        self.call(args).output()
    }

    /// Arguments of `run` and a name; podman's own limits cannot be had by
    /// everybody.
    fn options(&self) -> Vec<String> {
        let parent = format!("--cgroup-parent={}", self.ground.cgroup_parent());
        let mut options: Vec<String> = [
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=4096:4096",
        ]
        .map(str::to_owned)
        .to_vec();
        if !self.rootless {
            options.push(parent);
        }
        options
    }

    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.run_call(options, command).output()
    }

    fn run_call(&self, options: &[&str], command: &[&str]) -> Spawn {
        self.call(&["run"])
            .args(self.options())
            .args(options)
            .arg(IMAGE)
            .args(command)
    }

    /// Starts a container that lives until it is stopped.
    fn start(&self, name: &str, options: &[&str], script: &str) {
        let script = format!("trap 'exit 143' TERM; {script}; sleep 100000 & wait");
        let mut all = vec!["--detach", "--name", name];
        all.extend(options);
        self.run(&all, &["sh", "-c", &script]).succeeded();
    }
}

impl Drop for Podman<'_> {
    /// Containers, and the process that holds a plain user's namespace.
    fn drop(&mut self) {
        self.call(&["rm", "--all", "--force", "--time", "0"])
            .output_in_drop();
        for file in ["libpod/pause.pid", "libpod/tmp/pause.pid"] {
            let text = fs::read_to_string(self.run.join(file)).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn exit_codes(podman: &Podman<'_>) {
    let run = |command: &[&str]| podman.run(&["--rm"], command);
    assert_eq!(run(&["echo", "hi"]).succeeded().stdout, "hi\n");
    run(&["sh", "-c", "exit 1"]).exited(1);
    run(&["/etc/passwd"]).exited(126).says("permission denied");
    run(&["no-such-program"])
        .exited(127)
        .says("executable file not found in $PATH");
    podman.start("killed", &[], "true");
    podman.podman(&["kill", "killed"]).succeeded();
    assert_eq!(
        podman.podman(&["wait", "killed"]).succeeded().stdout,
        "137\n"
    );
    podman.podman(&["rm", "killed"]).succeeded();
}

fn exec_logs_stop_and_rm(podman: &Podman<'_>) {
    podman.start("one", &[], "echo out; echo err >&2");
    until_it_says("logs", "out", || podman.podman(&["logs", "one"]));
    let out = podman
        .podman(&["exec", "one", "sh", "-c", "id -u; exit 5"])
        .exited(5);
    assert_eq!(out.stdout, "0\n");
    let out = podman
        .podman(&["exec", "--user", "1000", "one", "id", "-u"])
        .succeeded();
    assert_eq!(out.stdout, "1000\n");
    podman
        .podman(&["exec", "one", "no-such-program"])
        .exited(127);
    let top = podman.podman(&["top", "one", "args"]).succeeded();
    assert!(top.stdout.contains("sleep 100000"), "{top}");
    podman.podman(&["stop", "--time", "20", "one"]).succeeded();
    let state = || {
        podman.podman(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            "one",
        ])
    };
    assert_eq!(state().succeeded().stdout, "exited 143\n");
    podman.podman(&["start", "one"]).succeeded();
    assert!(state().succeeded().stdout.starts_with("running"));
    podman
        .podman(&["rm", "--force", "--time", "0", "one"])
        .succeeded();
    let list = podman.podman(&["ps", "--all", "--quiet"]).succeeded();
    assert_eq!(list.stdout, "");
}

fn init_volumes_and_devices(podman: &Podman<'_>) {
    let shared = podman.home.join("shared");
    make_dir(&shared);
    if podman.rootless {
        chown(&shared, Some(UID), Some(UID)).expect("chown");
    }
    let volume = format!("{}:/vol", path(&shared));
    let script = "echo from inside >/vol/file; cat /proc/1/comm; stat -c %t:%T /dev/fuse";
    let mut options = vec![
        "--rm",
        "--init",
        "--volume",
        &volume,
        "--volume",
        "named:/data",
    ];
    let fuse = std::path::Path::new("/dev/fuse").exists();
    if fuse {
        options.extend(["--device", "/dev/fuse"]);
    }
    let out = podman.run(&options, &["sh", "-c", script]);
    let init = out.stdout.lines().next().unwrap_or_default();
    assert!(
        ["podman-init", "catatonit", "tini"].contains(&init),
        "{out}"
    );
    if fuse {
        assert!(out.stdout.ends_with("\na:e5\n"), "{out}");
    }
    assert_eq!(
        fs::read_to_string(shared.join("file")).unwrap(),
        "from inside\n"
    );
}

fn a_user_namespace(podman: &Podman<'_>) {
    let base = if podman.rootless { 1 } else { 300_000 };
    let map = format!("0:{base}:1000");
    let out = podman.run(
        &["--rm", "--uidmap", &map, "--gidmap", &map],
        &["sh", "-c", "cat /proc/self/uid_map; id -u"],
    );
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", &base.to_string(), "1000", "0"], "{out}");
}

fn a_terminal(podman: &Podman<'_>) {
    let (terminal, slave) = Terminal::open();
    terminal.resize(33, 77);
    let stdio = || slave.try_clone().expect("dup").into();
    let running = podman
        .run_call(&["--rm", "--interactive", "--tty"], &["sh"])
        .stdio(stdio(), stdio(), stdio())
        .spawn();
    terminal.expect("# ");
    terminal.type_in("tty; stty size; exit 9\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("33 77");
    running.wait().exited(9);
}

/// podman's own CDI is not used: the annotation is the runtime's to read.
fn a_device_by_annotation(podman: &mut Podman<'_>) {
    let annotation = format!("cdi.k8s.io/test={DEVICE}");
    let run = |podman: &Podman<'_>| {
        podman.run(
            &["--rm", "--annotation", &annotation],
            &["sh", "-c", SHOW_DEVICE],
        )
    };
    assert_eq!(run(podman).succeeded().stdout, SHOWN_DEVICE);
    let unknown = podman.run(
        &["--rm", "--annotation", "cdi.k8s.io/test=a.b/c=d"],
        &["true"],
    );
    unknown.exited(126).says("unresolvable CDI devices a.b/c=d");
    // What another runtime makes of the same call.
    if let Some(runc) = Runtime::peer(Kind::Runc) {
        podman.runtime = runc.path;
        let out = run(podman);
        assert_eq!((out.code, out.stdout.as_str()), (Some(1), ""), "{out}");
    }
}

/// A directory that nothing but the flag names; every command gets the flag.
fn a_directory_by_runtime_flag(podman: &mut Podman<'_>) {
    let dir = podman.ground.path("cdi2");
    make_dir(&dir);
    let spec = json!({
        "cdiVersion": "0.3.0",
        "kind": "kusabi.test/flag",
        "devices": [{"name": "one", "containerEdits": {"env": ["KUSABI_TEST_FLAG=seen"]}}],
    });
    fs::write(dir.join("flag.json"), spec.to_string()).expect("write");
    let options = ["--annotation", "cdi.k8s.io/test=kusabi.test/flag=one"];
    let show = ["sh", "-c", "echo $KUSABI_TEST_FLAG"];
    let run = |podman: &Podman<'_>, more: &[&str]| podman.run(&[&options, more].concat(), &show);
    run(podman, &["--rm"])
        .exited(126)
        .says("unresolvable CDI devices kusabi.test/flag=one");
    podman.runtime_flags = vec![format!("cdi-dir={}", dir.display())];
    assert_eq!(run(podman, &["--rm"]).succeeded().stdout, "seen\n");
    podman.start("flagged", &options, "echo $KUSABI_TEST_FLAG");
    until_it_says("logs", "seen", || podman.podman(&["logs", "flagged"]));
    podman.podman(&["exec", "flagged", "true"]).succeeded();
    podman
        .podman(&["rm", "--force", "--time", "0", "flagged"])
        .succeeded();
    // The directories that the policy names are then not looked at.
    let annotation = format!("cdi.k8s.io/test={DEVICE}");
    podman
        .run(&["--rm", "--annotation", &annotation], &["true"])
        .exited(126)
        .says(&format!("unresolvable CDI devices {DEVICE}"));
    podman.runtime_flags.clear();
}

fn paused_and_counted(podman: &Podman<'_>) {
    podman.start("one", &[], "true");
    podman.podman(&["pause", "one"]).succeeded();
    let status = || podman.podman(&["inspect", "--format", "{{.State.Status}}", "one"]);
    assert_eq!(status().succeeded().stdout, "paused\n");
    podman.podman(&["unpause", "one"]).succeeded();
    assert_eq!(status().succeeded().stdout, "running\n");
    let stats = podman.podman(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.PIDs}} {{.MemUsage}}",
        "one",
    ]);
    assert!(stats.stdout.starts_with("2 "), "{stats}");
    wait_until("it is told to stop", || {
        podman.podman(&["stop", "--time", "20", "one"]).code == Some(0)
    });
}

fn with(sandbox: &Sandbox, rootless: bool, test: impl FnOnce(&mut Podman<'_>)) {
    for program in ["podman", "conmon"] {
        if which(program).is_none() {
            skip!("this host has no {program}");
        }
    }
    let ground = Ground::new(sandbox);
    let mut podman = Podman::new(&ground, rootless);
    test(&mut podman);
}

fn root_lives_and_ends(sandbox: &Sandbox) {
    with(sandbox, false, |podman| {
        exit_codes(podman);
        exec_logs_stop_and_rm(podman);
        paused_and_counted(podman);
    });
}

fn root_has_what_it_asks_for(sandbox: &Sandbox) {
    with(sandbox, false, |podman| {
        init_volumes_and_devices(podman);
        a_user_namespace(podman);
        a_terminal(podman);
        a_directory_by_runtime_flag(podman);
        a_device_by_annotation(podman);
    });
}

fn rootless_lives_and_ends(sandbox: &Sandbox) {
    with(sandbox, true, |podman| {
        exit_codes(podman);
        exec_logs_stop_and_rm(podman);
    });
}

fn rootless_has_what_it_asks_for(sandbox: &Sandbox) {
    with(sandbox, true, |podman| {
        init_volumes_and_devices(podman);
        a_user_namespace(podman);
        a_terminal(podman);
        a_directory_by_runtime_flag(podman);
        a_device_by_annotation(podman);
    });
}

on_host!(
    root_lives_and_ends,
    root_has_what_it_asks_for,
    rootless_lives_and_ends,
    rootless_has_what_it_asks_for,
);
