//! create, start, state, kill, delete, list, exec: statuses, exit codes, files
//! and the words that engines match.

use std::fs;

use serde_json::json;

use crate::common::{Config, Sandbox, on_each_view};

on_each_view![
    a_container_goes_through_every_status,
    a_killed_container_is_deleted_without_a_trace,
    delete_force_ends_a_running_container,
    run_in_the_foreground_passes_on_the_exit_code,
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
    assert!(
        init.contains(&bundle.cgroups_path()),
        "pid {pid} is in {init}"
    );

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

fn run_in_the_foreground_passes_on_the_exit_code(sandbox: &Sandbox) {
    for code in [0, 1, 42, 255] {
        let out = sandbox.run_config(&Config::shell(&format!(
            "echo out; echo err >&2; exit {code}"
        )));
        let out = out.exited(code);
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out\n", "err\n")
        );
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
