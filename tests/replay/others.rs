//! CRI-O, dockerd itself, buildkit and buildah.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::assert_rfc3339;
use crate::common::{Config, Sandbox, Terminal, on_each_view, wait_until};

on_each_view![
    crio_looks_updates_and_kills,
    crio_streams_an_exec_on_its_own_terminal,
    dockerd_reads_the_version,
    buildkit_keeps_what_it_runs,
    buildah_polls_and_reaps,
];

fn crio_looks_updates_and_kills(sandbox: &Sandbox) {
    // Both are read with stderr joined in.
    for line in [["--version"], ["features"]] {
        assert_eq!(sandbox.call_bare(line).output().succeeded().stderr, "");
    }
    let features = sandbox.call_bare(["features"]).output().stdout;
    let features: Value = serde_json::from_str(&features).unwrap();
    assert!(features["linux"].is_object());
    let namespaces = features["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|n| n == "user"));
    assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());

    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.create(&bundle);
    container.start();
    assert_rfc3339(container.state()["created"].as_str().unwrap());
    let resources = sandbox.dir().join("resources");
    fs::write(&resources, "{}").unwrap();
    let id = bundle.id.as_str();
    let update = sandbox.call(["update", "--resources", "-", id]);
    update.stdin_from(&resources).output().succeeded();
    sandbox.call(["pause", id]).output().succeeded();
    sandbox.call(["resume", id]).output().succeeded();
    sandbox.call(["kill", id, "TERM"]).output().succeeded();
    sandbox
        .call(["kill", "-a", id, "KILL"])
        .output()
        .succeeded();
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
    sandbox.call(["delete", "--force", id]).output().succeeded();
}

fn crio_streams_an_exec_on_its_own_terminal(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    let process = bundle.path.join("exec.json");
    let spec = serde_json::json!({
        "terminal": true, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        "args": ["/bin/sh", "-c", "tty; stty size; exit 42"],
    });
    fs::write(&process, spec.to_string()).unwrap();
    let (terminal, slave) = Terminal::open();
    terminal.resize(33, 101);
    let streams = || Stdio::from(slave.try_clone().unwrap());
    let flags = ["--process", process.to_str().unwrap()];
    container
        .call("exec", &flags)
        .stdio(streams(), streams(), streams())
        .output()
        .exited(42);
    terminal.expect("/dev/pts/");
    terminal.expect("33 101");
    container.delete_force();
}

/// `docker info`: the last line with "version" in it, and the one that begins
/// with "commit:".
fn dockerd_reads_the_version(sandbox: &Sandbox) {
    let text = sandbox.call_bare(["--version"]).output().succeeded().stdout;
    let version = text.lines().rfind(|line| line.contains("version")).unwrap();
    let number = version.rsplit(' ').next().unwrap();
    assert!(number.starts_with(|c: char| c.is_ascii_digit()), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("commit:")),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("spec: 1.")),
        "{text}"
    );
}

fn buildkit_keeps_what_it_runs(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::shell("echo built; exec sleep 100000"));
    let id = bundle.id.as_str();
    let running = sandbox
        .call(["run", "--bundle"])
        .arg(&bundle.path)
        .args(["--keep", id])
        .spawn();
    wait_until("its words", || running.stdout() == "built\n");
    let state = sandbox.call(["state", id]).output().succeeded();
    let state: Value = serde_json::from_str(&state.stdout).unwrap();
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], bundle.path.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    // Without a terminal that is nobody's concern.
    running.signal(Signal::SIGWINCH);
    let out = sandbox
        .call(["exec", id, "/bin/sh", "-c", "exit 9"])
        .output();
    out.exited(9);
    sandbox.call(["kill", id, "9"]).output().succeeded();
    running.wait().exited(137);
    let kept = sandbox.call(["state", id]).output().succeeded();
    assert!(kept.stdout.contains("\"stopped\""), "{kept}");
    sandbox.call(["delete", id]).output().succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// buildah waits for the container's first process itself: once the runtime has
/// returned, it must be its child.
fn buildah_polls_and_reaps(sandbox: &Sandbox) {
    let subreaper = |on: u64| {
        kusabi::sys::process::prctl(libc::PR_SET_CHILD_SUBREAPER, on).expect("prctl");
    };
    subreaper(1);
    let bundle = sandbox.bundle(&Config::shell("exit 6"));
    let pid = bundle.path.join("pid");
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg("--pid-file")
        .arg(&pid)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let init: i32 = fs::read_to_string(&pid).unwrap().parse().unwrap();
    sandbox.call(["start", &bundle.id]).output().succeeded();
    wait_until("the end", || {
        let state = sandbox.call(["state", &bundle.id]).output().succeeded();
        state.stdout.contains("\"stopped\"")
    });
    let ended = waitpid(Pid::from_raw(init), None);
    subreaper(0);
    assert_eq!(ended, Ok(WaitStatus::Exited(Pid::from_raw(init), 6)));
    sandbox.call(["delete", &bundle.id]).output().succeeded();
}
