//! `pkg/cdi/cache_test.go`, `default-cache_test.go`, `regressions_test.go`:
//! devices of several files in one configuration.

use kusabi::cdi::{Mode, Registry};

use crate::support::{Host, context, inject, json, plan, registry, wanted};

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
