use serde_json::{Value, json};

use super::*;
use crate::edit::{Explanation, apply, apply_traced};
use crate::host::facts::FileFacts;

const USER: Caller = Caller {
    uid: 1000,
    gid: 100,
    in_user_namespace: false,
};
const NAMESPACE_ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    in_user_namespace: true,
};
const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    in_user_namespace: false,
};

fn line(container_id: u32, host_id: u32, size: u32) -> IdMapping {
    IdMapping {
        container_id,
        host_id,
        size,
    }
}

fn single() -> Maps {
    Maps {
        uid: vec![line(0, 1000, 1)],
        gid: vec![line(0, 100, 1)],
    }
}

fn node(kind: FileKind, major: u32, minor: u32) -> Presence {
    Presence::Present(FileFacts {
        kind,
        mode: 0o666,
        uid: 0,
        gid: 0,
        major,
        minor,
        target: None,
    })
}

fn document(value: &Value) -> Document {
    Document::parse(value.to_string().as_bytes()).unwrap()
}

fn usual() -> Value {
    json!({
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "devices": [
                {"path": "/dev/gpu", "type": "c", "major": 10, "minor": 229},
                {"path": "/run/fifo", "type": "p"}
            ],
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 9}}
        }
    })
}

fn facts() -> Snapshot {
    let files = [
        ("/dev/gpu", node(FileKind::Char, 1, 3)),
        ("/dev/fuse", node(FileKind::Char, 10, 229)),
    ];
    Snapshot {
        files: files.map(|(path, node)| (path.into(), node)).into(),
        ..Snapshot::default()
    }
}

fn converted(document: &Document, caller: &Caller, maps: &Maps) -> Result<Plan, RootlessError> {
    let devices: Vec<_> = devices(document, &[])?
        .into_iter()
        .map(|device| {
            let places = vec![device.host_path.clone(), PathBuf::from("/dev/fuse")];
            (device, places)
        })
        .collect();
    let situation = Situation {
        caller,
        maps,
        devices: &devices,
        facts: &facts(),
    };
    plan(document, &situation)
}

#[test]
fn only_who_is_not_the_hosts_root_and_brings_no_mapping() {
    let plain = document(&usual());
    assert!(applies(&plain, &USER).unwrap());
    assert!(applies(&plain, &NAMESPACE_ROOT).unwrap());
    assert!(!applies(&plain, &ROOT).unwrap());
    for (field, value) in [
        (
            "uidMappings",
            json!([{"containerID": 0, "hostID": 5, "size": 1}]),
        ),
        (
            "gidMappings",
            json!([{"containerID": 0, "hostID": 5, "size": 1}]),
        ),
        (
            "namespaces",
            json!([{"type": "user", "path": "/proc/1/ns/user"}]),
        ),
    ] {
        let mut made = usual();
        made["linux"][field] = value;
        assert!(!applies(&document(&made), &USER).unwrap(), "{field}");
    }
    let mut empty = usual();
    empty["linux"]["uidMappings"] = json!([]);
    empty["linux"]["namespaces"] = json!([{"type": "user"}]);
    assert!(applies(&document(&empty), &USER).unwrap());
}

#[test]
fn a_users_container_is_what_runc_spec_rootless_makes_of_it() {
    let before = document(&usual());
    let plan = converted(&before, &USER, &single()).unwrap();
    let after = apply(&before, &plan).unwrap();
    let after = after.value();
    assert_eq!(
        after["linux"]["namespaces"],
        json!([{"type": "pid"}, {"type": "mount"}, {"type": "user"}, {"type": "cgroup"}])
    );
    assert_eq!(
        after["linux"]["uidMappings"],
        json!([{"containerID": 0, "hostID": 1000, "size": 1}])
    );
    assert_eq!(
        after["linux"]["gidMappings"],
        json!([{"containerID": 0, "hostID": 100, "size": 1}])
    );
    let at = |path: &str| {
        let mounts = after["mounts"].as_array().unwrap();
        mounts.iter().find(|m| m["destination"] == path).unwrap()
    };
    assert_eq!(
        at("/sys"),
        &json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    );
    assert_eq!(at("/dev/pts")["options"], json!(["newinstance"]));
    // The node of the number, not the one of the name.
    assert_eq!(at("/dev/gpu")["source"], "/dev/fuse");
    assert_eq!(
        after["linux"]["devices"],
        json!([{"path": "/run/fifo", "type": "p"}])
    );
    assert_eq!(after["linux"]["resources"]["devices"], json!([]));
    assert_eq!(after["linux"]["resources"]["pids"], json!({"limit": 9}));
}

#[test]
fn what_the_container_can_have_stays() {
    let mut own = usual();
    own["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "network"}, {"type": "ipc"}]);
    let before = document(&own);
    let maps = Maps {
        uid: vec![line(0, 1000, 1), line(1, 100_000, 10)],
        gid: vec![line(0, 100, 1), line(1, 100_000, 10)],
    };
    let plan = converted(&before, &USER, &maps).unwrap();
    let after = apply(&before, &plan).unwrap();
    let mounts = after.value()["mounts"].as_array().unwrap();
    for kept in [2, 3] {
        assert!(mounts.contains(&own["mounts"][kept]), "{mounts:?}");
    }
}

#[test]
fn file_systems_of_shared_namespaces_are_the_hosts() {
    let shared = json!({
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/dev/mqueue", "type": "mqueue", "options": ["ro"]},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind"]}
        ],
        "linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "mount"}]}
    });
    let before = document(&shared);
    let after = apply(&before, &converted(&before, &USER, &single()).unwrap()).unwrap();
    let mounts = &after.value()["mounts"];
    let of = |path: &str| {
        let list = mounts.as_array().unwrap();
        list.iter()
            .find(|m| m["destination"] == path)
            .unwrap()
            .clone()
    };
    assert_eq!(of("/proc")["source"], "/proc");
    assert_eq!(
        of("/proc")["options"],
        json!(["rbind", "nosuid", "noexec", "nodev"])
    );
    assert_eq!(of("/dev/mqueue")["options"].as_array().unwrap().len(), 5);
    assert_eq!(of("/sys"), shared["mounts"][2]);
}

#[test]
fn what_the_host_has_not_is_left_out() {
    let before = document(&json!({
        "mounts": [{"destination": "/dev/mqueue", "type": "mqueue"}],
        "linux": {"namespaces": [{"type": "mount"}]}
    }));
    let mut facts = facts();
    facts.files.insert("/dev/mqueue".into(), Presence::Absent);
    let situation = Situation {
        caller: &USER,
        maps: &single(),
        devices: &[],
        facts: &facts,
    };
    let after = apply(&before, &plan(&before, &situation).unwrap()).unwrap();
    assert_eq!(after.value()["mounts"], json!([]));
}

#[test]
fn root_of_a_user_namespace_never_gains_another() {
    let before = document(&usual());
    let maps = Maps {
        uid: vec![line(0, 1000, 1)],
        gid: vec![line(0, 1000, 1), line(1, 100_000, 65536)],
    };
    let plan = converted(&before, &NAMESPACE_ROOT, &maps).unwrap();
    let after = apply(&before, &plan).unwrap();
    let (before, after) = (before.value(), after.value());
    assert_eq!(after["linux"]["namespaces"], before["linux"]["namespaces"]);
    assert!(after["linux"].get("uidMappings").is_none());
    // Its gid 5 is mapped, and sysfs is the engine's business.
    assert!(after.to_string().contains("gid=5") && after.to_string().contains("sysfs"));
    assert!(!after["linux"]["devices"].to_string().contains("gpu"));
    assert!(after["mounts"].to_string().contains("/dev/fuse"));
    assert_eq!(after["linux"]["resources"]["devices"], json!([]));
}

#[test]
fn what_an_engine_has_bound_is_not_bound_again() {
    let mut made = usual();
    let bind = json!({"destination": "/dev/gpu", "type": "bind", "source": "/dev/fuse",
                      "options": ["bind", "nosuid"]});
    made["mounts"].as_array_mut().unwrap().push(bind.clone());
    let before = document(&made);
    let after = apply(&before, &converted(&before, &USER, &single()).unwrap()).unwrap();
    let mounts = after.value()["mounts"].as_array().unwrap();
    let at: Vec<&Value> = mounts
        .iter()
        .filter(|m| m["destination"] == "/dev/gpu")
        .collect();
    assert_eq!(at, [&bind]);
}

#[test]
fn a_device_that_the_host_lacks_is_named() {
    let mut made = usual();
    made["linux"]["devices"] = json!([{"path": "/dev/x", "type": "b", "major": 10, "minor": 229}]);
    let error = converted(&document(&made), &USER, &single()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.devices: /dev/x: the host has no node for b 10:229, and a rootless container can \
         have no other"
    );
}

#[test]
fn converting_what_was_converted_changes_nothing() {
    let before = document(&usual());
    let plan = converted(&before, &USER, &single()).unwrap();
    let once = apply(&before, &plan).unwrap();
    assert!(!applies(&once, &USER).unwrap());
    assert_eq!(apply(&once, &plan).unwrap().as_bytes(), once.as_bytes());
}

#[test]
fn explain_gives_the_reasons() {
    let original = document(&usual());
    let plan = converted(&original, &USER, &single()).unwrap();
    let applied = apply_traced(&original, &plan).unwrap();
    let text = Explanation {
        original: &original,
        plan: &plan,
        applied: &applied,
        decisions: &[],
    }
    .report()
    .text();
    for words in [
        "the caller is uid 1000, not root",
        "uid 0:1000:1 gid 0:100:1",
        "sysfs cannot be mounted without a new network namespace",
        "gid 5 is not mapped",
        "device nodes cannot be made",
        "device rules take privilege",
        "- linux.devices",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
