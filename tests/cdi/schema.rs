//! The fixtures of `schema/testdata`, and what the JSON definition says about
//! types, for every field.

use kusabi::cdi::Spec;

fn problems(text: &str) -> Vec<String> {
    match Spec::parse(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

const MINIMAL: &str = r#"{
  "cdiVersion": "0.3.0",
  "kind": "vendor.com/device",
  "devices": [
    {"name": "myDevice", "containerEdits": {"deviceNodes": [{"path": "/dev/card1"}]}}
  ]
}"#;

/// The example of the specification itself.
const EXAMPLE: &str = r#"{
  "cdiVersion": "0.6.0",
  "kind": "vendor.com/device",
  "devices": [
    {
      "name": "myDevice",
      "containerEdits": {
        "deviceNodes": [
          {"hostPath": "/vendorroot/dev/card1", "path": "/dev/card1"},
          {"path": "/dev/card2"}
        ]
      }
    }
  ],
  "containerEdits": {
    "env": ["FOO=CDI_SPEC", "BAR=BARVALUE1"],
    "deviceNodes": [{"path": "/dev/vendorctl", "uid": 1000, "gid": 1000}],
    "mounts": [
      {"hostPath": "/bin/vendorBin", "containerPath": "/bin/vendorBin"},
      {"hostPath": "/usr/lib/libVendor.so.0", "containerPath": "/usr/lib/libVendor.so.0"}
    ],
    "hooks": [
      {"hookName": "createContainer", "path": "/bin/vendor-hook"},
      {"hookName": "startContainer", "path": "/usr/bin/ldconfig"}
    ]
  }
}"#;

#[test]
fn good_fixtures_are_accepted() {
    assert_eq!(problems(MINIMAL), [""; 0]);
    assert_eq!(problems(EXAMPLE), [""; 0]);
    let spec = Spec::parse(EXAMPLE.as_bytes()).unwrap();
    let card1 = &spec.devices[0].container_edits.device_nodes[0];
    assert_eq!(
        (card1.host(), card1.path.as_str()),
        ("/vendorroot/dev/card1", "/dev/card1")
    );
    let control = &spec.container_edits.device_nodes[0];
    assert_eq!((control.uid, control.gid), (Some(1000), Some(1000)));
    assert_eq!(spec.container_edits.hooks[1].path, "/usr/bin/ldconfig");
}

#[test]
fn bad_fixtures_are_refused() {
    assert_eq!(problems(""), ["1:1: the file is empty"]);
    assert_eq!(
        problems("{}"),
        [
            "1:1: cdiVersion: missing",
            "1:1: kind: missing",
            "1:1: devices: missing"
        ]
    );
}

/// Every field of every version.
const EVERY_FIELD: &str = r#"{
  "cdiVersion": "1.1.0",
  "kind": "vendor.com/class",
  "annotations": {"Key": "value", "key": "2"},
  "devices": [{
    "name": "d",
    "annotations": {"a": "b"},
    "containerEdits": {
      "env": ["A=b"],
      "deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b", "type": "c", "major": 195,
        "minor": 7, "fileMode": 438, "permissions": "rw", "uid": 1, "gid": 2}],
      "netDevices": [{"hostInterfaceName": "eth1", "name": "net0"}],
      "hooks": [{"hookName": "poststop", "path": "/h", "args": ["h"], "env": ["E=f"], "timeout": 9}],
      "mounts": [{"hostPath": "/m", "containerPath": "/n", "options": ["ro"], "type": "bind"}],
      "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50",
        "schemata": ["L2:0=f"], "enableMonitoring": true},
      "additionalGids": [3, 4294967295]
    }
  }]
}"#;

const EVERY_FIELD_YAML: &str = "---
CDIVersion: 1.1.0
KIND: vendor.com/class
annotations: {Key: value, key: 2}
Devices:
- Name: d
  annotations: &a {a: b}
  ContainerEdits:
    ENV: [A=b]
    devicenodes:
    - path: /dev/a
      HostPath: /dev/b
      type: c
      major: 0xc3
      minor: 7
      fileMode: 0666
      permissions: rw
      UID: 1
      GID: 2
    netDevices: [{hostInterfaceName: eth1, name: net0}]
    hooks:
    - {hookName: poststop, path: /h, args: [h], env: [E=f], timeout: 9}
    mounts:
    - {hostPath: /m, containerPath: /n, options: [ro], type: bind}
    intelRdt:
      closID: c
      l3CacheSchema: L3:0=f
      memBwSchema: MB:0=50
      schemata: ['L2:0=f']
      enableMonitoring: yes
    additionalGIDs: [3, 4294967295]
";

#[test]
fn yaml_and_json_say_the_same_whatever_the_case_of_keys() {
    let json = Spec::parse(EVERY_FIELD.as_bytes()).unwrap();
    let yaml = Spec::parse(EVERY_FIELD_YAML.as_bytes()).unwrap();
    assert_eq!(json, yaml);
    // Nothing is lost on the way: the parsed value prints as the same JSON.
    let printed = serde_json::to_value(&json).unwrap();
    let expected: serde_json::Value = serde_json::from_str(EVERY_FIELD).unwrap();
    assert_eq!(printed, expected);
}

#[test]
fn every_key_is_checked_in_every_place() {
    let original: serde_json::Value = serde_json::from_str(EVERY_FIELD).unwrap();
    let mut maps = Vec::new();
    pointers(&original, String::new(), &mut maps);
    maps.retain(|pointer| !pointer.ends_with("annotations"));
    assert_eq!(maps.len(), 8, "{maps:?}");
    for pointer in maps {
        let mut spec = original.clone();
        let map = spec.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
        map.insert("surprise".into(), 1.into());
        let found = problems(&spec.to_string());
        assert!(
            found.len() == 1 && found[0].contains("unknown key \"surprise\" (known here: "),
            "{pointer}: {found:?}"
        );
        // A known key again, in another case, in the same map.
        let mut spec = original.clone();
        let map = spec.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
        let (key, value) = map
            .iter()
            .next()
            .map(|(k, v)| (k.clone(), v.clone()))
            .unwrap();
        map.insert(key.to_uppercase(), value);
        let found = problems(&spec.to_string());
        assert!(found[0].contains("duplicate key"), "{pointer}: {found:?}");
    }
}

fn pointers(value: &serde_json::Value, at: String, maps: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                pointers(value, format!("{at}/{key}"), maps);
            }
            maps.push(at);
        }
        serde_json::Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, format!("{at}/{i}"), maps);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_refuses_the_wrong_type() {
    let original: serde_json::Value = serde_json::from_str(EVERY_FIELD).unwrap();
    let mut tried = 0;
    for pointer in leaves(&original, String::new()) {
        // Null is the same as absent, so a list or map where there was none.
        for wrong in ["{\"x\": 1}", "[[1]]"] {
            let mut spec = original.clone();
            let slot = spec.pointer_mut(&pointer).unwrap();
            *slot = serde_json::from_str(wrong).unwrap();
            let found = problems(&spec.to_string());
            assert!(!found.is_empty(), "{pointer} took {wrong}");
            let field = pointer
                .rsplit('/')
                .find(|s| s.parse::<usize>().is_err())
                .unwrap();
            assert!(found[0].contains(field), "{pointer}: {found:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 2 * 34);
}

/// Every scalar, and every list of scalars as a whole.
fn leaves(value: &serde_json::Value, at: String) -> Vec<String> {
    match value {
        serde_json::Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| leaves(value, format!("{at}/{key}")))
            .collect(),
        serde_json::Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| leaves(item, format!("{at}/{i}")))
            .collect(),
        _ => vec![at],
    }
}

#[test]
fn numbers_have_bounds() {
    for (field, value, want) in [
        (
            "uid",
            "4294967296",
            "uid: 4294967296 is out of range, 0 to 4294967295",
        ),
        ("gid", "-1", "gid: -1 is out of range, 0 to 4294967295"),
        (
            "major",
            "\"195\"",
            "major: expected an integer, found the string \"195\"",
        ),
        ("minor", "1.5", "minor: expected an integer, found \"1.5\""),
        (
            "fileMode",
            "\"0666\"",
            "fileMode: expected an integer, found the string \"0666\"",
        ),
        ("major", "9223372036854775808", "out of range"),
        (
            "major",
            "99999999999999999999999999999999999999999999",
            "expected an integer",
        ),
    ] {
        let spec = format!(
            r#"{{"cdiVersion": "1.0.0", "kind": "v.com/c", "devices": [{{"name": "d",
                "containerEdits": {{"deviceNodes": [{{"path": "/dev/a", "{field}": {value}}}]}}}}]}}"#
        );
        let found = problems(&spec);
        assert!(
            found.len() == 1 && found[0].contains(want),
            "{field} {value}: {found:?}"
        );
    }
}

#[test]
fn hooks_are_a_list_not_a_map_by_stage() {
    let found = problems(
        r#"{"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits":
            {"hooks": {"prestart": [{"path": "/h"}]}}}]}"#,
    );
    assert_eq!(
        found,
        ["2:23: devices[0].containerEdits.hooks: expected a list, found a map"]
    );
}

#[test]
fn several_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let found = problems(
        "cdiVersion: 0.3.0\nkind: v.com/c\ndevices:\n- name: 0\n  containerEdits:\n    \
         env: [A]\n    deviceNodes:\n    - path: /dev/a\n      hostPath: /dev/b\n      type: x\n",
    );
    assert_eq!(
        found,
        [
            "4:9: devices[0].name: a device name that starts with a digit needs CDI 0.5.0, the \
             file declares 0.3.0 (the spec version must be at least v0.5.0)",
            "6:11: devices[0].containerEdits.env[0]: invalid environment variable \"A\", \
             expected NAME=value",
            "9:17: devices[0].containerEdits.deviceNodes[0].hostPath: hostPath needs CDI 0.5.0, \
             the file declares 0.3.0 (the spec version must be at least v0.5.0)",
            "10:13: devices[0].containerEdits.deviceNodes[0].type: invalid type \"x\", expected \
             b, c, u or p",
        ]
    );
}

#[test]
fn more_than_eight_mebibytes_are_refused_unread() {
    let mut text = MINIMAL.to_owned();
    text.push_str(&" ".repeat((8 << 20) - text.len()));
    assert_eq!(problems(&text), [""; 0]);
    text.push(' ');
    assert_eq!(
        problems(&text),
        ["1:1: 8388609 bytes, more than the 8388608 that a specification may have"]
    );
}

#[test]
fn bytes_that_are_no_text_have_a_place_too() {
    let found = Spec::parse(b"cdiVersion: 0.3.0\nkind: \xff").unwrap_err();
    assert_eq!(found[0].to_string(), "2:7: not UTF-8");
}

#[test]
fn keys_that_are_gone_or_elsewhere_get_a_hint() {
    let found = problems(
        "cdiVersion: 0.3.0\nkind: v.com/c\ndevices:\n- name: d\n  containerEdits:\n    mounts:\n    \
         - {source: /a, containerPath: /a}\n",
    );
    assert_eq!(
        found,
        [
            "7:7: devices[0].containerEdits.mounts[0].hostPath: missing",
            "7:8: devices[0].containerEdits.mounts[0]: unknown key \"source\" (the source is hostPath)",
        ]
    );
}
