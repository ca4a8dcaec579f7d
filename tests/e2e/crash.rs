//! SIGKILL at any moment: what is left is removed by `delete --force`, and no
//! process of a container ever runs outside its device filter.
//!
//! The moments are spread evenly over the time that the command takes here.
//! `tests/faults.rs` kills at each named step; this file needs no special build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{
    Bundle, Config, Running, Sandbox, Spawn, View, host, on_each_view, skip, wait_until,
};

on_each_view![
    create_may_be_killed_at_any_moment,
    run_may_be_killed_at_any_moment,
    exec_may_be_killed_at_any_moment,
    delete_may_be_killed_at_any_moment,
];

/// How many moments are tried for each command.
const MOMENTS: u32 = 50;

/// Calls `command` once for each moment of its run time, and kills it there.
/// `prepare` makes what the command needs, and `check` looks at what is left.
fn at_any_moment(
    sandbox: &Sandbox,
    prepare: impl Fn() -> Bundle,
    command: impl Fn(&Bundle) -> Running,
    check: impl Fn(&Bundle),
) {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let bundle = prepare();
            let start = Instant::now();
            command(&bundle).wait().succeeded();
            let time = start.elapsed();
            clean(sandbox, &bundle);
            time
        })
        .collect();
    times.sort();
    // A little longer than usual, so that some calls end by themselves.
    let step = times[2] * 5 / 4 / MOMENTS;
    let mut killed = 0;
    for moment in 0..MOMENTS {
        let bundle = prepare();
        let running = command(&bundle);
        std::thread::sleep(step * moment);
        running.signal(Signal::SIGKILL);
        killed += u32::from(running.wait().signal == Some(9));
        check(&bundle);
        clean(sandbox, &bundle);
    }
    assert!(
        killed > MOMENTS / 10,
        "only {killed} of {MOMENTS} were killed"
    );
}

/// Deletes by force, and requires that nothing is left.
#[track_caller]
fn clean(sandbox: &Sandbox, bundle: &Bundle) {
    sandbox
        .call(["delete", "--force", &bundle.id])
        .output()
        .succeeded();
    wait_until("the last process's end", || {
        host::processes_in(&bundle.id).is_empty()
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
    fs::remove_dir_all(&bundle.path).unwrap();
}

/// Every process of the container that lives on must be in a cgroup where a
/// node that no rule allows cannot be opened. Processes that are about to end,
/// because the one that waits for them has gone, get the time to do so.
fn survivors_are_filtered(sandbox: &Sandbox, bundle: &Bundle) {
    let node = sandbox.dir().join("node");
    if !node.exists() {
        make_node(&node, 60, 0);
    }
    let mut outside = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        outside.clear();
        for (pid, name) in host::processes_in(&bundle.id) {
            let Some(procs) = device_cgroup(sandbox.view(), pid) else {
                continue;
            };
            let verdict = open_in(sandbox, &procs, &node);
            if !verdict.contains("Operation not permitted") {
                outside.insert(pid, format!("{name} in {}: {verdict}", procs.display()));
            }
        }
        if outside.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "outside the filter: {outside:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_node(path: &Path, major: u64, minor: u64) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let numbers = makedev(major, minor);
    mknod(
        path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        numbers,
    )
    .expect("mknod");
}

/// `cgroup.procs` of the cgroup whose device filter a process is under; none
/// when the process has ended.
fn device_cgroup(view: View, pid: i32) -> Option<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let (marker, root) = if view == View::Host && !crate::common::view::is_unified() {
        (":devices:", "/sys/fs/cgroup/devices")
    } else {
        ("0::", "/sys/fs/cgroup")
    };
    let path = table.lines().find_map(|line| line.split_once(marker))?.1;
    Some(PathBuf::from(format!("{root}{path}/cgroup.procs")))
}

/// What a shell in that cgroup says when it opens `node`.
fn open_in(sandbox: &Sandbox, procs: &Path, node: &Path) -> String {
    let out = Spawn::new("/bin/sh", &sandbox.dir().join("open"))
        .args(["-c", "echo $$ >\"$1\" && : <\"$2\"", "sh"])
        .arg(procs)
        .arg(node)
        .env("LC_ALL", "C")
        .output();
    format!("{}{}", out.stdout, out.stderr)
}

fn sleeper(sandbox: &Sandbox) -> Bundle {
    sandbox.bundle(&Config::sleeper())
}

fn launch(sandbox: &Sandbox, command: &[&str], bundle: &Bundle) -> Running {
    sandbox
        .call(command)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .spawn()
}

macro_rules! only_kusabi {
    ($sandbox:expr) => {
        if !$sandbox.runtime().is_kusabi() {
            skip!("no other runtime promises it");
        }
    };
}

fn create_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    at_any_moment(
        sandbox,
        || sleeper(sandbox),
        |bundle| launch(sandbox, &["create"], bundle),
        |bundle| survivors_are_filtered(sandbox, bundle),
    );
}

fn run_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    at_any_moment(
        sandbox,
        || sleeper(sandbox),
        |bundle| launch(sandbox, &["run", "--detach"], bundle),
        |bundle| survivors_are_filtered(sandbox, bundle),
    );
}

fn exec_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    at_any_moment(
        sandbox,
        || {
            let bundle = sleeper(sandbox);
            sandbox.run_detached(&bundle);
            bundle
        },
        |bundle| {
            sandbox
                .call(["exec", "--detach", &bundle.id, "/bin/sleep", "100001"])
                .spawn()
        },
        |bundle| {
            survivors_are_filtered(sandbox, bundle);
            let state = sandbox.call(["state", &bundle.id]).output().succeeded();
            assert!(state.stdout.contains("running"), "{state}");
        },
    );
}

fn delete_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    at_any_moment(
        sandbox,
        || {
            let bundle = sleeper(sandbox);
            sandbox.run_detached(&bundle);
            bundle
        },
        |bundle| sandbox.call(["delete", "--force", &bundle.id]).spawn(),
        |bundle| survivors_are_filtered(sandbox, bundle),
    );
}
