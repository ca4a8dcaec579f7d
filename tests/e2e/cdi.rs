//! CDI devices, asked for by flag and by annotation, as containers see them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use serde_json::{Value, json};

use crate::common::{Bundle, Config, Output, Sandbox, host, on_each_view, on_host, skip};

on_each_view![
    a_device_asked_for_by_flag_is_there,
    a_device_asked_for_by_annotation_is_there,
    asking_twice_is_asking_once,
    only_what_the_device_allows_opens,
    a_failed_request_leaves_nothing,
    in_a_user_namespace_a_mount_shows_the_containers_ids,
];
on_host![
    stale_numbers_are_repaired,
    explain_shows_each_edit_and_changes_nothing,
    requests_in_any_order_give_one_result,
];

/// Majors 60 to 63 have no driver: an open that is let through fails with ENXIO.
const MAJOR: u64 = 60;

/// A directory of CDI files and what its devices refer to, all on the host.
struct Registry {
    dir: PathBuf,
    trace: PathBuf,
    shared: PathBuf,
}

impl Registry {
    /// `demo.kusabi.dev/device` with the devices `one` (60:1, and everything
    /// else that a device can bring), `two` (60:2, for reading) and `bare`.
    fn new(sandbox: &Sandbox) -> Self {
        let registry = Self {
            dir: sandbox.dir().join("cdi"),
            trace: sandbox.dir().join("trace"),
            shared: sandbox.dir().join("shared"),
        };
        for dir in [&registry.dir, &registry.trace, &registry.shared] {
            host::make_dir(dir);
        }
        fs::write(registry.shared.join("file"), "from the host\n").unwrap();
        let node = |number: u64| {
            let path = sandbox.dir().join(format!("node{number}"));
            let mode = Mode::from_bits_truncate(0o640);
            mknod(&path, SFlag::S_IFCHR, mode, makedev(MAJOR, number)).expect("mknod");
            path
        };
        let (one, two) = (node(1), node(2));
        let spec = json!({
            "cdiVersion": "0.7.0",
            "kind": "demo.kusabi.dev/device",
            "containerEdits": {"env": ["OF_THE_SPEC=yes"]},
            "devices": [
                {"name": "one", "containerEdits": {
                    "env": ["DEMO=one", "PATH=/demo/bin:/bin"],
                    "deviceNodes": [{"path": "/dev/demo/one", "hostPath": one, "fileMode": 0o666,
                                     "permissions": "rw", "uid": 7, "gid": 8}],
                    "mounts": [{"hostPath": registry.shared, "containerPath": "/demo",
                                "options": ["bind", "ro", "nosuid"]}],
                    "hooks": [{"hookName": "createRuntime", "path": "/bin/sh",
                               "args": ["sh", "-c", format!("echo ran $FROM >> {}/log", registry.trace.display())],
                               "env": ["FROM=cdi"]}],
                    "additionalGids": [4242],
                }},
                {"name": "two", "containerEdits": {
                    "env": ["DEMO_TWO=two"],
                    "deviceNodes": [{"path": "/dev/demo/two", "hostPath": two, "permissions": "r"}],
                }},
                {"name": "stale", "containerEdits": {
                    "deviceNodes": [{"path": "/dev/stale", "hostPath": one, "type": "c",
                                     "major": 61, "minor": 99}],
                }},
            ],
        });
        registry.write("demo.json", &spec);
        registry
    }

    fn write(&self, name: &str, spec: &Value) {
        fs::write(
            self.dir.join(name),
            serde_json::to_string_pretty(spec).unwrap(),
        )
        .unwrap();
    }

    fn hook_runs(&self) -> String {
        fs::read_to_string(self.trace.join("log")).unwrap_or_default()
    }
}

/// Runs `bundle` with `flags`, in the foreground.
fn run(sandbox: &Sandbox, registry: &Registry, bundle: &Bundle, flags: &[&str]) -> Output {
    sandbox
        .call(["run", "--cdi-dir"])
        .arg(&registry.dir)
        .args(flags)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
}

/// Every path below `dir`, with mode, owner, size, times and content.
fn fingerprint(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() {
            fs::read(&path).unwrap().len().to_string()
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:o} {}:{} {} {}.{} {content}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
        ));
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    lines.sort();
    lines
}

/// What `one` brings, seen from inside.
const LOOK: &str = "stat -c '%F %a %u %g %t:%T' /dev/demo/one; echo $DEMO $OF_THE_SPEC $PATH; \
                    cat /demo/file; grep -c ' /demo ' /proc/self/mountinfo; \
                    touch /demo/new 2>&1; id -G; \
                    (: </dev/demo/one) 2>&1; (: >/dev/demo/one) 2>&1; true";
const SEEN: [&str; 8] = [
    "character special file 666 7 8 3c:1",
    "one yes /demo/bin:/bin",
    "from the host",
    "1",
    "touch: /demo/new: Read-only file system",
    "0 4242",
    "No such device or address",
    "No such device or address",
];

#[track_caller]
fn assert_seen(out: &Output) {
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.len(), SEEN.len(), "{out}");
    for (line, expected) in lines.iter().zip(SEEN) {
        assert!(
            line.ends_with(expected),
            "{line:?}, not {expected:?}, in {out}"
        );
    }
}

macro_rules! only_kusabi {
    ($sandbox:expr) => {
        if !$sandbox.runtime().is_kusabi() {
            skip!("no other runtime reads CDI");
        }
    };
}

fn a_device_asked_for_by_flag_is_there(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let bundle = sandbox.bundle(&Config::shell(LOOK));
    let before = fs::read(bundle.config_path()).unwrap();
    let flags = ["--device", "demo.kusabi.dev/device=one"];
    assert_seen(&run(sandbox, &registry, &bundle, &flags).succeeded());
    assert_eq!(registry.hook_runs(), "ran cdi\n");
    assert_eq!(
        fs::read(bundle.config_path()).unwrap(),
        before,
        "config.json"
    );
    let names: Vec<_> = fs::read_dir(&bundle.path)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "the bundle has {names:?}");

    // exec sees the same, but for the environment, which is the caller's.
    let bundle = sandbox.bundle(&Config::sleeper());
    sandbox
        .call(["run", "--detach", "--cdi-dir"])
        .arg(&registry.dir)
        .args(flags)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let out = sandbox
        .call(["exec", &bundle.id, "/bin/sh", "-c", LOOK])
        .output()
        .succeeded();
    assert_seen(&out);
    sandbox
        .call(["delete", "--force", &bundle.id])
        .output()
        .succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_device_asked_for_by_annotation_is_there(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let config = Config::shell(LOOK).annotation("cdi.k8s.io/demo", "demo.kusabi.dev/device=one");
    let bundle = sandbox.bundle(&config);
    assert_seen(&run(sandbox, &registry, &bundle, &[]).succeeded());
    assert_eq!(registry.hook_runs(), "ran cdi\n");
}

fn asking_twice_is_asking_once(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let config = Config::shell(&format!("{LOOK}; env | grep -c ^DEMO="))
        .annotation("cdi.k8s.io/demo", "demo.kusabi.dev/device=one");
    let bundle = sandbox.bundle(&config);
    let flag = ["--device", "demo.kusabi.dev/device=one"];
    let out = run(sandbox, &registry, &bundle, &[flag, flag].concat()).succeeded();
    let (rest, count) = out.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(count, "1");
    assert_eq!(rest.lines().count(), SEEN.len());
    assert_eq!(registry.hook_runs(), "ran cdi\n");
}

fn only_what_the_device_allows_opens(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let script = "for n in 1 2 3; do mknod /tmp/n c 60 $n; \
                  for d in '<' '>'; do eval \"(: $d/tmp/n)\" 2>&1; done; rm /tmp/n; done; true";
    let bundle = sandbox.bundle(&Config::shell(script).capabilities(&["CAP_MKNOD"]));
    let flags = [
        "--device",
        "demo.kusabi.dev/device=one",
        "--device",
        "demo.kusabi.dev/device=two",
    ];
    let out = run(sandbox, &registry, &bundle, &flags).succeeded();
    let (open, denied) = ("No such device or address", "Operation not permitted");
    let expected = [open, open, open, denied, denied, denied];
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{out}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(
            line.ends_with(expected),
            "{line:?}, not {expected:?}, in {out}"
        );
    }
}

/// What belongs to the host's root belongs to the container's.
fn in_a_user_namespace_a_mount_shows_the_containers_ids(sandbox: &Sandbox) {
    const FIRST: u32 = 100_000;
    let registry = Registry::new(sandbox);
    let ids = json!([{"containerID": 0, "hostID": FIRST, "size": 65_536}]);
    let config = Config::shell("stat -c %u:%g /demo/file")
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", ids.clone())
        .set("/linux/gidMappings", ids);
    let bundle = sandbox.bundle(&config);
    std::os::unix::fs::chown(bundle.rootfs(), Some(FIRST), Some(FIRST)).unwrap();
    let out = run(
        sandbox,
        &registry,
        &bundle,
        &["--device", "demo.kusabi.dev/device=one"],
    );
    assert_eq!(out.succeeded().stdout, "0:0\n");
}

fn a_failed_request_leaves_nothing(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    for wanted in ["demo.kusabi.dev/device=three", "other.example/thing=one"] {
        let bundle = sandbox.bundle(&Config::shell("echo ran"));
        let before = fingerprint(&bundle.path);
        let flags = ["--device", "demo.kusabi.dev/device=one", "--device", wanted];
        let out = run(sandbox, &registry, &bundle, &flags)
            .exited(1)
            .says(wanted);
        // Where it looked, and what it found there.
        let out = out
            .says(registry.dir.to_str().unwrap())
            .says("demo.kusabi.dev/device=one");
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
        assert_eq!(out.stdout, "");
        assert_eq!(registry.hook_runs(), "", "half of it was done");
        assert_eq!(fingerprint(&bundle.path), before);
        assert_eq!(sandbox.left(), Vec::<String>::new());
    }
}

/// Device numbers come from the host when the container is made, whatever the
/// file says: a driver that was loaded again may have another major.
fn stale_numbers_are_repaired(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let script = "stat -c %t:%T /dev/stale; (: </dev/stale) 2>&1; true";
    let bundle = sandbox.bundle(&Config::shell(script));
    let flags = ["--device", "demo.kusabi.dev/device=stale"];
    let out = run(sandbox, &registry, &bundle, &flags).succeeded();
    let node = sandbox.dir().join("node1").metadata().unwrap();
    assert!(node.file_type().is_char_device());
    let numbers = format!("{:x}:{:x}\n", major(node.rdev()), minor(node.rdev()));
    assert!(out.stdout.starts_with(&numbers), "{out}");
    assert!(out.stdout.contains("No such device or address"), "{out}");
}

fn explain_shows_each_edit_and_changes_nothing(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let bundle = sandbox.bundle(&Config::shell("true"));
    let before = fingerprint(sandbox.dir());
    let explain = |format: &str| {
        sandbox
            .call_bare(["explain", "--format", format, "--bundle"])
            .arg(&bundle.path)
            .arg("--cdi-dir")
            .arg(&registry.dir)
            .args(["--device", "demo.kusabi.dev/device=one"])
            .output()
            .succeeded()
    };
    let text = explain("text").stdout;
    let file = registry.dir.join("demo.json");
    for part in [
        "DEMO=one",
        "OF_THE_SPEC=yes",
        "/dev/demo/one",
        "60:1",
        "/demo",
        "createRuntime",
        "4242",
        file.to_str().unwrap(),
        "demo.kusabi.dev/device=one",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json: Value = serde_json::from_str(&explain("json").stdout).unwrap();
    assert!(json.to_string().contains("/dev/demo/one"), "{json}");
    let diff = explain("diff").stdout;
    assert!(
        diff.lines()
            .any(|l| l.starts_with('+') && l.contains("DEMO=one")),
        "{diff}"
    );

    // But for the files that hold the output of these calls.
    let outputs = |lines: Vec<String>| -> Vec<String> {
        let dir = format!("{} ", sandbox.dir().display());
        lines
            .into_iter()
            .filter(|l| !l.contains("/call-") && !l.starts_with(&dir))
            .collect()
    };
    assert_eq!(outputs(fingerprint(sandbox.dir())), outputs(before));
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn requests_in_any_order_give_one_result(sandbox: &Sandbox) {
    only_kusabi!(sandbox);
    let registry = Registry::new(sandbox);
    let bundle = sandbox.bundle(&Config::shell("true"));
    let diff = |names: [&str; 2]| {
        sandbox
            .call_bare(["explain", "--format", "diff", "--bundle"])
            .arg(&bundle.path)
            .arg("--cdi-dir")
            .arg(&registry.dir)
            .args(names.map(|name| format!("--device=demo.kusabi.dev/device={name}")))
            .output()
            .succeeded()
            .stdout
    };
    let one_way = diff(["one", "two"]);
    assert!(
        one_way.contains("DEMO_TWO=two") && one_way.contains("DEMO=one"),
        "{one_way}"
    );
    assert_eq!(one_way, diff(["two", "one"]));
}
