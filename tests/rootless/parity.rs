//! The same bundle, by the same user, with Debian's runc: what the container and
//! its exec see is the same.

use crate::common::{Config, Runtime, Sandbox, on_each_view, runtime::Kind, skip};
use crate::user::{User, squeezed};

/// What a program can tell about where it is.
const PROBE: &str = "\
    echo ids; id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; \
    echo status; grep -E '^(Groups|NoNewPrivs|Seccomp|Cap)' /proc/self/status; \
    echo dev; cd /dev; for f in *; do stat -c '%n %F %t:%T' $f; done; \
    echo mounts; cut -d ' ' -f 2,3 /proc/mounts | sort -u; \
    echo masked; cat /proc/kcore | wc -c; ls /proc/scsi 2>/dev/null | wc -l; \
      for f in /proc/sys/kernel/hostname /sys/kernel/uevent_seqnum; do (echo x >$f) 2>/dev/null && echo wrote $f; done; \
    echo rest; hostname; pwd; env | sort; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l";

fn see(user: &User<'_>, sandbox: &Sandbox) -> (String, String) {
    // As `runc spec --rootless` makes it, so that runc can run it too.
    let map = serde_json::json!([{"containerID": 0, "hostID": crate::user::UID, "size": 1}]);
    let config = Config::shell(PROBE)
        .without_namespace("network")
        .without_namespace("cgroup")
        .remove("/linux/resources")
        .set("/process/env/-", "HOME=/")
        .push("/linux/namespaces", serde_json::json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set(
            "/mounts/2/options",
            serde_json::json!([
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620"
            ]),
        )
        .set(
            "/mounts/5",
            serde_json::json!({"destination": "/sys", "type": "none", "source": "/sys",
             "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}),
        );
    let out = user.run(&config).succeeded();
    let name = sandbox.fresh();
    let sleeper = serde_json::json!(["/bin/sh", "-c", "sleep 100000 & wait", name]);
    let bundle = user.bundle(&config.set("/process/args", sleeper));
    user.run_bundle("run", &["--detach"], &bundle).succeeded();
    let exec = user.exec(&bundle, PROBE);
    user.call(["delete", "--force", &bundle.id])
        .output()
        .succeeded();
    (squeezed(&out.stdout), squeezed(&exec))
}

fn it_is_what_runc_gives(sandbox: &Sandbox) {
    let Some(runc) = Runtime::peer(Kind::Runc) else {
        skip!("this host has no runc");
    };
    let ours = see(&User::new(sandbox), sandbox);
    let theirs = see(&User::new(sandbox).of(runc), sandbox);
    assert!(
        ours.0.contains("null character special file 1:3"),
        "{}",
        ours.0
    );
    assert_eq!(ours.0, theirs.0, "run: ours, then runc's");
    assert_eq!(ours.1, theirs.1, "exec: ours, then runc's");
}

on_each_view!(it_is_what_runc_gives);
