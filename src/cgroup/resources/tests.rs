use serde_json::{Value, json};

use super::*;

fn parse(value: &Value) -> Resources {
    Resources::parse(value).unwrap()
}

#[test]
fn keys_match_as_in_go() {
    // What an engine's user wrote by hand beside what the engine wrote.
    let resources = parse(&json!({
        "cpu": {"shares": 100, "cpus": "3"},
        "CPU": {"Cpus": "0", "Mems": "1", "QUOTA": null},
        "PIDs": {"Limit": 7},
        "blockIo": {"throttlereadbpsdevice": [{"Major": 8, "MINOR": 1, "rate": 5}]}
    }));
    assert_eq!(resources.cpu.shares, Some(100));
    assert_eq!(
        (resources.cpu.cpus.as_str(), resources.cpu.mems.as_str()),
        ("0", "1")
    );
    assert_eq!(resources.cpu.quota, None);
    assert_eq!(resources.pids, Some(7));
    let throttle = ThrottleDevice {
        major: 8,
        minor: 1,
        rate: 5,
    };
    assert_eq!(resources.block_io.read_bps, [throttle]);
}

#[test]
fn wrong_types_name_the_field() {
    for (value, want) in [
        (json!(1), "linux.resources: expected an object, found 1"),
        (
            json!({"memory": []}),
            "linux.resources.memory: expected an object, found an array",
        ),
        (
            json!({"memory": {"limit": "1G"}}),
            "linux.resources.memory.limit: expected a 64-bit integer, found a string",
        ),
        (
            json!({"memory": {"limit": 1.5}}),
            "linux.resources.memory.limit: expected a 64-bit integer, found 1.5",
        ),
        (
            json!({"cpu": {"shares": -1}}),
            "linux.resources.cpu.shares: expected a 64-bit unsigned integer, found -1",
        ),
        (
            json!({"cpu": {"cpus": 0}}),
            "linux.resources.cpu.cpus: expected a string, found 0",
        ),
        (
            json!({"blockIO": {"weight": 65536}}),
            "linux.resources.blockIO.weight: expected a 16-bit unsigned integer, found 65536",
        ),
        (
            json!({"blockIO": {"weightDevice": [{}, {"major": true}]}}),
            "linux.resources.blockIO.weightDevice[1].major: expected a 64-bit integer, found a boolean",
        ),
        (
            json!({"network": {"classID": 4_294_967_296_u64}}),
            "linux.resources.network.classID: expected a 32-bit unsigned integer, found 4294967296",
        ),
        (
            json!({"unified": {"memory.max": 1}}),
            "linux.resources.unified.memory.max: expected a string, found 1",
        ),
        (
            json!({"unified": []}),
            "linux.resources.unified: expected an object, found an array",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
            "linux.resources.hugepageLimits[0].pageSize: \"../2MB\" is not a page size such as \"2MB\"",
        ),
    ] {
        assert_eq!(Resources::parse(&value).unwrap_err().to_string(), want);
    }
    let number: Value =
        serde_json::from_str(r#"{"memory": {"limit": 99999999999999999999}}"#).unwrap();
    assert_eq!(
        Resources::parse(&number).unwrap_err().to_string(),
        "linux.resources.memory.limit: expected a 64-bit integer, found 99999999999999999999"
    );
}

#[test]
fn obsolete_fields_are_remembered_once() {
    let resources = parse(&json!({"memory": {"kernel": 1, "kernelTCP": 2}}));
    assert_eq!(resources.ignored, ["memory.kernel", "memory.kernelTCP"]);
    let stored: Resources =
        serde_json::from_value(serde_json::to_value(&resources).unwrap()).unwrap();
    assert!(stored.ignored.is_empty());
}

#[test]
fn stored_and_read_back_is_the_same() {
    let resources = parse(&json!({
        "cpu": {"shares": 1, "quota": -1, "cpus": "0"}, "pids": {"limit": -1},
        "memory": {"limit": 5, "checkBeforeUpdate": true},
        "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "network": {"priorities": [{"name": "eth0", "priority": 1}]},
        "rdma": {"mlx": {"hcaHandles": 1}}, "unified": {"z": "1", "a": "2"}
    }));
    let text = serde_json::to_string(&resources).unwrap();
    assert_eq!(serde_json::from_str::<Resources>(&text).unwrap(), resources);
    // A state written by another version may lack fields.
    assert_eq!(
        serde_json::from_str::<Resources>("{}").unwrap(),
        Resources::default()
    );
}

#[test]
fn which_controllers_are_needed() {
    for (value, domain, any) in [
        (json!({}), false, false),
        (json!({"pids": {"limit": 1}}), false, true),
        (json!({"cpu": {"shares": 2}}), true, true),
        (json!({"cpu": {"cpus": "0"}}), false, false),
        (json!({"memory": {"limit": 1}}), true, true),
        (json!({"memory": {"limit": 0}}), false, false),
        (json!({"blockIO": {"weight": 10}}), true, false),
        (json!({"hugepageLimits": [{"pageSize": "2MB"}]}), true, true),
    ] {
        let resources = parse(&value);
        assert_eq!(resources.needs_domain(), domain, "{value}");
        assert_eq!(
            resources.needs_any("cpu memory pids hugetlb\n"),
            any,
            "{value}"
        );
        assert!(!resources.needs_any(""), "{value}");
    }
}

#[test]
fn update_keeps_what_it_does_not_name() {
    let old = parse(&json!({
        "cpu": {"shares": 100, "quota": 500_000, "period": 1_000_000, "cpus": "0", "mems": "0", "burst": 5, "idle": 0,
                "realtimeRuntime": 7},
        "memory": {"limit": 10, "swap": 20, "reservation": 5, "checkBeforeUpdate": true, "swappiness": 60},
        "pids": {"limit": 20}, "unified": {"memory.high": "1"}, "blockIO": {"weight": 10}
    }));
    let new = old.updated(&json!({"cpu": {"period": 900_000}})).unwrap();
    assert_eq!(
        (new.cpu.quota, new.cpu.period),
        (Some(500_000), Some(900_000))
    );
    assert_eq!(
        (new.cpu.shares, new.cpu.realtime_runtime),
        (Some(100), Some(7))
    );
    assert_eq!(
        (new.memory.limit, new.memory.swap, new.memory.reservation),
        (Some(10), Some(20), Some(5))
    );
    assert_eq!(new.block_io.weight, Some(10));
    // Only the update that names these writes them.
    assert_eq!((new.cpu.cpus.as_str(), new.cpu.mems.as_str()), ("", ""));
    assert_eq!((new.cpu.burst, new.cpu.idle, new.pids), (None, None, None));
    assert!(new.unified.is_empty());
    assert_eq!(new.memory.check_before_update, Some(false));

    let quota = new.updated(&json!({"cpu": {"quota": 600_000}})).unwrap();
    assert_eq!(
        (quota.cpu.quota, quota.cpu.period),
        (Some(600_000), Some(900_000))
    );
    let both = quota
        .updated(&json!({"cpu": {"quota": -1, "period": 100_000}}))
        .unwrap();
    assert_eq!((both.cpu.quota, both.cpu.period), (Some(-1), Some(100_000)));
    let neither = both.updated(&json!({"memory": {"limit": 11}})).unwrap();
    assert_eq!((neither.cpu.quota, neither.cpu.period), (None, None));
    assert_eq!(neither.memory.limit, Some(11));
}

#[test]
fn update_mends_what_the_kernel_would_refuse() {
    let old = parse(&json!({"cpu": {"shares": 100}, "memory": {"limit": 10, "swap": 20}}));
    let idle = old.updated(&json!({"cpu": {"idle": 1}})).unwrap();
    assert_eq!((idle.cpu.idle, idle.cpu.shares), (Some(1), Some(0)));
    let unlimited = old.updated(&json!({"memory": {"limit": -1}})).unwrap();
    assert_eq!(
        (unlimited.memory.limit, unlimited.memory.swap),
        (Some(-1), Some(0))
    );
}

#[test]
fn update_changes_the_device_that_counts() {
    let old = parse(&json!({"blockIO": {
        "throttleReadBpsDevice": [
            {"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 0, "rate": 2}],
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]
    }}));
    let new = old
        .updated(&json!({"blockIO": {
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 3}, {"major": 9, "minor": 0, "rate": 4}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}],
            "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 30}, {"major": 9, "minor": 1, "weight": 40}]
        }}))
        .unwrap();
    let rates =
        |list: &[ThrottleDevice]| list.iter().map(|d| (d.major, d.rate)).collect::<Vec<_>>();
    assert_eq!(rates(&new.block_io.read_bps), [(8, 1), (8, 3), (9, 4)]);
    assert_eq!(rates(&new.block_io.write_iops), [(8, 5)]);
    let weights: Vec<_> = new
        .block_io
        .weight_device
        .iter()
        .map(|d| (d.major, d.weight, d.leaf_weight))
        .collect();
    assert_eq!(weights, [(8, 10, 30), (9, 40, 0)]);
}
