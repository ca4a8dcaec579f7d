//! `run` and `exec` in the foreground: output, exit codes, signals, and that
//! the caller always gets its answer.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::{Config, Sandbox, Spawn, on_each_view, on_host, wait_until};

on_each_view![
    run_passes_on_output_and_exit_code,
    exec_passes_on_output_and_exit_code,
    a_killed_container_is_137,
    signals_are_forwarded_to_run,
    signals_are_forwarded_to_exec,
    run_keeps_the_container_if_asked,
    stdin_is_the_callers,
];
on_host![run_never_hangs_on_a_busy_machine];

fn run_passes_on_output_and_exit_code(sandbox: &Sandbox) {
    for code in [0, 1, 42, 255] {
        let script = format!("echo out; echo err >&2; exit {code}");
        let out = sandbox.run_config(&Config::shell(&script)).exited(code);
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out\n", "err\n")
        );
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn exec_passes_on_output_and_exit_code(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    for code in [0, 1, 42, 255] {
        let out = container
            .sh(&format!("echo out; echo err >&2; exit {code}"))
            .exited(code);
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out\n", "err\n")
        );
    }
    container.sh("kill -KILL $$").exited(128 + 9);
    container.sh("kill -TERM $$").exited(128 + 15);
}

/// The first process of a pid namespace is only ever ended by KILL from
/// outside, or by itself.
fn a_killed_container_is_137(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::shell("echo ready; sleep 100000"));
    let running = sandbox
        .call(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .spawn();
    wait_until("ready", || running.stdout().contains("ready"));
    sandbox
        .call(["kill", &bundle.id, "KILL"])
        .output()
        .succeeded();
    running.wait().exited(128 + 9);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// Says which signals come, each once, and exits on the last.
const LISTEN: &str = "trap 'echo got HUP' HUP; trap 'echo got USR1' USR1; \
                      trap 'echo got USR2' USR2; trap 'echo got TERM; exit 3' TERM; \
                      echo ready; while :; do usleep 1000; done";

fn hears_signals(running: crate::common::Running) {
    wait_until("ready", || running.stdout().contains("ready"));
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGTERM, "TERM"),
    ] {
        running.signal(signal);
        wait_until(name, || running.stdout().contains(&format!("got {name}")));
    }
    let out = running.wait().exited(3);
    assert_eq!(out.stdout, "ready\ngot HUP\ngot USR1\ngot USR2\ngot TERM\n");
}

fn signals_are_forwarded_to_run(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::shell(LISTEN));
    hears_signals(
        sandbox
            .call(["run", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .spawn(),
    );
}

fn signals_are_forwarded_to_exec(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    hears_signals(
        container
            .call("exec", &[])
            .args(["/bin/sh", "-c", LISTEN])
            .spawn(),
    );
}

fn run_keeps_the_container_if_asked(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::shell("exit 5"));
    sandbox
        .call(["run", "--keep", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(5);
    let state = sandbox.call(["state", &bundle.id]).output().succeeded();
    assert!(state.stdout.contains("stopped"), "{state}");
    sandbox.call(["delete", &bundle.id]).output().succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn stdin_is_the_callers(sandbox: &Sandbox) {
    let input = sandbox.dir().join("input");
    std::fs::write(&input, "one\ntwo\n").unwrap();
    let bundle = sandbox.bundle(&Config::new(&["/bin/cat"]));
    let out = sandbox
        .call(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .stdin_from(&input)
        .output()
        .succeeded();
    assert_eq!(out.stdout, "one\ntwo\n");
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let out = container
        .call("exec", &[])
        .arg("/bin/cat")
        .stdin_from(&input)
        .output()
        .succeeded();
    assert_eq!(out.stdout, "one\ntwo\n");
}

/// A container may end before the runtime looks, and while other work keeps
/// both processors busy. `KUSABI_TEST_RUNS` says how often to try.
fn run_never_hangs_on_a_busy_machine(sandbox: &Sandbox) {
    let runs = std::env::var("KUSABI_TEST_RUNS").map_or(40, |v| v.parse().unwrap());
    let busy: Vec<_> = (0..2)
        .map(|n| {
            Spawn::new("/bin/sh", &sandbox.dir().join(format!("busy{n}")))
                .args(["-c", "while :; do :; done"])
                .within(Duration::from_secs(3600))
                .spawn()
        })
        .collect();
    for number in 0..runs {
        let code = number % 3;
        let bundle = sandbox.bundle(&Config::shell(&format!("exit {code}")));
        sandbox.run(&bundle).exited(code);
        std::fs::remove_dir_all(&bundle.path).unwrap();
    }
    drop(busy);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
