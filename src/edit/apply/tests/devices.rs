//! Nodes and the rules about them.

use super::*;

#[test]
fn a_device_replaces_the_one_of_its_path() {
    let full = DeviceNode {
        file_mode: Some(0o20660),
        uid: Some(1000),
        gid: Some(44),
        ..node("/dev/nvidia0", 195, 0)
    };
    becomes(
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":1},{"path":"/dev/nvidia0","type":"c","major":9,"minor":9},{"path":"/dev//nvidia0","type":"b","major":9,"minor":9},{"path":"/dev/b","type":"p"}]}}"#,
        [Edit::AddDevice(full.clone())],
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":1},{"path":"/dev/nvidia0","type":"c","major":195,"minor":0,"fileMode":432,"uid":1000,"gid":44},{"path":"/dev/b","type":"p"}]}}"#,
    );
    becomes(
        "{}",
        [Edit::AddDevice(node("/dev/x", 1, 2))],
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":2}]}}"#,
    );
    // What an engine injected: other key order, the type as CDI may write it.
    stays(
        r#"{"linux":{"devices":[{"type":"u","path":"/dev/nvidia0","minor":0,"major":195,"gid":44,"uid":1000,"fileMode":8624}]}}"#,
        [Edit::AddDevice(full)],
    );
    let fifo = DeviceNode {
        kind: DeviceKind::Fifo,
        ..node("/dev/initctl", 0, 0)
    };
    becomes(
        "{}",
        [Edit::AddDevice(fifo)],
        r#"{"linux":{"devices":[{"path":"/dev/initctl","type":"p"}]}}"#,
    );
    fails(
        "{}",
        Edit::AddDevice(node("dev/x", 1, 1)),
        r#"linux.devices: path "dev/x" is not absolute"#,
    );
    fails(
        "{}",
        Edit::AddDevice(node("/dev/../etc/x", 1, 1)),
        r#"linux.devices: path "/dev/../etc/x" must not contain .."#,
    );
    let all = DeviceNode {
        kind: DeviceKind::All,
        ..node("/dev/x", 1, 1)
    };
    fails(
        "{}",
        Edit::AddDevice(all),
        "linux.devices: /dev/x: a node cannot be of type a",
    );
    fails(
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":"1"}]}}"#,
        Edit::AddDevice(node("/dev/x", 1, 1)),
        "linux.devices[0].major: expected number, found string",
    );
}

#[test]
fn a_removed_device_is_gone_unless_it_is_added_again() {
    let two = r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":2},{"path":"/dev/b","type":"p"}]}}"#;
    let remove = |path: &str| Edit::RemoveDevice { path: path.into() };
    becomes(
        two,
        [remove("/dev//a/")],
        r#"{"linux":{"devices":[{"path":"/dev/b","type":"p"}]}}"#,
    );
    stays(two, [remove("/dev/c")]);
    stays("{}", [remove("/dev/a")]);
    becomes(
        two,
        [remove("/dev/a"), Edit::AddDevice(node("/dev/a", 3, 4))],
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":3,"minor":4},{"path":"/dev/b","type":"p"}]}}"#,
    );
    becomes(
        "{}",
        [Edit::AddDevice(node("/dev/a", 3, 4)), remove("/dev/a")],
        r#"{"linux":{"devices":[]}}"#,
    );
}

fn rules(text: &str) -> String {
    format!(r#"{{"linux":{{"resources":{{"devices":[{text}]}}}}}}"#)
}

const DENY_ALL: &str = r#"{"allow":false,"access":"rwm"}"#;

#[test]
fn a_device_has_one_rule_or_none_where_it_is_already_allowed() {
    let rule = r#"{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"}"#;
    becomes(
        "{}",
        [allow(195, 0, "rw"), allow(195, 0, "r")],
        &rules(rule),
    );
    becomes(
        &rules(DENY_ALL),
        [allow(195, 0, "rw")],
        &rules(&format!("{DENY_ALL},{rule}")),
    );
    // Already allowed: the very rule, a wildcard, everything.
    stays(&rules(rule), [allow(195, 0, "w")]);
    stays(
        &rules(r#"{"allow":true,"type":"c","major":195,"minor":-1,"access":"rwm"}"#),
        [allow(195, 7, "rwm")],
    );
    stays(
        &rules(r#"{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}"#),
        [allow(195, 0, "rwm")],
    );
    // Permissions `none`.
    stays("{}", [allow(195, 0, "")]);
    // Denied again further down: one rule, at the end.
    becomes(
        &rules(&format!("{rule},{DENY_ALL}")),
        [allow(195, 0, "rw")],
        &rules(&format!("{DENY_ALL},{rule}")),
    );
    // More access: the two become one.
    becomes(
        &rules(&format!(
            r#"{rule},{{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}}"#
        )),
        [allow(195, 0, "m")],
        &rules(
            r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},{"allow":true,"type":"c","major":195,"minor":0,"access":"rwm"}"#,
        ),
    );
    // Two rules that only together allow reading and writing: one that does.
    becomes(
        &rules(r#"{"allow":true,"type":"c","major":195,"access":"r"}"#),
        [allow(195, 0, "w")],
        &rules(
            r#"{"allow":true,"type":"c","major":195,"access":"r"},{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"}"#,
        ),
    );
    // Lists that runc refuses too.
    fails(
        &rules(
            r#"{"allow":true,"type":"c","major":195,"access":"rwm"},{"allow":false,"type":"c","major":195,"minor":5,"access":"rwm"}"#,
        ),
        allow(195, 0, "r"),
        "linux.resources.devices[1]: rule \"deny c 195:5 rwm\" not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule \"allow c 195:* rwm\"): name the devices one by one instead",
    );
    fails(
        &rules(
            r#"{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":195,"access":"w"}"#,
        ),
        allow(195, 0, "rw"),
        "linux.resources.devices[2]: rule \"allow c 195:0 rwm\" not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule \"deny c 195:* w\"): name the devices one by one instead",
    );
    fails(
        &rules(r#"{"allow":true,"type":"x","access":"r"}"#),
        allow(1, 1, "r"),
        r#"linux.resources.devices[0].type: invalid cgroup device type "x", expected a, b or c"#,
    );
    let deny = DeviceRule {
        allow: false,
        kind: DeviceKind::Block,
        major: None,
        minor: None,
        access: Access::all(),
    };
    fails(
        "{}",
        Edit::AllowDevice(deny),
        "linux.resources.devices: an edit can only allow character and block devices, not deny a device of type b",
    );
}

#[test]
fn device_rules_can_be_dropped() {
    becomes(&rules(DENY_ALL), [Edit::DropDeviceRules], &rules(""));
    becomes(
        &rules(DENY_ALL),
        [allow(1, 3, "r"), Edit::DropDeviceRules, allow(1, 5, "r")],
        &rules(r#"{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}"#),
    );
    stays("{}", [Edit::DropDeviceRules]);
}
