//! conmon, and podman beside it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::common::{Bundle, Config, Sandbox, Spawn, on_each_view, view, wait_until};
use crate::{last_error, log_objects};

on_each_view![
    a_container_is_found_again_with_an_empty_environment,
    a_failed_create_is_the_first_of_stderr,
    a_failed_exec_is_255_and_writes_no_pid_file,
    a_log_for_podman_holds_exactly_one_object,
    flags_are_taken_in_gos_ways,
];

/// podman gives neither a root nor much of an environment; root's containers are
/// below /run, which is the test's own here.
fn podman(sandbox: &Sandbox) -> impl Fn(&[&str]) -> Spawn + '_ {
    view::private_mounts();
    let none = None::<&str>;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("a /run");
    move |args: &[&str]| {
        sandbox
            .call_bare(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", "")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn pid_file(bundle: &Bundle) -> PathBuf {
    bundle.path.join("pidfile")
}

fn create<'a>(bundle: &'a Bundle, pid: &'a Path) -> Vec<&'a str> {
    let mut line = vec![
        "create",
        "--bundle",
        text(&bundle.path),
        "--pid-file",
        text(pid),
    ];
    line.extend(["--no-new-keyring", &bundle.id]);
    line
}

fn a_container_is_found_again_with_an_empty_environment(sandbox: &Sandbox) {
    let podman = podman(sandbox);
    let bundle = sandbox.bundle(&Config::sleeper());
    let pid = pid_file(&bundle);
    let id = bundle.id.as_str();
    podman(&create(&bundle, &pid)).output().succeeded();
    let init: i32 = fs::read_to_string(&pid).unwrap().parse().unwrap();
    podman(&["start", id]).output().succeeded();
    podman(&["pause", id]).output().succeeded();
    podman(&["resume", id]).output().succeeded();

    let process = bundle.path.join("exec.json");
    let exec_pid = bundle.path.join("exec.pid");
    let spec = json!({"args": ["/bin/sleep", "100000"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&process, spec.to_string()).unwrap();
    let (process, exec_path) = (text(&process), text(&exec_pid));
    podman(&[
        "exec",
        "--pid-file",
        exec_path,
        "--process",
        process,
        "--detach",
        id,
    ])
    .output()
    .succeeded();
    assert_ne!(fs::read_to_string(&exec_pid).unwrap().parse(), Ok(init));

    let resources = bundle.path.join("resources");
    fs::write(&resources, "{}").unwrap();
    let file = format!("--resources={}", text(&resources));
    podman(&["update", &file, id]).output().succeeded();
    podman(&["kill", id, "15"]).output().succeeded();
    podman(&["kill", "--all", id, "9"]).output().succeeded();
    wait_until("the end", || {
        podman(&["state", id])
            .output()
            .succeeded()
            .stdout
            .contains("\"stopped\"")
    });
    podman(&["delete", "--force", id]).output().succeeded();
    podman(&["delete", "--force", id]).output().succeeded();
}

/// conmon hands on the first 8 KiB; podman makes exit codes 126 and 127 of the
/// words.
fn a_failed_create_is_the_first_of_stderr(sandbox: &Sandbox) {
    let is_127 = |text: &str| {
        text.contains("executable file not found") || text.contains("no such file or directory")
    };
    let is_126 = |text: &str| text.contains("permission denied") || text.contains("not permitted");
    for (program, wanted) in [
        ("nothing", 127),
        ("/no/thing", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
    ] {
        let bundle = sandbox.bundle(&Config::new(&[program]));
        let pid = pid_file(&bundle);
        let out = sandbox.call(create(&bundle, &pid)).output().exited(1);
        let told = out.stderr.to_lowercase();
        let code = match () {
            () if is_127(&told) => 127,
            () if is_126(&told) => 126,
            // Only dockerd knows this one.
            () if told.contains("is a directory") => 126,
            () => 1,
        };
        assert_eq!(code, wanted, "{out}");
        assert!(out.stderr.len() < 8192, "{out}");
        assert!(!pid.exists());
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_failed_exec_is_255_and_writes_no_pid_file(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    let (process, pid) = (bundle.path.join("exec.json"), bundle.path.join("exec.pid"));
    let spec = json!({"args": ["/no/such"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&process, spec.to_string()).unwrap();
    let flags = [
        "--pid-file",
        text(&pid),
        "--process",
        text(&process),
        "--detach",
    ];
    container
        .call("exec", &flags)
        .output()
        .exited(255)
        .says("no such file or directory");
    assert!(!pid.exists());
    container.delete_force();
}

fn a_log_for_podman_holds_exactly_one_object(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::new(&["/no/such"]));
    let log = bundle.path.join("oci-log");
    let out = sandbox
        .call(["--log-format=json", "--log", text(&log)])
        .args(create(&bundle, &pid_file(&bundle)))
        .output()
        .exited(1);
    assert_eq!(log_objects(&log).len(), 1);
    // conmon reads the same from stderr.
    assert!(out.stderr.contains(&last_error(&log)), "{out}");
}

fn flags_are_taken_in_gos_ways(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let pid = pid_file(&bundle);
    let pid_flag = format!("-pid-file={}", text(&pid));
    let bundle_path = text(&bundle.path);
    let line = [
        "create",
        "-bundle",
        bundle_path,
        &pid_flag,
        "--no-pivot=false",
    ];
    sandbox
        .call(line)
        .args(["--no-new-keyring", "--no-new-keyring", "--preserve-fds=0"])
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert!(fs::read_to_string(&pid).unwrap().parse::<i32>().is_ok());
    sandbox
        .call(["delete", "-force=true", &bundle.id])
        .output()
        .succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
