//! Images whose /dev aims at the host, or holds bait for what a runtime opens,
//! truncates, mounts or removes there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::json;

use crate::canary::{Canary, SECRET};
use crate::common::{Bundle, Config, Sandbox, on_host};
use crate::console::ConsoleSocket;
use crate::judge::{Bad, Outcome, must_hold};

on_host![
    cve_2026_41579_dev_is_a_link_to_the_host,
    cve_2026_41579_dev_is_a_link_and_not_mounted,
    cve_2025_31133_null_is_bait_for_masks,
    cve_2025_52565_console_is_a_link,
    cve_2026_88264_console_is_a_file,
    cve_2026_88265_null_is_reopened,
    a_bound_dev_of_the_host_survives,
];

fn without_dev(config: Config) -> Config {
    let mounts = config.get("/mounts").as_array().unwrap().clone();
    let kept: Vec<_> = mounts
        .into_iter()
        .filter(|m| !m["destination"].as_str().unwrap().starts_with("/dev"))
        .collect();
    config.set("/mounts", kept)
}

fn cve_2026_41579_dev_is_a_link_to_the_host(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.0")], |sandbox| {
        dev_leads_to_canary(sandbox, &Config::shell("true"))
    });
}

fn cve_2026_41579_dev_is_a_link_and_not_mounted(sandbox: &Sandbox) {
    let bad = [Bad::RuncBefore("1.2.0"), Bad::CrunBefore("1.9.0")];
    must_hold(sandbox, &bad, |sandbox| {
        dev_leads_to_canary(sandbox, &without_dev(Config::shell("true")))
    });
}

fn dev_leads_to_canary(sandbox: &Sandbox, config: &Config) -> Outcome {
    let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
    let bundle = sandbox.bundle(config);
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(canary.path(), bundle.rootfs().join("dev")).unwrap();
    eprintln!("{}", sandbox.run(&bundle));
    Outcome::from_changes(&canary.changes())
}

/// The image's /dev/null is a link to a file that the container must not see,
/// and the runtime mounts "/dev/null" over a path to hide it.
fn cve_2025_31133_null_is_bait_for_masks(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.8")], |sandbox| {
        let config = without_dev(Config::shell("cat /shown >/tmp/out"))
            .set("/linux/maskedPaths", json!(["/shown"]));
        let bundle = sandbox.bundle(&config);
        let root = bundle.rootfs();
        fs::write(root.join("bait"), "bait").unwrap();
        fs::write(root.join("shown"), "").unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        symlink("/bait", root.join("dev/null")).unwrap();
        eprintln!("{}", sandbox.run(&bundle));
        // Not stdout, which is the bait with an old runc (see below).
        let seen = fs::read_to_string(root.join("tmp/out")).unwrap_or_default();
        let fault = (seen == "bait").then(|| "the bait was mounted as a mask".to_owned());
        Outcome::from_fault(fault)
    });
}

/// A terminal is mounted on /dev/console, which is made first: through a link,
/// that truncates or makes what the link leads to.
fn cve_2025_52565_console_is_a_link(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.8")], |sandbox| {
        let bundle = terminal_bundle(sandbox);
        let bait = bundle.rootfs().join("bait");
        fs::write(&bait, SECRET).unwrap();
        fs::set_permissions(&bait, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("/bait", bundle.rootfs().join("dev/console")).unwrap();
        create_with_terminal(sandbox, &bundle);
        let text = fs::read_to_string(&bait).unwrap();
        let mode = fs::metadata(&bait).unwrap().permissions().mode() & 0o777;
        let fault =
            (text != SECRET || mode != 0o600).then(|| format!("the bait became {mode:o} {text:?}"));
        Outcome::from_fault(fault)
    });
}

fn cve_2026_88264_console_is_a_file(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("1.2.8")], |sandbox| {
        let bundle = terminal_bundle(sandbox);
        let bait = bundle.rootfs().join("dev/console");
        fs::write(&bait, SECRET).unwrap();
        create_with_terminal(sandbox, &bundle);
        let text = fs::read_to_string(&bait).unwrap();
        Outcome::from_fault((text != SECRET).then(|| format!("the bait became {text:?}")))
    });
}

/// /dev is the image's, with nothing but devpts mounted below it.
fn terminal_bundle(sandbox: &Sandbox) -> Bundle {
    let pts = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let config = without_dev(Config::sleeper())
        .set("/process/terminal", true)
        .mount("devpts", "devpts", "/dev/pts", &pts);
    let bundle = sandbox.bundle(&config);
    fs::create_dir_all(bundle.rootfs().join("dev")).unwrap();
    bundle
}

fn create_with_terminal(sandbox: &Sandbox, bundle: &Bundle) {
    let console = ConsoleSocket::new(sandbox.dir().join(format!("{}.sock", sandbox.fresh())));
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg("--console-socket")
        .arg(console.path())
        .arg(&bundle.id)
        .output();
    sandbox.call(["delete", "--force"]).arg(&bundle.id).output();
}

/// Standard streams that are the host's /dev/null are replaced by the container's
/// once inside: old runcs took every stream whose `st_rdev` is that of the bait,
/// a file's 0, and the container's output went into the bait.
fn cve_2026_88265_null_is_reopened(sandbox: &Sandbox) {
    let bad = [Bad::RuncBefore("1.2.8"), Bad::CrunBefore("1.9.0")];
    must_hold(sandbox, &bad, |sandbox| {
        let bundle = sandbox.bundle(&without_dev(Config::shell("true")));
        let bait = bundle.rootfs().join("bait");
        fs::write(&bait, SECRET).unwrap();
        symlink("/bait", bundle.rootfs().join("dev/null")).unwrap();
        // stdin is the host's /dev/null.
        let out = sandbox
            .call(["run", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output();
        let text = fs::read_to_string(&bait).unwrap();
        let fault = (out.code == Some(0)).then(|| "started with the bait as /dev/null".into());
        Outcome::from_fault(fault.or((text != SECRET).then(|| format!("the bait became {text:?}"))))
    });
}

/// Not an attack but the same harm: /dev of the host, or what stands for it, is
/// bound into a container and keeps its nodes, above all its ptmx.
fn a_bound_dev_of_the_host_survives(sandbox: &Sandbox) {
    let canary = Canary::with(sandbox.dir().join(sandbox.fresh()), |dir| {
        fs::remove_file(dir.join("null")).unwrap();
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dir.join("null"), SFlag::S_IFCHR, mode, libc::makedev(1, 3)).unwrap();
    });
    let source = canary.path().to_str().unwrap();
    let config = without_dev(Config::shell("cat /dev/ptmx; echo gone > /dev/null")).mount(
        "bind",
        source,
        "/dev",
        &["rbind"],
    );
    let out = sandbox.run_config(&config).succeeded();
    assert_eq!(out.stdout, SECRET);
    assert_eq!(canary.changes(), Vec::<String>::new());
}
