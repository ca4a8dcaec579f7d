//! Hooks: when they run, where, what they are told, and what their failure does.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Config, Sandbox, on_each_view, skip, wait_until};

on_each_view![
    hooks_run_in_order_with_the_state,
    a_failing_hook_fails_the_create,
    a_failing_start_container_hook_fails_the_start,
    a_failing_poststop_hook_does_not_keep_the_container,
    hooks_have_their_own_environment,
    a_create_container_hook_is_in_the_container,
    a_record_that_does_not_tell_of_hooks_has_them,
    a_process_that_is_killed_meanwhile_is_told_of,
    failures_of_hooks_are_told_in_runc_s_words,
];

/// Stages in the order of the specification, and the status that a hook of
/// each is told.
const STAGES: [(&str, &str); 6] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("startContainer", "created"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

/// A container whose hooks write to the directory `trace`, which is also
/// `/trace` inside: a line in `order`, the state in a file named for the stage.
fn traced(config: Config, trace: &Path) -> Config {
    fs::create_dir(trace).unwrap();
    let host = trace.to_str().unwrap();
    STAGES.iter().fold(
        config.mount("bind", host, "/trace", &["rbind", "rw"]),
        |config, (stage, _)| {
            let dir = if *stage == "startContainer" {
                "/trace"
            } else {
                host
            };
            config.hook(
                stage,
                &format!("echo {stage} >> {dir}/order; cat > {dir}/{stage}"),
            )
        },
    )
}

fn order(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace.join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hooks_run_in_order_with_the_state(sandbox: &Sandbox) {
    let trace = sandbox.dir().join("trace");
    let bundle = sandbox.bundle(&traced(Config::sleeper(), &trace).annotation("a.b/c", "d"));
    let container = sandbox.create(&bundle);
    let created = ["prestart", "createRuntime", "createContainer"];
    if sandbox.runtime().is_kusabi() {
        assert_eq!(order(&trace), created);
    } else {
        // runc calls poststart when the process exists; the specification says
        // after its start.
        assert_eq!(order(&trace), [&created[..], &["poststart"]].concat());
    }
    let pid = container.pid();
    container.start();
    wait_until("the hooks of start", || order(&trace).len() == 5);
    if sandbox.runtime().is_kusabi() {
        assert_eq!(order(&trace)[3..], ["startContainer", "poststart"]);
    } else {
        assert_eq!(order(&trace)[4..], ["startContainer"]);
    }
    container.delete_force();
    assert_eq!(order(&trace)[5..], ["poststop"]);

    for (stage, status) in STAGES {
        let text = fs::read_to_string(trace.join(stage)).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        if stage != "poststart" || sandbox.runtime().is_kusabi() {
            assert_eq!(state["status"], status, "{stage}");
        }
        assert_eq!(state["id"], bundle.id, "{stage}");
        assert_eq!(state["bundle"], bundle.path.to_str().unwrap(), "{stage}");
        assert_eq!(state["annotations"]["a.b/c"], "d", "{stage}");
        match stage {
            // Its own pid namespace knows the process as the first.
            "createContainer" | "startContainer" => {
                assert!([Value::from(pid), Value::from(1)].contains(&state["pid"]));
            }
            "poststop" => {}
            _ => assert_eq!(state["pid"], pid, "{stage}"),
        }
    }
}

fn a_failing_hook_fails_the_create(sandbox: &Sandbox) {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let config = Config::sleeper().hook(stage, "echo words of the hook >&2; exit 3");
        let bundle = sandbox.bundle(&config);
        let pid_file = sandbox.dir().join("pid");
        let out = sandbox
            .call(["create", "--pid-file"])
            .arg(&pid_file)
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .exited(1);
        assert!(out.stderr.contains("hook"), "{out}");
        assert!(!pid_file.exists(), "{stage}");
        assert_eq!(sandbox.left(), Vec::<String>::new(), "after {stage}");
    }
}

fn a_failing_start_container_hook_fails_the_start(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper().hook("startContainer", "exit 3"));
    let out = sandbox
        .call(["run", "--detach", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output();
    // runc's `start` has returned before the hook runs; its program never does.
    if sandbox.runtime().is_kusabi() {
        assert_eq!(out.code, Some(1), "{out}");
    }
    let ran = sandbox.call(["exec", &bundle.id, "true"]).output();
    assert_ne!(ran.code, Some(0), "{ran}");
}

fn a_failing_poststop_hook_does_not_keep_the_container(sandbox: &Sandbox) {
    let container =
        sandbox.run_detached(&sandbox.bundle(&Config::sleeper().hook("poststop", "exit 3")));
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// CVE-2025-23266: a variable of the image, such as LD_PRELOAD, must not reach
/// a program that runs on the host.
fn a_process_that_is_killed_meanwhile_is_told_of(sandbox: &Sandbox) {
    let kill = r#"kill -9 $(sed 's/.*"pid":\([0-9]*\).*/\1/')"#;
    let config = Config::new(&["/bin/true"]).hook("createRuntime", kill);
    let out = sandbox.run_config(&config).exited(1);
    if sandbox.runtime().is_kusabi() {
        assert!(
            out.stderr.contains("the container's process was killed"),
            "{out}"
        );
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_record_that_does_not_tell_of_hooks_has_them(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let trace = sandbox.dir().join("trace");
    let bundle = sandbox.bundle(&traced(Config::sleeper(), &trace));
    let container = sandbox.create(&bundle);
    let path = sandbox.root().join(&bundle.id).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let told = record.as_object_mut().unwrap().remove("lateHooks");
    assert_eq!(told, Some(true.into()));
    fs::write(&path, record.to_string()).unwrap();
    container.start();
    container.delete_force();
    let order = order(&trace);
    assert!(order.contains(&"poststart".to_owned()), "{order:?}");
    assert!(order.contains(&"poststop".to_owned()), "{order:?}");
}

fn hooks_have_their_own_environment(sandbox: &Sandbox) {
    let file = sandbox.dir().join("environment");
    let config = Config::shell("true")
        .env("LD_PRELOAD", "/evil.so")
        .env("OF_THE_IMAGE", "yes")
        .hook("createRuntime", &format!("env > {}", file.display()));
    sandbox.run(&sandbox.bundle(&config)).succeeded();
    let environment = fs::read_to_string(file).unwrap();
    assert!(
        environment.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"),
        "{environment}"
    );
    for foreign in ["LD_PRELOAD", "OF_THE_IMAGE", "KUSABI", "CARGO"] {
        assert!(!environment.contains(foreign), "{environment}");
    }
}

/// It is in the namespaces and the cgroup of the container, starts in the root,
/// and what it mounts there stays.
fn a_create_container_hook_is_in_the_container(sandbox: &Sandbox) {
    let seen = sandbox.dir().join("seen");
    let script = format!(
        "exec >{}; pwd; for n in mnt net ipc uts pid; do readlink /proc/thread-self/ns/$n; done; \
         cat /proc/thread-self/cgroup; mkdir made; mount -t tmpfs of-the-hook ./made; : > made/file",
        seen.display()
    );
    let inside = "cat /made/file; grep of-the-hook /proc/self/mounts; \
         for n in mnt net ipc uts pid; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let bundle = sandbox.bundle(
        &Config::shell(inside)
            .without_namespace("cgroup")
            .hook("createContainer", &script),
    );
    let out = sandbox.run(&bundle).succeeded();
    let of_hook = fs::read_to_string(seen).unwrap();
    let mut of_hook = of_hook.lines();
    assert_eq!(of_hook.next(), bundle.rootfs().to_str());
    let mut of_container = out.stdout.lines();
    assert!(
        of_container
            .next()
            .unwrap()
            .starts_with("of-the-hook /made tmpfs")
    );
    assert_eq!(
        of_hook.collect::<Vec<_>>(),
        of_container.collect::<Vec<_>>()
    );
}

fn failures_of_hooks_are_told_in_runc_s_words(sandbox: &Sandbox) {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let config = Config::sleeper()
            .hook(stage, "true")
            .hook(stage, "echo what it printed; echo its words >&2; exit 3");
        let out = sandbox.run_config(&config).exited(1);
        out.says(&format!(
            "error running {stage} hook #1: exit status 3, stdout: what it printed"
        ))
        .says(", stderr: its words");
    }
}
