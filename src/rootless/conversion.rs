//! From a configuration that root could run to one that its caller can.
//!
//! What is replaced and how is what `runc spec --rootless` writes, as far as the
//! container really cannot have it: with a network namespace of its own it keeps
//! sysfs, and with gid 5 mapped `gid=5`. Isolation that was asked for stays.

use std::path::{Path, PathBuf};

use super::{Caller, Maps, RootlessError, is_mapped};
use crate::document::Document;
use crate::edit::{
    DeviceKind, DeviceNode, Edit, IdMapping, Mount, NamespaceKind, Origin, Plan, Rule, Source,
};
use crate::host::facts::{FileKind, Presence, Snapshot};

/// What a conversion decides on, besides the configuration.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Who runs it.
    pub caller: &'a Caller,
    /// For a plain user the maps to be made; for the root user of a user
    /// namespace that namespace's own.
    pub maps: &'a Maps,
    /// Each of [`devices`], with the host's paths where its node may be, best
    /// first.
    pub devices: &'a [(DeviceNode, Vec<PathBuf>)],
    /// What is at these paths.
    pub facts: &'a Snapshot,
}

/// Whether there is anything to convert.
///
/// # Errors
/// Fields of the wrong type.
pub fn applies(document: &Document, caller: &Caller) -> Result<bool, RootlessError> {
    if caller.is_host_root() {
        return Ok(false);
    }
    let linux = &document.value()["linux"];
    let mapped = |field: &str| linux[field].as_array().is_some_and(|list| !list.is_empty());
    let joins = document
        .namespaces()?
        .iter()
        .any(|n| n.kind == NamespaceKind::User && n.path.is_some());
    Ok(!joins && !mapped("uidMappings") && !mapped("gidMappings"))
}

/// The devices that have to be bound. FIFOs are none: anybody may make them.
/// `host_paths` are those of nodes that are elsewhere on the host than in the
/// container.
///
/// # Errors
/// Fields of the wrong type.
pub fn devices(
    document: &Document,
    host_paths: &[(PathBuf, PathBuf)],
) -> Result<Vec<DeviceNode>, RootlessError> {
    let mut devices = document.devices()?;
    devices.retain(|device| matches!(device.kind, DeviceKind::Char | DeviceKind::Block));
    for device in &mut devices {
        let elsewhere = host_paths.iter().find(|(path, _)| *path == device.path);
        if let Some((_, host)) = elsewhere {
            device.host_path.clone_from(host);
        }
    }
    Ok(devices)
}

/// Everything that has to change. Only to be asked where [`applies`] says so.
///
/// # Errors
/// A device that the host does not have; fields of the wrong type.
pub fn plan(document: &Document, situation: &Situation<'_>) -> Result<Plan, RootlessError> {
    let mut plan = Plan::default();
    if situation.caller.is_user() {
        namespaces(situation, &mut plan);
        file_systems(document, situation.facts, &mut plan)?;
    }
    mount_options(document, situation.maps, &mut plan)?;
    device_nodes(document, situation, &mut plan)?;
    if !document.device_rules()?.is_empty() {
        let origin = because("device rules take privilege over the host's devices".to_owned());
        plan.push(Edit::DropDeviceRules, origin);
    }
    Ok(plan)
}

fn because(reason: String) -> Origin {
    Origin {
        rule: Rule::Rootless,
        sources: vec![Source::Situation { reason }],
    }
}

fn namespaces(situation: &Situation<'_>, plan: &mut Plan) {
    let origin = || {
        because(format!(
            "the caller is uid {}, not root",
            situation.caller.uid
        ))
    };
    plan.push(Edit::AddNamespace(NamespaceKind::User), origin());
    plan.push(
        Edit::MapIds {
            uid: situation.maps.uid.clone(),
            gid: situation.maps.gid.clone(),
        },
        origin(),
    );
    plan.push(Edit::AddNamespace(NamespaceKind::Cgroup), origin());
}

/// File systems that belong to a namespace: who has not made that namespace may
/// not mount them, and gets the host's.
const NAMESPACED: [(&str, NamespaceKind, &str); 3] = [
    ("sysfs", NamespaceKind::Network, "/sys"),
    ("mqueue", NamespaceKind::Ipc, "/dev/mqueue"),
    ("proc", NamespaceKind::Pid, "/proc"),
];

/// Where the host has the file systems that a container may get in place of its
/// own: to be looked at with the nodes.
pub fn host_file_systems() -> impl Iterator<Item = PathBuf> {
    NAMESPACED.iter().map(|(_, _, host)| PathBuf::from(host))
}

fn file_systems(
    document: &Document,
    facts: &Snapshot,
    plan: &mut Plan,
) -> Result<(), RootlessError> {
    let namespaces = document.namespaces()?;
    for mount in document.mounts()? {
        if is_bind(&mount) {
            continue;
        }
        let kind = mount.kind.as_deref().unwrap_or_default();
        let Some((_, namespace, host)) = NAMESPACED.iter().find(|(name, ..)| *name == kind) else {
            continue;
        };
        if namespaces
            .iter()
            .any(|n| n.kind == *namespace && n.path.is_none())
        {
            continue;
        }
        let reason = format!(
            "{kind} cannot be mounted without a new {} namespace",
            namespace.key()
        );
        if facts.file(host) == Some(&Presence::Absent) {
            let destination = mount.destination;
            plan.push(Edit::RemoveMount { destination }, because(reason));
            continue;
        }
        // Of runc's five options all but `ro`, which only its /sys has.
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        let readonly = kind == "sysfs" || mount.options.iter().any(|o| o == "ro");
        let count = if readonly { 5 } else { 4 };
        let bind = Mount {
            destination: mount.destination,
            kind: Some("none".to_owned()),
            source: Some(PathBuf::from(host)),
            options: options[..count].iter().map(|o| (*o).to_owned()).collect(),
        };
        plan.push(Edit::AddMount(bind), because(reason));
    }
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// `uid=` and `gid=` of an id that the container does not know.
fn mount_options(document: &Document, maps: &Maps, plan: &mut Plan) -> Result<(), RootlessError> {
    for mount in document.mounts()? {
        for option in &mount.options {
            let Some((what, id)) = unmapped(option, maps) else {
                continue;
            };
            let edit = Edit::RemoveMountOption {
                destination: mount.destination.clone(),
                option: option.clone(),
            };
            let reason = format!("{what} {id} is not mapped in the container's user namespace");
            plan.push(edit, because(reason));
        }
    }
    Ok(())
}

/// Which id of a mount option (`uid=N`, `gid=N`) is not mapped, if one is.
#[must_use]
pub fn unmapped<'o>(option: &'o str, maps: &Maps) -> Option<(&'static str, &'o str)> {
    let (name, id) = option.split_once('=')?;
    let (what, map): (_, &[IdMapping]) = match name {
        "uid" => ("uid", &maps.uid),
        "gid" => ("gid", &maps.gid),
        _ => return None,
    };
    let number: u32 = id.parse().ok()?;
    (!is_mapped(map, number)).then_some((what, id))
}

fn device_nodes(
    document: &Document,
    situation: &Situation<'_>,
    plan: &mut Plan,
) -> Result<(), RootlessError> {
    let mounts = document.mounts()?;
    for (device, places) in situation.devices {
        let node = places
            .iter()
            .find(|place| is_node(situation.facts, place, device))
            .ok_or_else(|| RootlessError::NoNode {
                path: device.path.clone(),
                kind: device.kind.letter(),
                major: device.major,
                minor: device.minor,
            })?;
        let origin = || because("device nodes cannot be made in a user namespace".to_owned());
        let edit = Edit::RemoveDevice {
            path: device.path.clone(),
        };
        plan.push(edit, origin());
        // The runtime makes a link of this name, to the container's own.
        if device.path == Path::new("/dev/ptmx") {
            continue;
        }
        let bound = |m: &Mount| {
            m.destination == device.path && is_bind(m) && m.source.as_ref() == Some(node)
        };
        // An engine may have done so already.
        if !mounts.iter().any(bound) {
            let bind = Mount {
                destination: device.path.clone(),
                kind: Some("bind".to_owned()),
                source: Some(node.clone()),
                options: vec!["bind".to_owned()],
            };
            plan.push(Edit::AddMount(bind), origin());
        }
    }
    Ok(())
}

/// Whether a path of the host leads to the very device.
fn is_node(facts: &Snapshot, path: &Path, device: &DeviceNode) -> bool {
    let kind = match device.kind {
        DeviceKind::Block => FileKind::Block,
        _ => FileKind::Char,
    };
    match facts.file(path).map(Presence::followed) {
        Some(Presence::Present(found)) => {
            found.kind == kind && (found.major, found.minor) == (device.major, device.minor)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
