//! Containers that another runtime makes: the same edits, its own life cycle.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::runtime::which;
use crate::common::{
    Config, Kind, Output, Runtime, Sandbox, Spawn, View, host, in_sandbox, skip, view, wait_until,
};
use crate::{policy, write};

/// A peer, the view it is called in, and a test.
macro_rules! cases {
    ($($name:ident = $kind:expr, $view:expr, $body:expr;)+) => {
        $(#[test]
        fn $name() {
            if Runtime::peer($kind).is_none() {
                skip!("this machine has no {:?}", $kind);
            }
            let test = concat!(module_path!(), "::", stringify!($name));
            if $kind == Kind::Crun && $view == View::Unified && !may_raise_limits() {
                skip!("crun needs CAP_SYS_RESOURCE with cgroup v2");
            }
            in_sandbox(test, $view, |sandbox| {
                // crun does not know hybrid hosts.
                if $kind == Kind::Crun && $view == View::Host {
                    view::leave_hybrid();
                }
                $body(sandbox, $kind);
            });
        })+
    };
}

cases! {
    runc_lives_a_whole_life = Kind::Runc, View::Host, a_whole_life;
    runc_lives_a_whole_life_on_v2 = Kind::Runc, View::Unified, a_whole_life;
    crun_lives_a_whole_life = Kind::Crun, View::Host, a_whole_life;
    crun_lives_a_whole_life_on_v2 = Kind::Crun, View::Unified, a_whole_life;
    runc_runs_in_the_foreground = Kind::Runc, View::Unified, in_the_foreground;
    crun_runs_in_the_foreground = Kind::Crun, View::Host, in_the_foreground;
    ours_stay_ours_beside_runc = Kind::Runc, View::Unified, ours_stay_ours;
    what_only_the_other_knows_is_passed_on = Kind::Crun, View::Host, what_only_the_other_knows;
}

/// A command that is not ours to do, and nothing to edit.
#[test]
fn a_pass_through_costs_one_exec_and_reads_the_policy() {
    if which("strace").is_none() {
        skip!("this machine has no strace");
    }
    in_sandbox("delegate::pass_through", View::Host, |sandbox| {
        let other = which("true").unwrap();
        let text = format!("[runtime]\nbackend = [{:?}]\n", other.to_str().unwrap());
        let policy = policy(sandbox, &text);
        let trace = sandbox.dir().join("trace");
        let strace = which("strace").unwrap();
        Spawn::new(&strace, &sandbox.dir().join("traced"))
            .args(["-f", "-qq", "-e", "trace=execve,open,openat,openat2", "-o"])
            .arg(&trace)
            .arg(&sandbox.runtime().path)
            .arg("--root")
            .arg(sandbox.root())
            .args(["state", "theirs"])
            .env("KUSABI_CONFIG", &policy)
            .output()
            .succeeded();
        let trace = fs::read_to_string(trace).unwrap();
        let execs: Vec<usize> = trace
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains("execve("))
            .map(|(number, _)| number)
            .collect();
        // Its own, and the other runtime's.
        assert_eq!(execs.len(), 2, "{trace}");
        let state = sandbox.root().join("theirs/state.json");
        let opened: Vec<&str> = trace
            .lines()
            .take(execs[1])
            .filter_map(|line| line.split('"').nth(1).filter(|_| line.contains("open")))
            // The loader's, and the standard library's look at its stack.
            .filter(|path| !path.contains("/lib") && !path.starts_with("/etc/ld.so"))
            .filter(|path| *path != "/proc/self/maps")
            .collect();
        assert_eq!(
            opened,
            [
                policy.to_str().unwrap(),
                // Who is root is asked for whom the policy may belong to.
                "/proc/self/uid_map",
                state.to_str().unwrap(),
            ],
            "{trace}"
        );
    });
}

/// crun raises `RLIMIT_MEMLOCK` before it loads a device filter.
fn may_raise_limits() -> bool {
    caps::has_cap(
        None,
        caps::CapSet::Effective,
        caps::Capability::CAP_SYS_RESOURCE,
    )
    .unwrap()
}

/// A policy with `runtime` as the backend, and CDI devices of a directory.
fn delegating(sandbox: &Sandbox, runtime: &str) -> PathBuf {
    let dir = sandbox.dir().join("cdi");
    host::make_dir(&dir);
    let spec = json!({
        "cdiVersion": "0.6.0",
        "kind": "demo.kusabi.dev/gpu",
        "devices": [{"name": "0", "containerEdits": {
            "env": ["DEMO=yes"],
            "deviceNodes": [{"path": "/dev/demo", "hostPath": "/dev/full", "permissions": "rw"}],
        }}],
    });
    fs::write(dir.join("demo.json"), spec.to_string()).unwrap();
    let text = format!(
        "[runtime]\nbackend = [\"no-such-runtime\", {runtime:?}]\n[devices]\ncdi-dirs = [{dir:?}]\n"
    );
    policy(sandbox, &text)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Runc => "runc",
        Kind::Crun => "crun",
        Kind::Kusabi => "kusabi",
    }
}

fn call(sandbox: &Sandbox, policy: &Path, args: &[&str]) -> Output {
    sandbox.call(args).env("KUSABI_CONFIG", policy).output()
}

/// A call of the other runtime itself, with the same state root.
fn theirs(sandbox: &Sandbox, kind: Kind, args: &[&str]) -> Output {
    let runtime = Runtime::peer(kind).unwrap();
    let stem = sandbox.dir().join(format!("theirs-{}", sandbox.fresh()));
    Spawn::new(&runtime.path, &stem)
        .arg("--root")
        .arg(sandbox.root())
        .args(args)
        .output()
}

const LOOK: &str =
    "echo $DEMO; stat -c %t:%T /dev/demo; echo x 2>/dev/null >/dev/demo || echo full";
const SEEN: &str = "yes\n1:7\nfull\n";

fn a_whole_life(sandbox: &Sandbox, kind: Kind) {
    let policy = delegating(sandbox, word(kind));
    let bundle = sandbox.bundle(&Config::sleeper());
    let id = bundle.id.as_str();
    let path = bundle.path.to_str().unwrap();
    let pid_file = sandbox.dir().join("pid");
    sandbox
        .call(["create", "--device", "demo.kusabi.dev/gpu=0", "--pid-file"])
        .arg(&pid_file)
        .args(["--bundle", path, id])
        .env("KUSABI_CONFIG", &policy)
        .output_to(&sandbox.dir().join("init"))
        .output()
        .succeeded();
    // The other runtime's, and nobody else's.
    let state = call(sandbox, &policy, &["state", id]).succeeded();
    let state: Value = serde_json::from_str(&state.stdout).unwrap();
    assert_eq!(state["status"], "created");
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap(),
        state["pid"].to_string()
    );
    let theirs = theirs(sandbox, kind, &["state", id]);
    assert!(theirs.succeeded().stdout.contains("created"));
    let without = sandbox.call(["state", id]).output().exited(1);
    assert!(!without.stderr.contains("created"), "{without}");

    call(sandbox, &policy, &["start", id]).succeeded();
    let seen = call(sandbox, &policy, &["exec", id, "/bin/sh", "-c", LOOK]).succeeded();
    assert_eq!(seen.stdout, SEEN);
    let failed = call(sandbox, &policy, &["exec", id, "/bin/sh", "-c", "exit 7"]);
    assert_eq!(failed.code, Some(7));
    let list = call(sandbox, &policy, &["list", "-q"]).succeeded();
    assert_eq!(list.stdout.trim(), id);
    let again = call(sandbox, &policy, &["create", "--bundle", path, id]);
    assert_ne!(again.code, Some(0));
    call(sandbox, &policy, &["kill", id, "KILL"]).succeeded();
    wait_until("the end of the container", || {
        call(sandbox, &policy, &["state", id])
            .stdout
            .contains("stopped")
    });
    call(sandbox, &policy, &["delete", id]).succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn in_the_foreground(sandbox: &Sandbox, kind: Kind) {
    let policy = delegating(sandbox, word(kind));
    let config = Config::shell(&format!("{LOOK}; exit 9"))
        .annotation("cdi.k8s.io/x", "demo.kusabi.dev/gpu=0");
    let bundle = sandbox.bundle(&config);
    let before = fs::read_to_string(bundle.config_path()).unwrap();
    let mut written = Vec::new();
    for _ in 0..2 {
        let done = call(
            sandbox,
            &policy,
            &["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id],
        );
        assert_eq!((done.code, done.stdout.as_str()), (Some(9), SEEN), "{done}");
        written.push(fs::read_to_string(bundle.config_path()).unwrap());
    }
    assert_ne!(written[0], before);
    assert_eq!(written[0], written[1], "editing twice is editing once");
    // What cannot be had is our error, and the other runtime is not asked.
    let asking = Config::shell("true").annotation("cdi.k8s.io/x", "demo.kusabi.dev/gpu=1");
    let bundle = sandbox.bundle(&asking);
    let before = fs::read(bundle.config_path()).unwrap();
    let done = call(
        sandbox,
        &policy,
        &["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id],
    );
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr
            .contains("unresolvable CDI devices demo.kusabi.dev/gpu=1"),
        "{done}"
    );
    assert_eq!(fs::read(bundle.config_path()).unwrap(), before);
}

fn ours_stay_ours(sandbox: &Sandbox, kind: Kind) {
    let policy = delegating(sandbox, word(kind));
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let state = call(sandbox, &policy, &["state", &container.id]).succeeded();
    assert!(state.stdout.contains("running"), "{state}");
    let seen = call(
        sandbox,
        &policy,
        &["exec", &container.id, "/bin/echo", "ours"],
    )
    .succeeded();
    assert_eq!(seen.stdout, "ours\n");
    call(sandbox, &policy, &["delete", "--force", &container.id]).succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
    // What nobody holds is the other's to say, in its own words.
    let none = call(sandbox, &policy, &["state", &container.id]).exited(1);
    let theirs = theirs(sandbox, kind, &["state", &container.id]);
    let words = |text: &str| {
        text.rsplit("msg=")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(words(&none.stderr), words(&theirs.stderr));
}

fn what_only_the_other_knows(sandbox: &Sandbox, kind: Kind) {
    let policy = delegating(sandbox, word(kind));
    let done = call(sandbox, &policy, &["--cgroup-manager", "cgroupfs", "list"]);
    assert_eq!(done.code, Some(0), "{done}");
    // Not so where the bundle has to be edited: nothing goes past the policy.
    let bundle = sandbox.bundle(&Config::shell("echo no"));
    let path = bundle.path.to_str().unwrap();
    let args = [
        "--cgroup-manager",
        "cgroupfs",
        "run",
        "--bundle",
        path,
        &bundle.id,
    ];
    let done = call(sandbox, &policy, &args).exited(1);
    assert_eq!(done.stdout.find("no\n"), None, "{done}");
    assert!(
        done.stderr
            .contains("flag provided but not defined: -cgroup-manager"),
        "{done}"
    );
    // One that is nowhere is an error that names the key.
    let nowhere = sandbox.dir().join("nowhere.toml");
    write(&nowhere, "[runtime]\nbackend = [\"no-such-runtime\"]\n");
    let done = call(sandbox, &nowhere, &["run", "--bundle", path, &bundle.id]).exited(1);
    assert!(
        done.stderr.contains("change runtime.backend in the policy"),
        "{done}"
    );
}
