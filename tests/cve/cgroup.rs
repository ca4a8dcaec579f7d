//! Root in a container, and a writable cgroup file system.

use crate::common::{Config, Sandbox, on_each_view};
use crate::judge::{Outcome, must_hold};

on_each_view![root_stays_in_its_cgroup_and_under_its_filter];

/// Tries to move to the top of what is in sight and above it, to allow itself
/// every device, and then opens one that the configuration does not list. It
/// leaves other cgroups alone, which are other people's where the attack works.
const ESCAPE: &str = r#"
exec 2>/dev/null
mkdir /tmp/top
mount -t cgroup2 none /tmp/top
for top in /sys/fs/cgroup /sys/fs/cgroup/devices /sys/fs/cgroup/unified /tmp/top; do
    for directory in $top $top/..; do
        echo a >$directory/devices.allow
        echo $$ >$directory/cgroup.procs && echo moved to $directory
    done
done
mknod /tmp/fuse c 10 229
if (exec 7</tmp/fuse); then echo opened; else echo closed; fi
"#;

fn root_stays_in_its_cgroup_and_under_its_filter(sandbox: &Sandbox) {
    must_hold(sandbox, &[], |sandbox| escape(sandbox, true));
    // The script can do it where the whole tree is in sight.
    if sandbox.view() == crate::common::View::Unified {
        let seen = sandbox
            .peer(crate::common::Kind::Runc)
            .map(|peer| escape(&peer, false));
        assert_ne!(seen, Some(Outcome::Held), "the attack does not work");
    }
}

fn escape(sandbox: &Sandbox, private: bool) -> Outcome {
    let mut config = Config::shell(ESCAPE).capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    let mounts = config.get("/mounts").as_array().unwrap().clone();
    let writable: Vec<_> = mounts
        .into_iter()
        .map(|mut mount| {
            if mount["type"] == "cgroup" {
                mount["options"] = serde_json::json!(["nosuid", "noexec", "nodev", "rw"]);
            }
            mount
        })
        .collect();
    config = config.set("/mounts", writable);
    if !private {
        config = config.without_namespace("cgroup");
    }
    let out = sandbox.run_config(&config);
    eprintln!("{out}");
    assert_eq!(out.code, Some(0), "{out}");
    let fault = out
        .stdout
        .contains("opened")
        .then(|| format!("a device was opened: {}", out.stdout));
    Outcome::from_fault(fault)
}
