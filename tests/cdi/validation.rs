//! `pkg/cdi/container-edits_test.go`, validation; `pkg/cdi/device_test.go`.

use kusabi::cdi::Spec;

/// Name, `containerEdits` as JSON, and what the error says.
type Case = (&'static str, &'static str, Option<&'static str>);

const REFERENCE: [Case; 29] = [
    ("empty edits", "null", None),
    ("env", r#"{"env": ["BAR=BARVALUE1"]}"#, None),
    (
        "env, empty",
        r#"{"env": [""]}"#,
        Some("env[0]: invalid environment variable \"\""),
    ),
    (
        "env, no name",
        r#"{"env": ["=foo"]}"#,
        Some("variable \"=foo\""),
    ),
    (
        "env, no assignment",
        r#"{"env": ["FOOBAR"]}"#,
        Some("variable \"FOOBAR\""),
    ),
    (
        "device, path",
        r#"{"deviceNodes": [{"path": "/dev/null"}]}"#,
        None,
    ),
    (
        "device, path and type",
        r#"{"deviceNodes": [{"path": "/dev/null", "type": "c"}]}"#,
        None,
    ),
    (
        "device, path, type, permissions",
        r#"{"deviceNodes": [{"path": "/dev/null", "type": "b", "permissions": "rwm"}]}"#,
        None,
    ),
    (
        "device, empty path",
        r#"{"deviceNodes": [{"path": ""}]}"#,
        Some("deviceNodes[0].path: empty path"),
    ),
    (
        "device, wrong type",
        r#"{"deviceNodes": [{"path": "/dev/vendorctl", "type": "f"}]}"#,
        Some("deviceNodes[0].type: invalid type \"f\", expected b, c, u or p"),
    ),
    (
        "device, wrong permissions",
        r#"{"deviceNodes": [{"path": "/dev/vendorctl", "type": "b", "permissions": "to land"}]}"#,
        Some("deviceNodes[0].permissions: invalid permissions \"to land\""),
    ),
    (
        "device, no permissions",
        r#"{"deviceNodes": [{"path": "/dev/vendorctl", "type": "b", "permissions": "none"}]}"#,
        None,
    ),
    (
        "mount",
        r#"{"mounts": [{"hostPath": "/dev/vendorctl", "containerPath": "/dev/vendorctl"}]}"#,
        None,
    ),
    (
        "mount, empty host path",
        r#"{"mounts": [{"hostPath": "", "containerPath": "/dev/vendorctl"}]}"#,
        Some("mounts[0].hostPath: empty path"),
    ),
    (
        "mount, empty container path",
        r#"{"mounts": [{"hostPath": "/dev/vendorctl", "containerPath": ""}]}"#,
        Some("mounts[0].containerPath: empty path"),
    ),
    (
        "hooks of every stage",
        r#"{"hooks": [
            {"hookName": "prestart", "path": "/usr/local/bin/prestart-vendor-hook",
             "args": ["--verbose"], "env": ["VENDOR_ENV1=value1"]},
            {"hookName": "createRuntime", "path": "/usr/local/bin/cr-vendor-hook",
             "args": ["--debug"], "env": ["VENDOR_ENV2=value2"]},
            {"hookName": "createContainer", "path": "/usr/local/bin/cc-vendor-hook",
             "args": ["--create"], "env": ["VENDOR_ENV3=value3"]},
            {"hookName": "startContainer", "path": "/usr/local/bin/sc-vendor-hook",
             "args": ["--start"], "env": ["VENDOR_ENV4=value4"]},
            {"hookName": "poststart", "path": "/usr/local/bin/poststart-vendor-hook",
             "env": ["VENDOR_ENV5=value5"]},
            {"hookName": "poststop", "path": "/usr/local/bin/poststop-vendor-hook"}]}"#,
        None,
    ),
    (
        "hook, no path",
        r#"{"hooks": [{"hookName": "prestart"}]}"#,
        Some("hooks[0].path: missing"),
    ),
    (
        "hook, wrong name",
        r#"{"hooks": [{"hookName": "misCreateRuntime", "path": "/usr/local/bin/cr-vendor-hook"}]}"#,
        Some("hooks[0].hookName: invalid hook name \"misCreateRuntime\""),
    ),
    (
        "hook, wrong env",
        r#"{"hooks": [{"hookName": "poststart", "path": "/usr/local/bin/hook", "env": ["=value2"]}]}"#,
        Some("hooks[0].env[0]: invalid environment variable \"=value2\""),
    ),
    ("rdt", r#"{"intelRdt": {"closID": "foo.bar"}}"#, None),
    ("rdt, root class", r#"{"intelRdt": {"closID": "/"}}"#, None),
    (
        "rdt, slash",
        r#"{"intelRdt": {"closID": "foo/bar"}}"#,
        Some("intelRdt.closID: invalid closID \"foo/bar\""),
    ),
    (
        "rdt, dot",
        r#"{"intelRdt": {"closID": "."}}"#,
        Some("invalid closID \".\""),
    ),
    (
        "rdt, double dot",
        r#"{"intelRdt": {"closID": ".."}}"#,
        Some("invalid closID \"..\""),
    ),
    (
        "rdt, newline",
        r#"{"intelRdt": {"closID": "foo\nbar"}}"#,
        Some("invalid closID \"foo\\nbar\""),
    ),
    (
        "net device",
        r#"{"netDevices": [{"hostInterfaceName": "eno1", "name": "netdev0"}]}"#,
        None,
    ),
    (
        "net device, empty host name",
        r#"{"netDevices": [{"hostInterfaceName": "", "name": "netdev0"}]}"#,
        Some("netDevices[0].hostInterfaceName: empty interface name"),
    ),
    (
        "net device, empty container name",
        r#"{"netDevices": [{"hostInterfaceName": "eno1", "name": ""}]}"#,
        Some("netDevices[0].name: empty interface name"),
    ),
    // In the reference's code, not in its table.
    (
        "net device, twice",
        r#"{"netDevices": [{"hostInterfaceName": "eno1", "name": "a"},
                           {"hostInterfaceName": "eno1", "name": "b"}]}"#,
        Some("netDevices[1].hostInterfaceName: duplicate \"eno1\""),
    ),
];

/// What the specification says must hold, what a kernel cannot do, and what
/// would reach where a device has no business.
const BEYOND: [Case; 31] = [
    (
        "net device, name twice",
        r#"{"netDevices": [{"hostInterfaceName": "a", "name": "x"},
                           {"hostInterfaceName": "b", "name": "x"}]}"#,
        Some("netDevices[1].name: duplicate \"x\""),
    ),
    (
        "net device, name too long",
        r#"{"netDevices": [{"hostInterfaceName": "a", "name": "0123456789abcdef"}]}"#,
        Some("longer than 15 bytes"),
    ),
    (
        "net device, name with a slash",
        r#"{"netDevices": [{"hostInterfaceName": "a/b", "name": "x"}]}"#,
        Some("\"a/b\" cannot be an interface name"),
    ),
    (
        "device, type u",
        r#"{"deviceNodes": [{"path": "/dev/x", "type": "u"}]}"#,
        None,
    ),
    (
        "device, type p",
        r#"{"deviceNodes": [{"path": "/dev/x", "type": "p"}]}"#,
        None,
    ),
    (
        "device, type a",
        r#"{"deviceNodes": [{"path": "/dev/x", "type": "a"}]}"#,
        Some("invalid type \"a\""),
    ),
    (
        "device, some permissions",
        r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "mr"}]}"#,
        None,
    ),
    (
        "device, permissions none and more",
        r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "nonerw"}]}"#,
        Some("invalid permissions \"nonerw\""),
    ),
    (
        "device, largest numbers",
        r#"{"deviceNodes": [{"path": "/dev/x", "type": "c", "major": 4095, "minor": 1048575}]}"#,
        None,
    ),
    (
        "device, major too large",
        r#"{"deviceNodes": [{"path": "/dev/x", "major": 4096}]}"#,
        Some("4096 is not a major number, the kernel knows 0 to 4095"),
    ),
    (
        "device, minor too large",
        r#"{"deviceNodes": [{"path": "/dev/x", "minor": 1048576}]}"#,
        Some("1048576 is not a minor number"),
    ),
    (
        "device, negative major",
        r#"{"deviceNodes": [{"path": "/dev/x", "major": -1}]}"#,
        Some("-1 is not a major number"),
    ),
    (
        "device, relative path",
        r#"{"deviceNodes": [{"path": "dev/x"}]}"#,
        Some("deviceNodes[0].path: \"dev/x\" is relative"),
    ),
    (
        "device, relative host path",
        r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "dev/x"}]}"#,
        Some("deviceNodes[0].hostPath: \"dev/x\" is relative"),
    ),
    (
        "device, path leaves",
        r#"{"deviceNodes": [{"path": "/dev/../etc/x", "hostPath": "/dev/x"}]}"#,
        Some("deviceNodes[0].path: \"/dev/../etc/x\" contains \"..\""),
    ),
    (
        "device, in /proc",
        r#"{"deviceNodes": [{"path": "/proc/x", "hostPath": "/dev/x"}]}"#,
        Some("deviceNodes[0].path: \"/proc/x\" is in /proc"),
    ),
    (
        "mount, relative container path",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "a"}]}"#,
        Some("mounts[0].containerPath: \"a\" is relative"),
    ),
    (
        "mount, path leaves",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "/a/../../b"}]}"#,
        Some("contains \"..\""),
    ),
    (
        "mount, path ends above",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "/a/.."}]}"#,
        Some("contains \"..\""),
    ),
    (
        "mount, dots that are a name",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "/a/..b/...c"}]}"#,
        None,
    ),
    (
        "mount, over /proc",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "/proc"}]}"#,
        Some("\"/proc\" is in /proc"),
    ),
    (
        "mount, in /proc by detour",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "//./proc/sys"}]}"#,
        Some("\"//./proc/sys\" is in /proc"),
    ),
    (
        "mount, not /proc",
        r#"{"mounts": [{"hostPath": "/a", "containerPath": "/process"}]}"#,
        None,
    ),
    (
        "mount, source that is no path",
        r#"{"mounts": [{"hostPath": "tmpfs", "containerPath": "/a", "type": "tmpfs"}]}"#,
        None,
    ),
    (
        "hook, relative",
        r#"{"hooks": [{"hookName": "prestart", "path": "bin/hook"}]}"#,
        Some("hooks[0].path: \"bin/hook\" is relative"),
    ),
    (
        "hook, empty path",
        r#"{"hooks": [{"hookName": "prestart", "path": ""}]}"#,
        Some("hooks[0].path: empty path"),
    ),
    (
        "hook, timeout",
        r#"{"hooks": [{"hookName": "prestart", "path": "/bin/hook", "timeout": 1}]}"#,
        None,
    ),
    // The specification: "If set, timeout MUST be greater than zero"; the
    // reference does not look.
    (
        "hook, timeout zero",
        r#"{"hooks": [{"hookName": "prestart", "path": "/bin/hook", "timeout": 0}]}"#,
        Some("hooks[0].timeout: 0 seconds, must be greater than zero"),
    ),
    (
        "hook, argument with NUL",
        r#"{"hooks": [{"hookName": "prestart", "path": "/bin/hook", "args": ["a\u0000b"]}]}"#,
        Some("hooks[0].args[0]: contains a NUL byte"),
    ),
    (
        "env with NUL",
        r#"{"env": ["A=b\u0000C=d"]}"#,
        Some("env[0]: contains a NUL byte"),
    ),
    ("env, empty value", r#"{"env": ["A="]}"#, None),
];

fn check(name: &str, spec: &str, want: Option<&str>) {
    match (want, Spec::parse(spec.as_bytes())) {
        (None, Ok(_)) => {}
        (Some(want), Err(problems)) => {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert!(all.iter().any(|p| p.contains(want)), "{name}: {all:#?}");
        }
        (want, found) => panic!("{name}: expected {want:?}, found {found:#?}"),
    }
}

#[test]
fn edits_are_validated_for_the_specification() {
    for (name, edits, want) in REFERENCE.into_iter().chain(BEYOND) {
        let spec = format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c", "containerEdits": {edits},
                "devices": [{{"name": "d", "containerEdits": {{"env": ["A=b"]}}}}]}}"#
        );
        check(name, &spec, want);
    }
}

#[test]
fn edits_are_validated_for_a_device() {
    for (name, edits, want) in REFERENCE.into_iter().chain(BEYOND) {
        // No edits are fine for a specification, not for a device.
        let want = if edits == "null" {
            Some("containerEdits: missing")
        } else {
            want
        };
        let spec = format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c",
                "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
        );
        check(name, &spec, want);
    }
}

/// Device name, its edits, and what the error says.
const DEVICES: [(&str, &str, Option<&str>); 8] = [
    ("dev", r#"{"env": ["FOO=BAR"]}"#, None),
    (
        "dev",
        r#"{"env": ["=BAR"]}"#,
        Some("invalid environment variable"),
    ),
    (
        "a dev ice",
        r#"{"env": ["FOO=BAR"]}"#,
        Some("device name \"a dev ice\" contains ' '"),
    ),
    // Beyond the reference's table, in its code.
    (
        "dev",
        "{}",
        Some("devices[0].containerEdits: empty device edits"),
    ),
    ("dev", r#"{"env": []}"#, Some("empty device edits")),
    (
        "",
        r#"{"env": ["FOO=BAR"]}"#,
        Some("the device name is empty"),
    ),
    ("dev", r#"{"intelRdt": {}}"#, None),
    ("dev", r#"{"additionalGids": [0]}"#, None),
];

#[test]
fn devices_are_validated() {
    for (device, edits, want) in DEVICES {
        let spec = format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c",
                "devices": [{{"name": "{device}", "containerEdits": {edits}}}]}}"#
        );
        check(device, &spec, want);
    }
}
