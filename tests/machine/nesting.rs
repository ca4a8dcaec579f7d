//! kusabi in a container of kusabi's: where the inner containers' cgroups go, with
//! each way in which a container can see `/sys/fs/cgroup`, and that limits hold
//! there.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::common::sandbox::make_rootfs;
use crate::common::{Bundle, Config, Container, Sandbox, host};
use crate::{Driver, machine_tests};

machine_tests![
    inside_a_private_cgroup_namespace,
    inside_with_the_hosts_view_of_cgroups,
    inside_with_a_readonly_cgroupfs,
];

const SERVICE: &str = "version: v1\ndeployment: d\nservices:\n  \
    free: {command: {entrypoint: [/bin/cat, /proc/self/cgroup]}}\n  \
    stays: {command: {entrypoint: [/bin/sleep, '1000']}}\n  \
    limited: {command: {entrypoint: [/bin/cat, /sys/fs/cgroup/memory.max]}, resources: {memory: 64Mi}}\n";

/// A container that may do all that making containers takes, with kusabi and what
/// that links in it. `cgroup` are the options of its `/sys/fs/cgroup`.
fn outer(sandbox: &Sandbox, cgroup: &[&str], namespace: bool) -> Bundle {
    let all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let bind = |source: &Path, to: &str| json!({"source": source, "destination": to, "type": "bind", "options": ["rbind", "ro"]});
    let mut config = Config::sleeper()
        .mount("cgroup", "cgroup", "/sys/fs/cgroup", cgroup)
        .mount("tmpfs", "tmpfs", "/run", &["mode=0755"])
        .set("/mounts/-", bind(&sandbox.runtime().path, "/kusabi"))
        .set(
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rwm"}]),
        );
    for dir in ["/usr/lib", "/lib", "/lib64"] {
        let source = Path::new(dir).canonicalize().unwrap();
        config = config.set("/mounts/-", bind(&source, dir));
    }
    for set in ["bounding", "effective", "permitted"] {
        config = config.set(&format!("/process/capabilities/{set}"), json!(all));
    }
    if !namespace {
        config = config.without_namespace("cgroup");
    }
    let bundle = Driver::Systemd.bundle(sandbox, &config);
    let work = bundle.rootfs().join("work");
    host::make_dir(&work);
    make_rootfs(&work.join("rootfs"));
    fs::write(work.join("service.yaml"), SERVICE).unwrap();
    bundle
}

/// Runs a service of the file inside; what it and kusabi said.
#[track_caller]
fn inner(container: &Container<'_>, environment: &str, service: &str) -> String {
    kusabi(container, environment, &format!("run {}", of(service)))
}

fn of(service: &str) -> String {
    format!("--service service.yaml --name {service} --rootfs rootfs")
}

/// A command of kusabi inside; all that is said.
#[track_caller]
fn kusabi(container: &Container<'_>, environment: &str, command: &str) -> String {
    let line = format!("cd /work; {environment} /kusabi --root /run/inner {command} 2>&1");
    container.sh(&line).stdout
}

/// What a service without limits says of its place, in its own namespace.
const AT_ITS_ROOT: &str = "0::/\n";

/// A container inside is in the cgroup that it is told, as the host sees it, which
/// goes with the container.
#[track_caller]
fn goes_below(container: &Container<'_>, seen_from: &Path, place: &str) {
    let environment = format!("KUSABI_CGROUP_PARENT=/{place}");
    let run = format!("run --detach --bundle /run/stays {}", of("stays"));
    assert_eq!(kusabi(container, &environment, &run), "");
    let id = "stays-rep-1";
    let state: serde_json::Value =
        serde_json::from_str(&kusabi(container, "", &format!("state {id}"))).unwrap();
    assert_eq!(state["status"], "running");
    let on_host = seen_from.join(place);
    assert_eq!(host::members(&on_host.join(id)).len(), 1);
    assert_eq!(kusabi(container, "", &format!("delete --force {id}")), "");
    assert_eq!(kusabi(container, "", "bundle clean /run/stays"), "");
    assert!(!on_host.exists());
}

fn inside_a_private_cgroup_namespace(sandbox: &Sandbox) {
    let bundle = outer(sandbox, &["rw", "nosuid"], true);
    let container = Driver::Systemd.run(sandbox, &bundle, &["--detach"]);
    let scope = Driver::Systemd.cgroup(&container.id);
    // It needs no controller, and is beside the processes of the scope.
    assert_eq!(inner(&container, "", "free"), AT_ITS_ROOT);
    let kind = fs::read_to_string(scope.join("cgroup.type")).unwrap();
    assert_eq!(kind, "domain\n", "nor is the scope another than before");
    let limited = inner(&container, "", "limited");
    assert!(
        limited.contains("has processes of its own and so cannot pass on the controllers"),
        "{limited}"
    );
    assert!(limited.contains("KUSABI_CGROUP_MIGRATE=1"), "{limited}");
    goes_below(&container, &scope, "named");
    assert!(!scope.join("init").exists());

    let migrated = inner(&container, "KUSABI_CGROUP_MIGRATE=1", "limited");
    assert_eq!(migrated.trim(), "67108864");
    let procs = |name: &str| fs::read_to_string(scope.join(name)).unwrap();
    assert_eq!(procs("cgroup.procs"), "");
    assert!(procs("init/cgroup.procs").contains(&container.pid().to_string()));
    assert!(procs("cgroup.subtree_control").contains("memory"));
    // From here on nothing has to be moved.
    assert_eq!(inner(&container, "", "limited").trim(), "67108864");
    // The outer container is still whole: exec, devices, update, delete.
    assert_eq!(container.sh("echo here").succeeded().stdout, "here\n");
    container.delete_force();
    assert!(!scope.exists());
}

/// Without a cgroup namespace the container sees the whole tree: kusabi is not
/// confined there, and takes the place that it is told, or the runtime's own.
fn inside_with_the_hosts_view_of_cgroups(sandbox: &Sandbox) {
    let bundle = outer(sandbox, &["rw", "nosuid"], false);
    let container = Driver::Systemd.run(sandbox, &bundle, &["--detach"]);
    let place = sandbox.fresh();
    let parent = format!("KUSABI_CGROUP_PARENT=/{place}");
    assert_eq!(inner(&container, &parent, "limited").trim(), "67108864");
    goes_below(&container, Path::new("/sys/fs/cgroup"), &place);
    container.delete_force();
}

fn inside_with_a_readonly_cgroupfs(sandbox: &Sandbox) {
    let bundle = outer(sandbox, &["ro", "nosuid"], true);
    let container = Driver::Systemd.run(sandbox, &bundle, &["--detach"]);
    for service in ["free", "limited"] {
        let said = inner(&container, "", service);
        assert!(
            said.contains("cannot be written; set cgroup_parent in the service file"),
            "{said}"
        );
    }
    // A subtree that is writable is a way out.
    let given = "mount -o remount,bind,rw /sys/fs/cgroup && mkdir /sys/fs/cgroup/mine && \
        mount --bind /sys/fs/cgroup/mine /sys/fs/cgroup/mine && mount -o remount,bind,ro /sys/fs/cgroup";
    container.sh(given).succeeded();
    assert_eq!(
        inner(&container, "KUSABI_CGROUP_PARENT=/mine", "free"),
        AT_ITS_ROOT
    );
    container.delete_force();
}
