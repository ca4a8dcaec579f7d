//! Device nodes and file systems that a plain user cannot have.

use std::fs;

use serde_json::json;

use crate::common::{Config, Sandbox, on_each_view, on_host};
use crate::user::User;

fn device(path: &str, major: u32, minor: u32) -> serde_json::Value {
    json!({"path": path, "type": "c", "major": major, "minor": minor})
}

/// The host's node of the *number* is bound, whatever the container calls it.
fn a_node_is_the_hosts_of_the_same_number(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let script =
        "stat -c %t:%T /dev/own /srv/zero /dev/null /dev/random; head -c 3 /srv/zero | od -An -tx1";
    let config = Config::shell(script)
        .push("/linux/devices", device("/dev/own", 1, 3))
        .push("/linux/devices", device("/srv/zero", 1, 5))
        // As the host names another one.
        .push("/linux/devices", device("/dev/random", 1, 9));
    let out = user.run(&config).succeeded();
    assert_eq!(out.stdout, "1:3\n1:5\n1:3\n1:9\n 00 00 00\n");
}

/// Some engines list it; it is the runtime's own link all the same.
fn ptmx_is_the_containers_own(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let config = Config::shell("ls -l /dev/ptmx; : <>/dev/ptmx && ls /dev/pts")
        .push("/linux/devices", device("/dev/ptmx", 5, 2));
    let out = user.run(&config).succeeded();
    assert!(out.stdout.contains("/dev/ptmx -> pts/ptmx\n"), "{out}");
    assert!(out.stdout.ends_with("\nptmx\n"), "{out}");
}

fn a_node_that_the_host_lacks_is_refused(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let config = Config::new(&["/bin/true"]).push("/linux/devices", device("/dev/gpu", 60, 7));
    user.run(&config).exited(1).says(
        "linux.devices: /dev/gpu: the host has no node for c 60:7, and a rootless container can \
         have no other",
    );
}

/// nvidia-container-toolkit #85, #106, #1487: no switch on the host like `no-cgroups`
/// is needed for it.
fn a_cdi_device_comes_with_all_its_edits(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let cdi = user.home().join("cdi");
    fs::create_dir(&cdi).unwrap();
    fs::write(user.home().join("greeting"), "hello\n").unwrap();
    let spec = json!({
        "cdiVersion": "0.6.0",
        "kind": "kusabi.test/device",
        "devices": [{"name": "one", "containerEdits": {
            "env": ["GPU=one"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/full"}],
            "mounts": [{"hostPath": user.home().join("greeting"), "containerPath": "/greeting",
                        "options": ["bind", "ro"]}],
        }}],
    });
    fs::write(cdi.join("spec.json"), spec.to_string()).unwrap();
    let script = "echo $GPU; cat /greeting; stat -c %t:%T /dev/gpu0; echo x >/dev/gpu0";
    let bundle =
        user.bundle(&Config::shell(script).annotation("cdi.k8s.io/test", "kusabi.test/device=one"));
    let out = user
        .call(["run", "--cdi-dir"])
        .arg(&cdi)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1);
    assert_eq!(out.stdout, "one\nhello\n1:7\n", "{out}");
    // It is the device: opened, and full.
    assert!(out.stderr.contains("No space left on device"), "{out}");
}

/// What is asked for by count is had alone, and the store of leases is root's.
fn a_count_is_refused_and_a_name_is_not(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let cdi = user.home().join("cdi");
    fs::create_dir(&cdi).unwrap();
    let spec = json!({
        "cdiVersion": "0.6.0",
        "kind": "kusabi.test/gpu",
        "devices": [{"name": "0", "containerEdits": {
            "env": ["GPU=yes"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/full"}],
        }}],
    });
    fs::write(cdi.join("spec.json"), spec.to_string()).unwrap();
    let bundle = user.bundle(&Config::shell("echo $GPU"));
    let call = |command: &[&str], flags: &[&str]| {
        let call = user.call(command).arg("--cdi-dir").arg(&cdi).args(flags);
        call.arg("--bundle").arg(&bundle.path)
    };
    let reason = "1 GPUs by count are had alone, which only the host's root can for a \
                  container: name them, as in --gpus device=0, or share them (--gpu-share)";
    call(&["run"], &["--gpus", "kusabi.test:1"])
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says(reason);
    let told = call(&["explain"], &["--gpus", "kusabi.test:1"])
        .output()
        .succeeded();
    assert!(
        told.stdout
            .contains(&format!("{reason}; create would fail")),
        "{told}"
    );
    let out = call(&["run"], &["--gpus", "kusabi.test:device=0"])
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert_eq!(out.stdout, "yes\n");
}

fn file_systems_of_shared_namespaces_are_the_hosts(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let script = "ls -d /sys/class/net/lo; grep ' /sys ' /proc/mounts; ls /dev | grep mqueue";
    let config = Config::shell(script)
        .without_namespace("network")
        .without_namespace("ipc");
    let out = user.run(&config);
    assert!(
        out.stdout
            .starts_with("/sys/class/net/lo\nsysfs /sys sysfs ro,"),
        "{out}"
    );
    // Not every host has it.
    let host = std::path::Path::new("/dev/mqueue").exists();
    assert_eq!(out.stdout.contains("mqueue"), host, "{out}");
    // With a network namespace of its own, sysfs is mounted, and shows only that.
    let out = user
        .run(&Config::shell("ls /sys/class/net; test -d /sys/kernel"))
        .succeeded();
    assert_eq!(out.stdout.trim(), "lo");
}

/// Also below it: on version 1 the hierarchies are mounts of their own.
fn the_hosts_cgroups_are_read_only(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    // The last mount of a place is what is seen there.
    let script = "grep ' /sys/fs/cgroup' /proc/mounts | cut -d ' ' -f 2,4 >/tmp/all; \
                  cut -d ' ' -f 1 /tmp/all | sort | while read -r place; do \
                    grep \"^$place \" /tmp/all | tail -n 1; done | grep -v ' ro,'; echo end";
    let config = Config::shell(script).without_namespace("network");
    assert_eq!(user.run(&config).succeeded().stdout, "end\n");
}

fn what_is_dropped_is_said_in_the_log(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let bundle = user.bundle(&Config::new(&["/bin/true"]));
    let out = user
        .call(["--debug", "run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert!(
        out.stderr
            .contains("rootless: 1 device rules dropped: they cannot be applied"),
        "{out}"
    );
}

on_each_view!(
    a_node_is_the_hosts_of_the_same_number,
    a_cdi_device_comes_with_all_its_edits
);
on_host!(
    a_node_that_the_host_lacks_is_refused,
    a_count_is_refused_and_a_name_is_not,
    ptmx_is_the_containers_own,
    file_systems_of_shared_namespaces_are_the_hosts,
    the_hosts_cgroups_are_read_only,
    what_is_dropped_is_said_in_the_log,
);
