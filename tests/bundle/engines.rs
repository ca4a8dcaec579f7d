//! Capabilities, masks and mounts next to those that Docker and podman give.
//!
//! `engines.json` is what the two (Debian 12) hand to their runtime for a
//! container that asks for nothing, and for a privileged one: recorded with a
//! runtime that copies the `config.json` away. The engines' own files below
//! `/etc` and `/run` are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::support::{Workspace, json, web};

fn engines() -> Value {
    json(include_str!("engines.json"))
}

fn ours(lines: &str) -> Value {
    json(&Workspace::new().spec(&web(lines), &["--no-probe"]).quiet())
}

fn set(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// Destination to type and options; sizes in the same unit.
fn mounts(list: &Value) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let entries = list.as_array().unwrap().iter();
    entries
        .map(|mount| {
            let mut options = set(&mount["options"]);
            if options.remove("size=67108864") {
                options.insert("size=65536k".to_owned());
            }
            let kind = mount["type"].as_str().unwrap().to_owned();
            (
                mount["destination"].as_str().unwrap().to_owned(),
                (kind, options),
            )
        })
        .collect()
}

#[test]
fn capabilities_are_dockers() {
    let engines = engines();
    let own = set(&ours("")["process"]["capabilities"]["bounding"]);
    assert_eq!(own, set(&engines["docker"]["default"]["capabilities"]));
    let podman = set(&engines["podman"]["default"]["capabilities"]);
    let more: BTreeSet<String> = own.difference(&podman).cloned().collect();
    assert_eq!(
        more,
        names(&["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"]),
        "podman gives three less"
    );
    assert!(podman.is_subset(&own));
}

#[test]
fn privileged_containers_have_all_41() {
    let engines = engines();
    let own = set(&ours("privileged: true")["process"]["capabilities"]["bounding"]);
    assert_eq!(own.len(), 41);
    // Docker 20.10 is older than the last three; podman was recorded where one
    // is not in the bounding set.
    let missing = |engine: &str| -> BTreeSet<String> {
        let theirs = set(&engines[engine]["privileged"]["capabilities"]);
        assert!(theirs.is_subset(&own));
        own.difference(&theirs).cloned().collect()
    };
    assert_eq!(
        missing("docker"),
        names(&["CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_PERFMON"])
    );
    assert_eq!(missing("podman"), names(&["CAP_SYS_RESOURCE"]));
}

#[test]
fn masks_are_those_of_docker_and_more() {
    let engines = engines();
    let linux = &ours("")["linux"];
    let (masked, readonly) = (set(&linux["maskedPaths"]), set(&linux["readonlyPaths"]));
    let docker = &engines["docker"]["default"];
    assert!(set(&docker["masked"]).is_subset(&masked));
    let newer: BTreeSet<String> = masked
        .difference(&set(&docker["masked"]))
        .cloned()
        .collect();
    // Docker 28 has these, too.
    assert_eq!(
        newer,
        names(&["/proc/interrupts", "/sys/devices/virtual/powercap"])
    );
    assert_eq!(readonly, set(&docker["readonly"]));
    let podman = &engines["podman"]["default"];
    let hidden: BTreeSet<String> = masked.union(&readonly).cloned().collect();
    let theirs: BTreeSet<String> = set(&podman["masked"])
        .union(&set(&podman["readonly"]))
        .cloned()
        .collect();
    let only: BTreeSet<String> = theirs.difference(&hidden).cloned().collect();
    assert_eq!(only, names(&["/sys/dev/block", "/sys/fs/selinux"]));

    let privileged = ours("privileged: true")["linux"].clone();
    for key in ["maskedPaths", "readonlyPaths"] {
        assert!(privileged.get(key).is_none(), "{key}");
    }
    for engine in ["docker", "podman"] {
        let theirs = &engines[engine]["privileged"];
        assert!(set(&theirs["masked"]).is_empty() && set(&theirs["readonly"]).is_empty());
    }
}

#[test]
fn mounts_are_those_of_docker_and_podman() {
    let engines = engines();
    for (mode, lines) in [("default", ""), ("privileged", "privileged: true")] {
        let own = mounts(&ours(lines)["mounts"]);
        for engine in ["docker", "podman"] {
            let theirs = mounts(&engines[engine][mode]["mounts"]);
            let same: BTreeSet<&String> = own.keys().collect();
            assert_eq!(same, theirs.keys().collect(), "{engine} {mode}");
            for (destination, (kind, options)) in &own {
                let (their_kind, their_options) = &theirs[destination];
                if engine == "podman" && destination == "/dev/shm" {
                    // One that its pods share.
                    assert_eq!(their_kind, "bind");
                    continue;
                }
                assert_eq!(kind, their_kind, "{engine} {mode} {destination}");
                let differs: BTreeSet<&str> = options
                    .symmetric_difference(their_options)
                    .map(String::as_str)
                    // What a mount has anyway.
                    .filter(|option| !matches!(*option, "rw" | "relatime" | "rprivate"))
                    .collect();
                // podman's /dev is noexec.
                let expected: &[&str] = match (engine, destination.as_str()) {
                    ("podman", "/dev") => &["noexec"],
                    _ => &[],
                };
                assert_eq!(
                    differs,
                    expected.iter().copied().collect(),
                    "{engine} {mode} {destination}"
                );
            }
        }
    }
}
