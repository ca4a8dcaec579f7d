//! `pkg/cdi/cache_test.go`, `default-cache_test.go`: several files, priorities,
//! conflicts.
//!
//! kusabi reads the directories once per container and writes none: a refresh
//! is another registry, and the reference's tables for locking, watching and
//! running out of descriptors while watching have nothing to test here.

use std::collections::BTreeSet;

use kusabi::cdi::{QualifiedName, Registry};

use crate::support::{registry, short, wanted};

/// A specification of block devices: name, container path, numbers.
fn spec(kind: &str, devices: &[(&str, &str, u32, u32)]) -> String {
    let mut text = format!("cdiVersion: \"0.3.0\"\nkind: \"{kind}\"\ncontainerEdits:\ndevices:\n");
    for (name, path, major, minor) in devices {
        text += &format!(
            "  - name: \"{name}\"\n    containerEdits:\n      deviceNodes:\n      - path: \"{path}\"\n        \
             type: b\n        major: {major}\n        minor: {minor}\n"
        );
    }
    text
}

/// `vendor1.com/device` with `dev1`, `dev2`, ... as the tables have it.
fn vendor1(minors: &[u32]) -> String {
    let devices: Vec<_> = minors
        .iter()
        .map(|n| (format!("dev{n}"), format!("/dev/vendor1-dev{n}"), *n))
        .collect();
    let devices: Vec<_> = devices
        .iter()
        .map(|(name, path, n)| (name.as_str(), path.as_str(), 10, *n))
        .collect();
    spec("vendor1.com/device", &devices)
}

/// Which file each device comes from, and what is in conflict.
fn sources(registry: &Registry) -> (Vec<String>, Vec<String>) {
    let found = registry
        .devices()
        .map(|(name, device)| format!("{name} {}", short(&device.spec.path)))
        .collect();
    let conflicts = registry
        .conflicts()
        .map(|(name, files)| {
            let files: Vec<_> = files.into_iter().map(short).collect();
            format!("{name} {}", files.join(" "))
        })
        .collect();
    (found, conflicts)
}

type Files = Vec<(&'static str, String)>;

/// Name, files, devices with their file, conflicts with their files.
fn table() -> [(&'static str, Files, Vec<&'static str>, Vec<&'static str>); 15] {
    let dev = |n: &[u32]| vendor1(n);
    [
        // NewCache
        ("no files", vec![], vec![], vec![]),
        (
            "one file",
            vec![("etc/vendor1.yaml", dev(&[1]))],
            vec!["vendor1.com/device=dev1 etc/vendor1.yaml"],
            vec![],
        ),
        (
            "several files with override",
            vec![
                ("etc/vendor1.yaml", dev(&[1, 2])),
                ("run/vendor1.yaml", dev(&[1])),
            ],
            vec![
                "vendor1.com/device=dev1 run/vendor1.yaml",
                "vendor1.com/device=dev2 etc/vendor1.yaml",
            ],
            vec![],
        ),
        (
            "several files with conflicts",
            vec![
                ("run/vendor1-other.yaml", dev(&[1])),
                ("run/vendor1.yaml", dev(&[1, 2])),
            ],
            vec!["vendor1.com/device=dev2 run/vendor1.yaml"],
            vec!["vendor1.com/device=dev1 run/vendor1-other.yaml run/vendor1.yaml"],
        ),
        // RefreshCache: what it refreshes to
        (
            "a file added to none",
            vec![("run/vendor1.yaml", dev(&[1]))],
            vec!["vendor1.com/device=dev1 run/vendor1.yaml"],
            vec![],
        ),
        (
            "a file added, no shadow, no conflict",
            vec![
                ("etc/vendor1.yaml", dev(&[1])),
                ("run/vendor1.yaml", dev(&[2])),
            ],
            vec![
                "vendor1.com/device=dev1 etc/vendor1.yaml",
                "vendor1.com/device=dev2 run/vendor1.yaml",
            ],
            vec![],
        ),
        (
            "two files",
            vec![
                ("run/vendor1-other.yaml", dev(&[2])),
                ("run/vendor1.yaml", dev(&[1])),
            ],
            vec![
                "vendor1.com/device=dev1 run/vendor1.yaml",
                "vendor1.com/device=dev2 run/vendor1-other.yaml",
            ],
            vec![],
        ),
        (
            "two files, one removed",
            vec![("run/vendor1-other.yaml", dev(&[2]))],
            vec!["vendor1.com/device=dev2 run/vendor1-other.yaml"],
            vec![],
        ),
        (
            "a file added that shadows",
            vec![
                ("etc/vendor1.yaml", dev(&[1])),
                ("run/vendor1.yaml", dev(&[1])),
            ],
            vec!["vendor1.com/device=dev1 run/vendor1.yaml"],
            vec![],
        ),
        (
            "a file added that conflicts",
            vec![
                ("run/vendor1-other.yaml", dev(&[1, 3])),
                ("run/vendor1.yaml", dev(&[1, 2])),
            ],
            vec![
                "vendor1.com/device=dev2 run/vendor1.yaml",
                "vendor1.com/device=dev3 run/vendor1-other.yaml",
            ],
            vec!["vendor1.com/device=dev1 run/vendor1-other.yaml run/vendor1.yaml"],
        ),
        // TransientSpecs: several files of one kind
        (
            "three transient files",
            vec![
                ("run/vendor_device_id0.yaml", dev(&[1])),
                ("run/vendor_device_id1.yaml", dev(&[2])),
                ("run/vendor_device_id2.yaml", dev(&[3, 4])),
            ],
            vec![
                "vendor1.com/device=dev1 run/vendor_device_id0.yaml",
                "vendor1.com/device=dev2 run/vendor_device_id1.yaml",
                "vendor1.com/device=dev3 run/vendor_device_id2.yaml",
                "vendor1.com/device=dev4 run/vendor_device_id2.yaml",
            ],
            vec![],
        ),
        // Beyond
        (
            "three definitions at one priority",
            vec![
                ("etc/a.yaml", dev(&[1])),
                ("etc/b.yaml", dev(&[1])),
                ("etc/c.yaml", dev(&[1])),
            ],
            vec![],
            vec!["vendor1.com/device=dev1 etc/a.yaml etc/b.yaml etc/c.yaml"],
        ),
        // "Conflict is resolved by choosing the definition from the file with
        // the highest priority" (the reference's documentation). Its code
        // forgets the device if two files of lower priority are at odds.
        (
            "a conflict that is shadowed",
            vec![
                ("etc/a.yaml", dev(&[1])),
                ("etc/b.yaml", dev(&[1])),
                ("run/c.yaml", dev(&[1])),
            ],
            vec!["vendor1.com/device=dev1 run/c.yaml"],
            vec![],
        ),
        (
            "a conflict that shadows",
            vec![
                ("etc/a.yaml", dev(&[1])),
                ("run/b.yaml", dev(&[1])),
                ("run/c.yaml", dev(&[1])),
            ],
            vec![],
            vec!["vendor1.com/device=dev1 run/b.yaml run/c.yaml"],
        ),
        (
            "the same device of another class",
            vec![
                ("etc/a.yaml", dev(&[1])),
                (
                    "etc/b.yaml",
                    spec("vendor1.com/other", &[("dev1", "/dev/o", 1, 1)]),
                ),
            ],
            vec![
                "vendor1.com/device=dev1 etc/a.yaml",
                "vendor1.com/other=dev1 etc/b.yaml",
            ],
            vec![],
        ),
    ]
}

#[test]
fn every_device_comes_from_one_file() {
    for (name, files, devices, conflicts) in table() {
        let registry = registry(&files);
        assert_eq!(registry.broken(), [], "{name}");
        assert_eq!(
            sources(&registry),
            to_strings(&devices, &conflicts),
            "{name}"
        );
        // Which file is read first within a priority does not matter.
        let mut reversed = files;
        reversed.reverse();
        let registry = crate::support::registry(&reversed);
        let (found, mut at_odds) = sources(&registry);
        for line in &mut at_odds {
            let mut words: Vec<_> = line.split(' ').collect();
            words[1..].sort_unstable();
            *line = words.join(" ");
        }
        assert_eq!(
            (found, at_odds),
            to_strings(&devices, &conflicts),
            "{name}, reversed"
        );
    }
}

fn to_strings(a: &[&str], b: &[&str]) -> (Vec<String>, Vec<String>) {
    let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    (strings(a), strings(b))
}

#[test]
fn vendors_and_classes_are_listed() {
    let vendor = |v: &str, class: &str| spec(&format!("{v}/{class}"), &[("d", "/dev/d", 1, 1)]);
    let table: [(Files, &[&str], &[&str]); 4] = [
        (vec![], &[], &[]),
        (
            vec![("etc/a.yaml", vendor1(&[1]))],
            &["vendor1.com"],
            &["device"],
        ),
        (
            vec![
                ("etc/a.yaml", vendor("vendor1.com", "device")),
                ("etc/b.yaml", vendor("vendor1.com", "other-device")),
            ],
            &["vendor1.com"],
            &["device", "other-device"],
        ),
        (
            vec![
                ("etc/a.yaml", vendor("vendor1.com", "device")),
                ("etc/b.yaml", vendor("vendor2.com", "other-device")),
                ("etc/c.yaml", vendor("vendor2.com", "another-device")),
                ("etc/d.yaml", vendor("vendor3.com", "yet-another-device")),
            ],
            &["vendor1.com", "vendor2.com", "vendor3.com"],
            &[
                "another-device",
                "device",
                "other-device",
                "yet-another-device",
            ],
        ),
    ];
    for (files, vendors, classes) in table {
        let registry = registry(&files);
        assert_eq!(
            registry.vendors(),
            BTreeSet::from_iter(vendors.iter().copied())
        );
        assert_eq!(
            registry.classes(),
            BTreeSet::from_iter(classes.iter().copied())
        );
    }
}

#[test]
fn a_conflict_is_an_error_when_asked_for_whatever_else_is() {
    let registry = registry(&[
        ("run/a.yaml", vendor1(&[1, 2])),
        ("run/b.yaml", vendor1(&[1])),
    ]);
    let dev2 = ["vendor1.com/device=dev2"];
    assert!(registry.resolve(&wanted(&dev2)).is_ok());
    for names in [
        &["vendor1.com/device=dev1"][..],
        &["vendor1.com/device=dev1", dev2[0]],
    ] {
        assert_eq!(
            registry.resolve(&wanted(names)).unwrap_err().to_string(),
            "conflicting CDI device vendor1.com/device=dev1 (in /run/cdi/a.yaml, /run/cdi/b.yaml); \
             read /etc/cdi, /run/cdi; found vendor1.com/device=dev2"
        );
    }
}

#[test]
fn a_broken_file_hides_nothing_but_itself() {
    let registry = registry(&[
        ("etc/a.yaml", "xyzzy: garbled\n".to_owned()),
        ("etc/b.yaml", vendor1(&[1])),
        ("run/b.yaml", vendor1(&[1]).replace("0.3.0", "0.2.0")),
    ]);
    let name = QualifiedName::parse("vendor1.com/device=dev1").unwrap();
    // The broken file does not shadow the good one either.
    assert_eq!(
        short(&registry.device(&name).unwrap().spec.path),
        "etc/b.yaml"
    );
    let broken: Vec<_> = registry.broken().iter().map(ToString::to_string).collect();
    assert_eq!(
        broken,
        [
            "/etc/cdi/a.yaml:1:1: cdiVersion: missing (and 3 more)",
            "/run/cdi/b.yaml:1:13: cdiVersion: version \"0.2.0\" is no longer supported, the spec \
             version must be at least v0.3.0",
        ]
    );
}
