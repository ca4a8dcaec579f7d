//! Many containers one after the other leave nothing.

use std::fs;

use crate::common::{Config, Sandbox};
use crate::{Driver, command, machine_tests};

machine_tests![nothing_leaks_with_cgroupfs, nothing_leaks_with_systemd];

/// Containers; `KUSABI_TEST_LEAKS` of them where that is set.
fn rounds() -> u32 {
    std::env::var("KUSABI_TEST_LEAKS").map_or(20, |n| n.parse().unwrap())
}

fn nothing_leaks_with_cgroupfs(sandbox: &Sandbox) {
    nothing_leaks(sandbox, Driver::Cgroupfs);
}

fn nothing_leaks_with_systemd(sandbox: &Sandbox) {
    nothing_leaks(sandbox, Driver::Systemd);
}

/// How many cgroups, device programs, mounts and units there are.
fn counts(sandbox: &Sandbox) -> [usize; 4] {
    let lines = |text: String| text.lines().count();
    [
        lines(command(sandbox, &["find", "/sys/fs/cgroup", "-type", "d"])),
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count(),
        lines(command(
            sandbox,
            &[
                "systemctl",
                "list-units",
                "--all",
                "--no-legend",
                "--type=scope",
            ],
        )),
        fs::read_dir("/run/systemd/transient").map_or(0, Iterator::count),
    ]
}

fn nothing_leaks(sandbox: &Sandbox, driver: Driver) {
    let bundle = driver.bundle(sandbox, &Config::sleeper());
    let once = || {
        sandbox
            .call(driver.globals())
            .args(["create", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .succeeded();
        sandbox
            .call(["delete", "--force", &bundle.id])
            .output()
            .succeeded();
    };
    // Slices are made once and stay.
    once();
    let before = counts(sandbox);
    for _ in 0..rounds() {
        once();
    }
    assert_eq!(
        counts(sandbox),
        before,
        "cgroups, mounts, scopes, unit files"
    );
}
