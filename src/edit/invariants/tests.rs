//! Each check is shown able to fail: a result that no correct `apply` makes.

use serde_json::{Value, json};

use super::check;
use crate::edit::{
    Access, DeviceKind, DeviceNode, DeviceRule, Edit, Hook, HookStage, Mount, NamespaceKind,
    Origin, Plan, Rule,
};

fn base() -> Value {
    json!({
        "root": {"path": "rootfs"},
        "process": {
            "env": ["A=1"],
            "user": {"uid": 1, "additionalGids": [5]},
            "capabilities": {"bounding": ["CAP_CHOWN"]},
            "noNewPrivileges": true
        },
        "mounts": [{"destination": "/proc"}, {"destination": "/dev"}],
        "hooks": {"prestart": [{"path": "/h"}]},
        "annotations": {"a": "1", "b": "2"},
        "linux": {
            "namespaces": [{"type": "pid"}],
            "maskedPaths": ["/proc/kcore"],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
            "devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 1}],
            "resources": {
                "pids": {"limit": 7},
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 1, "access": "rwm"}
                ]
            }
        }
    })
}

/// One edit of every kind that a plan may have, naming what `base` has not.
fn plan() -> Plan {
    let rule = DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: Some(9),
        minor: Some(9),
        access: Access::all(),
    };
    let node = DeviceNode {
        path: "/dev/new".into(),
        host_path: "/dev/new".into(),
        kind: DeviceKind::Char,
        major: 9,
        minor: 9,
        file_mode: None,
        uid: None,
        gid: None,
    };
    let mount = Mount {
        destination: "/new".into(),
        kind: None,
        source: None,
        options: Vec::new(),
    };
    let hook = Hook {
        path: "/new".into(),
        args: Vec::new(),
        env: Vec::new(),
        timeout: None,
    };
    let (name, value) = ("NEW".to_owned(), String::new());
    let mut plan = Plan::default();
    for edit in [
        Edit::SetEnv { name, value },
        Edit::AddGid(9),
        Edit::AddDevice(node),
        Edit::AllowDevice(rule),
        Edit::AddMount(mount),
        Edit::AddHook(HookStage::Prestart, hook),
        Edit::AddNamespace(NamespaceKind::User),
        Edit::RemoveAnnotation {
            key: "a".to_owned(),
        },
    ] {
        let rule = Rule::Builtin("test");
        let sources = Vec::new();
        plan.push(edit, Origin { rule, sources });
    }
    plan
}

#[track_caller]
fn refused(pointer: &str, value: Value, expected: &str) {
    let mut after = base();
    let rules = after["linux"]["resources"]["devices"].as_array_mut();
    rules
        .unwrap()
        .push(json!({"allow": true, "type": "c", "major": 9, "minor": 9, "access": "rwm"}));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    after.pointer_mut(parent).unwrap()[key] = value;
    let error = check(&base(), &after, &plan()).unwrap_err();
    assert_eq!(error.to_string(), format!("config.json: {expected}"));
}

#[test]
fn a_plan_may_do_what_it_says_and_nothing() {
    check(&base(), &base(), &Plan::default()).unwrap();
    let mut after = base();
    after["process"]["env"] = json!(["A=1", "NEW="]);
    after["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "user"}]);
    let rules = after["linux"]["resources"]["devices"].as_array_mut();
    rules
        .unwrap()
        .push(json!({"allow": true, "type": "c", "major": 9, "minor": 9, "access": "rwm"}));
    after["mounts"] =
        json!([{"destination": "/dev"}, {"destination": "/proc"}, {"destination": "/new"}]);
    after["annotations"] = json!({"b": "2"});
    check(&base(), &after, &plan()).unwrap();
}

#[test]
fn what_no_edit_names_must_not_move() {
    const NOT_NAMED: &str = "no edit may change this field";
    for (pointer, field) in [
        ("/root/path", "root.path"),
        (
            "/process/capabilities/bounding",
            "process.capabilities.bounding",
        ),
        ("/process/noNewPrivileges", "process.noNewPrivileges"),
        ("/process/user/uid", "process.user.uid"),
        ("/linux/seccomp", "linux.seccomp"),
        ("/linux/maskedPaths", "linux.maskedPaths"),
        ("/linux/resources/pids/limit", "linux.resources.pids.limit"),
        ("/linux/uidMappings", "linux.uidMappings"),
        ("/linux/sysctl", "linux.sysctl"),
        ("/hooks/poststop", "hooks.poststop"),
        ("/annotations/b", "annotations.b"),
        ("/ociVersion", "ociVersion"),
    ] {
        refused(
            pointer,
            json!(["changed"]),
            &format!("{field}: {NOT_NAMED}"),
        );
    }
}

#[test]
fn lists_keep_what_no_edit_names() {
    refused(
        "/process/env",
        json!(["A=2"]),
        "process.env: an entry changed that no edit names",
    );
    refused(
        "/process/env",
        json!(["A=1", "NEW=", "NEW=2"]),
        r#"process.env: "NEW" is there twice"#,
    );
    refused(
        "/process/user/additionalGids",
        json!([9]),
        "process.user.additionalGids: an edit must not remove a group",
    );
    refused(
        "/linux/devices",
        json!([]),
        "linux.devices: an entry changed that no edit names",
    );
    let node = json!({"path": "/dev/a", "type": "c", "major": 1, "minor": 1});
    let new = json!({"path": "/dev/new", "type": "c", "major": 9, "minor": 9});
    refused(
        "/linux/devices",
        json!([node, new, new]),
        r#"linux.devices: "/dev/new" is there twice"#,
    );
    refused(
        "/mounts",
        json!([{"destination": "/proc"}]),
        "mounts: a mount changed that no edit names",
    );
    refused(
        "/mounts",
        json!([{"destination": "/proc"}, {"destination": "/dev"}, {"destination": "/etc"}]),
        "mounts: a mount changed that no edit names",
    );
    refused(
        "/hooks/prestart",
        json!([]),
        "hooks.prestart: a hook changed that no edit names",
    );
    refused(
        "/hooks/prestart",
        json!([{"path": "/h"}, {"path": "/h"}]),
        "hooks.prestart: /h is there twice",
    );
}

#[test]
fn rules_keep_what_no_edit_names_and_devices_have_one() {
    const FIELD: &str = "linux.resources.devices";
    let deny = json!({"allow": false, "access": "rwm"});
    let old = json!({"allow": true, "type": "c", "major": 1, "minor": 1, "access": "rwm"});
    let new = json!({"allow": true, "type": "c", "major": 9, "minor": 9, "access": "rwm"});
    let all = json!({"allow": true, "access": "rwm"});
    let moved = format!("{FIELD}: a rule moved that no edit names");
    refused("/linux/resources/devices", json!([old, new]), &moved);
    refused(
        "/linux/resources/devices",
        json!([deny, old, new, all]),
        &moved,
    );
    refused("/linux/resources/devices", json!([]), &moved);
    refused(
        "/linux/resources/devices",
        json!([deny, old]),
        &format!("{FIELD}: character device 9:9 is not allowed"),
    );
    refused(
        "/linux/resources/devices",
        json!([deny, old, new, new]),
        &format!("{FIELD}: character device 9:9 has more than one rule"),
    );
}

#[test]
fn namespaces_are_only_added() {
    const FIELD: &str = "linux.namespaces";
    let pointer = "/linux/namespaces";
    refused(
        pointer,
        json!([]),
        &format!("{FIELD}: an edit must not remove or change a namespace"),
    );
    refused(
        pointer,
        json!([{"type": "pid", "path": "/proc/1/ns/pid"}]),
        &format!("{FIELD}: an edit must not remove or change a namespace"),
    );
    let not_named = format!("{FIELD}: a namespace was added that no edit names");
    refused(
        pointer,
        json!([{"type": "pid"}, {"type": "network"}]),
        &not_named,
    );
    refused(
        pointer,
        json!([{"type": "pid"}, {"type": "user", "path": "/x"}]),
        &not_named,
    );
}
