//! A plain user to whom a cgroup v2 subtree was delegated (cgroups(7), "Cgroup
//! delegation"), as a session manager does.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::view::is_unified;
use crate::common::{Sandbox, View, wait_until};
use crate::user::{UID, User};

/// A subtree of the user's, with a cgroup in it where its session is.
struct Delegated(PathBuf);

impl Delegated {
    fn new(sandbox: &Sandbox) -> Self {
        let top = PathBuf::from("/sys/fs/cgroup").join(sandbox.fresh());
        let session = top.join("session");
        for dir in [&top, &session] {
            fs::create_dir(dir).unwrap();
            for file in [
                "",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
            ] {
                chown(dir.join(file), Some(UID), Some(UID)).unwrap();
            }
        }
        Self(top)
    }

    fn user<'s>(&self, sandbox: &'s Sandbox) -> User<'s> {
        let enter = format!("echo $$ >{}/session/cgroup.procs", self.0.display());
        User::new(sandbox).after(&enter)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // The sandbox removes them if something is left inside.
        let _ = fs::remove_dir(self.0.join("session"));
        let _ = fs::remove_dir(&self.0);
    }
}

fn a_delegated_cgroup_is_used(sandbox: &Sandbox) {
    assert!(is_unified());
    let delegated = Delegated::new(sandbox);
    let user = delegated.user(sandbox);
    let container = user.sleeper(|c| c);
    let id = container.id.as_str();
    let own = delegated.0.join(id);
    let members = || fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
    wait_until("init and its child are in it", || {
        members().lines().count() == 2
    });
    let state: Value =
        serde_json::from_str(&user.call(["state", id]).output().succeeded().stdout).unwrap();
    let pid = state["pid"].to_string();
    assert!(members().lines().any(|member| member == pid));

    // Its own cgroup is the root of what it sees.
    assert_eq!(
        user.exec(&container, "cat /proc/self/cgroup | grep ^0::"),
        "0::/\n"
    );
    let ps = user
        .call(["ps", "--format", "json", id])
        .output()
        .succeeded();
    assert_eq!(
        serde_json::from_str::<Vec<i32>>(&ps.stdout).unwrap().len(),
        2
    );

    let frozen = || fs::read_to_string(own.join("cgroup.events")).unwrap();
    user.call(["pause", id]).output().succeeded();
    assert!(frozen().contains("frozen 1"));
    user.call(["exec", id, "true"])
        .output()
        .exited(255)
        .says("paused");
    user.call(["resume", id]).output().succeeded();
    assert!(frozen().contains("frozen 0"));
    user.call(["events", "--stats", id]).output().succeeded();

    user.call(["kill", "--all", id, "KILL"])
        .output()
        .succeeded();
    wait_until("they have ended", || members().is_empty());
    user.call(["delete", "--force", id]).output().succeeded();
    assert!(!own.exists());
}

mod unified {
    #[test]
    fn a_delegated_cgroup_is_used() {
        let test = "delegated::unified::a_delegated_cgroup_is_used";
        crate::common::in_sandbox(
            test,
            super::View::Unified,
            super::a_delegated_cgroup_is_used,
        );
    }
}
