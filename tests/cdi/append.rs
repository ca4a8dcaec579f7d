//! `pkg/cdi/container-edits_test.go`, appending: several edits become one.

use kusabi::cdi::Mode;
use kusabi::edit::{DeviceRule, Edit};

use crate::support::{Host, context, inject, json, plan, registry};

/// A specification whose devices have these edits, besides its own.
fn specification(own: &str, devices: &[&str]) -> String {
    let devices: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(i, edits)| format!(r#"{{"name": "d{i}", "containerEdits": {edits}}}"#))
        .collect();
    format!(
        r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c", "containerEdits": {own},
            "devices": [{}]}}"#,
        devices.join(", ")
    )
}

fn result(own: &str, devices: &[&str]) -> serde_json::Value {
    let registry = registry(&[("etc/v.json", specification(own, devices))]);
    assert_eq!(registry.broken(), []);
    let names: Vec<_> = (0..devices.len())
        .map(|i| format!("v.com/c=d{i}"))
        .collect();
    let host = (0..9).fold(Host::default(), |host, i| {
        host.char(&format!("/dev/dev{i}"), 10, i)
    });
    inject(&registry, &names, &host, &context(Mode::Create), "{}").unwrap()
}

const ENV: &str = r#"{"env": ["var1=val1"]}"#;

/// The reference's five cases: a specification's own edits and those of its
/// devices are what there is to append.
#[test]
fn edits_merge_in_order() {
    let env = json(r#"{"process": {"env": ["var1=val1"]}}"#);
    // Nothing into nothing.
    assert_eq!(result("null", &[r#"{"additionalGids": [0]}"#]), json("{}"));
    // Something into nothing, nothing into something.
    assert_eq!(result("null", &[ENV]), env);
    assert_eq!(
        result(ENV, &[r#"{"intelRdt": {}}"#])["process"],
        env["process"]
    );
    // Several into something.
    let several = result(
        r#"{"env": ["var0=val0"]}"#,
        &[
            r#"{"env": ["var1=val1"], "deviceNodes": [{"path": "/dev/dev1"}],
                "intelRdt": {"closID": "clos-1", "l3CacheSchema": "L3:0=ff", "schemata": ["L2: 0xFFFF"]}}"#,
            r#"{"env": ["var2=val2", "var3=val3"],
                "deviceNodes": [{"path": "/dev/dev2"}, {"path": "/dev/dev3"}]}"#,
            r#"{"env": ["var4=val4"], "deviceNodes": [{"path": "/dev/dev4"}],
                "intelRdt": {"closID": "clos-2"}}"#,
        ],
    );
    let env = json(r#"["var0=val0", "var1=val1", "var2=val2", "var3=val3", "var4=val4"]"#);
    assert_eq!(several["process"]["env"], env);
    let paths: Vec<_> = several["linux"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/dev/dev1", "/dev/dev2", "/dev/dev3", "/dev/dev4"]);
    assert_eq!(
        several["linux"]["intelRdt"],
        json(r#"{"closID": "clos-2"}"#)
    );
    // Groups: the reference keeps duplicates until they are applied.
    let gids = result(
        r#"{"additionalGids": [5]}"#,
        &[
            r#"{"additionalGids": [0]}"#,
            r#"{"additionalGids": [5]}"#,
            r#"{"additionalGids": [6, 7, 6]}"#,
        ],
    );
    assert_eq!(gids["process"]["user"]["additionalGids"], json("[5, 6, 7]"));
}

fn rules(devices: &[&str]) -> Vec<(u32, String)> {
    let registry = registry(&[("etc/v.json", specification("null", devices))]);
    let names: Vec<_> = (0..devices.len())
        .map(|i| format!("v.com/c=d{i}"))
        .collect();
    let host = (0..9).fold(Host::default(), |host, i| {
        host.char(&format!("/dev/dev{i}"), 10, i)
    });
    let plan = plan(&registry, &names, &host, &context(Mode::Create)).unwrap();
    let rule = |rule: &DeviceRule| (rule.minor.unwrap(), rule.access.letters().to_owned());
    plan.edits
        .iter()
        .filter_map(|planned| match &planned.edit {
            Edit::AllowDevice(r) => Some(rule(r)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_device_has_at_most_one_rule() {
    let node = |path: &str, host: &str, permissions: &str| {
        format!(
            r#"{{"deviceNodes": [{{"path": "{path}", "hostPath": "{host}",
                "permissions": "{permissions}"}}]}}"#
        )
    };
    let table = [
        // The same node by two devices.
        (
            ["/dev/dev1", "/dev/dev1", "r"],
            ["/dev/dev1", "/dev/dev1", "r"],
            vec![(1, "r")],
        ),
        // Two nodes for one device: what either may do.
        (
            ["/dev/a", "/dev/dev1", "r"],
            ["/dev/b", "/dev/dev1", "w"],
            vec![(1, "rw")],
        ),
        (
            ["/dev/a", "/dev/dev1", "none"],
            ["/dev/b", "/dev/dev1", "w"],
            vec![(1, "w")],
        ),
        (
            ["/dev/a", "/dev/dev1", "none"],
            ["/dev/b", "/dev/dev1", "none"],
            vec![],
        ),
        // One path twice: rights add up, as the reference's two rules do.
        (
            ["/dev/a", "/dev/dev1", "rw"],
            ["/dev/a", "/dev/dev1", "none"],
            vec![(1, "rw")],
        ),
        // One path: the later node, and no rule for the one that it replaced.
        (
            ["/dev/a", "/dev/dev1", "r"],
            ["/dev/a", "/dev/dev2", ""],
            vec![(2, "rwm")],
        ),
        (
            ["/dev/a", "/dev/dev1", "r"],
            ["/dev//a/", "/dev/dev2", ""],
            vec![(2, "rwm")],
        ),
        (
            ["/dev/a", "/dev/dev1", "r"],
            ["/dev/b", "/dev/dev2", "m"],
            vec![(1, "r"), (2, "m")],
        ),
    ];
    for ([p1, h1, a1], [p2, h2, a2], want) in table {
        let found = rules(&[&node(p1, h1, a1), &node(p2, h2, a2)]);
        let want: Vec<_> = want.into_iter().map(|(m, a)| (m, a.to_owned())).collect();
        assert_eq!(found, want, "{p1} {h1} {a1}; {p2} {h2} {a2}");
    }
}

#[test]
fn the_same_hook_of_two_devices_runs_once() {
    let hook = r#"{"hooks": [{"hookName": "prestart", "path": "/h", "args": ["h"]}]}"#;
    let other = r#"{"hooks": [{"hookName": "prestart", "path": "/h", "args": ["h", "2"]}]}"#;
    let found = result("null", &[hook, hook, other]);
    assert_eq!(
        found["hooks"]["prestart"],
        json(r#"[{"path": "/h", "args": ["h"]}, {"path": "/h", "args": ["h", "2"]}]"#)
    );
}

#[test]
fn one_interface_name_cannot_be_two_interfaces() {
    let device = |host: &str, name: &str| {
        format!(r#"{{"netDevices": [{{"hostInterfaceName": "{host}", "name": "{name}"}}]}}"#)
    };
    let outcome = |first: &str, second: &str| {
        let registry = registry(&[("etc/v.json", specification("null", &[first, second]))]);
        let names = ["v.com/c=d0", "v.com/c=d1"];
        inject(
            &registry,
            &names,
            &Host::default(),
            &context(Mode::Create),
            "{}",
        )
    };
    assert_eq!(
        outcome(&device("eth1", "net0"), &device("eth2", "net0")).unwrap_err(),
        "cdi v.com/c=d1 (/etc/cdi/v.json): network interface \"net0\": would be both \"eth1\" and \
         \"eth2\" of the host"
    );
    let same = outcome(&device("eth1", "net0"), &device("eth1", "net0")).unwrap();
    assert_eq!(
        same["linux"]["netDevices"],
        json(r#"{"eth1": {"name": "net0"}}"#)
    );
}

/// Written for 0.7.0 to 1.0.0, where the reference no longer knows the fields.
#[test]
fn old_monitoring_fields_ask_for_a_monitoring_group() {
    let text = r#"{"cdiVersion": "0.7.0", "kind": "v.com/c", "devices": [{"name": "d",
        "containerEdits": {"intelRdt": {"closID": "x", "enableCMT": true}}}]}"#;
    let registry = registry(&[("etc/v.json", text)]);
    let found = inject(
        &registry,
        &["v.com/c=d"],
        &Host::default(),
        &context(Mode::Create),
        "{}",
    );
    assert_eq!(
        found.unwrap()["linux"]["intelRdt"],
        json(r#"{"closID": "x", "enableMonitoring": true}"#)
    );
}
