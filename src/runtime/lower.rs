//! From the effective document to what libcontainer is given.
//!
//! The library's copy holds only what it does well. What it cannot do, does
//! wrongly or is ours for speed (mounts, devices, seccomp, capabilities, user, cwd,
//! limits, device rules, cgroups, hooks) is taken out and done in
//! [`birth`](super::birth), [`child`](super::child), [`root`](super::root) or
//! [`tail`](super::tail); what nobody can do is an error that names the field. The
//! saved document is never changed by this.
//!
//! Pure: values in, values out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use serde_json::{Map, Value, json};

use super::RuntimeError;
use super::lower_mounts::{CgroupView, MountIds, lower_mounts};
use super::protect::Protection;
use super::sysctl::Sysctls;
use super::typed;
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
    /// Whether the runtime is not run by root.
    pub rootless: bool,
    /// Whether the first process may put its root together itself: it has all
    /// rights that the runtime has, and a mount namespace of its own.
    pub has_rights: bool,
}

/// The library's copy, and what is left for us.
#[derive(Debug)]
pub struct Lowered<'a> {
    /// What libcontainer gets.
    pub spec: Spec,
    /// How the root is put together.
    pub assembly: Assembly<'a>,
    /// Which of its mounts are idmapped, and how.
    pub id_maps: Vec<(usize, MountIds)>,
    /// What the process does to the root in the end.
    pub protection: Protection,
    /// Whether the first process makes its namespaces and puts its root together
    /// itself, before the library, which then has no part in either.
    pub by_itself: bool,
    /// What of `linux.sysctl` is not the library's.
    pub sysctls: Sysctls,
}

/// Fields that the library gets as they are. All others are done elsewhere, or are
/// nothing that a process needs.
const FOR_THE_LIBRARY: &[&str] = &["ociVersion", "hostname", "domainname"];

/// Lowers the document for a container's init.
///
/// # Errors
/// A field that cannot be honoured, by name.
pub fn for_init<'a>(document: &Value, context: &Context<'a>) -> Result<Lowered<'a>> {
    let mut root = Map::new();
    for field in FOR_THE_LIBRARY.iter().filter(|f| !document[**f].is_null()) {
        root.insert((*field).into(), document[*field].clone());
    }
    root.insert("process".into(), bare_process(document));
    let lowered = lower_mounts(document, context)?;
    let devices = last_of_each_path(context.devices);
    let hidden = hidden_paths(&document["linux"]);
    let assembly = Assembly::new(
        context.preflight,
        lowered.placements,
        devices,
        context.bind_devices,
    )
    .hiding(hidden.clone());
    root.insert("mounts".into(), json!([]));
    root.insert(
        "root".into(),
        json!({"path": context.stage.library_root(), "readonly": false}),
    );
    // Empty, but there: it asks for ours.
    root.insert("hooks".into(), json!({}));
    let (for_library, propagation) = root_propagation(&document["linux"])?;
    let by_itself = context.has_rights
        && for_library.is_none()
        && !root_alone_propagates(document)
        && lowered.id_maps.is_empty()
        && assembly.suits_the_first_process();
    let mut linux = Map::new();
    let namespaces = match by_itself {
        true => json!([]),
        false => library_namespaces(context.namespaces),
    };
    linux.insert("namespaces".into(), namespaces);
    let sysctls: Option<BTreeMap<String, String>> =
        typed::read(&document["linux"]["sysctl"], "config.json: linux.sysctl")?;
    let mut sysctls: Sysctls = sysctls.into_iter().flatten().collect();
    if !by_itself {
        let all = std::mem::take(&mut sysctls).into_iter();
        let all: Map<String, Value> = all.map(|(name, value)| (name, value.into())).collect();
        linux.insert("sysctl".into(), all.into());
    }
    if let Some(word) = for_library {
        linux.insert("rootfsPropagation".into(), word.into());
    }
    root.insert("linux".into(), linux.into());
    let left = |paths: &[PathBuf]| {
        let left = paths.iter().filter(|path| !assembly.hides(path));
        left.cloned().collect()
    };
    let protection = Protection {
        hidden: Hidden {
            masked: left(&hidden.masked),
            readonly: left(&hidden.readonly),
            label: hidden.label,
        },
        readonly_dev: lowered.readonly_dev,
        readonly_root: document["root"]["readonly"].as_bool().unwrap_or(false),
        propagation,
    };
    let spec = to_spec(&root.into())?;
    Ok(Lowered {
        spec,
        assembly,
        id_maps: lowered.id_maps,
        protection,
        by_itself,
        sysctls,
    })
}

/// Whether the root is to receive what is mounted below it on the host.
#[must_use]
pub fn root_receives(document: &Value) -> bool {
    let propagation = document["linux"]["rootfsPropagation"].as_str();
    matches!(propagation, Some("slave" | "rslave"))
}

/// Whether `linux.rootfsPropagation` is about the root and no other mount, as its
/// words without an `r` are in runc: a bind mount then is what its source is on the
/// host, where its own options do not say otherwise.
#[must_use]
pub fn root_alone_propagates(document: &Value) -> bool {
    let propagation = document["linux"]["rootfsPropagation"].as_str();
    matches!(
        propagation,
        Some("private" | "slave" | "shared" | "unbindable")
    )
}

/// `linux.rootfsPropagation`: what the library makes of the host's mounts before
/// anything else, and what becomes of the root in the end.
#[expect(clippy::type_complexity, reason = "read in one place")]
fn root_propagation(linux: &Value) -> Result<(Option<&'static str>, Option<(u64, bool)>)> {
    let word = linux["rootfsPropagation"].as_str().unwrap_or_default();
    Ok(match word {
        "" | "slave" | "rslave" => (None, None),
        "private" | "rprivate" => (Some("private"), None),
        "shared" => (None, Some((libc::MS_SHARED, false))),
        "rshared" => (Some("shared"), Some((libc::MS_SHARED, true))),
        "unbindable" => (None, Some((libc::MS_UNBINDABLE, false))),
        "runbindable" => (None, Some((libc::MS_UNBINDABLE, true))),
        other => {
            return Err(RuntimeError::config(
                "linux.rootfsPropagation",
                format!("rootfsPropagation={other} is not supported"),
            )
            .into());
        }
    })
}

/// Keeps the last of several devices of a path.
fn last_of_each_path(devices: &[DeviceNode]) -> Vec<DeviceNode> {
    let later = |index: usize, path: &Path| devices[index + 1..].iter().any(|d| d.path == path);
    let kept = devices.iter().enumerate();
    kept.filter(|(index, device)| !later(*index, &device.path))
        .map(|(_, device)| device.clone())
        .collect()
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

fn library_namespaces(namespaces: &Namespaces) -> Value {
    // Made by our clone, or joined. The path makes the library pivot, which it does
    // not without an entry, and not unshare once more.
    let mounts = json!({"type": "mount", "path": "/proc/self/ns/mnt"});
    let mut list = vec![mounts];
    for entry in &namespaces.entries {
        let mut item = Map::new();
        item.insert("type".into(), entry.kind.key().into());
        match entry.kind {
            // Already entered when the library runs.
            NamespaceKind::Pid | NamespaceKind::Time | NamespaceKind::Mount => continue,
            // It decides by its presence whether devices are bound; it is not
            // entered again.
            NamespaceKind::User => {}
            // Made or joined when the library runs.
            _ if entry.path.is_some() => continue,
            _ => {}
        }
        list.push(Value::Object(item));
    }
    Value::Array(list)
}

fn to_spec(value: &Value) -> Result<Spec> {
    typed::read(value, "config.json")
}
