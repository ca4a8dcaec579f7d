//! SIGKILL at any moment: what is left is removed by `delete --force`, and no
//! process of a container ever runs outside its device filter.
//!
//! The moments are spread evenly over the time that the command takes here.
//! `tests/faults` kills at each named step; this file needs no special build.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{
    Bundle, Config, Running, Sandbox, host, on_each_view, skip, survivors_are_filtered, wait_until,
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
        |bundle| {
            survivors_are_filtered(sandbox, &bundle.id);
        },
    );
}

fn run_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    at_any_moment(
        sandbox,
        || sleeper(sandbox),
        |bundle| launch(sandbox, &["run", "--detach"], bundle),
        |bundle| {
            survivors_are_filtered(sandbox, &bundle.id);
        },
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
            survivors_are_filtered(sandbox, &bundle.id);
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
        |bundle| {
            survivors_are_filtered(sandbox, &bundle.id);
        },
    );
}
