//! containerd's `ctr` through its runc shim.

use std::fs;
use std::path::Path;

use crate::common::runtime::{Kind, which};
use crate::common::{Output, Runtime, Sandbox, Spawn, Terminal, on_host, skip};
use crate::ground::{DEVICE, Daemon, Ground, SHOW_DEVICE, SHOWN_DEVICE, path, until_it_says};

/// As `umoci` names it in the archive.
const IMAGE: &str = "kusabi.test/image:1";

/// Plugins that want a file system, a kernel module or a network of the host's.
const DISABLED: &str = r#"disabled_plugins = ["io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt"]"#;

/// A containerd of the test's own.
pub struct Containerd<'g> {
    ground: &'g Ground<'g>,
    _daemon: Daemon,
}

impl<'g> Containerd<'g> {
    pub fn start(ground: &'g Ground<'g>) -> Self {
        let dir = ground.sandbox.dir().display();
        let config = format!(
            "version = 2\nroot = \"{dir}/c-root\"\nstate = \"{dir}/c-state\"\n{DISABLED}\n\
             [grpc]\naddress = \"{dir}/c\"\n[ttrpc]\naddress = \"{dir}/t\"\n"
        );
        let file = ground.path("containerd.toml");
        fs::write(&file, config).expect("write");
        let spawn = ground.call("containerd").arg("--config").arg(&file);
        let daemon = ground.daemon(spawn, &ground.path("c"));
        Self {
            ground,
            _daemon: daemon,
        }
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.ground.path("c")
    }

    fn call(&self, args: &[&str]) -> Spawn {
        self.ground
            .call("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(args)
    }

    pub fn ctr(&self, args: &[&str]) -> Output {
        self.call(args).output()
    }

    fn import(&self) {
        let archive = self.ground.oci_archive();
        self.ctr(&[
            "image",
            "import",
            "--index-name",
            IMAGE,
            "--snapshotter",
            "native",
            path(&archive),
        ])
        .succeeded();
    }

    fn run_call(&self, runtime: &str, options: &[&str], id: &str, command: &[&str]) -> Spawn {
        let cgroup = format!("{}/{id}", self.ground.cgroup_parent());
        self.call(&[
            "run",
            "--snapshotter",
            "native",
            "--runc-binary",
            runtime,
            "--cgroup",
            &cgroup,
        ])
        .args(options)
        .args([IMAGE, id])
        .args(command)
    }

    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Output {
        self.run_call(path(&self.ground.runtime), options, id, command)
            .output()
    }
}

fn ctr_runs_and_execs(sandbox: &Sandbox) {
    for program in ["containerd", "ctr", "umoci"] {
        if which(program).is_none() {
            skip!("this host has no {program}");
        }
    }
    let ground = Ground::new(sandbox);
    let containerd = Containerd::start(&ground);
    containerd.import();
    let run = |id: &str, command: &[&str]| containerd.run(&["--rm"], id, command);
    assert_eq!(run("hello", &["echo", "hi"]).succeeded().stdout, "hi\n");
    run("one", &["sh", "-c", "exit 3"]).exited(3);
    run("passwd", &["/etc/passwd"])
        .exited(1)
        .says("permission denied");
    run("nothing", &["no-such-program"])
        .exited(1)
        .says("executable file not found in $PATH");

    // A life, by its own commands.
    let id = "life";
    let script = "trap 'exit 143' TERM; sleep 100000 & wait";
    containerd
        .run(&["--detach"], id, &["sh", "-c", script])
        .succeeded();
    let tasks = || containerd.ctr(&["task", "ls"]);
    assert!(tasks().stdout.contains("RUNNING"));
    let out = containerd.ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e1",
        id,
        "sh",
        "-c",
        "id -u; exit 6",
    ]);
    assert_eq!(out.exited(6).stdout, "0\n");
    let gone = containerd.ctr(&["task", "exec", "--exec-id", "e2", id, "no-such-program"]);
    gone.exited(1).says("executable file not found in $PATH");
    containerd.ctr(&["task", "pause", id]).succeeded();
    assert!(tasks().stdout.contains("PAUSED"));
    containerd.ctr(&["task", "resume", id]).succeeded();
    assert!(tasks().stdout.contains("RUNNING"));
    let metrics = containerd.ctr(&["task", "metrics", id]).succeeded();
    assert!(metrics.stdout.contains("pids.current"), "{metrics}");
    assert!(
        containerd
            .ctr(&["task", "ps", id])
            .succeeded()
            .stdout
            .lines()
            .count()
            > 2
    );
    containerd
        .ctr(&["task", "kill", "--signal", "TERM", id])
        .succeeded();
    until_it_says("the task has ended", "STOPPED", tasks);
    containerd
        .ctr(&["task", "delete", id])
        .says("exit with non-zero exit code 143");
    containerd.ctr(&["container", "delete", id]).succeeded();
    containerd
        .run(&["--detach"], "killed", &["sleep", "100000"])
        .succeeded();
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "killed"])
        .succeeded();
    until_it_says("the task has ended", "STOPPED", tasks);
    containerd
        .ctr(&["task", "delete", "killed"])
        .says("exit with non-zero exit code 137");
    containerd
        .ctr(&["container", "delete", "killed"])
        .succeeded();

    // A volume, a device of the host's, a user namespace.
    let shared = ground.path("shared");
    fs::create_dir(&shared).expect("mkdir");
    let volume = format!("type=bind,src={},dst=/vol,options=rbind:rw", path(&shared));
    let mut options = vec!["--rm", "--mount", &volume];
    let mut script = "echo inside >/vol/file".to_owned();
    let fuse = Path::new("/dev/fuse").exists();
    if fuse {
        options.extend(["--device", "/dev/fuse"]);
        script.push_str(" && stat -c %t:%T /dev/fuse && : </dev/fuse");
    }
    let out = containerd.run(&options, "volume", &["sh", "-c", &script]);
    let shown = if fuse { "a:e5\n" } else { "" };
    assert_eq!(out.succeeded().stdout, shown);
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "inside\n");
    let map = "0:300000:65536";
    let out = containerd.run(
        &["--rm", "--uidmap", map, "--gidmap", map],
        "userns",
        &["sh", "-c", "cat /proc/self/uid_map; id -u; stat -c %u /bin"],
    );
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "300000", "65536", "0", "0"], "{out}");

    // A terminal.
    let (terminal, slave) = Terminal::open();
    let stdio = || slave.try_clone().expect("dup").into();
    let running = containerd
        .run_call(path(&ground.runtime), &["--rm", "--tty"], "tty", &["sh"])
        .stdio(stdio(), stdio(), stdio())
        .spawn();
    terminal.expect("# ");
    terminal.type_in("tty; exit 9\n");
    terminal.expect("/dev/pts/0");
    running.wait().exited(9);

    // A device; containerd of this age knows no CDI outside CRI.
    let annotation = format!("cdi.k8s.io/test={DEVICE}");
    let show = ["sh", "-c", SHOW_DEVICE];
    let options = ["--rm", "--annotation", &annotation];
    let out = containerd.run(&options, "device", &show).succeeded();
    assert_eq!(out.stdout, SHOWN_DEVICE);
    containerd
        .run(
            &["--rm", "--annotation", "cdi.k8s.io/test=a.b/c=d"],
            "unknown",
            &["true"],
        )
        .exited(1)
        .says("unresolvable CDI devices a.b/c=d");
    if let Some(runc) = Runtime::peer(Kind::Runc) {
        let out = containerd
            .run_call(path(&runc.path), &options, "runc", &show)
            .output();
        assert_eq!((out.code, out.stdout.as_str()), (Some(1), ""), "{out}");
    }
    assert_eq!(
        containerd
            .ctr(&["container", "ls", "--quiet"])
            .succeeded()
            .stdout,
        ""
    );
}

on_host!(ctr_runs_and_execs);
