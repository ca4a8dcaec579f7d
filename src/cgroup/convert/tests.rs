use serde_json::{Value, json};

use super::*;
use crate::cgroup::resources::Resources;

/// `controller file=value` of each write, as they would be done.
fn shown(conversion: &Conversion) -> Vec<String> {
    let writes = conversion.writes.iter();
    writes
        .map(|w| {
            let mut text = format!("{}={}", w.file, w.value.escape_debug());
            if w.rule.optional {
                text += " optional";
            }
            if let Some(file) = w.rule.retry_after {
                text += &format!(" retry-after {file}");
            }
            if w.rule.read_back {
                text += " read-back";
            }
            text
        })
        .collect()
}

fn to_v1(resources: &Value, facts: &v1::Facts) -> Result<Vec<String>, String> {
    let resources = Resources::parse(resources).map_err(|e| e.to_string())?;
    v1::convert(&resources, facts)
        .map(|c| shown(&c))
        .map_err(|e| e.to_string())
}

fn to_v2(resources: &Value, facts: &v2::Facts) -> Result<Vec<String>, String> {
    let resources = Resources::parse(resources).map_err(|e| e.to_string())?;
    v2::convert(&resources, facts)
        .map(|c| shown(&c))
        .map_err(|e| e.to_string())
}

fn strings(list: &[&str]) -> Result<Vec<String>, String> {
    Ok(list.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn nothing_asked_for_is_nothing_written() {
    for resources in [
        Value::Null,
        json!({}),
        json!({"cpu": {}, "memory": null, "devices": [{}]}),
    ] {
        assert_eq!(to_v1(&resources, &v1::Facts::default()), Ok(vec![]));
        assert_eq!(to_v2(&resources, &v2::Facts::default()), Ok(vec![]));
    }
    let zeroes = json!({
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "memory": {"limit": 0, "reservation": 0, "swap": 0, "disableOOMKiller": false},
        "blockIO": {"weight": 0, "leafWeight": 0},
        "network": {"classID": 0, "priorities": []},
        "hugepageLimits": [], "rdma": {}, "unified": {}
    });
    assert_eq!(to_v1(&zeroes, &v1::Facts::default()), Ok(vec![]));
    assert_eq!(to_v2(&zeroes, &v2::Facts::default()), Ok(vec![]));
}

#[test]
fn cpu_shares_become_weights() {
    for (shares, weight) in [
        (0, 0),
        (1, 1),
        (2, 1),
        (3, 2),
        (10, 4),
        (100, 17),
        (200, 29),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (3333, 256),
        (22_000, 1204),
        (102_400, 4429),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(v2::cpu_weight(shares), weight, "{shares}");
    }
    // Never downwards, and never outside what the kernel takes.
    let mut last = 1;
    for shares in 2..=262_144 {
        let weight = v2::cpu_weight(shares);
        assert!((last..=10_000).contains(&weight), "{shares}");
        last = weight;
    }
}

#[test]
fn block_weights_become_io_weights() {
    for (blkio, io) in [
        (0, 0),
        (1, 1),
        (10, 1),
        (11, 11),
        (500, 4950),
        (750, 7475),
        (1000, 10_000),
    ] {
        assert_eq!(v2::io_weight(blkio), io, "{blkio}");
    }
}

#[test]
fn memory_plus_swap_becomes_swap() {
    let ok = |text: &str| Ok(Some(text.to_owned()));
    let no = |text: &str| Err(text.to_owned());
    for (swap, memory, want) in [
        (0, 0, Ok(None)),
        (0, 1024, Ok(None)),
        (0, -1, ok("max")),
        (-1, 0, ok("max")),
        (-1, 1024, ok("max")),
        (-1, -1, ok("max")),
        (2048, 1024, ok("1024")),
        (1024, 1024, ok("0")),
        (1024, -1, ok("1024")),
        (1024, 0, no("unable to set swap limit without memory limit")),
        (1024, -2, no("invalid memory value: -2")),
        (
            1024,
            2048,
            no("memory+swap limit should be >= memory limit"),
        ),
    ] {
        let got = v2::swap_max(swap, memory).map_err(|e| e.to_string());
        assert_eq!(got, want, "{swap} {memory}");
    }
}

#[test]
fn v2_memory() {
    let known = |usage| v2::Facts {
        memory_usage: Some(usage),
        ..v2::Facts::default()
    };
    for (memory, facts, want) in [
        (
            json!({"limit": 33_554_432, "reservation": 25_165_824}),
            known(0),
            strings(&["memory.max=33554432", "memory.low=25165824"]),
        ),
        (
            json!({"limit": 100, "swap": 300}),
            known(0),
            strings(&["memory.swap.max=200", "memory.max=100"]),
        ),
        (
            json!({"limit": 100, "swap": 100}),
            known(0),
            strings(&["memory.swap.max=0 optional", "memory.max=100"]),
        ),
        (
            json!({"limit": -1}),
            known(0),
            strings(&["memory.swap.max=max optional", "memory.max=max"]),
        ),
        (
            json!({"limit": 100, "swap": -1}),
            known(0),
            strings(&["memory.swap.max=max optional", "memory.max=100"]),
        ),
        (
            json!({"limit": 100}),
            known(100),
            strings(&["memory.max=100"]),
        ),
        (
            json!({"limit": 100, "checkBeforeUpdate": true}),
            known(99),
            strings(&["memory.max=100"]),
        ),
        (
            json!({"limit": 100, "checkBeforeUpdate": true}),
            v2::Facts::default(),
            strings(&["memory.max=100"]),
        ),
        (
            json!({"limit": 100, "checkBeforeUpdate": true}),
            known(100),
            Err("rejecting memory limit 100 <= usage 100".to_owned()),
        ),
        (
            json!({"limit": 100, "swap": 200, "checkBeforeUpdate": true}),
            known(500),
            Err("rejecting memory+swap limit 200 <= usage 500".to_owned()),
        ),
        (
            json!({"limit": -1, "checkBeforeUpdate": true}),
            known(500),
            strings(&["memory.swap.max=max optional", "memory.max=max"]),
        ),
    ] {
        assert_eq!(
            to_v2(&json!({"memory": memory}), &facts),
            want,
            "{memory} {facts:?}"
        );
    }
}

#[test]
fn v1_memory_keeps_the_kernels_order() {
    let facts = |limit, swap| v1::Facts {
        memory_limit: Some(limit),
        swap,
        bfq: false,
    };
    let limit = |n: i64| format!("memory.limit_in_bytes={n}");
    let swap = |n: i64| format!("memory.memsw.limit_in_bytes={n}");
    for (memory, facts, want) in [
        (json!({"limit": 100}), facts(0, true), vec![limit(100)]),
        (json!({"swap": 100}), facts(0, true), vec![swap(100)]),
        // Growing: swap first.
        (
            json!({"limit": 60, "swap": 80}),
            facts(30, true),
            vec![swap(80), limit(60)],
        ),
        // Shrinking below the present memory limit: memory first.
        (
            json!({"limit": 30, "swap": 50}),
            facts(60, true),
            vec![limit(30), swap(50)],
        ),
        (
            json!({"limit": 30, "swap": 60}),
            facts(60, true),
            vec![limit(30), swap(60)],
        ),
        (
            json!({"limit": 30, "swap": -1}),
            facts(60, true),
            vec![swap(-1), limit(30)],
        ),
        (
            json!({"limit": -1}),
            facts(60, true),
            vec![swap(-1), limit(-1)],
        ),
        (json!({"limit": -1}), facts(60, false), vec![limit(-1)]),
    ] {
        let got = to_v1(&json!({"memory": memory}), &facts);
        assert_eq!(got, Ok(want), "{memory} {facts:?}");
    }
    let rest = json!({"memory": {"reservation": 5, "swappiness": 60, "disableOOMKiller": true}});
    assert_eq!(
        to_v1(&rest, &v1::Facts::default()),
        strings(&[
            "memory.soft_limit_in_bytes=5",
            "memory.oom_control=1",
            "memory.swappiness=60"
        ])
    );
    for (value, want) in [
        (
            101,
            Err("invalid memory swappiness value: 101 (valid range is 0-100)".to_owned()),
        ),
        (u64::MAX, Ok(vec![])),
        (0, strings(&["memory.swappiness=0"])),
    ] {
        let got = to_v1(
            &json!({"memory": {"swappiness": value}}),
            &v1::Facts::default(),
        );
        assert_eq!(got, want, "{value}");
    }
}

#[test]
fn cpu_times() {
    for (cpu, legacy, unified) in [
        (
            json!({"quota": 5000}),
            &["cpu.cfs_quota_us=5000"][..],
            &["cpu.max=5000 100000"][..],
        ),
        (
            json!({"quota": -1}),
            &["cpu.cfs_quota_us=-1"],
            &["cpu.max=max 100000"],
        ),
        (
            json!({"period": 50_000}),
            &["cpu.cfs_period_us=50000"],
            &["cpu.max=max 50000"],
        ),
        (
            json!({"quota": 3000, "period": 10_000}),
            &[
                "cpu.cfs_period_us=10000 retry-after cpu.cfs_quota_us",
                "cpu.cfs_quota_us=3000",
            ],
            &["cpu.max=3000 10000"],
        ),
        (
            json!({"quota": 3000, "burst": 500, "period": 10_000}),
            &[
                "cpu.cfs_period_us=10000 retry-after cpu.cfs_quota_us",
                "cpu.cfs_burst_us=500 optional retry-after cpu.cfs_quota_us",
                "cpu.cfs_quota_us=3000",
            ],
            &[
                "cpu.max.burst=500 retry-after cpu.max",
                "cpu.max=3000 10000",
            ],
        ),
        (
            json!({"burst": 0}),
            &["cpu.cfs_burst_us=0 optional"],
            &["cpu.max.burst=0"],
        ),
        (
            json!({"shares": 1024}),
            &["cpu.shares=1024 read-back"],
            &["cpu.weight=100"],
        ),
        (
            json!({"idle": 1, "shares": 2}),
            &["cpu.shares=2 read-back", "cpu.idle=1"],
            &["cpu.idle=1", "cpu.weight=1"],
        ),
        (json!({"idle": 0}), &["cpu.idle=0"], &["cpu.idle=0"]),
        (
            json!({"realtimePeriod": 10_000, "realtimeRuntime": 3000}),
            &[
                "cpu.rt_period_us=10000 retry-after cpu.rt_runtime_us",
                "cpu.rt_runtime_us=3000",
            ],
            &[],
        ),
        (
            json!({"cpus": "0-3,7", "mems": "0"}),
            &["cpuset.cpus=0-3,7", "cpuset.mems=0"],
            &["cpuset.cpus=0-3,7", "cpuset.mems=0"],
        ),
    ] {
        let resources = json!({"cpu": cpu});
        assert_eq!(
            to_v1(&resources, &v1::Facts::default()),
            strings(legacy),
            "{cpu}"
        );
        assert_eq!(
            to_v2(&resources, &v2::Facts::default()),
            strings(unified),
            "{cpu}"
        );
    }
}

#[test]
fn pids_hugepages_rdma_network() {
    let v1 = |r: &Value| to_v1(r, &v1::Facts::default());
    let v2 = |r: &Value| to_v2(r, &v2::Facts::default());
    for (limit, want) in [
        (20, "pids.max=20"),
        (0, "pids.max=1"),
        (-1, "pids.max=max"),
        (-7, "pids.max=max"),
    ] {
        let resources = json!({"pids": {"limit": limit}});
        assert_eq!(v1(&resources), strings(&[want]));
        assert_eq!(v2(&resources), strings(&[want]));
    }
    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]});
    assert_eq!(
        v1(&huge),
        strings(&[
            "hugetlb.2MB.limit_in_bytes=4096",
            "hugetlb.2MB.rsvd.limit_in_bytes=4096 optional"
        ])
    );
    assert_eq!(
        v2(&huge),
        strings(&["hugetlb.2MB.max=4096", "hugetlb.2MB.rsvd.max=4096 optional"])
    );
    let rdma = json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}, "mlx4_0": {"hcaObjects": 1}}});
    let lines = [
        "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        "rdma.max=mlx4_0 hca_object=1",
    ];
    assert_eq!(v1(&rdma), strings(&lines));
    assert_eq!(v2(&rdma), strings(&lines));
    let network = json!({"network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 500}]}});
    assert_eq!(
        v1(&network),
        strings(&["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 500"])
    );
    assert_eq!(v2(&network), Ok(vec![]));
}

#[test]
fn block_devices() {
    let io = json!({"blockIO": {
        "weight": 500, "leafWeight": 300,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 444, "leafWeight": 20}, {"major": 8, "minor": 16}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]
    }});
    let throttles = [
        "blkio.throttle.read_bps_device=8:0 1",
        "blkio.throttle.write_bps_device=8:0 2",
        "blkio.throttle.read_iops_device=8:0 3",
        "blkio.throttle.write_iops_device=8:0 4",
    ];
    for (bfq, infix) in [(false, ""), (true, "bfq.")] {
        let facts = v1::Facts {
            bfq,
            ..v1::Facts::default()
        };
        let mut want = vec![
            format!("blkio.{infix}weight=500"),
            "blkio.leaf_weight=300".to_owned(),
            format!("blkio.{infix}weight_device=8:0 444"),
            "blkio.leaf_weight_device=8:0 20".to_owned(),
        ];
        want.extend(throttles.map(str::to_owned));
        assert_eq!(to_v1(&io, &facts), Ok(want));
    }
    let limits = [
        "io.max=8:0 rbps=1",
        "io.max=8:0 wbps=2",
        "io.max=8:0 riops=3",
        "io.max=8:0 wiops=4",
    ];
    for (io_weight, weights) in [
        (
            v2::IoWeight::Weight,
            &["io.weight=4950", "io.weight=8:0 4384\\n"][..],
        ),
        (
            v2::IoWeight::Bfq { per_device: true },
            &["io.bfq.weight=500", "io.bfq.weight=8:0 444\\n"],
        ),
        (
            v2::IoWeight::Bfq { per_device: false },
            &["io.bfq.weight=500"],
        ),
    ] {
        let facts = v2::Facts {
            io_weight,
            ..v2::Facts::default()
        };
        assert_eq!(
            to_v2(&io, &facts),
            strings(&[weights, &limits].concat()),
            "{io_weight:?}"
        );
    }
}

#[test]
fn unified_is_v2_only_last_and_line_by_line() {
    let resources = json!({
        "unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cpu.max": "1 2", "cpuset.cpus": ""},
        "pids": {"limit": 1}
    });
    assert_eq!(
        to_v1(&resources, &v1::Facts::default()).unwrap_err(),
        "invalid configuration: cannot use unified on cgroup v1"
    );
    assert_eq!(
        to_v2(&resources, &v2::Facts::default()),
        strings(&[
            "pids.max=1",
            "io.max=8:0 rbps=1\\n",
            "io.max=8:16 rbps=2\\n",
            "cpu.max=1 2",
            "cpuset.cpus="
        ])
    );
    for name in ["a/b", "../x", "..", "", "."] {
        assert_eq!(
            to_v2(&json!({"unified": {name: "1"}}), &v2::Facts::default()).unwrap_err(),
            format!("unified resource {name:?} must be a file name (no slashes)")
        );
    }
}

#[test]
fn what_v2_cannot_express_is_said() {
    let dropped = |resources: Value, io_weight| {
        let facts = v2::Facts {
            io_weight,
            ..v2::Facts::default()
        };
        let all = v2::convert(&Resources::parse(&resources).unwrap(), &facts).unwrap();
        all.dropped
            .into_iter()
            .map(|(field, _)| field)
            .collect::<Vec<_>>()
    };
    let everything = json!({
        "cpu": {"realtimeRuntime": 1},
        "memory": {"swappiness": 1, "disableOOMKiller": true},
        "blockIO": {"leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]},
        "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]}
    });
    assert_eq!(
        dropped(everything, v2::IoWeight::Bfq { per_device: false }),
        [
            "memory.disableOOMKiller",
            "memory.swappiness",
            "blockIO.weightDevice",
            "blockIO.leafWeight",
            "cpu.realtimeRuntime",
            "network.classID",
            "network.priorities",
        ]
    );
    let defaults = json!({"cpu": {"realtimeRuntime": 0}, "memory": {"disableOOMKiller": false}});
    assert!(dropped(defaults, v2::IoWeight::Weight).is_empty());
}
