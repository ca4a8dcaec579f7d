//! A vendor's prestart hook as they were made before CDI: it opens a device for
//! the container behind the back of whoever made its filter.

use std::fs::File;
use std::os::fd::AsFd as _;

use kusabi::device::{DeviceFilter, Target};
use kusabi::edit::{Access, DeviceKind, DeviceRule};
use kusabi::sys::bpf;
use serde_json::{Value, json};

use crate::common::Config;

/// Takes every device program off the container's cgroup and puts one there that
/// allows the device, as libnvidia-container does on cgroup v2.
#[test]
#[ignore = "started by the tests of this file as a process of its own"]
fn vendor() {
    let state: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let path = cgroup.trim().strip_prefix("0::/").unwrap();
    let cgroup = File::open(format!("/sys/fs/cgroup/{path}")).unwrap();
    for id in bpf::device_programs(cgroup.as_fd()).unwrap() {
        let program = bpf::program_by_id(id).unwrap();
        bpf::detach_device_program(cgroup.as_fd(), program.as_fd()).unwrap();
    }
    let numbers = std::env::var("HOOK_NUMBERS").unwrap();
    let (major, minor) = numbers.split_once(':').unwrap();
    let rule = DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: major.parse().ok(),
        minor: minor.parse().ok(),
        access: Access::all(),
    };
    let filter = DeviceFilter::for_container(&[rule], &[]).unwrap();
    filter.install(&Target::V2(cgroup.as_fd())).unwrap();
}

/// Adds the hook.
pub fn with_hook(config: Config, numbers: &str) -> Config {
    let this = std::env::current_exe().unwrap();
    let hook = json!({
        "path": this,
        "args": ["hook", "--exact", "hook::vendor", "--ignored", "--nocapture"],
        "env": [format!("HOOK_NUMBERS={numbers}")],
    });
    config.set("/hooks/prestart", json!([hook]))
}
