//! On a tree that looks like resctrl; the kernel's own part, the files of a new
//! group, is played by [`fill`].

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

fn document(rdt: &str) -> Document {
    Document::parse(format!(r#"{{"linux":{{"intelRdt":{rdt}}}}}"#).as_bytes()).unwrap()
}

/// A host with L3 allocation and monitoring and memory bandwidth allocation.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let files = [
        ("info/L3/cbm_mask", "fffff"),
        ("info/L3/min_cbm_bits", "1"),
        ("info/L3/num_closids", "16"),
        ("info/MB/bandwidth_gran", "10"),
        ("info/MB/delay_linear", "1"),
        ("info/MB/min_bandwidth", "10"),
        ("info/MB/num_closids", "8"),
        (
            "info/L3_MON/mon_features",
            "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes",
        ),
        ("info/last_cmd_status", "ok"),
        ("schemata", "    L3:0=fffff\n    MB:0=100"),
        ("tasks", ""),
    ];
    for (file, text) in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    fs::create_dir(root.path().join("mon_groups")).unwrap();
    root
}

/// What the kernel puts into a new group.
fn fill(group: &Path) {
    fs::create_dir_all(group.join("mon_groups")).unwrap();
    fs::write(group.join("schemata"), "    L3:0=fffff\n    MB:0=100\n").unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn no_field_is_no_group() {
    let root = host();
    let plain = Document::parse(b"{}").unwrap();
    assert_eq!(plan(&plain, "ct", Some(root.path())).unwrap(), None);
    assert_eq!(plan(&plain, "ct", None).unwrap(), None);
}

#[test]
fn what_the_host_does_not_have_is_refused_in_runc_s_words() {
    let bare = tempfile::tempdir().unwrap();
    let error =
        |rdt: &str, root: Option<&Path>| plan(&document(rdt), "ct", root).unwrap_err().to_string();
    assert_eq!(
        error("{}", None),
        "intelRdt is specified in config, but Intel RDT is not enabled"
    );
    let at = Some(bare.path());
    assert_eq!(
        error(r#"{"l3CacheSchema":"L3:0=f"}"#, at),
        "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"
    );
    assert_eq!(
        error(r#"{"memBwSchema":"MB:0=20"}"#, at),
        "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled"
    );
    for class in [".", "..", "a/b", "/a", "../a"] {
        assert_eq!(
            error(&format!(r#"{{"closID":"{class}"}}"#), at),
            format!("invalid intelRdt.ClosID {class:?}")
        );
    }
    let at_root = plan(&document(r#"{"closID":"/"}"#), "ct", at).unwrap();
    assert_eq!(at_root.unwrap().group().path, bare.path());
}

#[test]
fn a_container_gets_a_group_of_its_own_which_goes_with_it() {
    let root = host();
    let document = document(r#"{"schemata":["MB:0=20"],"enableMonitoring":true}"#);
    let planned = plan(&document, "ct", Some(root.path())).unwrap().unwrap();
    let own = root.path().join("ct");
    assert!(!own.exists(), "planning makes nothing");
    // The kernel fills the directory the moment it is made; here it has to be
    // there before, and stays the container's own.
    fill(&own);
    planned.make().unwrap();
    assert_eq!(read(own.join("schemata")).lines().next(), Some("MB:0=20"));
    let group = planned.group();
    group.join(42).unwrap();
    assert_eq!(read(own.join("tasks")), "42");
    let monitoring = own.join("mon_groups/ct");
    assert_eq!(read(monitoring.join("tasks")), "42");
    // The record survives, whoever deletes the container.
    let text = serde_json::to_string(group).unwrap();
    let group: Group = serde_json::from_str(&text).unwrap();
    for directory in [&monitoring, &own] {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    fs::remove_dir_all(own.join("mon_groups")).unwrap();
    group.remove().unwrap();
    assert!(!own.exists());
    assert!(!group.exists());
    group.remove().unwrap();
}

#[test]
fn a_shared_group_must_exist_and_stays() {
    let root = host();
    let document = document(r#"{"closID":"gold","enableMonitoring":true}"#);
    let planned = plan(&document, "ct", Some(root.path())).unwrap().unwrap();
    let error = planned.make().unwrap_err().to_string();
    assert!(
        error.contains("must be pre-created") && error.contains("no such file or directory"),
        "{error}"
    );
    let gold = root.path().join("gold");
    assert!(!gold.exists());
    fill(&gold);
    planned.make().unwrap();
    let group = planned.group();
    group.join(7).unwrap();
    assert_eq!(read(gold.join("tasks")), "7");
    let monitoring = gold.join("mon_groups/ct");
    fs::remove_file(monitoring.join("tasks")).unwrap();
    group.remove().unwrap();
    assert!(gold.exists() && !monitoring.exists());
}

#[test]
fn the_kernels_own_words_are_passed_on() {
    let root = host();
    fs::write(root.path().join("info/last_cmd_status"), "bad mask\n").unwrap();
    let planned = plan(
        &document(r#"{"l3CacheSchema":"L3:0=5"}"#),
        "ct",
        Some(root.path()),
    );
    // A directory without the kernel's files refuses the write.
    let error = planned.unwrap().unwrap().make().unwrap_err().to_string();
    assert!(
        error.starts_with("intelrdt: unable to write \"L3:0=5\\n\": write ")
            && error.ends_with("no such file or directory, last_cmd_status: bad mask"),
        "{error}"
    );
}

#[test]
fn statistics_are_runc_s() {
    let root = host();
    let own = root.path().join("ct");
    fill(&own);
    fs::write(own.join("schemata"), "    L3:0=ff\n    MB:0= 20\n").unwrap();
    let domain = own.join("mon_data/mon_L3_00");
    fs::create_dir_all(&domain).unwrap();
    for (file, value) in [
        ("llc_occupancy", 11),
        ("mbm_total_bytes", 22),
        ("mbm_local_bytes", 33),
    ] {
        fs::write(domain.join(file), format!("{value}\n")).unwrap();
    }
    let planned = plan(&document("{}"), "ct", Some(root.path())).unwrap();
    let stats = planned.unwrap().group().stats().unwrap();
    assert_eq!(
        serde_json::Value::Object(stats),
        json!({
            "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fffff",
            "l3_cache_schema": "L3:0=ff",
            "mem_bw_info": {
                "bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8,
            },
            "mem_bw_schema_root": "MB:0=100",
            "mem_bw_schema": "MB:0= 20",
            "schemata": ["L3:0=ff", "    MB:0= 20"],
            "mbm_stats": [{"mbm_total_bytes": 22, "mbm_local_bytes": 33}],
            "cmt_stats": [{"llc_occupancy": 11}],
        })
    );
}

#[test]
fn an_update_goes_to_the_containers_group() {
    let root = host();
    let at = Some(root.path());
    let bare = tempfile::tempdir().unwrap();
    let planned = plan(&document("{}"), "ct", at).unwrap().unwrap();
    let group = planned.group();
    let error = |result: Result<Option<Schemata>>| result.unwrap_err().to_string();
    assert_eq!(schemata(None, None, None, None).unwrap(), None);
    for resctrl in [None, Some(bare.path())] {
        assert_eq!(
            error(schemata(resctrl, Some(group), Some("L3:0=ff"), None)),
            "Intel RDT/CAT: l3 cache schema is not enabled"
        );
        assert_eq!(
            error(schemata(resctrl, Some(group), None, Some("MB:0=20"))),
            "Intel RDT/MBA: memory bandwidth schema is not enabled"
        );
    }
    assert_eq!(
        error(schemata(at, None, Some("L3:0=ff"), None)),
        "updating a non-existent Intel RDT configuration is not supported"
    );
    let all = schemata(at, Some(group), Some("L3:0=ff"), Some("MB:0=20"));
    let file = root.path().join("ct/schemata");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "").unwrap();
    all.unwrap().unwrap().write().unwrap();
    assert_eq!(read(&file), "L3:0=ff\nMB:0=20\n");
}
