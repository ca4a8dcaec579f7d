//! `pkg/cdi/spec_test.go`: reading, creating, writing and asking specifications.
//!
//! kusabi writes no specification files: the reference's cases for writing one
//! are cases for what may be written, and for reading back what was.

use kusabi::cdi::Spec;

const DEV1: &str = "devices:\n  - name: dev1\n    containerEdits:\n      env:\n        - FOO=BAR\n";

/// Name, text, what the error says.
fn table() -> [(&'static str, String, Option<&'static str>); 24] {
    let three = |a: &str, b: &str, c: &str| {
        let device = |name| {
            format!("  - name: \"{name}\"\n    containerEdits:\n      env: [\"FOO={name}\"]\n")
        };
        format!(
            "cdiVersion: \"0.3.0\"\nkind: vendor.com/device\ndevices:\n{}{}{}",
            device(a),
            device(b),
            device(c)
        )
    };
    let head = "cdiVersion: \"0.3.0\"\nkind: vendor.com/device\n";
    [
        // ReadSpec
        (
            "unparsable",
            "\nxyzzy: garbled\n".into(),
            Some("2:1: unknown key \"xyzzy\""),
        ),
        (
            "missing CDI version",
            format!("kind: \"vendor.com/device\"\n{DEV1}"),
            Some("cdiVersion: missing"),
        ),
        ("empty", String::new(), Some("the file is empty")),
        ("valid", format!("{head}{DEV1}"), None),
        // NewSpec
        (
            "invalid CDI version",
            format!("cdiVersion: \"0.0.0\"\nkind: \"vendor.com/device\"\n{DEV1}"),
            Some("1:13: cdiVersion: invalid version \"0.0.0\""),
        ),
        (
            "missing vendor and class",
            format!("cdiVersion: \"0.3.0\"\n{DEV1}"),
            Some("kind: missing"),
        ),
        (
            "invalid vendor",
            format!("cdiVersion: \"0.3.0\"\nkind: vendor.com-/device\n{DEV1}"),
            Some("2:7: kind: vendor \"vendor.com-\" ends with '-'"),
        ),
        (
            "invalid class",
            format!("cdiVersion: \"0.3.0\"\nkind: vendor.com/device=\n{DEV1}"),
            Some("kind: class \"device=\" contains '='"),
        ),
        (
            "missing required edits",
            format!("{head}devices:\n  - name: \"dev1\"\n"),
            Some("4:5: devices[0].containerEdits: missing"),
        ),
        (
            "conflicting devices",
            three("dev1", "dev2", "dev1"),
            Some("10:11: devices[2].name: multiple devices \"dev1\""),
        ),
        ("three devices", three("dev1", "dev2", "dev3"), None),
        // WriteSpec
        (
            "empty version",
            format!("cdiVersion: \"\"\nkind: vendor.com/device\n{DEV1}"),
            Some("invalid version \"\""),
        ),
        (
            "no devices",
            format!("{head}containerEdits:\n  env:\n    - \"FOO=BAR\"\n"),
            Some("devices: missing"),
        ),
        ("spec1", three("dev1", "dev2", "dev3"), None),
        ("spec2", three("dev4", "dev5", "dev6"), None),
        ("spec3", three("dev7", "dev8", "dev9"), None),
        // Getters
        (
            "mount with a type",
            "cdiVersion: \"0.4.0\"\nkind: vendor.com/device\ndevices:\n  - name: \"dev1\"\n    \
             containerEdits:\n      mounts:\n        - hostPath: \"tmpfs\"\n          \
             containerPath: \"/usr/local/container\"\n          type: \"tmpfs\"\n          \
             options:\n            - \"ro\"\n            - \"mode=755\"\n            \
             - \"size=65536k\"\n      env:\n        - \"FOO=BAR\"\n"
                .into(),
            None,
        ),
        // cache_test.go, files that are wrong
        (
            "kind without a slash",
            format!("cdiVersion: \"0.3.0\"\nkind: \"vendor1.comdevice\"\n{DEV1}"),
            Some("kind \"vendor1.comdevice\" has no '/'"),
        ),
        (
            "current version, kind without a slash",
            format!("cdiVersion: \"1.1.0\"\nkind: \"vendor.comdevice\"\n{DEV1}"),
            Some("kind \"vendor.comdevice\" has no '/'"),
        ),
        (
            "edits of the specification, but null",
            format!("{head}containerEdits:\n{DEV1}"),
            None,
        ),
        // Beyond
        (
            "devices: []",
            format!("{head}devices: []\n"),
            Some("devices: no devices"),
        ),
        ("null", "---\n".into(), Some("expected a map, found null")),
        (
            "a list",
            "- 1\n".into(),
            Some("expected a map, found a list"),
        ),
        (
            "a string",
            "cdi".into(),
            Some("expected a map, found a string"),
        ),
    ]
}

#[test]
fn every_specification_is_read_or_refused() {
    for (name, text, want) in table() {
        match (want, Spec::parse(text.as_bytes())) {
            (None, Ok(_)) => {}
            (Some(want), Err(problems)) => {
                let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
                assert!(all.iter().any(|p| p.contains(want)), "{name}: {all:#?}");
            }
            (want, found) => panic!("{name}: expected {want:?}, found {found:#?}"),
        }
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    for (name, text, _) in table() {
        if let Ok(spec) = Spec::parse(text.as_bytes()) {
            let json = serde_json::to_vec(&spec).unwrap();
            assert_eq!(Spec::parse(&json), Ok(spec), "{name}");
        }
    }
}
