//! Every command, as a plain user without a cgroup.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::common::{Config, ConsoleSocket, Sandbox, host, on_each_view, on_host, wait_until};
use crate::user::{UID, User};

fn a_life(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let name = sandbox.fresh();
    let bundle = user.bundle(&Config::new(&[
        "/bin/sh",
        "-c",
        "sleep 100000 & wait",
        &name,
    ]));
    let id = bundle.id.as_str();
    let pid_file = user.home().join("pid");
    let state = || -> Value {
        let out = user.call(["state", id]).output().succeeded();
        serde_json::from_str(&out.stdout).unwrap()
    };
    let pid_option = format!("--pid-file={}", pid_file.display());
    user.run_bundle("create", &[&pid_option], &bundle)
        .succeeded();
    let pid = fs::read_to_string(&pid_file).unwrap();
    let made = state();
    assert_eq!(made["status"], "created");
    assert_eq!(made["pid"].to_string(), pid);
    assert_eq!(made["owner"], "kusabitest");
    // Before its program runs, as engines' hooks and health checks may.
    user.call(["exec", id, "true"]).output().succeeded();
    user.call(["start", id]).output().succeeded();
    assert_eq!(state()["status"], "running");
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), UID);
    let list = user.call(["list", "--quiet"]).output().succeeded();
    assert_eq!(list.stdout, format!("{id}\n"));

    user.call(["kill", id, "KILL"]).output().succeeded();
    wait_until("the container has stopped", || {
        state()["status"] == "stopped"
    });
    user.call(["kill", id, "KILL"])
        .output()
        .exited(1)
        .says("container not running");
    user.call(["kill", "--all", id, "KILL"])
        .output()
        .succeeded();
    user.call(["delete", id]).output().succeeded();
    user.call(["state", id])
        .output()
        .exited(1)
        .says("container does not exist");
}

fn ps_and_kill_all_know_processes_without_a_cgroup(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let container = user.sleeper(|c| c);
    let id = container.id.as_str();
    let pids = || -> Vec<i32> {
        let out = user
            .call(["ps", "--format", "json", id])
            .output()
            .succeeded();
        serde_json::from_str(&out.stdout).unwrap()
    };
    let pid_file = user.home().join("exec-pid");
    user.call(["exec", "--detach", "--pid-file"])
        .arg(&pid_file)
        .args([id, "sleep", "100001"])
        .output()
        .succeeded();
    let executed: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    wait_until("init, its child and the other process are told", || {
        pids().len() == 3
    });
    assert!(pids().contains(&executed));
    let table = user.call(["ps", id]).output().succeeded();
    assert!(table.stdout.contains("sleep 100001"), "{table}");

    user.call(["kill", "--all", id, "TERM"])
        .output()
        .succeeded();
    wait_until("all but init have ended", || pids().len() <= 1);
    user.call(["delete", "--force", id]).output().succeeded();
    user.call(["ps", id])
        .output()
        .exited(1)
        .says("container does not exist");
}

fn what_takes_a_cgroup_is_refused_in_runcs_words(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let container = user.sleeper(|c| c);
    let id = container.id.as_str();
    user.call(["pause", id]).output().exited(1).says("cgroup");
    user.call(["resume", id])
        .output()
        .exited(1)
        .says("container not paused");
    user.call(["update", "--pids-limit", "10", id])
        .output()
        .exited(1)
        .says("cgroup");
    let out = user.call(["events", "--stats", id]).output().succeeded();
    let event: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(event["type"], "stats");

    // Limits or a path that were asked for are not silently missing.
    let config = Config::new(&["/bin/true"]);
    let path = format!("/{}", sandbox.fresh());
    user.run(&config.clone().set("/linux/cgroupsPath", path))
        .exited(1)
        .says("permission denied");
    user.run(&config.set("/linux/resources/pids/limit", 5))
        .exited(1)
        .says("cgroup");
}

fn exit_codes_are_the_programs(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    user.run(&Config::shell("exit 7")).exited(7);
    user.run(&Config::new(&["/bin/nothing"]))
        .exited(1)
        .says("no such file or directory");
    let container = user.sleeper(|c| c);
    user.call(["exec", &container.id, "sh", "-c", "exit 9"])
        .output()
        .exited(9);
    user.call(["exec", &container.id, "sh", "-c", "kill -9 $$"])
        .output()
        .exited(137);
    user.call(["exec", &container.id, "nothing"])
        .output()
        .exited(255)
        .says("executable file not found in $PATH");
}

fn exec_has_what_init_has(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let container = user.sleeper(|c| c.set("/process/oomScoreAdj", 100));
    let script = "for n in user pid mnt ipc uts net cgroup; do \
                    [ \"$(stat -Lc %i /proc/self/ns/$n)\" = \"$(stat -Lc %i /proc/1/ns/$n)\" ] \
                      || echo other $n; done; \
                  cat /proc/self/oom_score_adj; grep Cap /proc/self/status; ls /proc/self/fd";
    let seen = user.exec(&container, script);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "100", "{seen}");
    assert!(lines[1].starts_with("CapInh:\t0000000000000000"), "{seen}");
    // 3 is the listing's own.
    assert_eq!(lines[6..].join(" "), "0 1 2 3", "{seen}");
}

fn a_time_namespace(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let offsets = serde_json::json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    let container = user.sleeper(|c| {
        c.push("/linux/namespaces", serde_json::json!({"type": "time"}))
            .set("/linux/timeOffsets", offsets)
    });
    let seen = user.exec(&container, "cut -d . -f 1 /proc/uptime");
    assert!(seen.trim().parse::<u64>().unwrap() >= 1_000_000, "{seen}");
}

fn a_terminal(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let container = user.sleeper(|c| c);
    let socket = ConsoleSocket::bind(user.home().join("console"));
    crate::user::give(&user.home().join("console"));
    user.call(["exec", "--tty", "--detach", "--console-socket"])
        .arg(user.home().join("console"))
        .args([container.id.as_str(), "sh", "-c", "tty; id -u"])
        .output()
        .succeeded();
    let (terminal, _) = socket.receive();
    terminal.expect("/dev/pts/0");
}

/// Without `--root`: below `XDG_RUNTIME_DIR`, closed to others, and nothing
/// stays in the way of the next one.
fn state_is_kept_in_the_runtime_directory(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let bundle = user.bundle(&Config::new(&["/bin/true"]));
    let run = || {
        user.call_bare(["run", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .succeeded();
    };
    run();
    run();
    let root = user.home().join("run/kusabi");
    let meta = fs::metadata(&root).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (UID, 0o1700));
    let left: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| name.to_string_lossy().starts_with('@')),
        "{left:?}"
    );
    let out = user
        .call_bare(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .env("XDG_RUNTIME_DIR", "/proc/nothing")
        .output();
    out.exited(1).says("/proc/nothing/kusabi");
}

fn a_failed_create_leaves_nothing(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let name = sandbox.fresh();
    let config =
        Config::new(&["/bin/sleep", &name]).mount("bind", "/no/such/source", "/srv", &["bind"]);
    let bundle = user.bundle(&config);
    user.run_bundle("run", &[], &bundle)
        .exited(1)
        .says("/no/such/source");
    let hook = Config::new(&["/bin/sleep", &name]).hook("createRuntime", "exit 3");
    let bundle = user.bundle(&hook);
    user.run_bundle("run", &[], &bundle).exited(1);
    assert_eq!(host::processes_in(&name), []);
    user.call(["state", &bundle.id])
        .output()
        .exited(1)
        .says("container does not exist");
}

on_each_view!(
    a_life,
    ps_and_kill_all_know_processes_without_a_cgroup,
    what_takes_a_cgroup_is_refused_in_runcs_words,
    exec_has_what_init_has,
);
on_host!(
    exit_codes_are_the_programs,
    a_terminal,
    a_time_namespace,
    state_is_kept_in_the_runtime_directory,
    a_failed_create_leaves_nothing,
);
