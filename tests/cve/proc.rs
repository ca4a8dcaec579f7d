//! Volumes over /proc, and images that aim /proc and /sys somewhere else.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::{Config, Sandbox, on_host};
use crate::judge::{Bad, Outcome, must_hold};

on_host![
    cve_2019_16884_volume_over_proc,
    cve_2023_27561_proc_is_a_link,
    a_bare_procfs_stays_out_of_reach_without_pivot,
];

/// CVE-2019-16884, CVE-2019-19921: who replaces /proc decides which files LSM
/// labels and sysctls are written to.
fn cve_2019_16884_volume_over_proc(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.0.0-rc8")], |sandbox| {
        volume_at(sandbox, "/proc")
    });
    for place in [
        "/proc",
        "/proc/sys",
        "/proc/self",
        "/link",
        "/link/sys",
        "/deep/../link/sys",
    ] {
        must_hold(sandbox, &[], |sandbox| volume_at(sandbox, place));
    }
}

fn volume_at(sandbox: &Sandbox, place: &str) -> Outcome {
    let volume = sandbox.dir().join("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("bait"), "bait").unwrap();
    let source = volume.to_str().unwrap();
    let script = format!("cat {place}/bait; echo; cat /proc/self/mounts");
    let config = Config::shell(&script).mount("bind", source, place, &["rbind"]);
    let bundle = sandbox.bundle(&config);
    fs::create_dir(bundle.rootfs().join("deep")).unwrap();
    symlink("proc", bundle.rootfs().join("link")).unwrap();
    let out = sandbox.run(&bundle);
    eprintln!("{out}");
    // A start that fails later, for want of a real /proc, was not refused.
    let refused = out.code == Some(1) && out.stderr.contains("cannot be mounted");
    Outcome::from_fault((!refused).then(|| format!("a volume was mounted at {place}")))
}

/// CVE-2023-27561, CVE-2025-54867: the mount lands where the link leads, and
/// /proc is whatever the image says.
fn cve_2023_27561_proc_is_a_link(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.1.4")], |sandbox| {
        started_with_link(sandbox, "proc")
    });
    must_hold(sandbox, &[Bad::Tag("v1.1.4")], |sandbox| {
        started_with_link(sandbox, "sys")
    });
}

fn started_with_link(sandbox: &Sandbox, name: &str) -> Outcome {
    // Without a cgroup mount, whose place below /sys would be judged first.
    let mut config = Config::shell("true");
    let mounts = config.get("/mounts").as_array().unwrap().clone();
    let mounts: Vec<_> = mounts
        .into_iter()
        .filter(|m| m["type"] != "cgroup")
        .collect();
    config = config.set("/mounts", mounts);
    let bundle = sandbox.bundle(&config);
    let root = bundle.rootfs();
    fs::remove_dir(root.join(name)).unwrap();
    fs::create_dir(root.join("fake")).unwrap();
    symlink("fake", root.join(name)).unwrap();
    let out = sandbox.run(&bundle);
    eprintln!("{out}");
    Outcome::from_fault((out.code == Some(0)).then(|| format!("started with /{name} a link")))
}

/// Without pivot_root the host's mounts stay in the namespace, below the root. A
/// whole procfs among them lets a user namespace mount one without masks
/// (runc issue 1962).
fn a_bare_procfs_stays_out_of_reach_without_pivot(sandbox: &Sandbox) {
    // crun hides /proc and /sys, but no other mount of them.
    must_hold(sandbox, &[Bad::CrunBefore("99")], |sandbox| {
        let place = sandbox.dir().join(sandbox.fresh());
        fs::create_dir(&place).unwrap();
        let kind = Some("proc");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(kind, &place, kind, flags, None::<&str>).unwrap();
        let attack = "unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted'";
        let config = Config::shell(attack)
            .set("/process/noNewPrivileges", false)
            .capabilities(&["CAP_SETFCAP"]);
        let bundle = sandbox.bundle(&config);
        let out = sandbox
            .call(["run", "--no-pivot", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output();
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
        eprintln!("{out}");
        let mounted = out.stdout.contains("mounted");
        assert!(
            mounted || out.stderr.contains("mount: permission denied"),
            "the attack was not tried: {out}"
        );
        Outcome::from_fault(mounted.then(|| "a bare procfs was mounted".to_owned()))
    });
}
