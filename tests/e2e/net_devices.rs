//! `linux.netDevices`: interfaces move into the container with what they have.
//! The test's thread has a network namespace of its own, which plays the host.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::common::runtime::which;
use crate::common::{Config, Sandbox, host, on_each_view, wait_until};

on_each_view![
    an_interface_moves_with_its_addresses,
    an_interface_gets_another_name,
    an_interface_stays_in_a_namespace_that_was_there,
    what_cannot_be_moved_fails_and_leaves_nothing,
    a_cdi_device_brings_an_interface,
];

/// ip(8), in the network namespace of this thread.
#[track_caller]
fn ip(arguments: &str) -> String {
    let program = which("ip").expect("ip in PATH: install iproute2");
    let out = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .expect("run ip");
    assert!(
        out.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// A pair of interfaces, of which `kd0` is to be moved.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("link add kd0 type veth peer name kd1");
}

fn shell(script: &str) -> Config {
    Config::shell(script).set("/linux/netDevices", json!({"kd0": {}}))
}

fn an_interface_moves_with_its_addresses(sandbox: &Sandbox) {
    own_network();
    ip("link set kd0 mtu 1789 address 02:11:22:33:44:55");
    ip("address add 192.0.2.7/24 brd + dev kd0");
    ip("address add 127.0.0.33/32 scope host dev kd0");
    ip("address add 2001:db8::7/64 dev kd0");
    ip("link set kd0 up");
    ip("link set kd1 up");
    let out = sandbox
        .run_config(&shell("/bin/busybox ip address show dev kd0"))
        .succeeded()
        .stdout;
    for has in [
        "mtu 1789",
        "ether 02:11:22:33:44:55",
        "inet 192.0.2.7/24 brd 192.0.2.255",
        "inet6 2001:db8::7/64",
        ",UP",
    ] {
        assert!(out.contains(has), "no {has}: {out}");
    }
    assert!(!out.contains("127.0.0.33"), "{out}");
    // It ends with the container's namespace, which the kernel takes its time for.
    wait_until("the interface ends", || !ip("link show").contains("kd"));
}

fn an_interface_gets_another_name(sandbox: &Sandbox) {
    own_network();
    let config = Config::shell("ls /sys/class/net").set(
        "/linux/netDevices",
        json!({"kd0": {"name": "data0"}, "kd1": {"name": "kd0"}}),
    );
    let out = sandbox.run_config(&config).succeeded();
    let mut names: Vec<&str> = out.stdout.split_whitespace().collect();
    // What the kernel gives to every namespace (tunnels) is no concern here.
    names.retain(|name| name.starts_with("kd") || name.starts_with("data"));
    assert_eq!(names, ["data0", "kd0"]);
}

fn an_interface_stays_in_a_namespace_that_was_there(sandbox: &Sandbox) {
    own_network();
    ip("address add 192.0.2.8/32 dev kd0");
    let holder = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let namespace = format!("/proc/{}/ns/net", holder.pid());
    let config = shell("true").without_namespace("network").push(
        "/linux/namespaces",
        json!({"type": "network", "path": namespace}),
    );
    let bundle = sandbox.bundle(&config);
    sandbox.run(&bundle).succeeded();
    holder.start();
    let out = holder
        .sh("/bin/busybox ip address show dev kd0")
        .succeeded();
    assert!(out.stdout.contains("192.0.2.8/32"), "{out}");
    holder.delete_force();
}

fn what_cannot_be_moved_fails_and_leaves_nothing(sandbox: &Sandbox) {
    own_network();
    let absent = Config::shell("true").set("/linux/netDevices", json!({"kd9": {}}));
    sandbox
        .run_config(&absent)
        .exited(1)
        .says("move netDevice kd9 to namespace /proc/")
        .says("link not found for interface kd9 on runtime namespace: no such device");
    let hosts = shell("true").without_namespace("network");
    sandbox
        .run_config(&hosts)
        .exited(1)
        .says("unable to move network devices without a NET namespace");
    let named = Config::shell("true").set("/linux/netDevices", json!({"kd0": {"name": "a/b"}}));
    sandbox
        .run_config(&named)
        .exited(1)
        .says("invalid network device name");
    // lo of the new namespace has the name.
    let taken = Config::shell("true").set("/linux/netDevices", json!({"kd0": {"name": "lo"}}));
    sandbox
        .run_config(&taken)
        .exited(1)
        .says("fail to move network device kd0 as lo: file exists");
    let links = ip("link show");
    assert!(links.contains("kd0"), "{links}");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_cdi_device_brings_an_interface(sandbox: &Sandbox) {
    own_network();
    let dir = sandbox.dir().join("cdi");
    host::make_dir(&dir);
    let spec = json!({
        "cdiVersion": "1.1.0",
        "kind": "demo.kusabi.dev/net",
        "devices": [{"name": "one", "containerEdits": {
            "netDevices": [{"hostInterfaceName": "kd0", "name": "fabric0"}],
        }}],
    });
    std::fs::write(dir.join("net.json"), spec.to_string()).unwrap();
    let bundle = sandbox.bundle(&Config::shell("ls /sys/class/net"));
    let out = sandbox
        .call(["run", "--device", "demo.kusabi.dev/net=one", "--cdi-dir"])
        .arg(&dir)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert!(out.stdout.contains("fabric0"), "{out}");
}
