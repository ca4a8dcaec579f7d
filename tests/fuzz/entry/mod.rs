//! What is fuzzed: one module a target, each with a `run` that takes any bytes
//! and panics where a promise is broken.
//!
//! Nothing here touches the host but `service`, which asks for no machine's
//! files.

pub mod annotations;
pub mod arguments;
pub mod cdi;
pub mod config;
pub mod names;
pub mod policy;
pub mod records;
pub mod service;

use std::path::PathBuf;

use kusabi::cdi::{Registry, SpecFile};
use kusabi::host::facts::{FileFacts, FileKind, Presence, Snapshot};

/// A target: its name, which is that of its seeds' directory, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("annotations", annotations::run),
    ("arguments", arguments::run),
    ("cdi", cdi::run),
    ("config", config::run),
    ("names", names::run),
    ("policy", policy::run),
    ("records", records::run),
    ("service", service::run),
];

/// What holds of every error: one line, and something in it.
fn one_line(error: impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty(), "an error without words");
    assert!(!text.contains('\n'), "more than one line: {text:?}");
}

/// A registry of one file that uses every kind of edit.
fn registry() -> Registry {
    const SPEC: &[u8] = include_bytes!("../seeds/cdi/full.yaml");
    Registry::load(
        vec![PathBuf::from("/etc/cdi")],
        vec![SpecFile {
            path: PathBuf::from("/etc/cdi/vendor.yaml"),
            priority: 0,
            content: Ok(SPEC.to_vec()),
        }],
    )
}

/// A host with the nodes that the registry's file and the seeds name.
fn host() -> Snapshot {
    let nodes = [
        ("/dev/null", FileKind::Char, 1, 3),
        ("/dev/zero", FileKind::Char, 1, 5),
        ("/dev/full", FileKind::Char, 1, 7),
        ("/dev/fuse", FileKind::Char, 10, 229),
        ("/dev/loop0", FileKind::Block, 7, 0),
    ];
    let mut host = Snapshot::default();
    for (path, kind, major, minor) in nodes {
        let facts = FileFacts {
            kind,
            mode: 0o666,
            uid: 0,
            gid: 0,
            major,
            minor,
            target: None,
        };
        host.files.insert(path.into(), Presence::Present(facts));
    }
    host
}
