//! Limits reach the kernel, at create and by update.

use kusabi::cgroup::Cgroup;
use serde_json::{Value, json};

use crate::child::Child;
use crate::view::{PATIENCE, Scratch, everywhere};

fn read(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let controller = if cgroup.is_v2() { "" } else { controller };
    let path = cgroup.directory(controller).unwrap().join(file);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn has(cgroup: &Cgroup, controller: &str) -> bool {
    match cgroup.directory("").filter(|_| cgroup.is_v2()) {
        Some(directory) => std::fs::read_to_string(directory.join("cgroup.controllers"))
            .unwrap()
            .split_whitespace()
            .any(|c| c == controller),
        None => cgroup.directory(controller).is_some(),
    }
}

#[test]
fn limits_are_set_and_updated() {
    everywhere("limits::limits_are_set_and_updated", || {
        let scratch = Scratch::new("limits");
        let probe = scratch.create("probe", &Value::Null).unwrap();
        let mut resources = json!({});
        let mut update = json!({});
        // What each hierarchy has: (controller, create, update, files).
        let table = [
            (
                "memory",
                json!({"limit": 33_554_432, "reservation": 25_165_824}),
                json!({"limit": 67_108_864}),
                [
                    (
                        "memory.limit_in_bytes",
                        "memory.max",
                        "33554432",
                        "67108864",
                    ),
                    (
                        "memory.soft_limit_in_bytes",
                        "memory.low",
                        "25165824",
                        "25165824",
                    ),
                ],
            ),
            (
                "cpu",
                json!({"shares": 1024, "quota": 500_000, "period": 1_000_000}),
                json!({"period": 900_000}),
                [
                    ("cpu.cfs_quota_us", "cpu.max", "500000", "500000"),
                    ("cpu.cfs_period_us", "cpu.max", "1000000", "900000"),
                ],
            ),
            (
                "pids",
                json!({"limit": 20}),
                json!({"limit": 0}),
                [
                    ("pids.max", "pids.max", "20", "1"),
                    ("pids.max", "pids.max", "20", "1"),
                ],
            ),
        ];
        let present: Vec<_> = table.iter().filter(|row| has(&probe, row.0)).collect();
        for (controller, create, change, _) in &present {
            resources[*controller] = create.clone();
            update[*controller] = change.clone();
        }
        if has(&probe, "hugetlb") {
            resources["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
            update["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 2_097_152}]);
        }
        probe.remove(PATIENCE).unwrap();
        if resources == json!({}) {
            // Only where version 1 holds every controller, and tests them all.
            assert!(scratch.layout.is_v2(), "no controller to test with");
            return;
        }

        let mut cgroup = scratch.create("ct", &resources).unwrap();
        cgroup.apply().unwrap();
        let check = |cgroup: &Cgroup, updated: bool| {
            for (controller, _, _, files) in &present {
                for (legacy, unified, first, second) in files {
                    let want = if updated { second } else { first };
                    let file = if cgroup.is_v2() { unified } else { legacy };
                    let got = read(cgroup, controller, file);
                    assert!(
                        got.split(' ').any(|w| w == *want),
                        "{file}: {got}, not {want}"
                    );
                }
            }
            if has(cgroup, "hugetlb") {
                let want = if updated { "2097152" } else { "4194304" };
                let file = if cgroup.is_v2() {
                    "hugetlb.2MB.max"
                } else {
                    "hugetlb.2MB.limit_in_bytes"
                };
                assert_eq!(read(cgroup, "hugetlb", file), want);
            }
        };
        check(&cgroup, false);
        cgroup.update(&update).unwrap();
        check(&cgroup, true);

        // One bad value: all is as it was, here and in the kernel.
        let before = cgroup.clone();
        let mut bad = resources.clone();
        let refused = if cgroup.is_v2() {
            bad["unified"] = json!({"hugetlb.2MB.max": "what"});
            "unable to set unified resource \"hugetlb.2MB.max\": failed to write \"what\": write "
        } else {
            bad["cpu"]["idle"] = json!(7);
            "failed to write \"7\": write "
        };
        let error = cgroup.update(&bad).unwrap_err().to_string();
        assert!(
            error.starts_with(refused) && error.ends_with(": invalid argument"),
            "{error}"
        );
        assert_eq!(cgroup, before);
        check(&cgroup, true);
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

#[test]
fn dependent_values_find_their_order() {
    everywhere("limits::dependent_values_find_their_order", || {
        let scratch = Scratch::new("order");
        let pod = scratch
            .create("pod", &json!({"cpu": {"quota": 50_000}}))
            .unwrap();
        if !has(&pod, "cpu") {
            pod.remove(PATIENCE).unwrap();
            return;
        }
        pod.apply().unwrap();
        let mut cgroup = scratch.create("pod/ct", &Value::Null).unwrap();
        if !cgroup.is_v2() {
            // More than the pod has; version 2 lets the pod's limit hold by itself.
            let error = cgroup
                .update(&json!({"cpu": {"quota": 60_000}}))
                .unwrap_err();
            assert!(error.to_string().ends_with("invalid argument"), "{error}");
        }
        cgroup
            .update(&json!({"cpu": {"quota": 30_000, "period": 100_000}}))
            .unwrap();
        // The shorter period alone would be 300 % of a processor.
        cgroup
            .update(&json!({"cpu": {"quota": 3000, "period": 10_000}}))
            .unwrap();
        if cgroup.is_v2() {
            assert_eq!(read(&cgroup, "cpu", "cpu.max"), "3000 10000");
            // A burst that only fits the quota that comes with it.
            let burst = json!({"cpu": {"quota": 8000, "period": 10_000, "burst": 8000}});
            cgroup.update(&burst).unwrap();
            assert_eq!(read(&cgroup, "cpu", "cpu.max.burst"), "8000");
        } else {
            assert_eq!(read(&cgroup, "cpu", "cpu.cfs_quota_us"), "3000");
            assert_eq!(read(&cgroup, "cpu", "cpu.cfs_period_us"), "10000");
        }
        cgroup.remove(PATIENCE).unwrap();
        pod.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

#[test]
fn shares_out_of_range_are_said() {
    everywhere("limits::shares_out_of_range_are_said", || {
        let scratch = Scratch::new("shares");
        if scratch.layout.hierarchy("cpu").is_none() {
            return;
        }
        for (shares, want) in [
            (1_u64, "the minimum allowed cpu-shares is 2"),
            (1_000_000, "the maximum allowed cpu-shares is 262144"),
        ] {
            let cgroup = scratch
                .create("ct", &json!({"cpu": {"shares": shares}}))
                .unwrap();
            assert_eq!(cgroup.apply().unwrap_err().to_string(), want);
            cgroup.remove(PATIENCE).unwrap();
        }
        scratch.assert_clean();
    });
}

#[test]
fn limits_without_a_controller_are_refused() {
    everywhere("limits::limits_without_a_controller_are_refused", || {
        let scratch = Scratch::new("absent");
        let unified = json!({"unified": {"nosuch.max": "1"}});
        if scratch.layout.is_v2() {
            let cgroup = scratch.create("ct", &unified).unwrap();
            assert_eq!(
                cgroup.apply().unwrap_err().to_string(),
                "unified resource \"nosuch.max\" can't be set: controller \"nosuch\" not available"
            );
            cgroup.remove(PATIENCE).unwrap();
            let cgroup = scratch
                .create("ct", &json!({"unified": {"nodot": "1"}}))
                .unwrap();
            assert_eq!(
                cgroup.apply().unwrap_err().to_string(),
                "unified resource \"nodot\" must be in the form CONTROLLER.PARAMETER"
            );
            cgroup.remove(PATIENCE).unwrap();
        } else {
            assert_eq!(
                scratch.create("ct", &unified).unwrap_err().to_string(),
                "invalid configuration: cannot use unified on cgroup v1"
            );
            if scratch.layout.hierarchy("net_cls").is_none() {
                let class = json!({"network": {"classID": 1}});
                let cgroup = scratch.create("ct", &class).unwrap();
                assert_eq!(
                    cgroup.apply().unwrap_err().to_string(),
                    "cannot set net_cls limit: container could not join or create cgroup"
                );
                cgroup.remove(PATIENCE).unwrap();
            }
        }
        scratch.assert_clean();
    });
}

/// What version 2 has of its own. Most of it needs a host without version 1.
#[test]
fn unified_controllers() {
    everywhere("limits::unified_controllers", || {
        let scratch = Scratch::new("unified");
        let probe = scratch.create("ct", &Value::Null).unwrap();
        let complete = ["memory", "cpu", "pids", "io"]
            .iter()
            .all(|c| has(&probe, c));
        probe.remove(PATIENCE).unwrap();
        if !probe.is_v2() || !complete {
            return;
        }
        let resources = json!({
            "memory": {"limit": 50_000_000, "swap": 70_000_000},
            "cpu": {"shares": 2048},
            "unified": {"memory.high": "40960000", "pids.max": "99", "cpu.weight": "42"}
        });
        let mut cgroup = scratch.create("ct", &resources).unwrap();
        cgroup.apply().unwrap();
        for (file, want) in [
            ("memory.high", "40960000"),
            ("pids.max", "99"),
            // Written last, it wins over the shares.
            ("cpu.weight", "42"),
        ] {
            assert_eq!(read(&cgroup, "", file), want, "{file}");
        }
        let swap = cgroup.directory("").unwrap().join("memory.swap.max");
        if swap.exists() {
            let got = std::fs::read_to_string(swap).unwrap();
            // Whole pages.
            assert_eq!(got.trim().parse::<u64>().unwrap() / 4096, 20_000_000 / 4096);
        }
        cgroup.update(&json!({"memory": {"limit": -1}})).unwrap();
        assert_eq!(read(&cgroup, "", "memory.max"), "max");
        cgroup.update(&json!({"cpu": {"idle": 1}})).unwrap();
        assert_eq!(read(&cgroup, "", "cpu.idle"), "1");
        cgroup.update(&json!({"cpu": {"idle": 0}})).unwrap();
        cgroup.update(&json!({"cpu": {"shares": 1024}})).unwrap();
        assert_eq!(read(&cgroup, "", "cpu.weight"), "100");

        // Less than is in use is refused where that is asked for.
        let child = Child::born(&cgroup.entry().unwrap()).unwrap();
        child.settle();
        let low = json!({"memory": {"limit": 1, "checkBeforeUpdate": true}});
        let error = cgroup.update(&low).unwrap_err().to_string();
        assert!(
            error.starts_with("rejecting memory limit 1 <= usage "),
            "{error}"
        );
        assert_eq!(read(&cgroup, "", "memory.max"), "max");
        assert!(!child.ends_within(50));
        drop(child);
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}
