//! A user's own manager makes the scope, in cgroups that were delegated to it.

use std::fs;
use std::os::unix::fs::chown;

use serde_json::json;

use crate::common::{Config, Sandbox, Spawn};
use crate::machine_tests;

machine_tests![a_users_manager_makes_the_scope];

const USER: u32 = 1000;

fn a_users_manager_makes_the_scope(sandbox: &Sandbox) {
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let config = Config::sleeper()
        .set("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}, {"type": "cgroup"}]))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/mounts", json!([{"destination": "/proc", "type": "proc", "source": "proc"}]))
        .set("/linux/resources", json!({"memory": {"limit": 134_217_728}, "pids": {"limit": 33}}))
        .set("/linux/cgroupsPath", format!(":kusabi-test:{}", sandbox.unique()));
    let bundle = sandbox.bundle(&config);
    let root = sandbox.dir().join("user-state");
    crate::common::host::make_dir(&root);
    for path in [&root, &bundle.path, &bundle.rootfs()] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    for entry in fs::read_dir(bundle.rootfs()).unwrap() {
        chown(entry.unwrap().path(), Some(USER), Some(USER)).unwrap();
    }
    let kusabi = |args: &[&str]| {
        Spawn::new("setpriv", &sandbox.dir().join(sandbox.fresh()))
            .args(["--reuid", "1000", "--regid", "1000", "--init-groups", "--"])
            .arg(&sandbox.runtime().path)
            .arg("--root")
            .arg(&root)
            .args(args)
            .env("XDG_RUNTIME_DIR", "/run/user/1000")
            .env("HOME", "/home/user")
            .current_dir(&bundle.path)
            .output()
    };
    kusabi(&["--systemd-cgroup", "run", "--detach", &bundle.id]).succeeded();
    let state: serde_json::Value =
        serde_json::from_str(&kusabi(&["state", &bundle.id]).succeeded().stdout).unwrap();
    let own = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let unit = format!("kusabi-test-{}.scope", sandbox.unique());
    let slice = "/user.slice/user-1000.slice/user@1000.service/user.slice";
    assert_eq!(own.trim(), format!("0::{slice}/{unit}"));
    for (file, want) in [("memory.max", "134217728"), ("pids.max", "33")] {
        let path = format!("/sys/fs/cgroup{slice}/{unit}/{file}");
        assert_eq!(fs::read_to_string(path).unwrap().trim(), want, "{file}");
    }
    let inside = kusabi(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]).succeeded();
    assert_eq!(inside.stdout.trim(), "0::/");
    kusabi(&["delete", "--force", &bundle.id]).succeeded();
    assert!(!fs::exists(format!("/sys/fs/cgroup{slice}/{unit}")).unwrap());
}
