//! Where containers go when the builder itself is in one: on cgroup v2, in a
//! cgroup namespace of its own.

use std::fs;

use super::common::sandbox::make_rootfs;
use super::common::{Sandbox, Spawn, host, on_host};

on_host!(below_our_own_cgroup_and_processes_move_only_when_allowed);

/// Enters a pure cgroup v2 view, a cgroup of the test's own, and a namespace in
/// which that is the root; there, what `$1` says.
const ENTER: &str = "set -e; umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; \
     mkdir \"/sys/fs/cgroup/$2\"; echo $$ > \"/sys/fs/cgroup/$2/cgroup.procs\"; \
     exec unshare --cgroup --mount --propagation private sh -c \"umount -l /sys/fs/cgroup; \
     mount -t cgroup2 none /sys/fs/cgroup; $1\"";

/// Each line a key and what a command printed.
const LOOK: &str = r#"
    say() { echo "$1=$(cat)"; }
    spec() { "$KUSABI" bundle spec --service service.yaml --name "$1" 2>&1 | grep -oE 'cgroupsPath.*|msg=.*' ; }
    own() { sed -n 's/^0:://p' /proc/self/cgroup; }
    spec free | say free
    spec limited | say limited
    (export KUSABI_CGROUP_MIGRATE=1; spec limited) | say spec_may_migrate
    own | say after_spec
    KUSABI_CGROUP_MIGRATE=1 "$KUSABI" --root state run --service service.yaml --name free --rootfs rootfs 2>&1 | say ran
    own | say after_run
    wc -l < /sys/fs/cgroup/cgroup.procs | say left_in_scope
    spec free | say again
    mount -o remount,bind,ro /sys/fs/cgroup
    spec free | say readonly
"#;

fn below_our_own_cgroup_and_processes_move_only_when_allowed(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let dir = sandbox.dir();
    make_rootfs(&dir.join("rootfs"));
    let service = "version: v1\ndeployment: d\nservices:\n  \
                   free: {command: {entrypoint: [/bin/echo, inside]}}\n  \
                   limited: {resources: {memory: 64Mi}}\n";
    fs::write(dir.join("service.yaml"), service).unwrap();
    fs::write(dir.join("look.sh"), LOOK).unwrap();
    let cgroup = sandbox.fresh();
    let out = Spawn::new("unshare", &dir.join("nested"))
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .args(["sh look.sh", &cgroup])
        .env("KUSABI", env!("CARGO_BIN_EXE_kusabi"))
        .current_dir(dir)
        .output()
        .succeeded();
    for directory in host::cgroups_named(&cgroup) {
        fs::remove_dir(directory).unwrap();
    }
    fs::remove_dir(dir.join("state/bundles")).unwrap();
    let is = |key: &str, want: &str| {
        let found = out
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")));
        assert!(
            found.is_some_and(|found| found.contains(want)),
            "{key}: {found:?}, not {want}"
        );
    };
    is("free", "\"/containers/free-rep-1\"");
    is(
        "limited",
        "has processes of its own and so cannot pass on the controllers",
    );
    is("limited", "KUSABI_CGROUP_MIGRATE=1");
    is("spec_may_migrate", "\"/containers/limited-rep-1\"");
    assert!(out.stdout.contains("\nafter_spec=/\n"), "{}", out.stdout);
    is("ran", "inside");
    is("after_run", "/init");
    is("left_in_scope", "0");
    is("again", "\"/containers/free-rep-1\"");
    is(
        "readonly",
        "cannot be written; set cgroup_parent in the service file, set KUSABI_CGROUP_PARENT, or",
    );
}
