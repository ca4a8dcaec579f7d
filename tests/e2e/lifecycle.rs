//! create, start, state, kill, delete, list, exec: statuses, exit codes, files
//! and the words that engines match.

use std::fs;

use serde_json::{Value, json};

use crate::common::program::write_program;
use crate::common::{Config, Sandbox, View, on_each_view, skip, wait_until};

on_each_view![
    a_container_goes_through_every_status,
    a_killed_container_is_deleted_without_a_trace,
    delete_force_ends_a_running_container,
    a_dead_container_s_deletion_spares_who_has_its_cgroup,
    an_init_whose_first_thread_has_ended_is_alive,
    an_init_that_is_killed_before_it_is_ready_is_an_error,
    an_id_is_used_once,
    start_is_refused_but_when_created,
    commands_on_an_unknown_container_say_that_it_does_not_exist,
    signals_to_the_dead_are_told_apart,
    a_created_container_survives_a_signal_that_it_ignores,
    list_shows_every_container_and_nothing_else,
    an_init_that_dies_before_start_is_seen,
];

fn a_container_goes_through_every_status(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper().annotation("org.example/key", "a value"));
    let container = sandbox.create(&bundle);
    let created = container.state();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], bundle.id);
    assert_eq!(created["bundle"], bundle.path.to_str().unwrap());
    assert_eq!(created["rootfs"], bundle.rootfs().to_str().unwrap());
    assert_eq!(
        created["annotations"],
        json!({"org.example/key": "a value"})
    );
    assert!(created["owner"].is_string());
    assert!(created["ociVersion"].as_str().unwrap().starts_with("1."));
    let pid = container.pid();
    let init = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(init.contains(&bundle.cgroup()), "pid {pid} is in {init}");

    container.start();
    container.wait_for("running");
    assert_eq!(container.pid(), pid);
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
        "sleep\n"
    );

    container.kill("KILL");
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
    container.delete();
    container
        .call("state", &[])
        .output()
        .exited(1)
        .says("does not exist");
}

fn a_killed_container_is_deleted_without_a_trace(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    container.kill("9");
    container.wait_for("stopped");
    container.delete();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn delete_force_ends_a_running_container(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let refused = container.call("delete", &[]).output().exited(1);
    assert!(refused.stderr.contains("not stopped"), "{refused}");
    assert_eq!(container.status(), "running");
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_dead_container_s_deletion_spares_who_has_its_cgroup(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("no other runtime promises it");
    }
    let bundle = sandbox.bundle(&Config::new(&["/bin/true"]));
    let path = bundle.cgroups_path();
    let dead = sandbox.run_detached(&bundle);
    dead.wait_for("stopped");
    let config = Config::sleeper().set("/linux/cgroupsPath", path.as_str());
    let heir = sandbox.run_detached(&sandbox.bundle(&config));
    // As with runc, which does not remove what is in use either.
    let refused = dead.call("delete", &["--force"]).output().exited(1);
    refused.says("unable to remove container's cgroup");
    assert_eq!(dead.status(), "stopped");
    assert_eq!(heir.status(), "running");
    heir.sh("true").succeeded();
    heir.delete_force();
    dead.delete_force();
}

/// Starts a thread and ends the first one. For x86-64:
/// `clone(CLONE_VM|FS|FILES|SIGHAND|THREAD); if it is the parent, exit(0); for (;;) pause()`.
const LEADERLESS: &[u8] = &[
    0xbf, 0x00, 0x0f, 0x01, 0x00, 0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x4d, 0x31, 0xc0, 0xb8,
    0x38, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x74, 0x09, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x31,
    0xff, 0x0f, 0x05, 0xb8, 0x22, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xeb, 0xf7,
];

fn an_init_whose_first_thread_has_ended_is_alive(sandbox: &Sandbox) {
    if !cfg!(target_arch = "x86_64") {
        skip!("the program that ends its first thread is of x86-64");
    }
    if !sandbox.runtime().is_kusabi() {
        skip!("no other runtime promises it");
    }
    let bundle = sandbox.bundle(&Config::new(&["/leaderless"]));
    write_program(&bundle.rootfs().join("leaderless"), LEADERLESS);
    let container = sandbox.run_detached(&bundle);
    let stat = format!("/proc/{}/stat", container.pid());
    wait_until("its first thread has ended", || {
        fs::read_to_string(&stat).unwrap().contains(") Z ")
    });
    assert_eq!(container.status(), "running");
    container
        .call("delete", &[])
        .output()
        .exited(1)
        .says("running");
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn an_init_that_is_killed_before_it_is_ready_is_an_error(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(
        &Config::sleeper()
            .mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"])
            .set("/linux/resources/memory", json!({"limit": 12 << 20})),
    );
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    if sandbox.view() == View::Unified {
        skip!("this view has no memory controller");
    }
    let data = bundle.rootfs().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), vec![b'x'; 40 << 20]).unwrap();
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("container init was OOM-killed (memory limit too low?)");
}

fn an_id_is_used_once(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.create(&bundle);
    let pid = container.pid();
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("container with given ID already exists");
    assert_eq!(container.status(), "created");
    assert_eq!(container.pid(), pid);
    container.start();
    container.delete_force();
    // And is free again.
    sandbox.create(&bundle).delete_force();
}

fn start_is_refused_but_when_created(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let start = || container.call("start", &[]).output().exited(1);
    start().says("cannot start an already running container");
    container.kill("KILL");
    container.wait_for("stopped");
    start().says("cannot start a container that has stopped");
    container.delete();
}

fn commands_on_an_unknown_container_say_that_it_does_not_exist(sandbox: &Sandbox) {
    for command in ["state", "start", "delete", "kill"] {
        let out = sandbox.call([command, "nobody"]).output();
        out.exited(1).says("container does not exist");
    }
    sandbox
        .call(["exec", "nobody", "true"])
        .output()
        .exited(255)
        .says("container does not exist");
    sandbox
        .call(["delete", "--force", "nobody"])
        .output()
        .succeeded();
}

/// containerd and podman take either sentence for "it had gone already".
fn signals_to_the_dead_are_told_apart(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::shell("exit 0")));
    container.wait_for("stopped");
    let out = container.call("kill", &[]).arg("TERM").output().exited(1);
    assert!(
        out.stderr.contains("container not running")
            || out.stderr.contains("process already finished"),
        "{out}"
    );
    let out = container.call("exec", &[]).arg("true").output().exited(255);
    out.says("cannot exec in a stopped container");
    container.delete();

    let running = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let out = running
        .call("kill", &[])
        .arg("NOSUCHSIGNAL")
        .output()
        .exited(1);
    assert!(out.stderr.contains("unknown signal"), "{out}");
    assert_eq!(running.status(), "running");
}

/// The first process of a pid namespace ignores what it has no handler for, and
/// a runtime that parks it before exec must not have handlers in its stead.
fn a_created_container_survives_a_signal_that_it_ignores(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    container.kill("USR1");
    assert_eq!(container.status(), "created");
    container.start();
    container.wait_for("running");
    container.delete_force();
}

fn list_shows_every_container_and_nothing_else(sandbox: &Sandbox) {
    let created = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let running = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    // dockerd keeps one directory for the state of all its runtimes.
    fs::create_dir(sandbox.root().join("somebody-elses")).unwrap();
    fs::write(sandbox.root().join("a-file"), "").unwrap();

    let mut expected = vec![created.id.clone(), running.id.clone()];
    expected.sort();
    let quiet = sandbox.call(["list", "--quiet"]).output().succeeded();
    let mut ids: Vec<&str> = quiet.stdout.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids, expected);

    let listed = sandbox
        .call(["list", "--format", "json"])
        .output()
        .succeeded();
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 2);
    for (container, status) in [(&created, "created"), (&running, "running")] {
        let found = listed
            .iter()
            .find(|c| c["id"] == container.id.as_str())
            .unwrap();
        assert_eq!(found["status"], status);
        assert_eq!(found["pid"], container.pid());
        assert_eq!(found["owner"], "root");
        assert_eq!(found["bundle"], container.state()["bundle"]);
    }

    let table = sandbox.call(["list"]).output().succeeded();
    let rows: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!(rows.len(), 3, "{}", table.stdout);
    let row = rows.iter().find(|row| row[0] == running.id).unwrap();
    assert_eq!(row[1..3], [running.pid().to_string().as_str(), "running"]);
    assert_eq!(row[5], "root");

    fs::remove_dir(sandbox.root().join("somebody-elses")).unwrap();
    fs::remove_file(sandbox.root().join("a-file")).unwrap();
    created.delete_force();
    running.delete_force();
    let none = sandbox
        .call(["list", "--format", "json"])
        .output()
        .succeeded();
    assert_eq!(none.stdout.trim(), "null");
}

fn an_init_that_dies_before_start_is_seen(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    container.kill("KILL");
    container.wait_for("stopped");
    container.call("start", &[]).output().exited(1);
    container.delete();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
