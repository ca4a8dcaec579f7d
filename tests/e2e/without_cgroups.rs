//! `--rootless`: whether a container may do without cgroups that cannot be had.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::common::{Config, Sandbox, on_each_view};

on_each_view![
    cgroups_that_cannot_be_changed_are_done_without_if_asked,
    the_flag_changes_nothing_where_cgroups_can_be_had,
];

/// Makes every cgroup file system read-only, in a mount namespace of this thread.
fn cgroups_become_readonly() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).expect("make / private");
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup").then_some(())?;
        mount.split(' ').nth(4)
    });
    for point in points {
        let readonly = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(none, point, none, readonly, none).expect(point);
    }
}

fn with(sandbox: &Sandbox, rootless: &str, config: &Config) -> crate::common::Output {
    let bundle = sandbox.bundle(config);
    sandbox
        .call(["--rootless", rootless, "run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
}

fn cgroups_that_cannot_be_changed_are_done_without_if_asked(sandbox: &Sandbox) {
    cgroups_become_readonly();
    let config = Config::shell("echo ran").set("/linux/cgroupsPath", "");
    for rootless in ["false", "auto"] {
        let out = with(sandbox, rootless, &config).exited(1);
        assert!(out.stderr.contains("ead-only file system"), "{out}");
    }
    assert_eq!(with(sandbox, "true", &config).succeeded().stdout, "ran\n");
    // A limit was asked for; it is not dropped in silence.
    let limited = config.set("/linux/resources/pids", serde_json::json!({"limit": 20}));
    with(sandbox, "true", &limited)
        .exited(1)
        .says("cannot set pids limit: container could not join or create cgroup");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn the_flag_changes_nothing_where_cgroups_can_be_had(sandbox: &Sandbox) {
    for rootless in ["true", "false", "auto"] {
        let out = with(
            sandbox,
            rootless,
            &Config::shell("cat /proc/self/cgroup; echo ran"),
        );
        assert!(out.clone().succeeded().stdout.ends_with("ran\n"), "{out}");
    }
    with(sandbox, "maybe", &Config::shell("true")).exited(1);
}
