//! Namespaces that a container joins by path, and what may be set in its own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::common::view::is_unified;
use crate::common::{Config, Container, Sandbox, on_each_view};

on_each_view![
    every_namespace_of_another_container_can_be_joined,
    a_user_namespace_takes_along_a_network_that_is_not_its_own,
    mappings_beside_a_user_namespace_must_be_its_own,
    a_delegated_cgroup_goes_to_the_joined_namespace_s_root,
    what_is_no_namespace_of_the_kind_is_named,
    a_host_name_is_set_in_a_joined_namespace,
    settings_of_the_host_are_out_of_reach,
    a_setting_of_the_container_is_made,
];

/// The names of `config.json` and of `/proc/PID/ns`.
const KINDS: [(&str, &str); 7] = [
    ("user", "user"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn mapping(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 65536}])
}

/// In a user and a time namespace of its own, too.
fn apart(config: Config) -> Config {
    config
        .push("/linux/namespaces", json!({"type": "user"}))
        .push("/linux/namespaces", json!({"type": "time"}))
        .set("/linux/uidMappings", mapping(100_000))
        .set("/linux/gidMappings", mapping(200_000))
        .set(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 86_400, "nanosecs": 5}}),
        )
}

/// Joins the namespaces `kinds` of `other` instead of having new ones.
fn joining(config: &Config, other: &Container<'_>, kinds: &[&str]) -> Config {
    let pid = other.pid();
    let mut config = config.clone();
    for (index, entry) in config
        .get("/linux/namespaces")
        .clone()
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let kind = entry["type"].as_str().unwrap();
        if let Some((_, name)) = KINDS.iter().find(|(k, _)| *k == kind && kinds.contains(k)) {
            let at = format!("/linux/namespaces/{index}/path");
            config = config.set(&at, format!("/proc/{pid}/ns/{name}"));
        }
    }
    config
}

/// The identity of each namespace, as exec finds them.
fn namespaces(container: &Container<'_>) -> Vec<String> {
    let script = "for n in user pid net ipc uts cgroup time; do readlink /proc/self/ns/$n; done";
    let out = container.sh(script).succeeded();
    out.stdout.lines().map(str::to_owned).collect()
}

fn every_namespace_of_another_container_can_be_joined(sandbox: &Sandbox) {
    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let plain = Config::sleeper();
    let foreign = apart(Config::sleeper());
    for config in [plain, foreign] {
        let other = sandbox.run_detached(&sandbox.bundle(&config));
        let mut joining = joining(&config, &other, &kinds).remove("/hostname");
        for field in ["uidMappings", "gidMappings", "timeOffsets"] {
            let at = format!("/linux/{field}");
            if joining.has(&at) {
                joining = joining.remove(&at);
            }
        }
        let joined = sandbox.run_detached(&sandbox.bundle(&joining));
        assert_eq!(namespaces(&joined), namespaces(&other));
        for script in [
            "cat /proc/self/uid_map /proc/self/gid_map",
            "cat /proc/self/timens_offsets",
        ] {
            let seen = |container: &Container<'_>| container.sh(script).succeeded().stdout;
            assert_eq!(seen(&joined), seen(&other), "{script}");
        }
        // Both inits are in one pid namespace.
        let out = joined
            .sh("ps -o args | grep -c '^/bin/[s]leep'")
            .succeeded();
        assert_eq!(out.stdout, "2\n");
        joined.delete_force();
        assert_eq!(other.status(), "running");
        other.delete_force();
    }
}

/// As engines do it: the network is made first, by root.
fn a_user_namespace_takes_along_a_network_that_is_not_its_own(sandbox: &Sandbox) {
    let other = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    // sysfs shows a network, so it takes power over that.
    let mount = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]});
    let config = Config::sleeper();
    let at = config.get("/mounts").as_array().unwrap().iter();
    let at = at.clone().position(|m| m["destination"] == "/sys").unwrap();
    let config = apart(joining(&config, &other, &["network"])).set(&format!("/mounts/{at}"), mount);
    let fresh = sandbox.run_detached(&sandbox.bundle(&config));
    assert_eq!(namespaces(&fresh)[2], namespaces(&other)[2]);
    assert_ne!(namespaces(&fresh)[0], namespaces(&other)[0]);

    let config = joining(&config, &fresh, &["user"])
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings");
    let joined = sandbox.run_detached(&sandbox.bundle(&config));
    assert_eq!(namespaces(&joined)[2], namespaces(&other)[2]);
    assert_eq!(namespaces(&joined)[0], namespaces(&fresh)[0]);
    assert_ne!(namespaces(&joined)[1], namespaces(&fresh)[1]);
}

/// containerd and CRI-O give both.
fn mappings_beside_a_user_namespace_must_be_its_own(sandbox: &Sandbox) {
    let config = apart(Config::sleeper());
    let other = sandbox.run_detached(&sandbox.bundle(&config));
    let config = joining(&config, &other, &["user"]);
    let joined = sandbox.run_detached(&sandbox.bundle(&config));
    assert_eq!(namespaces(&joined)[0], namespaces(&other)[0]);
    sandbox
        .run_config(&config.set("/linux/gidMappings", mapping(300_000)))
        .exited(1)
        .says("both namespace path and non-matching mapping specified");
}

fn what_is_no_namespace_of_the_kind_is_named(sandbox: &Sandbox) {
    for (kind, path, words) in [
        ("network", "/proc/self/ns/uts", "no network namespace"),
        ("user", "/proc/self/ns/net", "no user namespace"),
        ("ipc", "/etc/passwd", "no ipc namespace"),
        ("pid", "/no/such", "no such file or directory"),
    ] {
        let namespaces = json!([{"type": "mount"}, {"type": kind, "path": path}]);
        let config = Config::sleeper()
            .remove("/hostname")
            .set("/linux/namespaces", namespaces);
        let out = sandbox.run_config(&config).exited(1);
        out.says(path).says(words);
    }
}

fn a_host_name_is_set_in_a_joined_namespace(sandbox: &Sandbox) {
    let other = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let config = joining(&Config::sleeper(), &other, &["uts"])
        .set("/hostname", "of-the-second")
        .set("/domainname", "of-both");
    let joined = sandbox.run_detached(&sandbox.bundle(&config));
    let names = "hostname; cat /proc/sys/kernel/domainname";
    for container in [&joined, &other] {
        let out = container.sh(names).succeeded();
        assert_eq!(out.stdout, "of-the-second\nof-both\n");
    }
}

fn settings_of_the_host_are_out_of_reach(sandbox: &Sandbox) {
    let read = || fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    let before = read();
    for (name, words) in [
        ("kernel.panic", "is not in a separate kernel namespace"),
        ("kernel/panic", "is not in a separate kernel namespace"),
        ("kernel.hostname", "conflicts with the OCI"),
        (
            "user.max_user_namespaces",
            "without a user namespace not allowed",
        ),
    ] {
        let config = Config::sleeper().set("/linux/sysctl", json!({name: "7"}));
        sandbox.run_config(&config).exited(1).says(words);
        assert_eq!(read(), before);
    }
    let namespaces = json!([{"type": "mount"}, {"type": "pid"}]);
    let shared = Config::sleeper()
        .remove("/hostname")
        .set("/linux/namespaces", namespaces);
    for (name, words) in [
        (
            "net.ipv4.ip_forward",
            "not allowed in host network namespace",
        ),
        ("kernel.shmmax", "not allowed in the hosts ipc namespace"),
    ] {
        let config = shared.clone().set("/linux/sysctl", json!({name: "7"}));
        sandbox.run_config(&config).exited(1).says(words);
    }
    sandbox
        .run_config(&shared.set("/hostname", "of-the-host"))
        .exited(1)
        .says("unable to set hostname without a private UTS namespace");
}

fn a_setting_of_the_container_is_made(sandbox: &Sandbox) {
    let config = Config::shell("cat /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max").set(
        "/linux/sysctl",
        json!({"kernel.msgmax": "4242", "fs.mqueue.msg_max": "17"}),
    );
    assert_eq!(sandbox.run_config(&config).succeeded().stdout, "4242\n17\n");
}

/// The owner is who the joined namespace says the container's root is.
fn a_delegated_cgroup_goes_to_the_joined_namespace_s_root(sandbox: &Sandbox) {
    let mut config = apart(Config::sleeper());
    let mounts = config.get("/mounts").as_array().unwrap();
    let at = mounts.iter().position(|m| m["type"] == "cgroup").unwrap();
    let options = json!(["nosuid", "noexec", "nodev", "relatime"]);
    config = config.set(&format!("/mounts/{at}/options"), options);
    let other = sandbox.run_detached(&sandbox.bundle(&config));
    let config = joining(&config, &other, &["user"])
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings");
    let bundle = sandbox.bundle(&config);
    sandbox.run_detached(&bundle);
    // Version 1 cannot be delegated.
    let (root, owner) = match is_unified() {
        true => ("/sys/fs/cgroup", 100_000),
        false => ("/sys/fs/cgroup/devices", 0),
    };
    let path = format!("{root}{}", bundle.cgroup());
    assert_eq!(fs::metadata(path).unwrap().uid(), owner);
}
