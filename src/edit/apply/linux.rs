//! `linux`: devices and their rules, network devices, Intel RDT, id mappings,
//! namespaces, cgroup path.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::process::string_list;
use super::{Outcome, refuse};
use crate::device::policy::Policy;
use crate::document::{Field, device_node, device_rules, intel_rdt, namespaces};
use crate::edit::device_list::{allows, granted, is_exact, same_region};
use crate::edit::path::{container_key, container_path, no_nul};
use crate::edit::slot::Slot;
use crate::edit::{
    DeviceKind, DeviceNode, DeviceRule, Edit, EditError, IdMapping, IntelRdt, NamespaceKind,
    PlannedEdit,
};

const DEVICES: [&str; 2] = ["linux", "devices"];
const RULES: [&str; 3] = ["linux", "resources", "devices"];

pub(super) fn add_device(root: &mut Value, node: &DeviceNode) -> Result<Outcome, EditError> {
    let path = container_path(&node.path, "linux.devices")?;
    let value = node_to_json(node, path)?;
    let key = container_key(path);
    let mut present = Vec::new();
    let mut same = true;
    for (index, item) in Field::root(root).items_of(&DEVICES)?.iter().enumerate() {
        let old_path = item
            .string_of("path")?
            .ok_or_else(|| item.missing("path"))?;
        if container_key(old_path) == key {
            present.push(index);
            same &= is_node(&device_node(item)?, node);
        }
    }
    if same && present.len() == 1 {
        return Ok(Outcome::Unchanged);
    }
    let list = Slot::at(root, &DEVICES)?.array()?;
    match present.split_first() {
        None => list.push(value),
        Some((first, rest)) => {
            for index in rest.iter().rev() {
                list.remove(*index);
            }
            if let Some(slot) = list.get_mut(*first) {
                *slot = value;
            }
        }
    }
    Ok(Outcome::Changed)
}

pub(super) fn remove_device(root: &mut Value, path: &Path) -> Result<Outcome, EditError> {
    let key = container_key(container_path(path, "linux.devices")?);
    let mut keep = Vec::new();
    for item in &Field::root(root).items_of(&DEVICES)? {
        let old_path = item
            .string_of("path")?
            .ok_or_else(|| item.missing("path"))?;
        keep.push(container_key(old_path) != key);
    }
    if keep.iter().all(|keep| *keep) {
        return Ok(Outcome::Unchanged);
    }
    let mut keep = keep.into_iter();
    Slot::at(root, &DEVICES)?
        .array()?
        .retain(|_| keep.next().unwrap_or(true));
    Ok(Outcome::Changed)
}

/// Whether one of the edits adds a device of this path.
pub(super) fn is_added(path: &Path, edits: &[PlannedEdit]) -> Result<bool, EditError> {
    let key = container_key(container_path(path, "linux.devices")?);
    for planned in edits {
        if let Edit::AddDevice(node) = &planned.edit
            && container_key(container_path(&node.path, "linux.devices")?) == key
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the document's node is the one that an edit would add; where it comes
/// from on the host is not in the document.
fn is_node(old: &DeviceNode, new: &DeviceNode) -> bool {
    let numbers = |node: &DeviceNode| match node.kind {
        DeviceKind::Fifo => None,
        _ => Some((node.major, node.minor)),
    };
    old.kind == new.kind
        && numbers(old) == numbers(new)
        && old.file_mode.map(permissions) == new.file_mode.map(permissions)
        && old.uid == new.uid
        && old.gid == new.gid
}

/// A mode without the file type, which runc ignores too.
fn permissions(mode: u32) -> u32 {
    mode & 0o7777
}

fn node_to_json(node: &DeviceNode, path: &str) -> Result<Value, EditError> {
    let mut map = Map::new();
    map.insert("path".to_owned(), path.into());
    map.insert("type".to_owned(), node.kind.letter().into());
    match node.kind {
        DeviceKind::All => {
            let reason = format!("{path}: a node cannot be of type a");
            return Err(refuse("linux.devices", reason));
        }
        DeviceKind::Char | DeviceKind::Block => {
            map.insert("major".to_owned(), node.major.into());
            map.insert("minor".to_owned(), node.minor.into());
        }
        DeviceKind::Fifo => {}
    }
    let optional = [
        ("fileMode", node.file_mode.map(permissions)),
        ("uid", node.uid),
        ("gid", node.gid),
    ];
    for (key, number) in optional {
        if let Some(number) = number {
            map.insert(key.to_owned(), number.into());
        }
    }
    Ok(Value::Object(map))
}

pub(super) fn allow_device(root: &mut Value, rule: &DeviceRule) -> Result<Outcome, EditError> {
    if !rule.allow || rule.kind == DeviceKind::Fifo {
        let reason = format!(
            "an edit can only allow character and block devices, not {} a device of type {}",
            if rule.allow { "allow" } else { "deny" },
            rule.kind.letter()
        );
        return Err(refuse("linux.resources.devices", reason));
    }
    if rule.access.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let old = device_rules(root)?;
    let policy = Policy::from_rules(&old)?;
    if allows(&policy, rule) {
        return Ok(Outcome::Unchanged);
    }
    let mut new = rule.clone();
    let exact = is_exact(rule);
    if exact {
        // One rule says all that the device has had so far and what is new, so
        // that earlier ones for this very device have nothing left to say.
        new.access |= granted(&policy, rule);
    }
    let superseded = |old: &DeviceRule| {
        old.allow && same_region(old, &new) && (exact || new.access.contains(old.access))
    };
    let mut rules: Vec<DeviceRule> = old.iter().filter(|old| !superseded(old)).cloned().collect();
    rules.push(new.clone());
    Policy::from_rules(&rules)?;

    let list = Slot::at(root, &RULES)?.array()?;
    let mut kept = old.iter().map(|old| !superseded(old));
    list.retain(|_| kept.next().unwrap_or(true));
    list.push(rule_to_json(&new));
    Ok(Outcome::Changed)
}

fn rule_to_json(rule: &DeviceRule) -> Value {
    let mut map = Map::new();
    map.insert("allow".to_owned(), rule.allow.into());
    map.insert("type".to_owned(), rule.kind.letter().into());
    for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let Some(number) = number {
            map.insert(key.to_owned(), number.into());
        }
    }
    map.insert("access".to_owned(), rule.access.letters().into());
    Value::Object(map)
}

pub(super) fn revoke_device(root: &mut Value, rule: &DeviceRule) -> Result<Outcome, EditError> {
    let old = device_rules(root)?;
    let gone = |old: &DeviceRule| old.allow && same_region(old, rule);
    if !old.iter().any(gone) {
        return Ok(Outcome::Unchanged);
    }
    let list = Slot::at(root, &RULES)?.array()?;
    let mut kept = old.iter().map(|old| !gone(old));
    list.retain(|_| kept.next().unwrap_or(true));
    Ok(Outcome::Changed)
}

pub(super) fn drop_device_rules(root: &mut Value) -> Result<Outcome, EditError> {
    if Field::root(root).items_of(&RULES)?.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    Slot::at(root, &RULES)?.set(Value::Array(Vec::new()));
    Ok(Outcome::Changed)
}

pub(super) fn add_net_device(
    root: &mut Value,
    host: &str,
    name: &str,
) -> Result<Outcome, EditError> {
    const FIELD: &str = "linux.netDevices";
    if host.is_empty() {
        return Err(refuse(FIELD, "the name of the host's interface is empty"));
    }
    no_nul(host, FIELD)?;
    no_nul(name, FIELD)?;
    let linux = Field::root(root).get("linux")?;
    let devices = match linux {
        Some(linux) => linux.get("netDevices")?,
        None => None,
    };
    if let Some(devices) = devices
        && let Some(old) = devices.get(host)?
        && old.string_of("name")?.unwrap_or_default() == name
    {
        return Ok(Outcome::Unchanged);
    }
    let value = if name.is_empty() {
        json!({})
    } else {
        json!({ "name": name })
    };
    Slot::at(root, &["linux", "netDevices", host])?.set(value);
    Ok(Outcome::Changed)
}

pub(super) fn set_rdt(root: &mut Value, rdt: &IntelRdt) -> Result<Outcome, EditError> {
    if intel_rdt(root)?.as_ref() == Some(rdt) {
        return Ok(Outcome::Unchanged);
    }
    let texts = [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ];
    let mut map = Map::new();
    for (key, text) in texts {
        if let Some(text) = text {
            no_nul(text, "linux.intelRdt")?;
            map.insert(key.to_owned(), text.as_str().into());
        }
    }
    if let Some(schemata) = string_list(&rdt.schemata) {
        map.insert("schemata".to_owned(), schemata);
    }
    if rdt.enable_monitoring {
        map.insert("enableMonitoring".to_owned(), true.into());
    }
    Slot::at(root, &["linux", "intelRdt"])?.set(Value::Object(map));
    Ok(Outcome::Changed)
}

pub(super) fn map_ids(
    root: &mut Value,
    uid: &[IdMapping],
    gid: &[IdMapping],
) -> Result<Outcome, EditError> {
    let field = Field::root(root);
    let mapped = !field.items_of(&["linux", "uidMappings"])?.is_empty()
        || !field.items_of(&["linux", "gidMappings"])?.is_empty();
    // Mappings that are there were made by someone who knows the container's
    // files on disk; half of ours beside half of theirs would fit nothing.
    if mapped || (uid.is_empty() && gid.is_empty()) {
        return Ok(Outcome::Unchanged);
    }
    for (key, lines) in [("uidMappings", uid), ("gidMappings", gid)] {
        let list = lines.iter().map(|line| {
            json!({
                "containerID": line.container_id,
                "hostID": line.host_id,
                "size": line.size,
            })
        });
        Slot::at(root, &["linux", key])?.set(list.collect());
    }
    Ok(Outcome::Changed)
}

pub(super) fn add_namespace(root: &mut Value, kind: NamespaceKind) -> Result<Outcome, EditError> {
    if namespaces(root)?.iter().any(|old| old.kind == kind) {
        return Ok(Outcome::Unchanged);
    }
    Slot::at(root, &["linux", "namespaces"])?
        .array()?
        .push(json!({ "type": kind.key() }));
    Ok(Outcome::Changed)
}

pub(super) fn set_cgroups_path(root: &mut Value, path: &str) -> Result<Outcome, EditError> {
    no_nul(path, "linux.cgroupsPath")?;
    let linux = Field::root(root).get("linux")?;
    let old = match &linux {
        Some(linux) => linux.string_of("cgroupsPath")?,
        None => None,
    };
    if old == Some(path) {
        return Ok(Outcome::Unchanged);
    }
    Slot::at(root, &["linux", "cgroupsPath"])?.set(path.into());
    Ok(Outcome::Changed)
}
