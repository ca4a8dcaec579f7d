//! A container that has been created and not started: who may end it, who not,
//! and the pidfd by which an engine holds it.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use kusabi::sys::process::{pidfd_send_signal, recv_fd};

use crate::common::{Config, Sandbox, deadline, on_each_view};

on_each_view![
    a_request_to_end_ends_it,
    other_signals_leave_it_to_be_started,
    signals_reach_it_in_the_hosts_pid_namespace,
    create_run_and_exec_hand_out_a_pidfd,
];

fn a_request_to_end_ends_it(sandbox: &Sandbox) {
    for signal in ["TERM", "INT", "HUP", "QUIT", "KILL"] {
        let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
        assert_eq!(container.status(), "created");
        container.kill(signal);
        container.wait_for("stopped");
        container.delete();
    }
}

fn other_signals_leave_it_to_be_started(sandbox: &Sandbox) {
    // The program finds its signals as if nobody had touched them.
    let config = Config::shell("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; exec sleep 100000");
    let container = sandbox.create(&sandbox.bundle(&config));
    for signal in ["USR1", "USR2", "WINCH", "ALRM", "PIPE", "35", "64"] {
        container.kill(signal);
        assert_eq!(container.status(), "created", "after {signal}");
    }
    container.start();
    container.wait_for("running");
    crate::common::wait_until("its words", || container.stdout().lines().count() == 3);
    for line in container.stdout().lines() {
        let (field, mask) = line.split_once(":\t").unwrap();
        // 32 and 33 are the C library's own, and the test's.
        let mask = u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31);
        assert_eq!(mask, 0, "{field}");
    }
    container.delete_force();
}

fn signals_reach_it_in_the_hosts_pid_namespace(sandbox: &Sandbox) {
    let config = Config::sleeper().without_namespace("pid");
    let container = sandbox.create(&sandbox.bundle(&config));
    container.kill("USR1");
    container.kill("35");
    assert_eq!(container.status(), "created");
    container.kill("TERM");
    container.wait_for("stopped");
    container.delete();
}

/// Takes one pidfd off a socket in the sandbox.
struct PidfdSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl PidfdSocket {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.dir().join(sandbox.fresh());
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { path, listener }
    }

    fn flag(&self) -> [&str; 2] {
        ["--pidfd-socket", self.path.to_str().unwrap()]
    }

    /// The runtime has returned: what it sent is here.
    fn take(&self) -> OwnedFd {
        let (stream, _) = self.listener.accept().expect("the runtime connected");
        stream.set_nonblocking(false).unwrap();
        let (_, fd) = recv_fd(stream.as_fd(), 4096).unwrap();
        fd.expect("a descriptor")
    }
}

/// The pid that a pidfd refers to.
fn pid_of(pidfd: &OwnedFd) -> i32 {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap();
    line.trim().parse().unwrap()
}

fn create_run_and_exec_hand_out_a_pidfd(sandbox: &Sandbox) {
    for command in ["create", "run"] {
        let bundle = sandbox.bundle(&Config::sleeper());
        let socket = PidfdSocket::new(sandbox);
        let detach: &[&str] = if command == "run" { &["--detach"] } else { &[] };
        sandbox
            .call([command])
            .args(detach)
            .args(socket.flag())
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .succeeded();
        let pidfd = socket.take();
        let state = sandbox.call(["state", &bundle.id]).output().succeeded();
        let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap();
        assert_eq!(state["pid"], pid_of(&pidfd), "{command}");
        if command == "create" {
            pidfd_send_signal(pidfd.as_fd(), libc::SIGTERM).unwrap();
        } else {
            let socket = PidfdSocket::new(sandbox);
            let pid_file = sandbox.dir().join(sandbox.fresh());
            sandbox
                .call(["exec", "--detach", "--pid-file"])
                .arg(&pid_file)
                .args(socket.flag())
                .args([&bundle.id, "/bin/sleep", "100000"])
                .output()
                .succeeded();
            let executed = socket.take();
            let pid = std::fs::read_to_string(pid_file).unwrap();
            assert_eq!(pid, pid_of(&executed).to_string());
            pidfd_send_signal(executed.as_fd(), libc::SIGKILL).unwrap();
            pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        }
        let end = Instant::now() + deadline();
        loop {
            let state = sandbox.call(["state", &bundle.id]).output().succeeded();
            if state.stdout.contains("stopped") {
                break;
            }
            assert!(Instant::now() < end, "{command}: {state}");
        }
        sandbox.call(["delete", &bundle.id]).output().succeeded();
    }
}
