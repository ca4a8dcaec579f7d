//! The bytes of a CDI file: read, judged, and every device of it applied.

use std::path::PathBuf;

use kusabi::cdi::{Context, Mode, Registry, Spec, SpecFile};
use kusabi::document::Document;
use kusabi::edit::apply;
use kusabi::policy::Policy;
use kusabi::request::{Flags, collect};

use super::one_line;

const CONFIG: &[u8] = br#"{"ociVersion":"1.0.2","process":{"user":{"uid":7,"gid":8},"args":["x"],"cwd":"/","env":["A=b"]},"root":{"path":"r"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],"linux":{}}"#;

/// What is refused has a reason; what is not can be applied, twice as once, or
/// says in one line why not.
pub fn run(data: &[u8]) {
    let known = match Spec::parse(data) {
        Ok(spec) => {
            let findings = spec.validate();
            assert_eq!(findings, [], "read, and then not valid");
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems.iter().for_each(one_line);
            false
        }
    };
    let file = SpecFile {
        path: PathBuf::from("/etc/cdi/fuzz.json"),
        priority: 0,
        content: Ok(data.to_vec()),
    };
    let registry = Registry::load(vec![PathBuf::from("/etc/cdi")], vec![file]);
    registry.broken().iter().for_each(one_line);
    let devices: Vec<String> = registry
        .devices()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(known || devices.is_empty(), "devices of a broken file");
    let flags = Flags {
        devices,
        ..Flags::default()
    };
    let document = Document::parse(CONFIG).expect("a configuration");
    let requests = collect(&document, &flags, &Policy::default()).expect("names that were read");
    let wanted = requests.decide().expect("no others ask").devices;
    for mode in [Mode::Explain, Mode::Create] {
        let context = Context {
            uid: 7,
            gid: 8,
            idmap_mounts: true,
            mode,
        };
        let plan = match registry
            .resolve(&wanted)
            .and_then(|resolution| resolution.plan(&super::host(), &context))
        {
            Ok(plan) => plan,
            Err(error) => {
                one_line(error);
                continue;
            }
        };
        match apply(&document, &plan) {
            Ok(once) => {
                let read = Document::parse(once.as_bytes()).expect("the result can be read");
                let twice = apply(&read, &plan).expect("applied again");
                assert_eq!(once.as_bytes(), twice.as_bytes(), "twice is not once");
            }
            Err(error) => one_line(error),
        }
    }
}
