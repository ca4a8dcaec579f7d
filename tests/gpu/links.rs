//! How devices are connected: what hosts tell, and what is picked for it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{host, kusabi};

fn policy() -> tempfile::NamedTempFile {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    file
}

/// `from to kind`, for each link that `kusabi gpus` tells.
fn links(host: &Path) -> Vec<String> {
    let policy = policy();
    let args = [
        "gpus",
        "--format",
        "json",
        "--host-root",
        host.to_str().unwrap(),
    ];
    let done = kusabi(policy.path(), &args);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let mut links = Vec::new();
    for gpu in told["gpus"].as_array().unwrap() {
        for link in gpu["links"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let mut words = vec![text(&gpu["index"]), text(&link["to"]), text(&link["kind"])];
            words.extend(link["hops"].as_u64().map(|hops| hops.to_string()));
            links.push(words.join(" "));
        }
    }
    links
}

/// What a count takes, by the variable that lists it.
fn picked(host: &Path, gpus: &str, variable: &str) -> String {
    let policy = policy();
    let bundle = tempfile::tempdir().unwrap();
    let config = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","args":["true"],"user":{"uid":0,"gid":0},"env":[]},"root":{"path":"r"}}"#;
    fs::write(bundle.path().join("config.json"), config).unwrap();
    let args = [
        "explain",
        "--format",
        "config",
        "--host-root",
        host.to_str().unwrap(),
        "--gpus",
        gpus,
        "--bundle",
        bundle.path().to_str().unwrap(),
    ];
    let done = kusabi(policy.path(), &args);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let config: Value = serde_json::from_str(&done.stdout).unwrap();
    let env = config["process"]["env"].as_array().unwrap();
    let prefix = format!("{variable}=");
    env.iter()
        .find_map(|entry| Some(entry.as_str()?.strip_prefix(&prefix)?.to_owned()))
        .unwrap()
}

#[test]
fn a_switch_is_told_from_a_host_bridge() {
    assert_eq!(links(&host("nvidia-switch")), ["1 2 switch", "2 1 switch"]);
}

#[test]
fn infinity_fabric_is_read_from_the_topology() {
    assert_eq!(
        links(&host("amd-pairs")),
        ["0 2 xgmi 1", "1 3 xgmi 1", "2 0 xgmi 1", "3 1 xgmi 1"]
    );
}

#[test]
fn partitions_of_one_chip_belong_together() {
    let links = links(&host("amd-partitions"));
    assert!(links.contains(&"0 1 chip".to_owned()), "{links:?}");
    assert!(!links.iter().any(|link| link == "0 8 chip"), "{links:?}");
}

#[test]
fn a_host_that_tells_nothing_has_no_links() {
    assert_eq!(links(&host("nvidia-4")), Vec::<String>::new());
}

/// All three are on one NUMA node, and 0 is first.
#[test]
fn two_on_one_switch_are_picked_before_two_that_are_not() {
    let host = host("nvidia-switch");
    let two = picked(&host, "2", "NVIDIA_VISIBLE_DEVICES");
    assert_eq!(
        two,
        "GPU-b81c2d90-5e6f-41aa-8d3b-60f2c9ae7721,GPU-07d9e4ac-2b38-4f6c-b1e5-93a8d0c6f552"
    );
    // One alone leaves the pair to others.
    let one = picked(&host, "1", "NVIDIA_VISIBLE_DEVICES");
    assert_eq!(one, "GPU-3f0a6b51-7c1e-9d44-0a52-1c5be90f7a10");
}

/// 0 and 1 share a NUMA node; the bridge is between 0 and 2.
#[test]
fn two_that_are_linked_are_picked_before_two_on_one_numa_node() {
    let two = picked(&host("amd-pairs"), "2", "ROCR_VISIBLE_DEVICES");
    assert_eq!(two, "GPU-5d1f2a8c90b3e764,GPU-1b6e93d05ac8f247");
}

/// What is recorded is what was there, links included, and what leads out of the
/// tree is left out.
#[test]
fn a_recording_has_the_links() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["nvidia-switch", "amd-pairs"] {
        let copy = dir.path().join(name);
        kusabi::host::gpu::record(&host(name), &copy).unwrap();
        assert_eq!(links(&copy), links(&host(name)), "{name}");
    }
    let hostile = tempfile::tempdir().unwrap();
    let driver = hostile.path().join("sys/bus/pci/drivers/nvidia");
    fs::create_dir_all(&driver).unwrap();
    for (bus, target) in [
        (
            "0000:01:00.0",
            "../../../../../../../../devices/pci0000:00/0000:01:00.0",
        ),
        ("0000:02:00.0", "/devices/pci0000:00/0000:02:00.0"),
    ] {
        std::os::unix::fs::symlink(target, driver.join(bus)).unwrap();
    }
    let copy = dir.path().join("hostile");
    kusabi::host::gpu::record(hostile.path(), &copy).unwrap();
    let recorded = copy.join("sys/bus/pci/drivers/nvidia");
    for entry in fs::read_dir(recorded).unwrap() {
        assert!(entry.unwrap().file_type().unwrap().is_dir());
    }
    assert!(!dir.path().join("devices").exists());
}
