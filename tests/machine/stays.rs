//! A device that a container has stays with it, and no other comes, whatever
//! systemd does.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::common::{Config, Container, Kind, Sandbox, skip, wait_until};
use crate::{Driver, cards, command, hook, machine_tests, reader, registry, with_mknod};

machine_tests![
    a_device_stays_with_the_systemd_driver,
    a_device_stays_with_the_cgroupfs_driver,
    runc_with_a_vendors_hook_loses_it,
    what_a_hook_did_to_the_filter_is_noticed,
    what_was_given_and_taken_live_stays_so,
];

/// `systemctl daemon-reload`s; `KUSABI_TEST_RELOADS` of them where that is set.
fn reloads() -> u32 {
    std::env::var("KUSABI_TEST_RELOADS").map_or(50, |n| n.parse().unwrap())
}

fn numbers(node: &Path) -> String {
    let number = node.metadata().unwrap().rdev();
    format!(
        "{}:{}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    )
}

/// Whether a node that the container makes itself opens.
#[track_caller]
fn opens(container: &Container<'_>, node: &Path) -> bool {
    let numbers = numbers(node).replace(':', " ");
    let out = container.sh(&format!(
        "rm -f /tmp/n; mknod /tmp/n c {numbers} && : </tmp/n && echo opened"
    ));
    let denied = out.stderr.contains("Operation not permitted");
    assert_ne!(out.stdout.contains("opened"), denied, "{out}");
    !denied
}

fn a_device_stays_with_the_systemd_driver(sandbox: &Sandbox) {
    a_device_stays(sandbox, Driver::Systemd);
}

fn a_device_stays_with_the_cgroupfs_driver(sandbox: &Sandbox) {
    a_device_stays(sandbox, Driver::Cgroupfs);
}

fn a_device_stays(sandbox: &Sandbox, driver: Driver) {
    let [ours, other] = cards();
    let bundle = driver.bundle(sandbox, &with_mknod(reader::config(&ours)));
    let flags = [
        "--detach",
        "--device",
        "test.kusabi.dev/gpu=0",
        "--cdi-dir",
        &registry(sandbox),
    ];
    let container = driver.run(sandbox, &bundle, &flags);
    reader::still_answers(&container, "its start");
    assert!(!opens(&container, &other));

    for number in 1..=reloads() {
        command(sandbox, &["systemctl", "daemon-reload"]);
        reader::still_answers(&container, &format!("daemon-reload {number}"));
    }
    assert!(!opens(&container, &other), "after daemon-reload");

    if let Some(unit) = driver.unit(&container.id) {
        command(
            sandbox,
            &[
                "systemctl",
                "set-property",
                "--runtime",
                &unit,
                "CPUWeight=77",
            ],
        );
        reader::still_answers(&container, "set-property");
        assert!(!opens(&container, &other), "after set-property");
        let allowed = command(sandbox, &["systemctl", "show", "-p", "DeviceAllow", &unit]);
        assert!(allowed.contains(&numbers(&ours)), "{allowed}");
        assert!(!allowed.contains(&numbers(&other)), "{allowed}");
    }
    container
        .call("update", &["--memory", "134217728"])
        .output()
        .succeeded();
    reader::still_answers(&container, "update");
    assert!(!opens(&container, &other), "after update");

    command(sandbox, &["systemctl", "daemon-reexec"]);
    reader::still_answers(&container, "daemon-reexec");
    assert!(!opens(&container, &other), "after daemon-reexec");
    assert!(opens(&container, &ours));
    container.delete_force();
}

/// The reference case, nvidia-container-toolkit #48 (also #251, #1227, #1397).
fn runc_with_a_vendors_hook_loses_it(sandbox: &Sandbox) {
    let Some(peer) = sandbox.peer(Kind::Runc) else {
        skip!("runc is not installed");
    };
    let [card, _] = cards();
    let node = Path::new("/dev/card");
    let config = with_mknod(reader::config(node))
        .set("/process/env/-", format!("READER_MKNOD={}", numbers(&card)));
    let config = hook::with_hook(config, &numbers(&card));
    let bundle = Driver::Systemd.bundle(&peer, &config);
    let container = Driver::Systemd.run(&peer, &bundle, &["--detach"]);
    reader::still_answers(&container, "its start");
    command(sandbox, &["systemctl", "daemon-reload"]);
    wait_until("runc's container to lose its device", || {
        let (_, lost) = reader::said(&container);
        lost.iter()
            .any(|line| line.contains("Operation not permitted"))
    });
    container.delete_force();
}

fn what_a_hook_did_to_the_filter_is_noticed(sandbox: &Sandbox) {
    let [card, _] = cards();
    let config = hook::with_hook(Config::sleeper(), &numbers(&card));
    let bundle = Driver::Systemd.bundle(sandbox, &config);
    sandbox
        .call(["--systemd-cgroup", "create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("device filter");
}

fn what_was_given_and_taken_live_stays_so(sandbox: &Sandbox) {
    let [ours, other] = cards();
    let cdi = registry(sandbox);
    let bundle = Driver::Systemd.bundle(sandbox, &with_mknod(Config::sleeper()));
    let container = Driver::Systemd.run(sandbox, &bundle, &["--detach"]);
    assert!(!opens(&container, &ours));
    let change = |action: &str| {
        container
            .call("devices", &["--cdi-dir", &cdi])
            .args([action, "test.kusabi.dev/gpu=0"])
            .output()
            .succeeded();
    };
    change("add");
    for _ in 0..2 {
        assert!(opens(&container, &ours));
        assert!(!opens(&container, &other));
        command(sandbox, &["systemctl", "daemon-reload"]);
    }
    change("remove");
    for _ in 0..2 {
        assert!(!opens(&container, &ours));
        command(sandbox, &["systemctl", "daemon-reload"]);
    }
    container.delete_force();
}
