//! `devices` and `heal`: what a running container is shown to have, given, and
//! has taken back, seen from inside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::common::{
    Bundle, Config, Container, Output, Sandbox, Spawn, host, on_each_view, on_host,
};

on_each_view![
    a_device_is_given_and_taken_back,
    the_callers_umask_closes_nothing,
    what_is_gone_is_not_made_to_be_taken,
    what_is_in_the_way_does_not_keep_a_device,
    what_another_device_needs_stays,
    a_failed_gift_leaves_nothing,
    heal_gives_the_new_numbers_after_a_driver_was_loaded_again,
    heal_puts_a_node_and_a_filter_back,
    update_leaves_what_was_given,
];
on_host![
    a_container_with_a_user_namespace_gets_the_hosts_node,
    ids_are_mapped_where_that_is_asked_for,
    what_cannot_be_done_is_said,
];

/// No driver has it: an open that is let through fails with ENXIO.
const MAJOR: u64 = 60;

struct Registry {
    dir: PathBuf,
    nodes: PathBuf,
}

impl Registry {
    /// `demo.kusabi.dev/device` with `one` (60:1, a mount, a variable), `two`
    /// (60:2), both of which need 60:9, and `broken`, whose mount cannot be made.
    fn new(sandbox: &Sandbox) -> Self {
        let registry = Self {
            dir: sandbox.dir().join("cdi"),
            nodes: sandbox.dir().join("nodes"),
        };
        let shared = sandbox.dir().join("shared");
        for dir in [&registry.dir, &registry.nodes, &shared] {
            host::make_dir(dir);
        }
        fs::write(shared.join("file"), "from the host\n").unwrap();
        for number in [1, 2, 9] {
            registry.make_node(number, MAJOR, number);
        }
        let node = |number: u64| {
            json!({"path": format!("/dev/demo{number}"), "permissions": "rw",
            "hostPath": registry.nodes.join(number.to_string())})
        };
        let mount = |to: &str, options: &[&str]| json!({"hostPath": shared, "containerPath": to, "options": options});
        let device = |name: &str, edits: Value| json!({"name": name, "containerEdits": edits});
        let spec = json!({
            "cdiVersion": "0.6.0",
            "kind": "demo.kusabi.dev/device",
            "devices": [
                device("one", json!({"deviceNodes": [node(1), node(9)], "env": ["DEMO=one"],
                    "mounts": [mount("/demo", &["bind", "ro"])]})),
                device("mapped", json!({"mounts": [mount("/mapped", &["bind", "idmap"])]})),
                device("two", json!({"deviceNodes": [node(2), node(9)]})),
                device("broken", json!({"deviceNodes": [node(2)],
                    "mounts": [mount("/etc/passwd/here", &["bind"])]})),
                device("hooked", json!({"deviceNodes": [node(2)], "hooks": [
                    {"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}]})),
            ],
        });
        fs::write(registry.dir.join("demo.json"), spec.to_string()).unwrap();
        registry
    }

    fn make_node(&self, name: u64, major: u64, minor: u64) {
        let path = self.nodes.join(name.to_string());
        let _ = fs::remove_file(&path);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).expect("mknod");
    }
}

fn name(device: &str) -> String {
    format!("demo.kusabi.dev/device={device}")
}

/// A running container, with `devices` from the start.
fn running<'a>(sandbox: &'a Sandbox, registry: &Registry, devices: &[&str]) -> Container<'a> {
    let bundle = sandbox.bundle(&with_mknod(Config::sleeper()));
    run(sandbox, registry, &bundle, devices)
}

fn run<'a>(
    sandbox: &'a Sandbox,
    registry: &Registry,
    bundle: &Bundle,
    devices: &[&str],
) -> Container<'a> {
    let mut flags = vec!["--detach".to_owned()];
    for device in devices {
        flags.extend(["--device".to_owned(), name(device)]);
    }
    flags.extend(["--cdi-dir".to_owned(), registry.dir.display().to_string()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    sandbox.run_detached_with(&[], &flags, bundle)
}

fn with_mknod(config: Config) -> Config {
    ["bounding", "effective", "permitted"]
        .into_iter()
        .fold(config, |config, set| {
            config.set(&format!("/process/capabilities/{set}/-"), "CAP_MKNOD")
        })
}

fn change(container: &Container<'_>, registry: &Registry, action: &str, device: &str) -> Output {
    container
        .call(
            "devices",
            &["--cdi-dir", &registry.dir.display().to_string()],
        )
        .args([action, &name(device)])
        .output()
}

fn report(container: &Container<'_>) -> Value {
    let out = container
        .call("devices", &["--format", "json"])
        .output()
        .succeeded();
    serde_json::from_str(&out.stdout).unwrap()
}

/// What opening a node from inside says: `ENXIO` where the filter lets it.
#[track_caller]
fn open(container: &Container<'_>, path: &str) -> String {
    let out = container.sh(&format!("cat {path} 2>&1"));
    for (words, short) in [
        ("No such device or address", "ENXIO"),
        ("Operation not permitted", "EPERM"),
        ("No such file or directory", "ENOENT"),
    ] {
        if out.stdout.contains(words) {
            return short.to_owned();
        }
    }
    out.stdout
}

/// The same for a node that the container makes itself.
#[track_caller]
fn open_made(container: &Container<'_>, major: u64, minor: u64) -> String {
    container.sh(&format!("rm -f /tmp/n; mknod /tmp/n c {major} {minor}"));
    open(container, "/tmp/n")
}

fn a_device_is_given_and_taken_back(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &[]);
    assert_eq!(open(&container, "/dev/demo1"), "ENOENT");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM");

    let told = change(&container, &registry, "add", "one").succeeded();
    for line in [
        "+ linux.devices /dev/demo1 c 60:1",
        "+ linux.resources.devices allow c 60:1 rw",
        "+ mounts /demo",
        "! environment DEMO:",
    ] {
        assert!(told.stdout.contains(line), "{line} in {}", told.stdout);
    }
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");
    assert_eq!(open_made(&container, MAJOR, 1), "ENXIO");
    // Nothing beside it.
    assert_eq!(open_made(&container, MAJOR, 2), "EPERM");
    let demo = container.sh("cat /demo/file; touch /demo/x 2>&1; echo $DEMO");
    assert!(demo.stdout.contains("from the host"), "{demo}");
    assert!(demo.stdout.contains("Read-only file system"), "{demo}");
    assert!(demo.stdout.ends_with("one\n"), "{demo}");

    let now = report(&container);
    assert_eq!(now["requested"], json!([name("one")]));
    assert_eq!(now["filter"]["inForce"], true);
    let node = &now["devices"][0];
    assert_eq!(node["path"], "/dev/demo1");
    for key in ["recorded", "host", "container"] {
        assert_eq!(node[key], "c 60:1", "{key}");
    }
    assert_eq!(
        (&node["allowed"], &node["drift"]),
        (&json!("rwm"), &json!([]))
    );

    change(&container, &registry, "remove", "one").succeeded();
    assert_eq!(open(&container, "/dev/demo1"), "ENOENT");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM");
    assert_eq!(container.sh("ls /demo").stdout, "");
    let now = report(&container);
    assert_eq!(
        (&now["requested"], &now["devices"]),
        (&json!([]), &json!([]))
    );
    let twice = change(&container, &registry, "remove", "one").exited(1);
    assert!(
        twice.stderr.contains("was not given to container"),
        "{twice}"
    );
    container.delete_force();
}

fn the_callers_umask_closes_nothing(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &[]);
    let runtime = sandbox.runtime().path.display();
    let (root, cdi) = (sandbox.root(), registry.dir.display());
    let command = format!(
        "umask 077; exec {runtime} --root {} devices --cdi-dir {cdi} {} add {}",
        root.display(),
        container.id,
        name("one")
    );
    Spawn::new("/bin/sh", &sandbox.dir().join("closed"))
        .args(["-c", &command])
        .output()
        .succeeded();
    // Below the mount is what was made for it.
    let unmount = ["--cap", "CAP_SYS_ADMIN"];
    let script = "stat -c %a /dev/demo1; umount /demo; stat -c %a /demo";
    let modes = container
        .call("exec", &unmount)
        .args(["/bin/sh", "-c", script])
        .output()
        .succeeded();
    // The node has the mode that it has on the host.
    assert_eq!(modes.stdout, "644\n755\n", "{modes}");
    container.delete_force();
}

fn what_is_gone_is_not_made_to_be_taken(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    container
        .call("exec", &["--cap", "CAP_SYS_ADMIN"])
        .args([
            "/bin/sh",
            "-c",
            "umount /demo && rmdir /demo && rm /dev/demo1",
        ])
        .output()
        .succeeded();
    change(&container, &registry, "remove", "one").succeeded();
    let left = container.sh("ls -d /demo /dev/demo1 2>/dev/null");
    assert_eq!(left.stdout, "", "{left}");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM");
    container.delete_force();
}

fn what_is_in_the_way_does_not_keep_a_device(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    assert_eq!(open_made(&container, MAJOR, 1), "ENXIO");
    container
        .sh("rm /dev/demo1 && echo mine > /dev/demo1")
        .succeeded();
    let out = change(&container, &registry, "remove", "one").succeeded();
    out.says("left in place: /dev/demo1 in the container: there is another file");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM");
    assert_eq!(container.sh("cat /dev/demo1").stdout, "mine\n");
    assert_eq!(report(&container)["devices"], json!([]));
    container.delete_force();
}

fn what_another_device_needs_stays(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    change(&container, &registry, "add", "two").succeeded();
    change(&container, &registry, "remove", "one").succeeded();
    assert_eq!(open(&container, "/dev/demo1"), "ENOENT");
    assert_eq!(open(&container, "/dev/demo2"), "ENXIO");
    assert_eq!(open(&container, "/dev/demo9"), "ENXIO");
    change(&container, &registry, "remove", "two").succeeded();
    assert_eq!(open(&container, "/dev/demo9"), "ENOENT");
    assert_eq!(open_made(&container, MAJOR, 9), "EPERM");
    container.delete_force();
}

fn a_failed_gift_leaves_nothing(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    let before = report(&container);
    let failed = change(&container, &registry, "add", "broken").exited(1);
    assert!(failed.stderr.contains("/etc/passwd/here"), "{failed}");
    assert_eq!(open(&container, "/dev/demo2"), "ENOENT");
    assert_eq!(open_made(&container, MAJOR, 2), "EPERM");
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");
    assert_eq!(report(&container), before);
    container.delete_force();
}

fn heal_gives_the_new_numbers_after_a_driver_was_loaded_again(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    container.call("heal", &[]).output().succeeded();
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");

    registry.make_node(1, 61, 7);
    let now = report(&container);
    let drift = now["devices"][0]["drift"].to_string();
    assert!(
        drift.contains("c 61:7 now: the driver was loaded again"),
        "{now}"
    );
    assert_eq!(open_made(&container, 61, 7), "EPERM");

    let healed = container.call("heal", &[]).output().succeeded();
    assert!(healed.stdout.contains("/dev/demo1: "), "{healed}");
    let numbers = container.sh("ls -l /dev/demo1").stdout;
    assert!(numbers.contains("61,   7"), "{numbers}");
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM", "the old numbers");
    assert_eq!(open(&container, "/dev/demo9"), "ENXIO");
    assert_eq!(report(&container)["devices"][0]["drift"], json!([]));
    container.delete_force();
}

fn heal_puts_a_node_and_a_filter_back(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &["one"]);
    container
        .sh("rm /dev/demo1; mknod /dev/demo1 c 60 2")
        .succeeded();
    let now = report(&container);
    assert_eq!(now["devices"][0]["container"], "c 60:2");
    assert_eq!(now["devices"][0]["drift"].as_array().unwrap().len(), 1);
    let healed = sandbox.call(["heal", "--all"]).output().succeeded();
    assert!(
        healed.stdout.contains("the container has c 60:2 there"),
        "{healed}"
    );
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");
    // On version 1 the list can be written from outside; on version 2 the
    // program stays attached, whatever its owner does.
    let devices = format!("/sys/fs/cgroup/devices/{}", container.id);
    if Path::new(&devices).is_dir() {
        fs::write(format!("{devices}/devices.allow"), "c 60:2 rw").unwrap();
        assert_eq!(report(&container)["filter"]["inForce"], false);
        container.call("heal", &[]).output().succeeded();
        assert_eq!(report(&container)["filter"]["inForce"], true);
        assert_eq!(open_made(&container, MAJOR, 2), "EPERM");
    }
    container.delete_force();
}

fn update_leaves_what_was_given(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &[]);
    change(&container, &registry, "add", "two").succeeded();
    let resources = sandbox.dir().join("resources.json");
    fs::write(
        &resources,
        r#"{"devices": [{"allow": true, "access": "rwm"}]}"#,
    )
    .unwrap();
    container
        .call("update", &["--resources", &resources.display().to_string()])
        .output()
        .succeeded();
    assert_eq!(open(&container, "/dev/demo2"), "ENXIO");
    assert_eq!(open_made(&container, MAJOR, 1), "EPERM");
    assert_eq!(report(&container)["filter"]["inForce"], true);
    container.delete_force();
}

/// nvidia-container-toolkit #46, #648, crun #1632, #1948: devices with a user namespace.
fn a_container_with_a_user_namespace_gets_the_hosts_node(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = run(sandbox, &registry, &in_user_namespace(sandbox), &[]);
    change(&container, &registry, "add", "one").succeeded();
    assert_eq!(open(&container, "/dev/demo1"), "ENXIO");
    assert_eq!(container.sh("cat /demo/file").stdout, "from the host\n");
    change(&container, &registry, "remove", "one").succeeded();
    assert_eq!(open(&container, "/dev/demo1"), "ENOENT");
    container.delete_force();
}

fn ids_are_mapped_where_that_is_asked_for(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let plain = running(sandbox, &registry, &[]);
    let refused = change(&plain, &registry, "add", "mapped").exited(1);
    assert!(refused.stderr.contains("/mapped"), "{refused}");
    assert!(refused.stderr.contains("uid and gid mappings"), "{refused}");
    plain.delete_force();

    let container = run(sandbox, &registry, &in_user_namespace(sandbox), &[]);
    change(&container, &registry, "add", "mapped").succeeded();
    change(&container, &registry, "add", "one").succeeded();
    let owner = |path: &str| container.sh(&format!("stat -c %u:%g {path}")).stdout;
    // Also where the specification did not ask: a CDI mount shows its owners.
    for path in ["/mapped/file", "/demo/file"] {
        assert_eq!(owner(path), "0:0\n", "{path}");
    }
    let inside = format!("/proc/{}/root", container.pid());
    let unmapped = fs::metadata(sandbox.dir().join("shared/file")).unwrap();
    let mapped = fs::metadata(format!("{inside}/mapped/file")).unwrap();
    assert_eq!((unmapped.uid(), mapped.uid()), (0, 100_000));
    container.delete_force();
}

/// Its root is 100000 on the host.
fn in_user_namespace(sandbox: &Sandbox) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let config = Config::sleeper()
        .set("/linux/namespaces/-", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let bundle = sandbox.bundle(&config);
    for dir in ["", "tmp", "dev"] {
        let path = bundle.rootfs().join(dir);
        std::os::unix::fs::chown(path, Some(100_000), Some(100_000)).unwrap();
    }
    bundle
}

fn what_cannot_be_done_is_said(sandbox: &Sandbox) {
    let registry = Registry::new(sandbox);
    let container = running(sandbox, &registry, &[]);
    let told = change(&container, &registry, "add", "hooked").succeeded();
    assert!(
        told.stdout
            .contains("! hooks createContainer /bin/true: not done in a container that runs"),
        "{told}"
    );
    let dry = container
        .call(
            "devices",
            &[
                "--dry-run",
                "--cdi-dir",
                &registry.dir.display().to_string(),
            ],
        )
        .args(["add", &name("one")])
        .output()
        .succeeded();
    assert!(
        dry.stdout.contains("+ linux.devices /dev/demo1 c 60:1"),
        "{dry}"
    );
    assert_eq!(open(&container, "/dev/demo1"), "ENOENT");
    let unknown = change(&container, &registry, "add", "none").exited(1);
    assert!(unknown.stderr.contains("none"), "{unknown}");
    container.kill("KILL");
    container.wait_for("stopped");
    let late = change(&container, &registry, "add", "one").exited(1);
    assert!(late.stderr.contains("container not running"), "{late}");
    container.delete();
}
