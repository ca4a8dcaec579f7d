//! Root of a user namespace, as an engine that runs rootless calls the runtime:
//! euid 0, and no right over anything of the host's.

use serde_json::json;

use crate::common::{Bundle, Config, Output, Sandbox, Spawn, on_each_view, on_host};
use crate::user::{UID, User, squeezed};

/// The runtime as root of a namespace that maps only the user.
fn call(user: &User<'_>, sandbox: &Sandbox, args: &[&str]) -> Spawn {
    let runtime = user.home().join("runtime");
    user.command(["unshare", "--user", "--map-root-user", "--mount", "--"])
        .arg(runtime)
        .arg("--root")
        .arg(sandbox.root())
        .args(args)
        // As podman clears it for its own.
        .env("XDG_RUNTIME_DIR", "")
}

fn run(user: &User<'_>, sandbox: &Sandbox, bundle: &Bundle) -> Output {
    let path = bundle.path.to_str().unwrap();
    call(user, sandbox, &["run", "--bundle", path, &bundle.id]).output()
}

/// A configuration that could be run there: what an engine writes.
fn config(script: &str) -> Config {
    Config::shell(script).set("/mounts/2/options", json!(["newinstance", "ptmxmode=0666"]))
}

fn it_gains_no_other_namespace(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let script =
        "cat /proc/self/uid_map; stat -c %t:%T /dev/null /dev/own; : >/dev/null && echo ok";
    let config = config(script).push(
        "/linux/devices",
        json!({"path": "/dev/own", "type": "c", "major": 1, "minor": 5}),
    );
    let bundle = user.bundle(&config);
    let out = run(&user, sandbox, &bundle).succeeded();
    assert_eq!(squeezed(&out.stdout), format!("0 {UID} 1\n1:3\n1:5\nok"));

    let path = bundle.path.to_str().unwrap();
    let plan = call(&user, sandbox, &["explain", "--bundle", path])
        .output()
        .succeeded();
    assert!(!plan.stdout.contains("linux.namespaces"), "{plan}");
    assert!(!plan.stdout.contains("linux.uidMappings"), "{plan}");
    assert!(
        plan.stdout.contains("- linux.devices            /dev/own"),
        "{plan}"
    );
    assert!(
        plan.stdout.contains("device rules take privilege"),
        "{plan}"
    );
}

/// `gid=5` has no meaning there, which mount(2) would answer with EINVAL.
fn an_unmapped_gid_is_taken_out(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let bundle = user.bundle(&Config::shell(
        "grep devpts /proc/mounts | grep -c gid=5; test -c /dev/pts/ptmx",
    ));
    let out = run(&user, sandbox, &bundle).succeeded();
    assert_eq!(out.stdout, "0\n", "{out}");
}

/// A user namespace that the configuration asks for, below ours.
fn a_mapping_of_the_engines_is_made(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let map = json!([{"containerID": 7, "hostID": 0, "size": 1}]);
    let config = config("cat /proc/self/uid_map; id -u")
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/process/user/uid", 7)
        .set("/process/user/gid", 7);
    let bundle = user.bundle(&config);
    let out = run(&user, sandbox, &bundle);
    // Without an id 0 there is no root to prepare it, which is said.
    out.exited(1).says("setgid 0 in user namespace");
}

fn exec_joins_it(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let bundle = user.bundle(&config("").set(
        "/process/args",
        json!(["/bin/sh", "-c", "sleep 100000 & wait", sandbox.fresh()]),
    ));
    let (path, id) = (bundle.path.to_str().unwrap(), bundle.id.as_str());
    // One namespace for all calls, as an engine's pause process holds it.
    let script = "set -e; \"$1\" --root \"$2\" run --detach --bundle \"$3\" \"$4\" </dev/null >\"$3/out\" 2>&1; \
                  \"$1\" --root \"$2\" exec \"$4\" sh -c 'id -u; ls /proc/1/comm; cat /proc/self/uid_map'; \
                  \"$1\" --root \"$2\" ps -f json \"$4\"; \
                  \"$1\" --root \"$2\" delete --force \"$4\"";
    let out = user
        .command([
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(user.home().join("runtime"))
        .arg(sandbox.root())
        .args([path, id])
        .output()
        .succeeded();
    let seen = squeezed(&out.stdout);
    assert!(
        seen.starts_with(&format!("0\n/proc/1/comm\n0 {UID} 1\n[")),
        "{out}"
    );
}

on_each_view!(it_gains_no_other_namespace, exec_joins_it);
on_host!(
    an_unmapped_gid_is_taken_out,
    a_mapping_of_the_engines_is_made
);
