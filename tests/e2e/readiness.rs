//! What systemd gives a service and expects of it, through the runtime:
//! `NOTIFY_SOCKET` (`sd_notify(3)`) and `LISTEN_FDS` (`sd_listen_fds(3)`).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::common::{Config, Running, Sandbox, on_each_view, wait_until};

on_each_view![
    a_detached_run_returns_when_the_container_is_ready,
    a_foreground_run_is_the_main_process,
    start_passes_readiness_on,
    a_container_that_ends_first_is_not_waited_for,
    sockets_are_handed_on_with_their_names,
    sockets_meant_for_another_process_are_not,
];

/// A stand-in for systemd.
struct Systemd {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Systemd {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.dir().join(sandbox.fresh());
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(crate::common::deadline()))
            .unwrap();
        Self { path, socket }
    }

    /// The next message. A descriptor that comes with it is closed.
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let got = self.socket.recv(&mut buffer).map(|n| buffer[..n].to_vec());
        assert!(got.is_err(), "heard {got:?}");
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// Writes to the socket as a program in the container does, which sees it at the
/// path that its environment has.
fn notify(pid: i32, message: &str) {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let inside = String::from_utf8(environment)
        .unwrap()
        .split('\0')
        .find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=").map(str::to_owned))
        .expect("NOTIFY_SOCKET in the container");
    assert_eq!(inside, "/run/notify/notify.sock");
    let socket = UnixDatagram::unbound().unwrap();
    let path = format!("/proc/{pid}/root{inside}");
    socket.send_to(message.as_bytes(), path).unwrap();
}

/// Waits until the container's program runs; returns its pid.
fn pid_of_running(sandbox: &Sandbox, id: &str) -> i32 {
    let mut pid = 0;
    wait_until("the container runs", || {
        let state = sandbox.call(["state", id]).output();
        let Ok(state) = serde_json::from_str::<serde_json::Value>(&state.stdout) else {
            return false;
        };
        pid = state["pid"].as_i64().unwrap().try_into().unwrap();
        state["status"] == "running"
    });
    pid
}

fn run(sandbox: &Sandbox, systemd: &Systemd, flags: &[&str], config: &Config) -> (Running, String) {
    let bundle = sandbox.bundle(config);
    let running = sandbox
        .call(["run"])
        .args(flags)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .env("NOTIFY_SOCKET", &systemd.path)
        .spawn();
    (running, bundle.id)
}

fn a_detached_run_returns_when_the_container_is_ready(sandbox: &Sandbox) {
    let systemd = Systemd::new(sandbox);
    let (mut running, id) = run(sandbox, &systemd, &["--detach"], &Config::sleeper());
    let pid = pid_of_running(sandbox, &id);
    notify(pid, "STATUS=loading\nMAINPID=1\nWATCHDOG=trigger");
    // Only the container's directory and socket, which cannot be changed there.
    let listed = sandbox
        .call(["exec", &id, "/bin/sh", "-c"])
        .arg("ls -A /run/notify; touch /run/notify/x 2>&1; env")
        .output();
    assert!(listed.stdout.starts_with("notify.sock\n"), "{listed}");
    assert!(listed.stdout.contains("Read-only file system"), "{listed}");
    assert!(!listed.stdout.contains("NOTIFY_SOCKET"), "{listed}");
    assert!(!running.has_ended());
    systemd.hears_nothing();
    notify(pid, "STATUS=loaded\nREADY=1");
    assert_eq!(systemd.hears(), "READY=1\n");
    assert_eq!(systemd.hears(), format!("MAINPID={pid}\n"));
    assert_eq!(systemd.hears(), "BARRIER=1");
    running.wait().succeeded();
    systemd.hears_nothing();
    sandbox
        .call(["delete", "--force", &id])
        .output()
        .succeeded();
}

fn a_foreground_run_is_the_main_process(sandbox: &Sandbox) {
    let systemd = Systemd::new(sandbox);
    let config = Config::shell("trap 'exit 7' TERM; echo up; while :; do usleep 1000; done");
    let (running, id) = run(sandbox, &systemd, &[], &config);
    let pid = pid_of_running(sandbox, &id);
    wait_until("its words", || running.stdout().contains("up"));
    notify(pid, "READY=1");
    assert_eq!(systemd.hears(), "READY=1\n");
    assert_eq!(systemd.hears(), format!("MAINPID={}\n", running.pid()));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().exited(7);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn start_passes_readiness_on(sandbox: &Sandbox) {
    let systemd = Systemd::new(sandbox);
    let bundle = sandbox.bundle(&Config::sleeper());
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .env("NOTIFY_SOCKET", &systemd.path)
        .output()
        .succeeded();
    let start = sandbox
        .call(["start", &bundle.id])
        .env("NOTIFY_SOCKET", &systemd.path)
        .spawn();
    let pid = pid_of_running(sandbox, &bundle.id);
    notify(pid, "READY=1");
    assert_eq!(systemd.hears(), "READY=1\n");
    assert_eq!(systemd.hears(), format!("MAINPID={pid}\n"));
    assert_eq!(systemd.hears(), "BARRIER=1");
    start.wait().succeeded();
    let delete = ["delete", "--force", &bundle.id];
    sandbox.call(delete).output().succeeded();
}

fn a_container_that_ends_first_is_not_waited_for(sandbox: &Sandbox) {
    let systemd = Systemd::new(sandbox);
    let (running, id) = run(sandbox, &systemd, &["--detach"], &Config::shell("exit 0"));
    running.wait().succeeded();
    systemd.hears_nothing();
    sandbox.call(["delete", &id]).output().succeeded();
}

/// Runs `config` with two open files as descriptors 3 and 4, of which
/// `LISTEN_FDS` tells, for the process that `pid` names in a shell.
fn with_sockets(sandbox: &Sandbox, pid: &str, config: &Config) -> String {
    let bundle = sandbox.bundle(config);
    for name in ["first", "second"] {
        fs::write(sandbox.dir().join(name), format!("{name}\n")).unwrap();
    }
    let script = format!(
        "exec 3<first 4<second; export LISTEN_FDS=2 LISTEN_FDNAMES=web:admin LISTEN_PID={pid}; \
         exec \"$@\""
    );
    let stem = sandbox.dir().join(sandbox.fresh());
    crate::common::Spawn::new("/bin/sh", &stem)
        .args(["-c", &script, "sh"])
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .current_dir(sandbox.dir())
        .output()
        .succeeded()
        .stdout
}

fn sockets_are_handed_on_with_their_names(sandbox: &Sandbox) {
    let script = "cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES";
    assert_eq!(
        with_sockets(sandbox, "$$", &Config::shell(script)),
        "first\nsecond\n2 1 web:admin\n"
    );
}

fn sockets_meant_for_another_process_are_not(sandbox: &Sandbox) {
    let script = "ls /proc/self/fd | wc -l; env | grep -c LISTEN";
    let seen = with_sockets(sandbox, "1", &Config::shell(&format!("{script}; true")));
    // Three, and the one that ls reads by.
    assert_eq!(seen, "4\n0\n");
}
