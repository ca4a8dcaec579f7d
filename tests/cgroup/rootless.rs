//! Without permission: what runc tolerates, and in which words it refuses.

use std::os::unix::process::CommandExt;
use std::process::Command;

use kusabi::cgroup::{Cgroup, CgroupSpec, Layout};
use nix::unistd::{Gid, Uid, getpid, setgroups, setresgid, setresuid};
use serde_json::{Value, json};

use crate::view::{PATIENCE, everywhere};

/// Set in the re-executed test, which gives up its rights.
const INSIDE: &str = "KUSABI_TEST_CGROUP_NOBODY";

#[test]
fn no_permission() {
    everywhere("rootless::no_permission", || {
        let status = Command::new("/proc/self/exe")
            .arg0("nobody")
            .args(["rootless::as_nobody", "--exact", "--ignored", "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "rootless::as_nobody failed");
    });
}

#[test]
#[ignore = "run by no_permission, gives up this process's rights"]
fn as_nobody() {
    assert!(std::env::var_os(INSIDE).is_some(), "run by no_permission");
    let layout = Layout::detect().unwrap();
    // Since glibc, these change all threads.
    let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    setgroups(&[]).unwrap();
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();

    let id = format!("kusabi-test-{}-nobody", getpid());
    let path = format!("/{id}");
    let create = |cgroups_path, resources: &Value, rootless| {
        Cgroup::create(
            &layout,
            &CgroupSpec {
                cgroups_path,
                id: &id,
                resources,
                rootless,
                owner: None,
                systemd: None,
            },
        )
    };
    // Asked for nothing: no cgroup, and every operation makes sense of that.
    let cgroup = create(None, &Value::Null, true).unwrap();
    assert!(!cgroup.exists());
    assert_eq!(cgroup.directories().count(), 0);
    assert!(cgroup.entry().unwrap().is_empty());
    assert!(cgroup.pids(true).unwrap().is_empty());
    cgroup.apply().unwrap();
    cgroup.remove(PATIENCE).unwrap();

    // Asked for a path, or no rootless container: refused.
    for (cgroups_path, rootless) in [(Some(&*path), true), (Some(&path), false), (None, false)] {
        let error = create(cgroups_path, &Value::Null, rootless)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("unable to apply cgroup configuration: mkdir /sys/fs/cgroup")
                && error.ends_with(": permission denied"),
            "{error}"
        );
    }

    // Asked for limits: refused, when it is made (version 2) or limited.
    let limits = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "pids": {"limit": 9}});
    let error = create(None, &limits, true)
        .and_then(|c| c.apply())
        .unwrap_err()
        .to_string();
    // Without any controller the lack shows only when the limit is set.
    let available =
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let want = if layout.is_v2() && !available.trim().is_empty() {
        "unable to apply cgroup configuration: rootless needs no limits + no cgrouppath when no permission is granted for cgroups: mkdir /sys/fs/cgroup/"
    } else {
        "cannot set pids limit: container could not join or create cgroup"
    };
    assert!(error.starts_with(want), "{error}");
}
