//! `pkg/cdi/cache_test.go`, `default-cache_test.go`, `regressions_test.go`:
//! several files, priorities, conflicts, injection.
//!
//! kusabi reads the directories once per container and writes none: a refresh
//! is another registry, and the reference's tables for locking, watching and
//! running out of descriptors while watching have nothing to test here.

use std::collections::BTreeSet;

use kusabi::cdi::{Mode, QualifiedName, Registry};

use crate::support::{Host, context, inject, json, plan, registry, short, wanted};

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

const VENDOR1_ENV: &str = r#"
cdiVersion: "0.3.0"
kind:       "vendor1.com/device"
containerEdits:
  env:
  - VENDOR1_SPEC_VAR1=VAL1
devices:
  - name: "dev1"
    containerEdits:
      env:
      - "VENDOR1_VAR1=VAL1"
      deviceNodes:
      - path: "/dev/vendor1-dev1"
        type: b
        major: 10
        minor: 1
"#;

const VENDOR1_HOOKS: &str = r#"
cdiVersion: "0.3.0"
kind:       "vendor1.com/device"
containerEdits:
  env:
  - VENDOR1_SPEC_VAR1=VAL1
devices:
  - name: "dev1"
    containerEdits:
      env: ["VENDOR1_DEV1=VAL1"]
      deviceNodes: [{path: "/dev/vendor1-dev1", type: b, major: 10, minor: 1}]
  - name: "dev2"
    containerEdits:
      env: ["VENDOR1_DEV2=VAL2"]
      deviceNodes: [{path: "/dev/vendor1-dev2", type: b, major: 10, minor: 2}]
      hooks:
      - hookName: prestart
        path: "/usr/local/bin/prestart-vendor-hook"
        args: ["--verbose"]
        env: ["HOOK_ENV1=PRESTART_VAL1"]
      - hookName: createRuntime
        path: "/usr/local/bin/cr-vendor-hook"
        args: ["--debug"]
        env: ["HOOK_ENV1=CREATE_RUNTIME_VAL1"]
  - name: "dev3"
    containerEdits:
      env: ["VENDOR1_DEV3=VAL3"]
      deviceNodes: [{path: "/dev/vendor1-dev3", type: b, major: 10, minor: 3}]
"#;

fn host() -> Host {
    let host = (1..=3).fold(Host::default(), |host, n| {
        host.block(&format!("/dev/vendor1-dev{n}"), 10, n)
    });
    host.block("/dev/loop8", 7, 8).block("/dev/loop9", 7, 9)
}

fn block(path: &str, major: u32, minor: u32) -> serde_json::Value {
    serde_json::json!({"path": path, "type": "b", "major": major, "minor": minor, "fileMode": 0o660})
}

fn rule(major: u32, minor: u32) -> serde_json::Value {
    serde_json::json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm"})
}

const ORIGINAL: &str = r#"{
    "process": {"env": ["ORIG_VAR1=VAL1", "ORIG_VAR2=VAL2"]},
    "linux": {"devices": [{"path": "/dev/null"}, {"path": "/dev/zero"}]}}"#;

#[test]
fn one_device_is_injected() {
    let registry = registry(&[("etc/vendor1.yaml", VENDOR1_ENV)]);
    let inject = |config| {
        let names = ["vendor1.com/device=dev1"];
        inject(&registry, &names, &host(), &context(Mode::Create), config).unwrap()
    };
    assert_eq!(
        inject("{}"),
        serde_json::json!({
            "process": {"env": ["VENDOR1_SPEC_VAR1=VAL1", "VENDOR1_VAR1=VAL1"]},
            "linux": {"devices": [block("/dev/vendor1-dev1", 10, 1)],
                      "resources": {"devices": [rule(10, 1)]}}
        })
    );
    assert_eq!(
        inject(ORIGINAL),
        serde_json::json!({
            "process": {"env": ["ORIG_VAR1=VAL1", "ORIG_VAR2=VAL2",
                                "VENDOR1_SPEC_VAR1=VAL1", "VENDOR1_VAR1=VAL1"]},
            "linux": {"devices": [{"path": "/dev/null"}, {"path": "/dev/zero"},
                                  block("/dev/vendor1-dev1", 10, 1)],
                      "resources": {"devices": [rule(10, 1)]}}
        })
    );
}

#[test]
fn several_devices_and_hooks_are_injected() {
    let registry = registry(&[("etc/vendor1.yaml", VENDOR1_HOOKS)]);
    let names = [
        "vendor1.com/device=dev1",
        "vendor1.com/device=dev2",
        "vendor1.com/device=dev3",
    ];
    let found = inject(&registry, &names, &host(), &context(Mode::Create), ORIGINAL).unwrap();
    assert_eq!(
        found,
        serde_json::json!({
            "process": {"env": ["ORIG_VAR1=VAL1", "ORIG_VAR2=VAL2", "VENDOR1_SPEC_VAR1=VAL1",
                                "VENDOR1_DEV1=VAL1", "VENDOR1_DEV2=VAL2", "VENDOR1_DEV3=VAL3"]},
            "hooks": {
                "prestart": [{"path": "/usr/local/bin/prestart-vendor-hook",
                    "args": ["--verbose"], "env": ["HOOK_ENV1=PRESTART_VAL1"]}],
                "createRuntime": [{"path": "/usr/local/bin/cr-vendor-hook",
                    "args": ["--debug"], "env": ["HOOK_ENV1=CREATE_RUNTIME_VAL1"]}]},
            "linux": {"devices": [{"path": "/dev/null"}, {"path": "/dev/zero"},
                                  block("/dev/vendor1-dev1", 10, 1),
                                  block("/dev/vendor1-dev2", 10, 2),
                                  block("/dev/vendor1-dev3", 10, 3)],
                      "resources": {"devices": [rule(10, 1), rule(10, 2), rule(10, 3)]}}
        })
    );
}

#[test]
fn one_unresolved_name_fails_all_and_says_what_there_is() {
    let registry = registry(&[("etc/vendor1.yaml", VENDOR1_ENV), ("run/broken.json", "{")]);
    let fail = |names: &[&str]| registry.resolve(&wanted(names)).unwrap_err().to_string();
    let known = "; read /etc/cdi, /run/cdi; found vendor1.com/device=dev1; not read: \
                 /run/cdi/broken.json:1:1: EOF while parsing an object";
    assert_eq!(
        fail(&["vendor1.com/device=dev2"]),
        format!("unresolvable CDI devices vendor1.com/device=dev2{known}")
    );
    assert_eq!(
        fail(&["z.com/d=x", "vendor1.com/device=dev1", "a.com/d=x"]),
        format!("unresolvable CDI devices a.com/d=x, z.com/d=x{known}")
    );
    let nothing = Registry::load(vec![], vec![]);
    assert_eq!(
        nothing
            .resolve(&wanted(&["a.com/d=x"]))
            .unwrap_err()
            .to_string(),
        "unresolvable CDI devices a.com/d=x; no directory was read; found no devices"
    );
}

#[test]
fn a_conflict_is_an_error_when_asked_for_whatever_else_is() {
    let registry = registry(&[
        ("run/a.yaml", vendor1(&[1, 2])),
        ("run/b.yaml", vendor1(&[1])),
    ]);
    let dev2 = ["vendor1.com/device=dev2"];
    assert!(plan(&registry, &dev2, &host(), &context(Mode::Create)).is_ok());
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

/// The reference's injection race, from containerd: two vendors at once.
#[test]
fn two_vendors_are_injected() {
    let vendor = |n: u32, name: &str, minor: u32| {
        format!(
            "cdiVersion: \"0.3.0\"\nkind: \"vendor{n}.com/device\"\ndevices:\n  - name: {name}\n    \
             containerEdits:\n      deviceNodes:\n        - path: /dev/loop{minor}\n          type: b\n          \
             major: 7\n          minor: {minor}\n      env:\n        - {}=injected\ncontainerEdits:\n  \
             env:\n    - \"VENDOR{n}=present\"\n",
            name.to_uppercase()
        )
    };
    let registry = registry(&[
        ("etc/spec-0.yaml", vendor(1, "foo", 8)),
        ("etc/spec-1.yaml", vendor(2, "bar", 9)),
    ]);
    let names = ["vendor1.com/device=foo", "vendor2.com/device=bar"];
    let found = inject(&registry, &names, &host(), &context(Mode::Create), "{}").unwrap();
    assert_eq!(
        found,
        serde_json::json!({
            "process": {"env": ["VENDOR1=present", "FOO=injected", "VENDOR2=present", "BAR=injected"]},
            "linux": {"devices": [block("/dev/loop8", 7, 8), block("/dev/loop9", 7, 9)],
                      "resources": {"devices": [rule(7, 8), rule(7, 9)]}}
        })
    );
    let unknown = ["vendor1.com/device=no-such-dev"];
    assert!(plan(&registry, &unknown, &host(), &context(Mode::Create)).is_err());
}

#[test]
fn the_edits_of_a_file_come_once_right_before_its_first_device() {
    let text = |kind: &str, own: &str| {
        format!(
            r#"{{"cdiVersion": "0.5.0", "kind": "{kind}", "containerEdits": {{"env": ["{own}=1"]}},
                "devices": [{{"name": "1", "containerEdits": {{"env": ["{own}1=1"]}}}},
                            {{"name": "2", "containerEdits": {{"env": ["{own}2=1"]}}}}]}}"#
        )
    };
    // Two files of one kind: the own edits of each.
    let second = r#"{"cdiVersion": "0.3.0", "kind": "a.com/d", "containerEdits": {"env": ["X=1"]},
        "devices": [{"name": "a", "containerEdits": {"env": ["XA=1"]}}]}"#;
    let registry = registry(&[
        ("etc/a.json", text("a.com/d", "A")),
        ("etc/b.json", text("b.com/d", "B")),
        ("run/a.json", second.to_owned()),
    ]);
    let all = [
        "b.com/d=2",
        "a.com/d=2",
        "a.com/d=a",
        "b.com/d=1",
        "a.com/d=1",
    ];
    let env = |names: &[&str]| {
        let config = inject(&registry, names, &host(), &context(Mode::Create), "{}").unwrap();
        let env = config["process"]["env"].as_array().unwrap().clone();
        env.iter()
            .map(|e| e.as_str().unwrap().trim_end_matches("=1").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    // Sorted by name, in whatever order they were asked for.
    assert_eq!(env(&all), "A A1 A2 X XA B B1 B2");
    let mut reversed = all;
    reversed.reverse();
    assert_eq!(env(&reversed), "A A1 A2 X XA B B1 B2");
    assert_eq!(env(&["a.com/d=2", "a.com/d=2"]), "A A2");
    assert_eq!(env(&["a.com/d=a", "b.com/d=2"]), "X XA B B2");
}

#[test]
fn every_edit_knows_its_file_and_who_asked() {
    let registry = registry(&[("etc/vendor1.yaml", VENDOR1_HOOKS)]);
    let names = ["vendor1.com/device=dev1", "vendor1.com/device=dev3"];
    let plan = plan(&registry, &names, &host(), &context(Mode::Create)).unwrap();
    let origins: Vec<_> = plan
        .edits
        .iter()
        .map(|edit| {
            let sources: Vec<_> = edit
                .origin
                .sources
                .iter()
                .map(ToString::to_string)
                .collect();
            format!("{}: {}", edit.origin.rule, sources.join(", "))
        })
        .collect();
    let asked = |n| format!("flag --device vendor1.com/device=dev{n}");
    let own = format!("cdi /etc/cdi/vendor1.yaml: {}, {}", asked(1), asked(3));
    let device = |n| {
        format!(
            "cdi vendor1.com/device=dev{n} (/etc/cdi/vendor1.yaml): {}",
            asked(n)
        )
    };
    let (one, three) = (device(1), device(3));
    let [a, b] = [&one, &three].map(Clone::clone);
    assert_eq!(
        origins,
        [own, a.clone(), b.clone(), a.clone(), a, b.clone(), b],
        "{plan:#?}"
    );
}

#[test]
fn all_is_a_device_if_there_is_one_else_every_device_of_its_kind() {
    let text = |names: &[&str]| {
        let devices: Vec<_> = names
            .iter()
            .map(|n| format!(r#"{{"name": "{n}", "containerEdits": {{"env": ["DEV_{n}=1"]}}}}"#))
            .collect();
        format!(
            r#"{{"cdiVersion": "0.5.0", "kind": "v.com/c", "devices": [{}]}}"#,
            devices.join(",")
        )
    };
    let env = |files: &[(&str, String)]| {
        let registry = registry(files);
        let names = ["v.com/c=all"];
        let plan = plan(&registry, &names, &host(), &context(Mode::Create)).unwrap();
        let notes: Vec<_> = plan.notes.iter().map(|note| note.text.clone()).collect();
        let document = kusabi::document::Document::parse(b"{}").unwrap();
        let config = kusabi::edit::apply(&document, &plan)
            .unwrap()
            .value()
            .clone();
        (config["process"]["env"].clone(), notes)
    };
    let (literal, notes) = env(&[
        ("etc/a.json", text(&["all", "0"])),
        ("etc/b.json", text(&["1"])),
    ]);
    assert_eq!((literal, notes), (json(r#"["DEV_all=1"]"#), vec![]));
    let (every, notes) = env(&[("etc/a.json", text(&["0"])), ("etc/b.json", text(&["1"]))]);
    assert_eq!(every, json(r#"["DEV_0=1", "DEV_1=1"]"#));
    assert_eq!(
        notes,
        ["no specification defines v.com/c=all, it stands for the 2 devices of its kind"]
    );
    let registry = registry(&[("etc/a.json", text(&["0"]))]);
    let unknown = registry.resolve(&wanted(&["v.com/other=all"])).unwrap_err();
    assert!(
        unknown
            .to_string()
            .starts_with("unresolvable CDI devices v.com/other=all;")
    );
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
