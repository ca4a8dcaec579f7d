//! `specs-go/version_test.go` and the version table of `pkg/cdi/spec_test.go`.

use kusabi::cdi::schema::{ContainerEdits, Device, DeviceNode, IntelRdt, Mount, NetDevice};
use kusabi::cdi::{Spec, Version, minimum_version};

fn edits(set: impl FnOnce(&mut ContainerEdits)) -> ContainerEdits {
    let mut edits = ContainerEdits::default();
    set(&mut edits);
    edits
}

fn on_spec(set: impl FnOnce(&mut ContainerEdits)) -> Spec {
    Spec {
        container_edits: edits(set),
        ..Spec::default()
    }
}

fn on_device(name: &str, set: impl FnOnce(&mut ContainerEdits)) -> Spec {
    Spec {
        devices: vec![Device {
            name: name.into(),
            container_edits: edits(set),
            ..Device::default()
        }],
        ..Spec::default()
    }
}

fn env(edits: &mut ContainerEdits) {
    edits.env = vec!["FOO=bar".into()];
}

fn host_path(path: &str, host_path: &str) -> impl FnOnce(&mut ContainerEdits) {
    let node = DeviceNode {
        path: path.into(),
        host_path: host_path.into(),
        ..DeviceNode::default()
    };
    |edits| edits.device_nodes = vec![node]
}

fn mount_type(edits: &mut ContainerEdits) {
    edits.mounts = vec![Mount {
        kind: "bind".into(),
        ..Mount::default()
    }];
}

fn rdt(set: impl FnOnce(&mut IntelRdt)) -> impl FnOnce(&mut ContainerEdits) {
    let mut rdt = IntelRdt::default();
    set(&mut rdt);
    |edits| edits.intel_rdt = Some(rdt)
}

fn gids(edits: &mut ContainerEdits) {
    edits.additional_gids = vec![5];
}

fn annotated(mut spec: Spec) -> Spec {
    spec.annotations.insert("key".into(), "value".into());
    spec
}

fn of_kind(kind: &str) -> Spec {
    Spec {
        kind: kind.into(),
        ..Spec::default()
    }
}

fn minimum_table() -> [(&'static str, Spec, &'static str); 30] {
    let mut annotated_device = on_device("device0", env);
    annotated_device.devices[0]
        .annotations
        .insert("key".into(), "value".into());
    let newest = annotated(on_spec(|e| {
        host_path("", "/host/path/set")(e);
        mount_type(e);
    }));
    let newest_of_three = annotated(on_spec(|e| {
        gids(e);
        e.net_devices = vec![NetDevice::default()];
    }));
    [
        ("empty", Spec::default(), "0.3.0"),
        (
            "hostPath",
            on_spec(host_path("", "/host/path/set")),
            "0.5.0",
        ),
        (
            "hostPath like path",
            on_spec(host_path("/some/path", "/some/path")),
            "0.5.0",
        ),
        ("mount type", on_spec(mount_type), "0.4.0"),
        ("the newest counts", newest, "0.6.0"),
        ("device 0", on_device("0", env), "0.5.0"),
        ("device0", on_device("device0", env), "0.3.0"),
        ("annotations", annotated(Spec::default()), "0.6.0"),
        ("annotations of a device", annotated_device, "0.6.0"),
        ("dot in the class", of_kind("vendor.com/class.sub"), "0.6.0"),
        ("rdt", on_spec(rdt(|r| r.clos_id = "foo".into())), "0.7.0"),
        (
            "rdt on a device",
            on_device("d", rdt(|r| r.clos_id = "foo".into())),
            "0.7.0",
        ),
        ("gids", on_spec(gids), "0.7.0"),
        ("gids on a device", on_device("d", gids), "0.7.0"),
        (
            "schemata",
            on_spec(rdt(|r| r.schemata = Some(vec!["foo".into()]))),
            "1.1.0",
        ),
        (
            "monitoring",
            on_spec(rdt(|r| r.enable_monitoring = true)),
            "1.1.0",
        ),
        (
            "schemata on a device",
            on_device("d", rdt(|r| r.schemata = Some(vec!["foo".into()]))),
            "1.1.0",
        ),
        (
            "monitoring on a device",
            on_device("d", rdt(|r| r.enable_monitoring = true)),
            "1.1.0",
        ),
        // specs-go repeats some of the above; these are its others.
        ("device 0example", on_device("0example", |_| {}), "0.5.0"),
        ("empty rdt", on_spec(rdt(|_| {})), "0.7.0"),
        (
            "net device",
            on_spec(|e| e.net_devices = vec![NetDevice::default()]),
            "1.1.0",
        ),
        ("the newest of three", newest_of_three, "1.1.0"),
        // Beyond its tables, in its code.
        (
            "net device on a device",
            on_device("d", |e| e.net_devices = vec![NetDevice::default()]),
            "1.1.0",
        ),
        (
            "schemata, but none",
            on_spec(rdt(|r| r.schemata = Some(vec![]))),
            "1.1.0",
        ),
        (
            "hostPath on a device",
            on_device("d", host_path("/a", "/b")),
            "0.5.0",
        ),
        (
            "mount type on a device",
            on_device("d", mount_type),
            "0.4.0",
        ),
        ("dot in the vendor", of_kind("vendor.com/class"), "0.3.0"),
        (
            "a type of device node",
            on_spec(|e| {
                e.device_nodes = vec![DeviceNode {
                    kind: "c".into(),
                    ..DeviceNode::default()
                }];
            }),
            "0.3.0",
        ),
        // Written for 0.7.0 to 1.0.0; the reference has forgotten the fields.
        (
            "cache monitoring",
            on_spec(rdt(|r| r.enable_cmt = true)),
            "0.7.0",
        ),
        (
            "bandwidth monitoring",
            on_spec(rdt(|r| r.enable_mbm = true)),
            "0.7.0",
        ),
    ]
}

#[test]
fn the_least_version_is_known() {
    for (name, spec, want) in minimum_table() {
        assert_eq!(minimum_version(&spec).text(), want, "{name}");
    }
}

/// Declared version, what goes into `containerEdits`, what the error says.
const DECLARED: [(&str, &str, Option<&str>); 22] = [
    ("1.1.0", "", None),
    ("v1.1.0", "", None),
    ("0.3.0", "", None),
    (
        "0.1.0",
        "",
        Some("the spec version must be at least v0.3.0"),
    ),
    (
        "v0.2.0",
        "",
        Some("the spec version must be at least v0.3.0"),
    ),
    ("1.2.0", "", Some("invalid version \"1.2.0\"")),
    (
        "not-a-version",
        "",
        Some("invalid version \"not-a-version\""),
    ),
    (
        "0.6.0",
        r#""additionalGids": [1]"#,
        Some("the spec version must be at least v0.7.0"),
    ),
    ("0.7.0", r#""additionalGids": [1]"#, None),
    ("1.1.0", r#""additionalGids": [1]"#, None),
    // Beyond.
    ("0.4.0", "", None),
    ("0.5.0", "", None),
    ("0.6.0", "", None),
    ("0.8.0", "", None),
    ("1.0.0", "", None),
    ("vv1.0.0", "", Some("invalid version \"vv1.0.0\"")),
    ("1.1", "", Some("invalid version \"1.1\"")),
    ("", "", Some("invalid version \"\"")),
    (
        "1.0.0",
        r#""intelRdt": {"enableMonitoring": true}"#,
        Some("containerEdits.intelRdt.enableMonitoring: enableMonitoring needs CDI 1.1.0"),
    ),
    (
        "1.0.0",
        r#""intelRdt": {"enableCMT": true, "enableMBM": true}"#,
        None,
    ),
    (
        "1.1.0",
        r#""intelRdt": {"enableCMT": true}"#,
        Some("intelRdt.enableCMT: gone since CDI 1.1.0"),
    ),
    (
        "0.3.0",
        r#""mounts": [{"hostPath": "a", "containerPath": "/a", "type": "tmpfs"}]"#,
        Some("mounts[0].type: a mount type needs CDI 0.4.0, the file declares 0.3.0"),
    ),
];

#[test]
fn a_file_may_use_what_its_version_has() {
    for (version, edits, want) in DECLARED {
        let spec = format!(
            r#"{{"cdiVersion": "{version}", "kind": "v.com/c", "containerEdits": {{{edits}}},
                "devices": [{{"name": "d", "containerEdits": {{"env": ["A=b"]}}}}]}}"#
        );
        match (want, Spec::parse(spec.as_bytes())) {
            (None, Ok(_)) => {}
            (Some(want), Err(problems)) => {
                assert!(
                    problems[0].to_string().contains(want),
                    "{version}: {problems:?}"
                );
            }
            (want, found) => panic!("{version} {edits}: expected {want:?}, found {found:?}"),
        }
    }
}

#[test]
fn the_current_version_is_valid() {
    assert_eq!(
        Version::parse(Version::CURRENT.text()),
        Ok(Version::CURRENT)
    );
    assert_eq!(Version::parse("0.3.0"), Ok(Version::EARLIEST));
}
