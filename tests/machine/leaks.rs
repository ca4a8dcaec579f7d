//! Many containers one after the other leave nothing.

use std::fs;
use std::os::fd::AsFd as _;

use kusabi::sys::bpf;

use crate::common::{Config, Sandbox, host, wait_until};
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

/// How much there is of each of what a container takes from the machine.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    cgroups: usize,
    /// Loaded into the kernel, attached or not.
    device_programs: usize,
    mounts: usize,
    processes: usize,
    scopes: usize,
    unit_files: usize,
}

impl Counts {
    fn now(sandbox: &Sandbox) -> Self {
        let lines = |text: String| text.lines().count();
        let scopes = ["list-units", "--all", "--no-legend", "--type=scope"];
        Self {
            cgroups: host::cgroups_named("").len(),
            device_programs: device_programs(),
            mounts: lines(fs::read_to_string("/proc/self/mountinfo").unwrap()),
            processes: host::processes_in("kusabi").len(),
            scopes: lines(command(sandbox, &[&["systemctl"], &scopes[..]].concat())),
            unit_files: fs::read_dir("/run/systemd/transient").map_or(0, Iterator::count),
        }
    }
}

/// The kernel gives ascending ids: the newest program's is the highest.
fn device_programs() -> usize {
    // r0 = 1; exit
    let code = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let newest = bpf::load_device_program(&code, c"newest", None).unwrap();
    let highest = bpf::program_info(newest.as_fd()).unwrap().id;
    (1..highest)
        .filter_map(|id| bpf::program_by_id(id).ok())
        .filter(|program| bpf::program_info(program.as_fd()).unwrap().is_device)
        .count()
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
    let before = Counts::now(sandbox);
    assert!(before.device_programs > 0, "systemd's own");
    for _ in 0..rounds() {
        once();
    }
    // The kernel frees programs a little later, and services come and go.
    let mut said = None;
    wait_until("as much as before", || {
        let now = Counts::now(sandbox);
        let same = now == before;
        if !same && said.as_ref() != Some(&now) {
            eprintln!("{now:?}, before {before:?}");
            said = Some(now);
        }
        same
    });
}
