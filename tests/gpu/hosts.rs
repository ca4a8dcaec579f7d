//! What is found on recorded hosts.

use kusabi::gpu::{Inventory, Vendor};

use crate::{HOSTS, host, snapshot};

/// Every unit: index, stable name, NUMA node, numbers of its own nodes.
fn found(name: &str) -> Vec<String> {
    let snapshot = snapshot(name);
    let inventory = Inventory::read(&snapshot);
    let vendors = inventory.vendors();
    let units = vendors.iter().flat_map(|vendor| inventory.units(vendor));
    units
        .map(|unit| {
            let numbers: Vec<String> = inventory
                .numbers(&unit)
                .iter()
                .map(|(major, minor)| format!("{major}:{minor}"))
                .collect();
            format!(
                "{} {} numa {} at {}",
                unit.device.vendor,
                unit.index(),
                unit.device.numa.map_or("-".to_owned(), |n| n.to_string()),
                numbers.join(" ")
            )
        })
        .collect()
}

#[test]
fn every_host_says_where_its_files_come_from() {
    for name in HOSTS {
        let text = std::fs::read_to_string(host(name).join("SOURCES")).unwrap();
        assert!(text.lines().count() > 3, "{name}");
    }
}

#[test]
fn nvidias_indices_follow_the_bus_and_not_the_minors() {
    assert_eq!(
        found("nvidia-8"),
        [
            "nvidia 0 numa 0 at 195:2 226:1 226:128",
            "nvidia 1 numa 0 at 195:3 226:2 226:129",
            "nvidia 2 numa 0 at 195:0 226:3 226:130",
            "nvidia 3 numa 0 at 195:1 226:4 226:131",
            "nvidia 4 numa 1 at 195:6 226:5 226:132",
            "nvidia 5 numa 1 at 195:7 226:6 226:133",
            "nvidia 6 numa 1 at 195:4 226:7 226:134",
            "nvidia 7 numa 1 at 195:5 226:8 226:135",
        ]
    );
}

#[test]
fn instances_are_counted_by_gpu_and_opened_by_their_own_nodes() {
    assert_eq!(
        found("nvidia-mig"),
        [
            "nvidia 0:0 numa 0 at 237:12 237:13",
            "nvidia 0:1 numa 0 at 237:21 237:22",
            "nvidia 1:0 numa 1 at 237:165 237:166",
            "nvidia 1:1 numa 1 at 237:174 237:175",
            "nvidia 1:2 numa 1 at 237:183 237:184",
            "nvidia 1:3 numa 1 at 237:183 237:185",
            "nvidia 2 numa 1 at 195:2",
        ]
    );
}

#[test]
fn an_excluded_device_is_none_and_an_unknown_uuid_is_no_name() {
    let snapshot = snapshot("nvidia-mismatch");
    let inventory = Inventory::read(&snapshot);
    let devices: Vec<_> = inventory.of(&Vendor::Nvidia).collect();
    assert_eq!(devices.len(), 2);
    assert!(devices[0].uuid.is_some());
    assert_eq!(devices[1].uuid, None);
}

#[test]
fn partitions_follow_their_device() {
    let all = found("amd-partitions");
    assert_eq!(all.len(), 16);
    assert_eq!(all[0], "amd 0 numa 0 at 226:1 226:128");
    assert_eq!(all[7], "amd 7 numa 0 at 226:8 226:135");
    assert_eq!(all[8], "amd 8 numa 1 at 226:9 226:136");
    let snapshot = snapshot("amd-partitions");
    let inventory = Inventory::read(&snapshot);
    let names: std::collections::BTreeSet<String> = inventory
        .units(&Vendor::Amd)
        .map(|unit| unit.stable_name())
        .collect();
    assert_eq!(names.len(), 16, "{names:?}");
}

#[test]
fn the_others() {
    assert_eq!(
        found("nvidia-1"),
        ["nvidia 0 numa - at 195:0 226:0 226:128"]
    );
    assert_eq!(found("nvidia-4").len(), 4);
    assert_eq!(found("amd-8").len(), 8);
    assert_eq!(
        found("intel"),
        [
            "intel 0 numa - at 226:0 226:128",
            "intel 1 numa 0 at 226:1 226:129",
            "intel 2 numa - at 261:0",
        ]
    );
    assert_eq!(found("habana-8")[7], "habana 7 numa 1 at 261:14 261:15");
    assert_eq!(
        found("mixed"),
        [
            "nvidia 0 numa - at 195:0 226:1 226:129",
            "amd 0 numa - at 226:2 226:130",
            "intel 0 numa - at 226:0 226:128",
        ]
    );
    assert_eq!(found("virtual"), ["virtio 0 numa - at 226:128"]);
    assert_eq!(found("none"), Vec::<String>::new());
}
