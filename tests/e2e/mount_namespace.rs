//! Containers whose mount namespace is not a new one: the runtime's, or one that
//! is joined by path.
//!
//! Each test is in a mount namespace of its thread's own, with shared mounts as
//! on most hosts, and what it changes there goes with it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::common::{Config, Sandbox, on_each_view, wait_until};

on_each_view![
    without_a_mount_namespace_the_mounts_are_the_host_s,
    a_creation_that_fails_takes_its_mounts_off,
    a_mount_that_would_be_lost_is_refused,
    nothing_of_the_host_is_hidden_or_made_over,
    a_terminal_is_there_without_a_mount_namespace,
    a_mount_namespace_can_be_joined,
    a_failed_join_leaves_the_namespace_as_it_was,
    the_runtime_s_own_mount_namespace_is_not_pivoted_in,
    the_root_s_propagation_is_the_root_s_unless_recursive,
];

const NOTHING: Option<&Path> = None;

/// A host of the test's own: what is mounted now can be seen, and reaches nobody.
fn own_host() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace for this thread");
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        let flags = MsFlags::MS_REC | propagation;
        mount(NOTHING, "/", NOTHING, flags, NOTHING).expect("change propagation");
    }
}

fn without(config: Config) -> Config {
    config
        .without_namespace("mount")
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
}

/// Lines of mountinfo about mounts below a directory, this thread's.
fn mounts_below(dir: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let below = |line: &&str| Path::new(line.split(' ').nth(4).unwrap()).starts_with(dir);
    all.lines().filter(below).map(str::to_owned).collect()
}

/// Of every mount that was there before: where, and its propagation.
fn propagation() -> Vec<String> {
    let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    all.lines()
        .map(|line| line.split(" - ").next().unwrap().to_owned())
        .collect()
}

fn take_off(rootfs: &Path) {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    umount2(rootfs, flags).expect("umount -R");
}

fn without_a_mount_namespace_the_mounts_are_the_host_s(sandbox: &Sandbox) {
    own_host();
    let before = propagation();
    let seen = sandbox.dir().join("seen");
    let hook = format!(
        "grep -c /proc$ /proc/mounts; cat /proc/mounts > {}",
        seen.display()
    );
    let config = without(Config::sleeper())
        .mount("tmpfs", "tmpfs", "/made for it", &["size=64k"])
        .hook("createRuntime", &hook);
    let bundle = sandbox.bundle(&config);
    let rootfs = bundle.rootfs();
    let container = sandbox.run_detached(&bundle);

    // It is in our namespace, and its mounts are ours and nobody else's.
    let of = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/mnt")).unwrap().ino();
    let own = fs::metadata("/proc/thread-self/ns/mnt").unwrap().ino();
    assert_eq!(of(&container.pid().to_string()), own);
    let mounts = mounts_below(&rootfs);
    let at = |name: &str| {
        let wanted = rootfs
            .join(name)
            .display()
            .to_string()
            .replace(' ', "\\040");
        let mut found = mounts.iter();
        let found = found.find(|line| line.split(' ').nth(4) == Some(&wanted));
        found.unwrap_or_else(|| panic!("nothing on {wanted}: {mounts:#?}"))
    };
    for name in ["proc", "dev", "dev/pts", "made for it"] {
        assert!(!at(name).contains("shared:"), "{}", at(name));
    }
    assert_eq!(propagation()[..before.len()], before);
    // Hooks beside the container find them, too.
    assert!(
        fs::read_to_string(seen)
            .unwrap()
            .contains(rootfs.to_str().unwrap())
    );

    // The root is the container's, for exec as well.
    let inside = container
        .sh("ls -di /; ls -di /made*; pwd")
        .succeeded()
        .stdout;
    let root = fs::metadata(&rootfs).unwrap().ino();
    let inside = inside.trim_start();
    assert!(inside.starts_with(&format!("{root} /\n")), "{inside}");
    let outside = container.sh(&format!(
        "ls -d /proc/1/root/../..{}",
        sandbox.dir().display()
    ));
    assert_ne!(outside.code, Some(0), "{outside}");

    // They stay, as with runc.
    container.delete_force();
    assert_eq!(mounts_below(&rootfs).len(), mounts.len());
    take_off(&rootfs);
    assert_eq!(propagation(), before);
}

fn a_creation_that_fails_takes_its_mounts_off(sandbox: &Sandbox) {
    own_host();
    let before = propagation();
    for stage in ["createRuntime", "createContainer"] {
        let config = without(Config::sleeper()).hook(stage, "exit 3");
        sandbox.run_config(&config).exited(1).says("exit status 3");
        assert_eq!(propagation(), before, "{stage}");
    }
    let config = without(Config::sleeper()).set("/process/args", json!(["/no/such"]));
    sandbox.run_config(&config).exited(1).says("no such file");
    assert_eq!(propagation(), before);
}

fn a_mount_that_would_be_lost_is_refused(sandbox: &Sandbox) {
    own_host();
    let before = propagation();
    let config = without(Config::shell("")).mount("tmpfs", "tmpfs", "/outer", &["unbindable"]);
    sandbox
        .run_config(&config)
        .exited(1)
        .says("/outer is unbindable");
    let config = without(Config::shell(""))
        .mount("tmpfs", "tmpfs", "/outer", &[])
        .mount("tmpfs", "tmpfs", "/outer/inner", &["unbindable"]);
    sandbox
        .run_config(&config)
        .exited(1)
        .says("/outer/inner is unbindable");
    assert_eq!(propagation(), before);
}

fn nothing_of_the_host_is_hidden_or_made_over(sandbox: &Sandbox) {
    own_host();
    let before = propagation();
    let masked = Config::sleeper()
        .without_namespace("mount")
        .set("/linux/maskedPaths", json!(["/proc/kcore"]));
    sandbox
        .run_config(&masked)
        .exited(1)
        .says("unable to restrict sys entries without a private MNT namespace");
    let mapped = without(Config::sleeper())
        .push("/linux/namespaces", json!({"type": "user"}))
        .set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        )
        .set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        );
    sandbox
        .run_config(&mapped)
        .exited(1)
        .says("a user namespace needs a new mount namespace");

    // With runc this moves the host's root.
    let config = without(Config::shell("touch /x; mount | grep -c 'on / '"))
        .set("/root/readonly", json!(true))
        .set("/linux/rootfsPropagation", json!("shared"));
    let bundle = sandbox.bundle(&config);
    let out = sandbox
        .call(["run", "--no-pivot", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert_eq!(out.stdout, "1\n");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    assert_eq!(propagation()[..before.len()], before);
    take_off(&bundle.rootfs());
    assert_eq!(propagation(), before);
}

fn a_terminal_is_there_without_a_mount_namespace(sandbox: &Sandbox) {
    own_host();
    let script = "tty; echo to the console > /dev/console; stat -c %t /dev/console";
    let config = without(Config::shell(script)).set("/process/terminal", json!(true));
    let bundle = sandbox.bundle(&config);
    let out = sandbox.run(&bundle).succeeded();
    assert_eq!(out.stdout, "/dev/pts/0\nto the console\n88\n");
    take_off(&bundle.rootfs());
}

/// A process that holds a mount namespace in which `prepare` has run.
struct Holder(Child);

impl Holder {
    fn new(prepare: &str) -> Self {
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(format!("{prepare}; exec sleep 1000"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self(child);
        let name = format!("/proc/{}/comm", holder.0.id());
        wait_until("the namespace", || {
            fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
        });
        holder
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/mnt", self.0.id())
    }

    fn mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.0.id())).unwrap()
    }

    fn joined_by(&self, config: &Config) -> Config {
        let all = config.get("/linux/namespaces").as_array().unwrap();
        let index = all.iter().position(|n| n["type"] == "mount").unwrap();
        config
            .clone()
            .set(&format!("/linux/namespaces/{index}/path"), self.path())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With a root file system that is there alone, as an engine would prepare it.
fn a_mount_namespace_can_be_joined(sandbox: &Sandbox) {
    own_host();
    let before = propagation();
    let bundle = sandbox.bundle(&Config::sleeper());
    let rootfs = bundle.rootfs();
    let other = sandbox.dir().join("other");
    fs::rename(&rootfs, &other).unwrap();
    fs::create_dir(&rootfs).unwrap();
    let source = sandbox.dir().join("source");
    fs::create_dir(&source).unwrap();
    let holder = Holder::new(&format!(
        "mount --bind {} {}; mount -t tmpfs tmpfs {source}; : > {source}/there",
        other.display(),
        rootfs.display(),
        source = source.display()
    ));
    let config = holder
        .joined_by(&Config::sleeper())
        .set("/linux/maskedPaths", json!(["/proc/meminfo"]))
        .mount("bind", source.to_str().unwrap(), "/bound", &["rbind"]);
    bundle.write(&config);
    let container = sandbox.run_detached(&bundle);
    let of = |path: &str| fs::metadata(path).unwrap().ino();
    let init = format!("/proc/{}/ns/mnt", container.pid());
    assert_eq!(of(&init), of(&holder.path()));
    let out = container.sh("ls /bound; wc -c < /proc/meminfo").succeeded();
    assert_eq!(out.stdout, "there\n0\n");
    // What was there before has gone with the old root.
    let mounts = holder.mounts();
    assert!(
        mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/bound")),
        "{mounts}"
    );
    assert!(!mounts.contains(source.to_str().unwrap()), "{mounts}");
    assert_eq!(propagation(), before);
    container.delete_force();
}

fn a_failed_join_leaves_the_namespace_as_it_was(sandbox: &Sandbox) {
    own_host();
    let holder = Holder::new("true");
    let places = || -> Vec<String> {
        let mounts = holder.mounts();
        let place = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
        mounts.lines().map(place).collect()
    };
    let before = places();
    let config = holder
        .joined_by(&Config::sleeper())
        .hook("createRuntime", "exit 3");
    sandbox.run_config(&config).exited(1).says("exit status 3");
    assert_eq!(places(), before);
    let mapped = holder
        .joined_by(&Config::sleeper())
        .push("/linux/namespaces", json!({"type": "user"}))
        .set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        )
        .set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        );
    sandbox
        .run_config(&mapped)
        .exited(1)
        .says("a user namespace needs a new mount namespace");
}

fn the_runtime_s_own_mount_namespace_is_not_pivoted_in(sandbox: &Sandbox) {
    own_host();
    let config = Config::sleeper();
    let all = config.get("/linux/namespaces").as_array().unwrap();
    let index = all.iter().position(|n| n["type"] == "mount").unwrap();
    let config = config.set(
        &format!("/linux/namespaces/{index}/path"),
        "/proc/self/ns/mnt".to_owned(),
    );
    sandbox
        .run_config(&config)
        .exited(1)
        .says("is the mount namespace of the runtime");
}

/// A word with an `r` is about every mount, one without about the root alone: a bind
/// mount that says nothing itself is then to the host's what its source is.
fn the_root_s_propagation_is_the_root_s_unless_recursive(sandbox: &Sandbox) {
    own_host();
    let dir = sandbox.dir().join("sources");
    let volume = |name: &str, propagation| {
        let at = dir.join(name);
        fs::create_dir_all(&at).unwrap();
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), NOTHING).unwrap();
        mount(NOTHING, &at, NOTHING, propagation, NOTHING).unwrap();
        at.to_str().unwrap().to_owned()
    };
    let private = volume("private", MsFlags::MS_PRIVATE);
    let shared = volume("shared", MsFlags::MS_SHARED);
    let table = [
        ("private", "/ /p /s:shared /own"),
        ("rprivate", "/ /p /s /own"),
        ("slave", "/:master /p /s:shared /own"),
        ("rslave", "/:master /p /s:master /own"),
        ("shared", "/:shared /p /s:shared /own"),
        ("rshared", "/:shared /p:shared /s:shared /own:shared"),
        ("unbindable", "/:unbindable /p /s:shared /own"),
    ];
    for (word, wanted) in table {
        let config = Config::new(&["/bin/cat", "/proc/self/mountinfo"])
            .mount("bind", &private, "/p", &["rbind"])
            .mount("bind", &shared, "/s", &["rbind"])
            .mount("bind", &shared, "/own", &["rbind", "rprivate"])
            .set("/linux/rootfsPropagation", word.to_owned());
        let out = sandbox.run_config(&config).succeeded();
        let mut seen: Vec<String> = Vec::new();
        for place in ["/", "/p", "/s", "/own"] {
            let line = out
                .stdout
                .lines()
                .find(|l| l.split(' ').nth(4) == Some(place));
            let fields = line
                .unwrap()
                .split(" - ")
                .next()
                .unwrap()
                .split(' ')
                .skip(6);
            let kinds = fields.map(|field| field.split(':').next().unwrap());
            let kinds: String = kinds.map(|kind| format!(":{kind}")).collect();
            seen.push(format!("{place}{kinds}"));
        }
        assert_eq!(seen.join(" "), wanted, "{word}");
    }
    take_off(Path::new(&private));
    take_off(Path::new(&shared));
}
