//! What a container's cgroup does: limits and their change, standing still,
//! statistics, being killed as a whole, and where exec goes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{Bundle, Config, Sandbox, View, by_systemd, on_each_view, skip, wait_until};

on_each_view![
    a_paused_container_stands_still,
    an_exec_into_a_paused_container_waits,
    a_paused_container_can_be_deleted,
    limits_are_set_and_updated,
    an_update_that_is_refused_changes_nothing,
    an_update_leaves_devices_alone,
    statistics_are_one_line_of_json,
    events_end_with_the_container,
    a_cgroup_in_use_is_refused,
    what_outlives_init_is_killed_and_deleted,
    what_is_in_a_threaded_cgroup_is_killed,
    a_container_whose_cgroup_has_gone_can_be_deleted,
    exec_goes_where_it_is_told,
    exec_follows_an_init_that_moved,
];

/// The container's directory in a controller's hierarchy, if there is one.
fn directory(sandbox: &Sandbox, bundle: &Bundle, controller: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let root = match sandbox.view() {
        View::Host if !crate::common::view::is_unified() => root.join(controller),
        _ => {
            let list = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
            let pseudo = ["devices", "freezer"].contains(&controller);
            if !pseudo && !list.split_whitespace().any(|c| c == controller) {
                return None;
            }
            root.to_path_buf()
        }
    };
    let path = root.join(bundle.cgroup().trim_start_matches('/'));
    path.is_dir().then_some(path)
}

/// The first of the two files that is there: version 1's or version 2's.
fn read(directory: &Path, names: [&str; 2]) -> String {
    let paths = names.map(|name| directory.join(name));
    let path = paths.iter().find(|p| p.exists()).expect("one of the files");
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn a_paused_container_stands_still(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    container
        .call("resume", &[])
        .output()
        .exited(1)
        .says("container not paused");
    container.call("pause", &[]).output().succeeded();
    assert_eq!(container.status(), "paused");
    let exec = container.call("exec", &[]).arg("true").output().exited(255);
    exec.says("cannot exec in a paused container");
    container
        .call("pause", &[])
        .output()
        .exited(1)
        .says("container not running");
    let state = read(
        &directory(sandbox, &bundle, "freezer").unwrap(),
        ["freezer.state", "cgroup.freeze"],
    );
    assert!(["FROZEN", "1"].contains(&state.as_str()), "{state}");
    // A limit may change meanwhile, where the view has one.
    if directory(sandbox, &bundle, "cpu").is_some() {
        let flags = ["--cpu-share", "512"];
        container.call("update", &flags).output().succeeded();
    }
    assert_eq!(container.status(), "paused");
    container.call("resume", &[]).output().succeeded();
    assert_eq!(container.status(), "running");
    container.exec(["true"]).succeeded();
    container.delete_force();
}

fn an_exec_into_a_paused_container_waits(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    container.call("pause", &[]).output().succeeded();
    let pids = || {
        let out = container.call("ps", &["--format", "json"]).output();
        let list: Value = serde_json::from_str(&out.succeeded().stdout).unwrap();
        list.as_array().unwrap().len()
    };
    assert_eq!(pids(), 1);
    let call = container.call("exec", &["--ignore-paused"]);
    let mut exec = call.args(["echo", "ok"]).spawn();
    // Born, and frozen with the others.
    wait_until("the process is there", || pids() > 1);
    assert!(!exec.has_ended());
    container.call("resume", &[]).output().succeeded();
    assert_eq!(exec.wait().succeeded().stdout, "ok\n");
    container.delete_force();
}

fn a_paused_container_can_be_deleted(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    container.call("pause", &[]).output().succeeded();
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn limits_are_set_and_updated(sandbox: &Sandbox) {
    let mut config = Config::sleeper();
    let mut flags: Vec<&str> = Vec::new();
    let mut checks = Vec::new();
    let root = sandbox.bundle(&Config::sleeper());
    let probe = sandbox.create(&root);
    // Controller, what it is made with, flags that change that, and what its
    // files say before and after.
    let table = [
        (
            "memory",
            (
                "/linux/resources/memory",
                json!({"limit": 33_554_432, "reservation": 25_165_824}),
            ),
            &["--memory", "64M"][..],
            [
                (
                    ["memory.limit_in_bytes", "memory.max"],
                    "33554432",
                    "67108864",
                ),
                (
                    ["memory.soft_limit_in_bytes", "memory.low"],
                    "25165824",
                    "25165824",
                ),
            ],
        ),
        (
            "pids",
            ("/linux/resources/pids", json!({"limit": 20})),
            &["--pids-limit", "-1"],
            [
                (["pids.max", "pids.max"], "20", "max"),
                (["pids.max", "pids.max"], "20", "max"),
            ],
        ),
        (
            "cpu",
            (
                "/linux/resources/cpu",
                json!({"shares": 1024, "quota": 500_000, "period": 1_000_000}),
            ),
            // Whole percents, because systemd knows no others.
            &["--cpu-period", "625000"],
            [
                (["cpu.cfs_period_us", "cpu.max"], "1000000", "625000"),
                (["cpu.cfs_quota_us", "cpu.max"], "500000", "500000"),
            ],
        ),
    ];
    for (controller, (at, create), change, files) in table {
        if directory(sandbox, &root, controller).is_some() {
            config = config.set(at, create);
            flags.extend(change);
            checks.push((controller, files));
        }
    }
    probe.delete_force();
    if checks.is_empty() {
        skip!("this view has no memory, pids or cpu controller");
    }
    let bundle = sandbox.bundle(&config);
    let container = sandbox.run_detached(&bundle);
    let check = |updated: bool| {
        for (controller, files) in &checks {
            let directory = directory(sandbox, &bundle, controller).unwrap();
            for (names, first, second) in files {
                let want = if updated { second } else { first };
                let got = read(&directory, *names);
                assert!(
                    got.split(' ').any(|w| w == *want),
                    "{names:?}: {got}, not {want}"
                );
            }
        }
    };
    check(false);
    container.call("update", &flags).output().succeeded();
    check(true);
    // Back, by standard input, with what the engine did not ask for left alone.
    let file = sandbox.dir().join("resources.json");
    fs::write(&file, config.get("/linux/resources").to_string()).unwrap();
    container
        .call("update", &["--resources", "-"])
        .stdin_from(&file)
        .output()
        .succeeded();
    check(false);
    container.delete_force();
}

fn an_update_that_is_refused_changes_nothing(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    let Some(cpu) = directory(sandbox, &bundle, "cpu") else {
        container.delete_force();
        skip!("this view has no cpu controller");
    };
    let file = ["cpu.cfs_period_us", "cpu.max"];
    container
        .call("update", &["--cpu-period", "50000"])
        .output()
        .succeeded();
    let before = read(&cpu, file);
    let out = container
        .call("update", &["--cpu-period", "60000", "--cpu-idle", "7"])
        .output()
        .exited(1);
    assert!(
        out.stderr.contains("failed to write \\\"7\\\"")
            || out.stderr.contains("failed to write \"7\""),
        "{out}"
    );
    assert!(out.stderr.contains("cpu.idle: invalid argument"), "{out}");
    // runc writes back what it has just changed.
    if sandbox.runtime().is_kusabi() {
        assert_eq!(read(&cpu, file), before);
    }
    container.delete_force();
    container
        .call("update", &["--cpu-share", "2"])
        .output()
        .exited(1)
        .says("does not exist");
}

fn an_update_leaves_devices_alone(sandbox: &Sandbox) {
    let config = Config::sleeper()
        .device_rule(true, "c", Some(60), Some(1), "rw")
        .capabilities(&["CAP_MKNOD"]);
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let probe = "mknod /tmp/yes c 60 1; mknod /tmp/no c 60 2; cat /tmp/yes; cat /tmp/no; rm /tmp/yes /tmp/no";
    let look = || container.sh(probe).stderr;
    let before = look();
    assert!(before.contains("/tmp/yes': No such device"), "{before}");
    assert!(
        before.contains("/tmp/no': Operation not permitted"),
        "{before}"
    );
    let file = sandbox.dir().join("devices.json");
    fs::write(&file, r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    let path = file.to_str().unwrap();
    container
        .call("update", &["--resources", path])
        .output()
        .succeeded();
    assert_eq!(look(), before);
    container.delete_force();
}

fn statistics_are_one_line_of_json(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let out = container.call("events", &["--stats"]).output().succeeded();
    let start = format!(
        "{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{\"cpu\":",
        container.id
    );
    assert!(out.stdout.starts_with(&start), "{out}");
    assert_eq!(out.stdout.matches('\n').count(), 1);
    let line: Value = serde_json::from_str(&out.stdout).unwrap();
    assert!(line["data"]["pids"]["current"].as_u64() >= Some(1), "{out}");
    assert!(line["data"]["hugetlb"].is_object(), "{out}");
    container.kill("KILL");
    container.wait_for("stopped");
    let out = container.call("events", &["--stats"]).output().exited(1);
    out.says("is not running");
    container.delete();
}

fn events_end_with_the_container(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    if directory(sandbox, &bundle, "memory").is_none() {
        container.delete_force();
        skip!("this view has no memory controller");
    }
    let running = container.call("events", &["--interval", "10ms"]).spawn();
    wait_until("two lines of statistics", || {
        running.stdout().matches("\"type\":\"stats\"").count() > 1
    });
    container.delete_force();
    running.wait().succeeded();
}

fn a_cgroup_in_use_is_refused(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    let second = sandbox.bundle(&Config::sleeper());
    let config = Config::sleeper().set("/linux/cgroupsPath", bundle.cgroups_path());
    fs::write(second.config_path(), config.text()).unwrap();
    let out = sandbox
        .call(["create", "--bundle"])
        .arg(&second.path)
        .arg(&second.id)
        .output()
        .exited(1);
    out.says("container's cgroup is not empty: 1 process(es) found");
    assert_eq!(container.status(), "running");
    container.exec(["true"]).succeeded();
    container.delete_force();
}

/// Without a pid namespace of its own, init's end is not the others'.
fn what_outlives_init_is_killed_and_deleted(sandbox: &Sandbox) {
    for end in ["kill", "delete"] {
        let bundle = sandbox.bundle(&Config::sleeper().without_namespace("pid"));
        let container = sandbox.run_detached(&bundle);
        let pids: Vec<i32> = (0..3)
            .map(|n| {
                let file = sandbox.dir().join(format!("{end}{n}.pid"));
                let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
                let out = sandbox.call(["exec"]).args(flags).arg(&container.id);
                out.args(["/bin/sleep", "100000"]).output().succeeded();
                fs::read_to_string(file).unwrap().parse().unwrap()
            })
            .collect();
        let init = container.pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::SIGKILL)
            .unwrap();
        container.wait_for("stopped");
        let alive = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
        };
        assert!(pids.iter().all(alive));
        if end == "kill" {
            container.kill("KILL");
            wait_until("all are gone", || !pids.iter().any(alive));
        }
        container.delete();
        assert!(!pids.iter().any(alive));
    }
}

/// The kernel does not do it there (`cgroup.kill` of cgroups(7)).
fn what_is_in_a_threaded_cgroup_is_killed(sandbox: &Sandbox) {
    if sandbox.view() == View::Host && !crate::common::view::is_unified() {
        skip!("needs cgroup v2");
    }
    if by_systemd() {
        skip!("systemd makes no threaded cgroups");
    }
    let name = sandbox.fresh();
    let above = Path::new("/sys/fs/cgroup").join(&name);
    let threaded = above.join("threaded");
    fs::create_dir_all(&threaded).unwrap();
    fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let path = format!("/{name}/threaded/it");
    let config = Config::sleeper()
        .without_namespace("pid")
        .set("/linux/cgroupsPath", path);
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let kind = fs::read_to_string(threaded.join("it/cgroup.type")).unwrap();
    assert_eq!(kind, "threaded\n");
    container
        .call("exec", &["--detach"])
        .args(["/bin/sleep", "100000"])
        .output()
        .succeeded();
    let left = || fs::read_to_string(threaded.join("it/cgroup.threads")).unwrap();
    assert_eq!(left().lines().count(), 2);
    container.kill("KILL");
    wait_until("all are gone", || left().is_empty());
    container.delete();
    fs::remove_dir(&threaded).unwrap();
    fs::remove_dir(&above).unwrap();
}

fn a_container_whose_cgroup_has_gone_can_be_deleted(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.run_detached(&bundle);
    container.kill("KILL");
    container.wait_for("stopped");
    for controller in ["devices", "freezer", "memory", "unified"] {
        if let Some(path) = directory(sandbox, &bundle, controller) {
            wait_until("the cgroup can be removed", || {
                fs::remove_dir(&path).is_ok()
            });
        }
    }
    container.delete();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// A container that may make cgroups below its own.
fn writable_cgroup() -> Config {
    let mut config = Config::sleeper();
    let mounts = config.get("/mounts").as_array().unwrap();
    let index = mounts.iter().position(|m| m["type"] == "cgroup").unwrap();
    let at = format!("/mounts/{index}/options");
    config = config.set(&at, json!(["nosuid", "noexec", "nodev", "relatime", "rw"]));
    config
}

fn exec_goes_where_it_is_told(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&writable_cgroup());
    let container = sandbox.run_detached(&bundle);
    let exec = |place: &str| {
        let flags = ["--cgroup", place];
        let call = container.call("exec", &flags);
        call.args(["cat", "/proc/self/cgroup"]).output()
    };
    exec("..").exited(255).says("bad sub cgroup path");
    let out = exec("nonexistent").exited(255);
    assert!(
        out.stderr.contains(" cgroup") && out.stderr.contains("o such file or directory"),
        "{out}"
    );
    let devices = directory(sandbox, &bundle, "devices").unwrap();
    fs::create_dir(devices.join("below")).unwrap();
    let place = if sandbox.view() == View::Unified || crate::common::view::is_unified() {
        "below"
    } else {
        exec("whaaat:/").exited(255).says("unknown controller ");
        "devices:below"
    };
    let seen = exec(place).succeeded().stdout;
    assert!(seen.lines().any(|l| l.ends_with("/below")), "{seen}");
    let top = exec("/").succeeded().stdout;
    assert!(!top.contains("/below"), "{top}");
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// What a service manager in a container does.
fn exec_follows_an_init_that_moved(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&writable_cgroup());
    let container = sandbox.run_detached(&bundle);
    let Some(own) =
        directory(sandbox, &bundle, "hugetlb").filter(|d| d.join("cgroup.freeze").exists())
    else {
        container.delete_force();
        skip!("needs cgroup v2 with a controller to hand on");
    };
    let moved = own.join("init.scope");
    fs::create_dir(&moved).unwrap();
    fs::write(moved.join("cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(own.join("cgroup.subtree_control"), "+hugetlb").unwrap();
    let seen = container
        .exec(["cat", "/proc/self/cgroup"])
        .succeeded()
        .stdout;
    assert!(seen.contains("init.scope"), "{seen}");
    // Told explicitly, there is no other place.
    let flags = ["--cgroup", "/"];
    let out = container
        .call("exec", &flags)
        .arg("true")
        .output()
        .exited(255);
    assert!(
        out.stderr.contains(" adding pid ")
            && out.stderr.contains(" to cgroups")
            && out.stderr.contains("evice or resource busy"),
        "{out}"
    );
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
