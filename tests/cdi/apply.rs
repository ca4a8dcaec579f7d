//! `pkg/cdi/container-edits_test.go`, applying: what becomes of a container's
//! configuration.

use kusabi::cdi::{Context, Mode};

use crate::support::{Host, context, inject, json, registry};

struct Case {
    name: &'static str,
    before: &'static str,
    edits: &'static str,
    after: &'static str,
}

const fn case(
    name: &'static str,
    before: &'static str,
    edits: &'static str,
    after: &'static str,
) -> Case {
    Case {
        name,
        before,
        edits,
        after,
    }
}

const DEV_NULL: &str = r#"{"linux": {
    "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}],
    "resources": {"devices": [
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}}}"#;

/// 17 of the reference's 21 cases, and three that its code has besides. The other
/// four have tests of their own below.
const SAME: [Case; 20] = [
    case(
        "env",
        "{}",
        r#"{"env": ["BAR=BARVALUE1"]}"#,
        r#"{"process": {"env": ["BAR=BARVALUE1"]}}"#,
    ),
    case(
        "duplicate env, the last counts",
        "{}",
        r#"{"env": ["FOO=old", "FOO=new"]}"#,
        r#"{"process": {"env": ["FOO=new"]}}"#,
    ),
    case(
        "env of the same name is replaced",
        r#"{"process": {"env": ["FOO=old", "BAR=old"]}}"#,
        r#"{"env": ["FOO=new"]}"#,
        r#"{"process": {"env": ["FOO=new", "BAR=old"]}}"#,
    ),
    case(
        "device",
        "{}",
        r#"{"deviceNodes": [{"path": "/dev/null"}]}"#,
        DEV_NULL,
    ),
    case(
        "device and env",
        "{}",
        r#"{"env": ["FOO=BAR"], "deviceNodes": [{"path": "/dev/null", "type": "c"}]}"#,
        r#"{"process": {"env": ["FOO=BAR"]}, "linux": {
            "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}],
            "resources": {"devices": [
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}}}"#,
    ),
    case(
        "mount",
        "{}",
        r#"{"mounts": [{"hostPath": "/dev/host-vendorctl", "containerPath": "/dev/cntr-vendorctl"}]}"#,
        r#"{"mounts": [{"source": "/dev/host-vendorctl", "destination": "/dev/cntr-vendorctl"}]}"#,
    ),
    case(
        "hooks",
        "{}",
        r#"{"hooks": [
            {"hookName": "prestart", "path": "/usr/local/bin/prestart-vendor-hook",
             "args": ["--verbose"], "env": ["VENDOR_ENV1=value1"]},
            {"hookName": "createRuntime", "path": "/usr/local/bin/cr-vendor-hook",
             "args": ["--debug"], "env": ["VENDOR_ENV2=value2"]},
            {"hookName": "createContainer", "path": "/usr/local/bin/cc-vendor-hook",
             "args": ["--create"], "env": ["VENDOR_ENV3=value3"]},
            {"hookName": "startContainer", "path": "/usr/local/bin/sc-vendor-hook",
             "args": ["--start"], "env": ["VENDOR_ENV4=value4"], "timeout": 7},
            {"hookName": "poststart", "path": "/usr/local/bin/poststart-vendor-hook",
             "env": ["VENDOR_ENV5=value5"]},
            {"hookName": "poststop", "path": "/usr/local/bin/poststop-vendor-hook"}]}"#,
        r#"{"hooks": {
            "prestart": [{"path": "/usr/local/bin/prestart-vendor-hook",
                "args": ["--verbose"], "env": ["VENDOR_ENV1=value1"]}],
            "createRuntime": [{"path": "/usr/local/bin/cr-vendor-hook",
                "args": ["--debug"], "env": ["VENDOR_ENV2=value2"]}],
            "createContainer": [{"path": "/usr/local/bin/cc-vendor-hook",
                "args": ["--create"], "env": ["VENDOR_ENV3=value3"]}],
            "startContainer": [{"path": "/usr/local/bin/sc-vendor-hook",
                "args": ["--start"], "env": ["VENDOR_ENV4=value4"], "timeout": 7}],
            "poststart": [{"path": "/usr/local/bin/poststart-vendor-hook",
                "env": ["VENDOR_ENV5=value5"]}],
            "poststop": [{"path": "/usr/local/bin/poststop-vendor-hook"}]}}"#,
    ),
    case(
        "rdt",
        "{}",
        r#"{"intelRdt": {"closID": "clos-1", "l3CacheSchema": "L3:0=ff;1=ff",
            "memBwSchema": "MB:0=50;1=50", "schemata": ["L2:0=ffff"], "enableMonitoring": true}}"#,
        r#"{"linux": {"intelRdt": {"closID": "clos-1", "l3CacheSchema": "L3:0=ff;1=ff",
            "memBwSchema": "MB:0=50;1=50", "schemata": ["L2:0=ffff"], "enableMonitoring": true}}}"#,
    ),
    case(
        "rdt is replaced as a whole",
        r#"{"linux": {"intelRdt": {"closID": "clos-1", "l3CacheSchema": "L3:0=ff",
            "memBwSchema": "MB:0=100", "schemata": ["L2:0=ffff"], "enableMonitoring": true}}}"#,
        r#"{"intelRdt": {"closID": "clos-2", "l3CacheSchema": "L3:0=f", "enableMonitoring": false}}"#,
        r#"{"linux": {"intelRdt": {"closID": "clos-2", "l3CacheSchema": "L3:0=f"}}}"#,
    ),
    case(
        "net devices",
        "{}",
        r#"{"netDevices": [{"hostInterfaceName": "eno1", "name": "netdev0"},
                           {"hostInterfaceName": "eno2", "name": "netdev1"}]}"#,
        r#"{"linux": {"netDevices": {"eno1": {"name": "netdev0"}, "eno2": {"name": "netdev1"}}}}"#,
    ),
    case(
        "net devices are replaced",
        r#"{"linux": {"netDevices": {"eno1": {"name": "netdev1"}}}}"#,
        r#"{"netDevices": [{"hostInterfaceName": "eno1", "name": "netdev2"},
                           {"hostInterfaceName": "eno2", "name": "netdev1"}]}"#,
        r#"{"linux": {"netDevices": {"eno1": {"name": "netdev2"}, "eno2": {"name": "netdev1"}}}}"#,
    ),
    case(
        "gids",
        "{}",
        r#"{"additionalGids": [4, 5, 6]}"#,
        r#"{"process": {"user": {"additionalGids": [4, 5, 6]}}}"#,
    ),
    case(
        "gids that are there",
        r#"{"process": {"user": {"additionalGids": [4]}}}"#,
        r#"{"additionalGids": [4, 5]}"#,
        r#"{"process": {"user": {"additionalGids": [4, 5]}}}"#,
    ),
    case(
        "gids twice",
        "{}",
        r#"{"additionalGids": [4, 5, 6, 5, 6, 4]}"#,
        r#"{"process": {"user": {"additionalGids": [4, 5, 6]}}}"#,
    ),
    case("gid 0", "{}", r#"{"additionalGids": [0]}"#, "{}"),
    case(
        "mounts sort by depth and keep their order otherwise",
        r#"{"mounts": [{"source": "/some/host/path1", "destination": "/dest/path/b"},
                       {"source": "/some/host/path2", "destination": "/dest/path/a"}]}"#,
        r#"{"mounts": [{"hostPath": "/some/host/path3", "containerPath": "/dest/edit"}]}"#,
        r#"{"mounts": [{"source": "/some/host/path3", "destination": "/dest/edit"},
                       {"source": "/some/host/path1", "destination": "/dest/path/b"},
                       {"source": "/some/host/path2", "destination": "/dest/path/a"}]}"#,
    ),
    case(
        "a mount comes after others of its depth",
        r#"{"mounts": [{"source": "/some/host/path1", "destination": "/dest/path/c"},
                       {"source": "/some/host/path2", "destination": "/dest/path/b"}]}"#,
        r#"{"mounts": [{"hostPath": "/some/host/path3", "containerPath": "/dest/path/a"}]}"#,
        r#"{"mounts": [{"source": "/some/host/path1", "destination": "/dest/path/c"},
                       {"source": "/some/host/path2", "destination": "/dest/path/b"},
                       {"source": "/some/host/path3", "destination": "/dest/path/a"}]}"#,
    ),
    // Beyond the reference's table, in its code.
    case(
        "device of the same path is replaced",
        r#"{"linux": {"devices": [{"path": "/dev/null", "type": "c", "major": 9, "minor": 9}]}}"#,
        r#"{"deviceNodes": [{"path": "/dev/null"}]}"#,
        DEV_NULL,
    ),
    case(
        "mount of the same destination is replaced",
        r#"{"mounts": [{"source": "/old", "destination": "/d"}]}"#,
        r#"{"mounts": [{"hostPath": "/new", "containerPath": "/d", "options": ["ro", "bind"]}]}"#,
        r#"{"mounts": [{"source": "/new", "destination": "/d", "options": ["ro", "bind"]}]}"#,
    ),
    case(
        "device elsewhere, with everything said",
        "{}",
        r#"{"deviceNodes": [{"path": "/dev/zilch", "hostPath": "/dev/null", "type": "c",
            "major": 1, "minor": 3, "fileMode": 384, "permissions": "r", "uid": 5, "gid": 0}]}"#,
        r#"{"linux": {
            "devices": [{"path": "/dev/zilch", "type": "c", "major": 1, "minor": 3,
                         "fileMode": 384, "uid": 5, "gid": 0}],
            "resources": {"devices": [
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}]}}}"#,
    ),
];

fn specification(edits: &str) -> String {
    format!(
        r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c",
            "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
    )
}

/// A host that has whatever the cases mount.
fn host() -> Host {
    let mut host = Host::default().char("/dev/null", 1, 3).regular("/new");
    for path in [
        "/dev/host-vendorctl",
        "/some/host/path3",
        "/some/host/path4",
    ] {
        host = host.regular(path);
    }
    host
}

fn apply(
    edits: &str,
    before: &str,
    host: &Host,
    context: &Context,
) -> Result<serde_json::Value, String> {
    let registry = registry(&[("etc/v.json", specification(edits))]);
    assert_eq!(registry.broken(), [], "{edits}");
    inject(&registry, &["v.com/c=d"], host, context, before)
}

#[test]
fn edits_are_applied() {
    for case in SAME {
        let after = apply(case.edits, case.before, &host(), &context(Mode::Create));
        assert_eq!(after, Ok(json(case.after)), "{}", case.name);
    }
}

#[test]
fn no_devices_change_nothing() {
    let registry = registry(&[("etc/v.json", specification(r#"{"env": ["A=b"]}"#))]);
    let none: [&str; 0] = [];
    let config = r#"{"hostname": "h"}"#;
    let after = inject(&registry, &none, &host(), &context(Mode::Create), config);
    assert_eq!(after, Ok(json(config)));
}

const DEV_NIL: &str = r#"{"deviceNodes": [
    {"path": "/dev/nil", "type": "c", "major": 1, "minor": 3, "permissions": "PERMISSIONS"}]}"#;

/// The reference takes a file's numbers where the host has no such node. They
/// are what a create must not trust; an explanation may.
#[test]
fn numbers_of_an_absent_node_serve_explanations_only() {
    for (permissions, access) in [("", Some("rwm")), ("none", None)] {
        let edits = DEV_NIL.replace("PERMISSIONS", permissions);
        let mut want = json(
            r#"{"linux": {"devices": [{"path": "/dev/nil", "type": "c", "major": 1, "minor": 3}]}}"#,
        );
        // And for "none" the reference adds a rule that allows nothing.
        if let Some(access) = access {
            want["linux"]["resources"] = serde_json::json!({"devices": [
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": access}]});
        }
        let explained = apply(&edits, "{}", &host(), &context(Mode::Explain));
        assert_eq!(explained, Ok(want), "{permissions:?}");
        let error = apply(&edits, "{}", &host(), &context(Mode::Create)).unwrap_err();
        assert!(
            error.starts_with(
                "cdi v.com/c=d (/etc/cdi/v.json): /dev/nil: is not on the host; the file says 1:3"
            ),
            "{error}"
        );
    }
}

#[test]
fn bind_mounts_are_idmapped_where_that_is_possible() {
    let config = r#"{"linux": {
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 999}],
        "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 777}],
        "namespaces": [{"type": "user", "path": "/foo/bar"}]},
        "mounts": [{"source": "/some/host/path1", "destination": "/dest/path/c"},
                   {"source": "/some/host/path2", "destination": "/dest/path/b"}]}"#;
    let edits = r#"{"mounts": [
        {"hostPath": "/some/host/path3", "containerPath": "/dest/path/a", "type": "bind"},
        {"hostPath": "/some/host/path4", "containerPath": "/dest/path/d", "type": "bind",
         "options": ["rbind"]}]}"#;
    let mounts = |idmap_mounts| {
        let context = Context {
            idmap_mounts,
            ..context(Mode::Create)
        };
        let after = apply(edits, config, &host(), &context).unwrap();
        let mounts = after["mounts"].as_array().unwrap().clone();
        mounts[2..]
            .iter()
            .map(|m| m.get("options").cloned())
            .collect::<Vec<_>>()
    };
    let options = |text| Some(json(text));
    assert_eq!(
        mounts(true),
        [options(r#"["idmap"]"#), options(r#"["rbind", "ridmap"]"#)]
    );
    assert_eq!(mounts(false), [None, options(r#"["rbind"]"#)]);
}

/// Type, options, and what is added to them.
const IDMAP: [(&str, &str, Option<&str>); 9] = [
    ("bind", r"[]", Some("idmap")),
    ("", r#"["bind"]"#, Some("idmap")),
    ("", r#"["ro", "rbind"]"#, Some("ridmap")),
    ("none", r#"["bind", "rbind"]"#, Some("ridmap")),
    ("bind", r#"["rbind", "bind"]"#, Some("idmap")),
    ("bind", r#"["idmap"]"#, None),
    ("", r#"["rbind", "ridmap"]"#, None),
    ("", r"[]", None),
    ("tmpfs", r"[]", None),
];

#[test]
fn which_mounts_are_idmapped() {
    for (kind, options, added) in IDMAP {
        let edits = format!(
            r#"{{"mounts": [{{"hostPath": "/new", "containerPath": "/d", "type": "{kind}",
                "options": {options}}}]}}"#
        );
        let context = Context {
            idmap_mounts: true,
            ..context(Mode::Create)
        };
        let after = apply(&edits, "{}", &host(), &context).unwrap();
        let mut want: Vec<serde_json::Value> = serde_json::from_str(options).unwrap();
        want.extend(added.map(Into::into));
        let found = after["mounts"][0]
            .get("options")
            .cloned()
            .unwrap_or(json("[]"));
        assert_eq!(found, serde_json::Value::from(want), "{kind} {options}");
    }
}

#[test]
fn nodes_belong_to_the_process_unless_that_is_root() {
    let edits = r#"{"deviceNodes": [{"path": "/dev/null"}]}"#;
    for (uid, gid, want) in [
        (0, 0, (None, None)),
        (1000, 0, (Some(1000), None)),
        (0, 44, (None, Some(44))),
        (1000, 44, (Some(1000), Some(44))),
    ] {
        let context = Context {
            uid,
            gid,
            ..context(Mode::Create)
        };
        let after = apply(edits, "{}", &host(), &context).unwrap();
        let node = &after["linux"]["devices"][0];
        let id = |key: &str| node.get(key).and_then(serde_json::Value::as_u64);
        assert_eq!((id("uid"), id("gid")), want, "{uid}:{gid}");
    }
}
