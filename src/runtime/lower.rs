//! From the effective document to what libcontainer is given.
//!
//! The library's copy holds only what it does well. What it cannot do, does
//! wrongly or is ours for speed (seccomp, capabilities, user, cwd, limits,
//! devices rules, cgroups, most hooks) is taken out and done in
//! [`birth`](super::birth) or [`tail`](super::tail); what nobody can do is an
//! error that names the field. The saved document is never changed by this.
//!
//! Pure: values in, values out.

use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use serde_json::{Map, Value, json};

use super::RuntimeError;
use super::lower_mounts::{CgroupView, lower_mounts};
use crate::document::Namespace;
use crate::edit::{DeviceNode, NamespaceKind};
use crate::error::Result;
use crate::rootfs::{Assembly, Hidden, Preflight, Stage};

/// What to do with each kind of namespace.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    entries: Vec<Namespace>,
}

impl Namespaces {
    /// Takes the document's list.
    ///
    /// # Errors
    /// A kind listed twice.
    pub fn new(entries: Vec<Namespace>) -> Result<Self> {
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|e| e.kind == entry.kind) {
                return Err(RuntimeError::config(
                    "linux.namespaces",
                    format!("malformed spec file: duplicated ns {:?}", entry.kind.key()),
                )
                .into());
            }
        }
        Ok(Self { entries })
    }

    fn entry(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.entries.iter().find(|e| e.kind == kind)
    }

    /// Whether the container gets a new namespace of this kind.
    #[must_use]
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.entry(kind).is_some_and(|e| e.path.is_none())
    }

    /// The namespace to join, where a path is given.
    #[must_use]
    pub fn path(&self, kind: NamespaceKind) -> Option<&Path> {
        self.entry(kind).and_then(|e| e.path.as_deref())
    }

    /// Whether the container is in another namespace than the runtime.
    #[must_use]
    pub fn is_private(&self, kind: NamespaceKind) -> bool {
        self.entry(kind).is_some()
    }
}

/// What `create` needs besides the document.
#[derive(Debug)]
pub struct Context<'a> {
    /// Absolute bundle directory; relative bind sources start here.
    pub bundle: &'a Path,
    /// The root file system, checked.
    pub preflight: &'a Preflight,
    /// Where the library works instead of in it.
    pub stage: &'a Stage,
    /// `linux.devices`.
    pub devices: &'a [DeviceNode],
    /// Where the container's cgroup is visible on the host.
    pub cgroups: &'a CgroupView,
    /// The namespaces.
    pub namespaces: &'a Namespaces,
    /// Whether devices are bound from the host instead of made.
    pub bind_devices: bool,
}

/// The library's copy, and what is left for us.
#[derive(Debug)]
pub struct Lowered<'a> {
    /// What libcontainer gets.
    pub spec: Spec,
    /// How the root is put together from what it makes.
    pub assembly: Assembly<'a>,
    /// Whether the root becomes read-only in the tail.
    pub readonly_root: bool,
    /// Whether /dev becomes read-only in the tail.
    pub readonly_dev: bool,
    /// `linux.readonlyPaths` that the assembly leaves: the library would add
    /// other flags too.
    pub readonly_paths: Vec<String>,
}

/// Fields of `linux` that are done elsewhere, or not at all by the library.
const NOT_FOR_THE_LIBRARY: &[&str] = &[
    "resources",
    "cgroupsPath",
    "seccomp",
    "uidMappings",
    "gidMappings",
    "intelRdt",
    "timeOffsets",
    "netDevices",
    "readonlyPaths",
    "memoryPolicy",
    "personality",
];

/// Lowers the document for a container's init.
///
/// # Errors
/// A field that cannot be honoured, by name.
pub fn for_init<'a>(document: &Value, context: &Context<'a>) -> Result<Lowered<'a>> {
    let mut copy = document.clone();
    let root = object(&mut copy, "")?;
    root.insert("process".into(), bare_process(document));
    let lowered = lower_mounts(document, context)?;
    let readonly_dev = lowered.readonly_dev;
    let placements = lowered.mounts.iter().map(|m| m.placement.clone()).collect();
    let devices: Vec<DeviceNode> = context
        .devices
        .iter()
        .filter(|d| !lowered.bound_devices.contains(&d.path))
        .cloned()
        .collect();
    let assembly = Assembly::new(context.preflight, placements, devices, context.bind_devices)
        .hiding(hidden_paths(&document["linux"]));
    let mut mounts = Vec::new();
    for (index, mount) in lowered.mounts.into_iter().enumerate() {
        let mut library = mount.library;
        library["destination"] = json!(assembly.library_destination(index));
        mounts.push(library);
    }
    root.insert("mounts".into(), Value::Array(mounts));
    let readonly_root = document["root"]["readonly"].as_bool().unwrap_or(false);
    root.insert(
        "root".into(),
        json!({"path": context.stage.library_root(), "readonly": false}),
    );
    root.insert("hooks".into(), container_hooks(document));
    for field in ["annotations", "solaris", "windows", "vm", "zos"] {
        root.shift_remove(field);
    }
    let linux = object(root.entry("linux").or_insert_with(|| json!({})), "linux")?;
    for field in NOT_FOR_THE_LIBRARY {
        linux.shift_remove(*field);
    }
    linux.insert("namespaces".into(), library_namespaces(context.namespaces));
    if let Some(propagation) = linux.get("rootfsPropagation").and_then(Value::as_str) {
        let word = match propagation {
            "" => None,
            "rshared" => Some("shared"),
            "rslave" => Some("slave"),
            "rprivate" => Some("private"),
            "runbindable" => Some("unbindable"),
            other => Some(other),
        };
        match word.map(str::to_owned) {
            None => linux.shift_remove("rootfsPropagation"),
            Some(word) => linux.insert("rootfsPropagation".into(), word.into()),
        };
    }
    lower_devices(linux, |path| {
        assembly.is_libcontainers(path) && !lowered.bound_devices.iter().any(|b| b == path)
    });
    if let Some(Value::Array(paths)) = linux.get_mut("maskedPaths") {
        paths.retain(|p| !p.as_str().is_some_and(|p| assembly.hides(Path::new(p))));
    }
    drop_empty(linux, "mountLabel");
    let readonly_paths = strings(&document["linux"]["readonlyPaths"])
        .into_iter()
        .filter(|path| !assembly.hides(Path::new(path)))
        .collect();
    let spec = to_spec(&copy)?;
    Ok(Lowered {
        spec,
        assembly,
        readonly_root,
        readonly_dev,
        readonly_paths,
    })
}

fn hidden_paths(linux: &Value) -> Hidden {
    let paths = |field: &str| {
        let list = linux[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(Into::into).collect()
    };
    Hidden {
        masked: paths("maskedPaths"),
        readonly: paths("readonlyPaths"),
        label: linux["mountLabel"]
            .as_str()
            .filter(|l| !l.is_empty())
            .map(str::to_owned),
    }
}

/// Lowers the document for an additional process: no root, no mounts; the
/// namespaces have been joined by the time the library runs.
///
/// # Errors
/// As [`for_init`].
pub fn for_exec(document: &Value, process: &Value) -> Result<Spec> {
    let mut copy = json!({
        "ociVersion": document["ociVersion"],
        "root": document["root"],
        "process": process,
        "linux": {"namespaces": []},
    });
    let bare = bare_process(&copy);
    copy["process"] = bare;
    to_spec(&copy)
}

/// `process` reduced to what the library does for us. HOME and PATH are always
/// there: it would look HOME up with the C library after pivot.
fn bare_process(document: &Value) -> Value {
    let given = &document["process"];
    let mut process = json!({
        "terminal": given["terminal"].as_bool().unwrap_or(false),
        "user": {"uid": 0, "gid": 0},
        "args": ["kusabi"],
        "env": ["HOME=/", "PATH=/"],
        "cwd": "/",
    });
    if given["noNewPrivileges"].as_bool() == Some(true) {
        process["noNewPrivileges"] = true.into();
    }
    process
}

/// Only createContainer is left to the library: it runs in the container's
/// namespaces before pivot, where only its process is.
fn container_hooks(document: &Value) -> Value {
    match &document["hooks"]["createContainer"] {
        Value::Array(list) if !list.is_empty() => json!({"createContainer": list}),
        _ => json!({}),
    }
}

fn library_namespaces(namespaces: &Namespaces) -> Value {
    let mut list = Vec::new();
    for entry in &namespaces.entries {
        let mut item = Map::new();
        item.insert("type".into(), entry.kind.key().into());
        match entry.kind {
            // Already entered when the library runs.
            NamespaceKind::Pid | NamespaceKind::Time => continue,
            // It decides by its presence whether devices are bound; it is not
            // entered again.
            NamespaceKind::User => {}
            // Made by our clone. The path makes the library pivot, which it does
            // not without an entry, and not unshare once more.
            NamespaceKind::Mount if entry.path.is_none() => {
                item.insert("path".into(), "/proc/self/ns/mnt".into());
            }
            // Joined when the library runs.
            _ if entry.path.is_some() => continue,
            _ => {}
        }
        list.push(Value::Object(item));
    }
    Value::Array(list)
}

/// Keeps the last of several devices of a path (the library would fail with
/// EEXIST) and leaves out those that are made elsewhere.
fn lower_devices(linux: &mut Map<String, Value>, is_libraries: impl Fn(&Path) -> bool) {
    let Some(Value::Array(devices)) = linux.get_mut("devices") else {
        return;
    };
    let mut kept: Vec<Value> = Vec::new();
    for device in devices.drain(..) {
        let path = device["path"].as_str().unwrap_or_default().to_owned();
        if !is_libraries(Path::new(&path)) {
            continue;
        }
        kept.retain(|k| k["path"].as_str() != Some(&path));
        kept.push(device);
    }
    *devices = kept;
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn drop_empty(map: &mut Map<String, Value>, field: &str) {
    if map.get(field).and_then(Value::as_str) == Some("") {
        map.shift_remove(field);
    }
}

fn object<'a>(value: &'a mut Value, field: &str) -> Result<&'a mut Map<String, Value>> {
    value
        .as_object_mut()
        .ok_or_else(|| RuntimeError::config(field, "expected object").into())
}

fn to_spec(value: &Value) -> Result<Spec> {
    // Through text: oci-spec reads some numbers with visitors that do not know
    // arbitrary-precision numbers as values.
    let text = value.to_string();
    serde_json::from_str(&text).map_err(|e| {
        RuntimeError::Refused(format!(
            "config.json: not understood by the OCI library: {e}"
        ))
        .into()
    })
}
