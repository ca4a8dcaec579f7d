//! `pkg/cdi/annotations_test.go`: devices asked for by annotation.
//!
//! kusabi reads annotations and writes none. Of the reference's cases for keys
//! and for writing, what they produce is read here; a key is never refused,
//! since the reference's reader does not look at it either.

use kusabi::document::Document;
use kusabi::policy::Policy;
use kusabi::request::{Flags, What, collect};

/// The devices that annotations ask for, or the error.
fn parse(annotations: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let entries: Vec<_> = annotations
        .iter()
        .map(|(key, value)| format!("{}: {}", serde_json::json!(key), serde_json::json!(value)))
        .collect();
    let config = format!("{{\"annotations\": {{{}}}}}", entries.join(", "));
    let document = Document::parse(config.as_bytes()).map_err(|e| e.to_string())?;
    let requests = collect(&document, &Flags::default(), &Policy::default())
        .map_err(|e| e.to_string())?
        .devices;
    let mut names: Vec<_> = requests
        .iter()
        .map(|request| match &request.what {
            What::Cdi(name) => name.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort();
    Ok(names)
}

type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    Result<&'static [&'static str], &'static str>,
);

const THREE_OF_ONE: &str =
    "vendor.com/class=device1,vendor.com/class=device2,vendor.com/class=device3";
const THREE_OF_THIRD: &str =
    "vendor3.com/class2=device1,vendor3.com/class2=device2,vendor3.com/class2=device3";
const ONE: &[&str] = &["vendor.com/class=device"];
const THREE: &[&str] = &[
    "vendor.com/class=device1",
    "vendor.com/class=device2",
    "vendor.com/class=device3",
];
const SIX: &[&str] = &[
    "vendor1.com/class=device1",
    "vendor2.com/class=device1",
    "vendor2.com/class=device2",
    "vendor3.com/class2=device1",
    "vendor3.com/class2=device2",
    "vendor3.com/class2=device3",
];

const PARSED: [Case; 23] = [
    // The injection race of regressions_test.go
    ("no annotations", &[], Ok(&[])),
    (
        "a word",
        &[("cdi.k8s.io/devices", "foobar")],
        Err("\"foobar\": it has no '='"),
    ),
    // ParseAnnotations
    (
        "one vendor, one device",
        &[("cdi.k8s.io/vendor.class_device", "vendor.com/class=device1")],
        Ok(&["vendor.com/class=device1"]),
    ),
    (
        "one vendor, several devices",
        &[("cdi.k8s.io/vendor.class_device", THREE_OF_ONE)],
        Ok(THREE),
    ),
    (
        "one plugin, one device",
        &[("cdi.k8s.io/vendor.class_device", "vendor.com/class=device")],
        Ok(ONE),
    ),
    (
        "one plugin, several devices",
        &[("cdi.k8s.io/vendor.class_device", THREE_OF_ONE)],
        Ok(THREE),
    ),
    (
        "several plugins, several devices",
        &[
            (
                "cdi.k8s.io/vendor1.class_device",
                "vendor1.com/class=device1",
            ),
            (
                "cdi.k8s.io/vendor2.class_device",
                "vendor2.com/class=device1,vendor2.com/class=device2",
            ),
            ("cdi.k8s.io/vendor3.class2_device", THREE_OF_THIRD),
        ],
        Ok(SIX),
    ),
    (
        "a malformed device",
        &[
            (
                "cdi.k8s.io/vendor1.class1_device",
                "vendor1.com/class1=device1",
            ),
            (
                "cdi.k8s.io/vendor2.class2_device",
                "vendor2.com/class2=device2",
            ),
            ("cdi.k8s.io/vendor3.class_device", "vendor3.com=device3"),
        ],
        Err("annotation cdi.k8s.io/vendor3.class_device: invalid CDI device name"),
    ),
    (
        "a path",
        &[
            (
                "cdi.k8s.io/vendor1.class2_device",
                "vendor1.com/class2=device1,vendor1.com/class2=device2",
            ),
            ("cdi.k8s.io/vendor2.class_device", "/dev/null"),
        ],
        Err("\"/dev/null\": it is a path"),
    ),
    // UpdateAnnotations: what it writes, and what it would not
    (
        "written for several devices of one plugin",
        &[
            (
                "cdi.k8s.io/vendor1.class_device1",
                "vendor1.com/class=device1",
            ),
            (
                "cdi.k8s.io/vendor1.class_device2",
                "vendor2.com/class=device1,vendor2.com/class=device2",
            ),
            ("cdi.k8s.io/vendor3.class2_device", THREE_OF_THIRD),
        ],
        Ok(SIX),
    ),
    (
        "not written, malformed among others",
        &[(
            "cdi.k8s.io/vendor2.class_device",
            "vendor2.com/class=device1,vendor2.com/device2",
        )],
        Err("\"vendor2.com/device2\": it has no '='"),
    ),
    (
        "not written, a path among others",
        &[(
            "cdi.k8s.io/vendor3.class2_device",
            "vendor3.com/class2=device1,/dev/null",
        )],
        Err("\"/dev/null\": it is a path"),
    ),
    (
        "not written, a key twice",
        &[
            (
                "cdi.k8s.io/vendor3.class2_device",
                "vendor3.com/class2=device0",
            ),
            (
                "cdi.k8s.io/vendor3.class2_device",
                "vendor3.com/class2=device1",
            ),
        ],
        Err("duplicate"),
    ),
    // AnnotationKey: keys that it makes, and some that it would not
    (
        "a key with all characters",
        &[(
            "cdi.k8s.io/v-e.n_d.or.cl-as_s_d_e-v-i-c_e",
            "vendor.com/class=device",
        )],
        Ok(ONE),
    ),
    (
        "a key that does not start with a letter or digit",
        &[("cdi.k8s.io/_vendor.class_device", "vendor.com/class=device")],
        Ok(ONE),
    ),
    (
        "a key that does not end with one",
        &[("cdi.k8s.io/vendor.class_device_", "vendor.com/class=device")],
        Ok(ONE),
    ),
    (
        "a key with other characters",
        &[(
            "cdi.k8s.io/ven.dor-cl+ass_dev+ice",
            "vendor.com/class=device",
        )],
        Ok(ONE),
    ),
    (
        "a key of 64 characters",
        &[(
            "cdi.k8s.io/123456789012345678901234567890123456789012345678901234567_device",
            "vendor.com/class=device",
        )],
        Ok(ONE),
    ),
    // Beyond
    (
        "an empty key",
        &[("cdi.k8s.io/", "vendor.com/class=device")],
        Ok(ONE),
    ),
    (
        "another prefix",
        &[
            ("cdi.k8s.iox/a", "x"),
            ("k8s.io/cdi", "y"),
            ("cdi.k8s.io", "z"),
        ],
        Ok(&[]),
    ),
    // The specification of the annotation: an empty value is an error.
    (
        "an empty value",
        &[("cdi.k8s.io/a", "")],
        Err("the value is empty"),
    ),
    (
        "a space",
        &[("cdi.k8s.io/a", "vendor.com/class=a, vendor.com/class=b")],
        Err("vendor \" vendor.com\" starts with ' '"),
    ),
    (
        "a trailing comma",
        &[("cdi.k8s.io/a", "vendor.com/class=a,")],
        Err("it is empty"),
    ),
];

#[test]
fn annotations_ask_for_devices() {
    for (name, annotations, want) in PARSED {
        match (want, parse(annotations)) {
            (Ok(want), Ok(found)) => assert_eq!(found, want, "{name}"),
            (Err(want), Err(error)) => assert!(error.contains(want), "{name}: {error}"),
            (want, found) => panic!("{name}: expected {want:?}, found {found:?}"),
        }
    }
}
