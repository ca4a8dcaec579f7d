//! Registries from text, hosts from lists, and what a container's configuration
//! becomes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kusabi::cdi::{Context, Mode, QualifiedName, Registry, SpecFile, Wanted};
use kusabi::document::Document;
use kusabi::edit::{Plan, Source, apply};
use kusabi::host::facts::{FileFacts, FileKind, Presence, Snapshot};
use serde_json::Value;

/// The two directories of most tables, lowest priority first.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/run/cdi"];

/// A registry of `etc/NAME` and `run/NAME` files.
pub fn registry<T: AsRef<str>>(files: &[(&str, T)]) -> Registry {
    let files = files
        .iter()
        .map(|(path, text)| {
            let (dir, name) = path.split_once('/').unwrap();
            let priority = ["etc", "run"].iter().position(|d| *d == dir).unwrap();
            SpecFile {
                path: PathBuf::from(DIRS[priority]).join(name),
                priority,
                content: Ok(text.as_ref().as_bytes().to_vec()),
            }
        })
        .collect();
    Registry::load(DIRS.map(PathBuf::from).to_vec(), files)
}

/// `/etc/cdi/x` and `/run/cdi/x` as `etc/x` and `run/x`.
pub fn short(path: &std::path::Path) -> String {
    let path = path.to_str().unwrap();
    path.strip_prefix("/etc/cdi/").map_or_else(
        || path.replace("/run/cdi/", "run/"),
        |name| format!("etc/{name}"),
    )
}

pub fn wanted<T: AsRef<str>>(names: &[T]) -> Wanted {
    names
        .iter()
        .map(|name| {
            let source = Source::Flag {
                flag: "--device",
                value: name.as_ref().into(),
            };
            let name = QualifiedName::parse(name.as_ref()).unwrap();
            (name, BTreeSet::from([source]))
        })
        .collect()
}

pub fn context(mode: Mode) -> Context {
    Context {
        uid: 0,
        gid: 0,
        idmap_mounts: false,
        mode,
    }
}

pub fn file(kind: FileKind, major: u32, minor: u32, mode: u32) -> Presence {
    Presence::Present(FileFacts {
        kind,
        mode,
        uid: 0,
        gid: 0,
        major,
        minor,
        target: None,
    })
}

/// A host with exactly these files; anything else is absent.
#[derive(Default)]
pub struct Host(pub Snapshot);

impl Host {
    pub fn with(mut self, path: &str, presence: Presence) -> Self {
        self.0.files.insert(path.into(), presence);
        self
    }

    pub fn char(self, path: &str, major: u32, minor: u32) -> Self {
        self.with(path, file(FileKind::Char, major, minor, 0o666))
    }

    pub fn block(self, path: &str, major: u32, minor: u32) -> Self {
        self.with(path, file(FileKind::Block, major, minor, 0o660))
    }

    pub fn regular(self, path: &str) -> Self {
        self.with(path, file(FileKind::File, 0, 0, 0o755))
    }
}

pub fn plan<T: AsRef<str>>(
    registry: &Registry,
    names: &[T],
    host: &Host,
    context: &Context,
) -> Result<Plan, String> {
    let resolution = registry
        .resolve(&wanted(names))
        .map_err(|e| e.to_string())?;
    let mut snapshot = host.0.clone();
    for path in resolution.needs() {
        snapshot.files.entry(path).or_insert(Presence::Absent);
    }
    resolution
        .plan(&snapshot, context)
        .map_err(|e| e.to_string())
}

/// The configuration after injecting devices into it.
pub fn inject<T: AsRef<str>>(
    registry: &Registry,
    names: &[T],
    host: &Host,
    context: &Context,
    config: &str,
) -> Result<Value, String> {
    let plan = plan(registry, names, host, context)?;
    let before = Document::parse(config.as_bytes()).unwrap();
    let after = apply(&before, &plan).map_err(|e| e.to_string())?;
    let again = apply(&after, &plan).map_err(|e| e.to_string())?;
    assert_eq!(
        after.value(),
        again.value(),
        "injecting twice is injecting once"
    );
    Ok(after.value().clone())
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
