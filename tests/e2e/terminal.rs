//! Terminals: relayed in the foreground, sent over a console socket otherwise.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use serde_json::json;

use crate::common::{
    Bundle, Config, ConsoleSocket, Output, Sandbox, Spawn, Terminal, on_each_view, skip, wait_until,
};

on_each_view![
    a_foreground_terminal_is_relayed_and_resized,
    what_is_not_a_terminal_gets_plain_line_ends,
    a_console_size_outlives_a_terminal_without_one,
    an_exec_has_its_size_from_the_start,
    a_console_socket_gets_the_terminal,
    exec_in_the_foreground_has_a_terminal,
    exec_sends_its_terminal_over_a_console_socket,
    detached_without_a_console_socket_is_refused,
];

/// Shows its size at the start and whenever it has changed, until a line is
/// typed.
const SIZES: &str = "tty; last=; until read -t 0.02 line; do now=$(stty size); \
                     [ \"$now\" = \"$last\" ] || echo size $now; last=$now; done; \
                     echo typed $line; exit 7";

fn with_terminal(script: &str) -> Config {
    Config::shell(script).set("/process/terminal", true)
}

/// `command` of the runtime, called from a terminal of its own session.
fn from_a_terminal(sandbox: &Sandbox, args: &[&str]) -> (Terminal, crate::common::Running) {
    let (terminal, slave) = Terminal::open();
    terminal.resize(31, 97);
    let stdio = || Stdio::from(slave.try_clone().expect("dup"));
    // setsid makes the slave the controlling terminal, whose foreground group
    // the kernel tells of a new size.
    let running = Spawn::new("setsid", &sandbox.dir().join("setsid"))
        .arg("--ctty")
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(args)
        .stdio(stdio(), stdio(), stdio())
        .spawn();
    (terminal, running)
}

fn a_foreground_terminal_is_relayed_and_resized(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&with_terminal(SIZES));
    let path = bundle.path.to_str().unwrap();
    let (terminal, running) = from_a_terminal(sandbox, &["run", "--bundle", path, &bundle.id]);
    terminal.expect("/dev/pts/0\r\n");
    terminal.expect("size 31 97\r\n");
    terminal.resize(40, 120);
    terminal.expect("size 40 120\r\n");
    terminal.type_in("some words\n");
    terminal.expect("typed some words\r\n");
    running.wait().exited(7);
    // Ours was raw meanwhile: what was typed is echoed once, by the container's.
    assert_eq!(terminal.shown().matches("some words").count(), 2);
    terminal.wait_for_end();
}

fn what_is_not_a_terminal_gets_plain_line_ends(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&with_terminal("echo one; echo two"));
    let (_terminal, slave) = Terminal::open();
    let out = output_of(sandbox, &["run", "--bundle"], &bundle, slave);
    assert_eq!(out.succeeded().stdout, "one\ntwo\n");
}

fn a_console_size_outlives_a_terminal_without_one(sandbox: &Sandbox) {
    // What is typed comes through the relay, which has set its size by then.
    let config = with_terminal("read line; stty size")
        .set("/process/consoleSize", json!({"height": 10, "width": 110}));
    let bundle = sandbox.bundle(&config);
    let (terminal, slave) = Terminal::open();
    terminal.resize(0, 0);
    terminal.type_in("go on\n");
    let out = output_of(sandbox, &["run", "--bundle"], &bundle, slave);
    assert_eq!(out.succeeded().stdout, "go on\n10 110\n");
}

fn an_exec_has_its_size_from_the_start(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("runc sets it while the program runs");
    }
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    for _ in 0..50 {
        let (terminal, slave) = Terminal::open();
        terminal.resize(33, 101);
        let out = container
            .call("exec", &["--tty"])
            .args(["/bin/stty", "size"])
            .with(|command| {
                command.stdin(slave);
            })
            .output()
            .succeeded();
        assert_eq!(out.stdout, "33 101\n", "{out}");
    }
}

/// As [`from_a_terminal`], but only standard input is the terminal.
fn output_of(sandbox: &Sandbox, args: &[&str], bundle: &Bundle, slave: OwnedFd) -> Output {
    Spawn::new("setsid", &sandbox.dir().join("setsid"))
        .arg("--ctty")
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(args)
        .arg(&bundle.path)
        .arg(&bundle.id)
        .with(|command| {
            command.stdin(slave);
        })
        .output()
}

fn a_console_socket_gets_the_terminal(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&with_terminal(SIZES));
    let socket = ConsoleSocket::bind(sandbox.dir().join("console"));
    let create = sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg("--console-socket")
        .arg(socket.path())
        .arg(&bundle.id)
        .spawn();
    let (terminal, name) = socket.receive();
    create.wait().succeeded();
    assert!(
        name.contains("ptm") || name.contains("pts"),
        "sent as {name:?}"
    );
    terminal.resize(12, 34);
    sandbox.call(["start", &bundle.id]).output().succeeded();
    terminal.expect("size 12 34\r\n");
    terminal.resize(13, 35);
    terminal.expect("size 13 35\r\n");
    terminal.type_in("x\n");
    terminal.expect("typed x\r\n");
    // Nobody else may hold the slave: an engine reads to its end.
    terminal.wait_for_end();
    wait_until("stopped", || {
        let out = sandbox.call(["state", &bundle.id]).output().succeeded();
        out.stdout.contains("stopped")
    });
    sandbox.call(["delete", &bundle.id]).output().succeeded();
}

fn exec_in_the_foreground_has_a_terminal(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let _container = sandbox.run_detached(&bundle);
    let (terminal, running) =
        from_a_terminal(sandbox, &["exec", "-t", &bundle.id, "/bin/sh", "-c", SIZES]);
    terminal.expect("/dev/pts/0\r\n");
    terminal.expect("size 31 97\r\n");
    terminal.resize(41, 121);
    terminal.expect("size 41 121\r\n");
    terminal.type_in("a line\n");
    terminal.expect("typed a line\r\n");
    running.wait().exited(7);
}

fn exec_sends_its_terminal_over_a_console_socket(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let _container = sandbox.run_detached(&bundle);
    let socket = ConsoleSocket::bind(sandbox.dir().join("console"));
    let exec = sandbox
        .call(["exec", "--tty", "--detach", "--console-socket"])
        .arg(socket.path())
        .arg(&bundle.id)
        .args(["/bin/sh", "-c", SIZES])
        .spawn();
    let (terminal, _) = socket.receive();
    exec.wait().succeeded();
    terminal.expect("/dev/pts/0\r\n");
    terminal.type_in("bye\n");
    terminal.expect("typed bye\r\n");
    terminal.wait_for_end();
}

fn detached_without_a_console_socket_is_refused(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&with_terminal("true"));
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("cannot allocate tty if")
        .says("will detach without setting console socket");
    assert_eq!(sandbox.left(), Vec::<String>::new());

    let plain = sandbox.bundle(&Config::shell("true"));
    let socket = ConsoleSocket::bind(sandbox.dir().join("console"));
    sandbox
        .call(["create", "--bundle"])
        .arg(&plain.path)
        .arg("--console-socket")
        .arg(socket.path())
        .arg(&plain.id)
        .output()
        .exited(1)
        .says("cannot use console socket if")
        .says("will not detach or allocate tty");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}
