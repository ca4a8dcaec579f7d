//! What the kernel is told about a process: scheduler, I/O priority, processors,
//! memory policy; for init and for exec.

use std::fs;

use serde_json::json;

use crate::common::{Config, Container, Sandbox, Spawn, on_each_view, skip, wait_until};

on_each_view![
    a_scheduler_holds_for_init_and_exec,
    an_io_priority_holds_for_init_and_exec,
    a_memory_policy_holds_for_init_and_exec,
    a_memory_policy_that_makes_no_sense_is_named,
    processors_are_the_cgroup_s_unless_exec_is_told_others,
    a_real_time_deadline_holds,
    a_deadline_beside_a_cpuset_is_refused_with_the_reason,
];

/// Runs a process in `container` by `exec --process`.
fn exec_process(
    sandbox: &Sandbox,
    container: &Container<'_>,
    process: &serde_json::Value,
) -> Spawn {
    let file = sandbox.dir().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    sandbox
        .call(["--debug", "exec", "--process"])
        .arg(&file)
        .arg(&container.id)
}

/// Policy and niceness of a process: fields 41 and 19 of proc_pid_stat(5).
const SCHEDULING: &str = "cut -d ' ' -f 41,19 /proc/self/stat";

fn a_scheduler_holds_for_init_and_exec(sandbox: &Sandbox) {
    let config = Config::sleeper().set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "priority": 0, "nice": 19}),
    );
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let of_init = SCHEDULING.replace("self", "1");
    assert_eq!(container.sh(&of_init).succeeded().stdout, "19 3\n");
    assert_eq!(container.sh(SCHEDULING).succeeded().stdout, "19 3\n");
    let process = json!({
        "args": ["/bin/sh", "-c", SCHEDULING], "cwd": "/",
        "scheduler": {"policy": "SCHED_IDLE"},
    });
    let out = exec_process(sandbox, &container, &process)
        .output()
        .succeeded();
    // The niceness is the caller's.
    assert!(out.stdout.ends_with(" 5\n"), "another of its own: {out}");
}

fn an_io_priority_holds_for_init_and_exec(sandbox: &Sandbox) {
    let config = Config::sleeper().set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
    );
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    for script in ["ionice -p 1", "ionice -p $$"] {
        let out = container.sh(script).succeeded();
        assert_eq!(out.stdout, "best-effort: prio 6\n", "{script}");
    }
}

const POLICY: &str = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2";

fn a_memory_policy_holds_for_init_and_exec(sandbox: &Sandbox) {
    let script = format!("{POLICY}; sleep 100000");
    let config = Config::shell(&script).set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
    );
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let out = container.sh(POLICY).succeeded();
    assert_eq!(out.stdout, "prefer=relative:0\n");
    wait_until("init says it", || !container.stdout().is_empty());
    assert_eq!(container.stdout(), "prefer=relative:0\n");
}

fn a_memory_policy_that_makes_no_sense_is_named(sandbox: &Sandbox) {
    for (policy, words) in [
        (json!({}), "invalid memory policy"),
        (
            json!({"mode": "MPOL_X", "nodes": "0"}),
            "invalid memory policy",
        ),
        (
            json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"}),
            "mode requires 0 nodes but got 8",
        ),
    ] {
        let config = Config::sleeper().set("/linux/memoryPolicy", policy);
        sandbox.run_config(&config).exited(1).says(words);
    }
}

const PROCESSORS: &str = "grep Cpus_allowed_list /proc/self/status";

/// Whatever the caller of the runtime is bound to.
fn processors_are_the_cgroup_s_unless_exec_is_told_others(sandbox: &Sandbox) {
    let bound_to = |processor: &str, args: &[&str]| {
        Spawn::new("taskset", &sandbox.dir().join("taskset"))
            .args(["-c", processor])
            .arg(&sandbox.runtime().path)
            .arg("--root")
            .arg(sandbox.root())
            .args(args)
            .output()
            .succeeded()
    };
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find(|l| l.starts_with("Cpus_allowed_list"))
        .unwrap();
    let config = Config::shell(&format!("{PROCESSORS}; sleep 100000")).set(
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "0"}),
    );
    let bundle = sandbox.bundle(&config);
    let path = bundle.path.to_str().unwrap();
    bound_to("0", &["create", "--bundle", path, &bundle.id]);
    sandbox.call(["start", &bundle.id]).output().succeeded();
    let seen = sandbox
        .call(["exec", &bundle.id, "/bin/sh", "-c"])
        .arg(PROCESSORS);
    assert_eq!(seen.output().succeeded().stdout, "Cpus_allowed_list:\t0\n");

    let plain = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let out = bound_to("0", &["exec", &plain.id, "/bin/sh", "-c", PROCESSORS]);
    assert_eq!(out.stdout.trim_end(), own, "exec without an affinity");
    let process = json!({
        "args": ["/bin/sh", "-c", PROCESSORS], "cwd": "/",
        "execCPUAffinity": {"initial": "0"},
    });
    let out = exec_process(sandbox, &plain, &process).output().succeeded();
    assert_eq!(out.stdout, "Cpus_allowed_list:\t0\n");
    assert!(out.stderr.contains(": affinity: 0x1"), "{out}");
}

fn a_real_time_deadline_holds(sandbox: &Sandbox) {
    let config = Config::sleeper().set(
        "/process/scheduler",
        json!({"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1_000_000, "period": 1_000_000}),
    );
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let out = container.sh(&SCHEDULING.replace("self", "1")).succeeded();
    assert!(out.stdout.ends_with(" 6\n"), "{out}");
}

fn a_deadline_beside_a_cpuset_is_refused_with_the_reason(sandbox: &Sandbox) {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let v1 = fs::exists("/sys/fs/cgroup/cpuset/cpuset.cpus").unwrap();
    if !v1
        && !v2
            .split_whitespace()
            .any(|controller| controller == "cpuset")
    {
        skip!("this view has no cpuset controller");
    }
    let config = Config::sleeper()
        .set(
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1_000_000, "period": 1_000_000}),
        )
        .set("/linux/resources/cpu", json!({"cpus": "0"}));
    sandbox
        .run_config(&config)
        .exited(1)
        .says("process scheduler can't be used together with AllowedCPUs");
}
