//! What must hold of every plan's result, whatever the plan.
//!
//! Written against the documents before and after, not against the code that
//! edits: a mistake there, or an edit added later, is an error here and never a
//! container with less isolation than its `config.json` said. Three promises:
//!
//! 1. What no edit names is unchanged: capabilities, seccomp, `root`, masked
//!    paths and everything else outside the lists that [`touched`] knows.
//! 2. Inside those lists, entries that no edit names are unchanged, and in their
//!    old order; namespaces are only added, and never the pid namespace.
//! 3. Nothing is there twice that was not: variables, devices, hooks, and a
//!    device's allow rule; and the device is allowed, which is what for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::device_list::{allows, is_exact, same_region};
use super::path::container_key;
use super::{
    DeviceKind, DeviceNode, DeviceRule, Edit, EditError, Hook, HookStage, NamespaceKind, Plan,
};
use crate::device::policy::Policy;
use crate::document::{device_rules, hooks_of, json_type, key_segment, namespaces};

type Check = Result<(), EditError>;

/// Checks a plan's result.
///
/// # Errors
/// Names the field that moved without an edit's leave.
pub(super) fn check(before: &Value, after: &Value, plan: &Plan) -> Check {
    let edits: Vec<&Edit> = plan.edits.iter().map(|planned| &planned.edit).collect();
    let touched: BTreeSet<Vec<&str>> = edits.iter().map(|edit| touched(edit)).collect();
    unchanged_outside(before, after, &touched, &mut Vec::new())?;
    environment(before, after, &edits)?;
    devices(before, after, &edits)?;
    rules(before, after, &edits)?;
    mounts(before, after, &edits)?;
    only_namespaces_asked_for(before, after, &edits)?;
    hooks(before, after, &edits)?;
    gids(before, after)
}

/// The field that an edit may change, as keys from the root.
fn touched(edit: &Edit) -> Vec<&str> {
    match edit {
        Edit::SetEnv { .. } | Edit::DefaultEnv { .. } => vec!["process", "env"],
        Edit::AddGid(_) => vec!["process", "user", "additionalGids"],
        Edit::AddDevice(_) | Edit::RemoveDevice { .. } => vec!["linux", "devices"],
        Edit::AllowDevice(_) | Edit::RevokeDevice(_) | Edit::DropDeviceRules => {
            vec!["linux", "resources", "devices"]
        }
        Edit::AddNetDevice { host, .. } => vec!["linux", "netDevices", host],
        Edit::SetRdt(_) => vec!["linux", "intelRdt"],
        // Both lists; see `unchanged_outside`.
        Edit::MapIds { .. } => vec!["linux", ID_MAPPINGS],
        Edit::AddNamespace(_) => vec!["linux", "namespaces"],
        Edit::SetCgroupsPath(_) => vec!["linux", "cgroupsPath"],
        Edit::AddMount(_) | Edit::RemoveMount { .. } | Edit::RemoveMountOption { .. } => {
            vec!["mounts"]
        }
        Edit::AddHook(stage, _) | Edit::RemoveHook { stage, .. } => vec!["hooks", stage.key()],
        Edit::RemoveAnnotation { key } => vec!["annotations", key],
    }
}

/// Stands for `uidMappings` and `gidMappings`, which one edit sets.
const ID_MAPPINGS: &str = "uidMappings, gidMappings";

fn unchanged_outside<'v>(
    before: &'v Value,
    after: &'v Value,
    touched: &BTreeSet<Vec<&'v str>>,
    path: &mut Vec<&'v str>,
) -> Check {
    if before == after || touched.contains(path) {
        return Ok(());
    }
    if let ["linux", "uidMappings" | "gidMappings"] = path.as_slice()
        && touched.contains(["linux", ID_MAPPINGS].as_slice())
    {
        return Ok(());
    }
    // A parent that the document did not have may have been made on the way.
    let on_the_way = touched.iter().any(|field| field.starts_with(path));
    if !after.is_object() || !(before.is_object() || (before.is_null() && on_the_way)) {
        return Err(moved(path));
    }
    let keys: BTreeSet<&'v str> = before
        .as_object()
        .into_iter()
        .chain(after.as_object())
        .flat_map(|map| map.keys().map(String::as_str))
        .collect();
    for key in keys {
        path.push(key);
        let old = before.get(key).unwrap_or(&Value::Null);
        let new = after.get(key).unwrap_or(&Value::Null);
        unchanged_outside(old, new, touched, path)?;
        path.pop();
    }
    Ok(())
}

fn moved(path: &[&str]) -> EditError {
    let mut field = String::new();
    for key in path {
        let segment = key_segment(key, field.is_empty());
        field.push_str(&segment);
    }
    refuse(&field, "no edit may change this field")
}

fn environment(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    let named: BTreeSet<&str> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::SetEnv { name, .. } | Edit::DefaultEnv { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let keys = ["process", "env"];
    let (old, new) = (list(before, &keys)?, list(after, &keys)?);
    let name = |entry: &Value| {
        let text = entry.as_str().unwrap_or_default();
        text.split('=').next().unwrap_or_default().to_owned()
    };
    let (old_counts, new_counts) = (counts(old, name), counts(new, name));
    for (name, count) in &new_counts {
        let allowed = old_counts.get(name).copied().unwrap_or(0).max(1);
        if *count > allowed {
            return Err(refuse("process.env", format!("{name:?} is there twice")));
        }
    }
    same_others("process.env", old, new, |entry| {
        named.contains(name(entry).as_str())
    })
}

fn devices(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    let named: BTreeSet<String> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::AddDevice(DeviceNode { path, .. }) | Edit::RemoveDevice { path } => {
                Some(container_key(&path.to_string_lossy()))
            }
            _ => None,
        })
        .collect();
    let keys = ["linux", "devices"];
    let (old, new) = (list(before, &keys)?, list(after, &keys)?);
    let path = |entry: &Value| container_key(entry["path"].as_str().unwrap_or_default());
    for (path, count) in counts(new, path) {
        if named.contains(&path) && count > 1 {
            return Err(refuse("linux.devices", format!("{path:?} is there twice")));
        }
    }
    same_others("linux.devices", old, new, |entry| {
        named.contains(&path(entry))
    })
}

fn rules(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    const FIELD: &str = "linux.resources.devices";
    let dropped = edits
        .iter()
        .any(|edit| matches!(edit, Edit::DropDeviceRules));
    let named: Vec<&DeviceRule> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::AllowDevice(rule) => Some(rule),
            _ => None,
        })
        .collect();
    let revoked: Vec<&DeviceRule> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::RevokeDevice(rule) => Some(rule),
            _ => None,
        })
        .collect();
    if named.is_empty() && revoked.is_empty() && !dropped {
        return Ok(());
    }
    let is_named = |rule: &DeviceRule| {
        let mut all = named.iter().chain(&revoked);
        rule.allow && all.any(|new| same_region(rule, new))
    };
    let (old, new) = (device_rules(before)?, device_rules(after)?);
    let others = |rules: &[DeviceRule]| -> Vec<DeviceRule> {
        let others = rules.iter().filter(|rule| !is_named(rule));
        others.cloned().collect()
    };
    let kept = others(&new);
    if kept != others(&old) && !(dropped && kept.is_empty()) {
        return Err(refuse(FIELD, "a rule moved that no edit names"));
    }
    let policy = Policy::from_rules(&new).ok();
    for rule in named.iter().filter(|rule| is_exact(rule)) {
        let device = || {
            let kind = match rule.kind {
                DeviceKind::Block => "block",
                _ => "character",
            };
            let (major, minor) = (rule.major.unwrap_or(0), rule.minor.unwrap_or(0));
            format!("{kind} device {major}:{minor}")
        };
        let taken_back = dropped || revoked.iter().any(|gone| same_region(gone, rule));
        if !taken_back && policy.as_ref().is_some_and(|policy| !allows(policy, rule)) {
            return Err(refuse(FIELD, format!("{} is not allowed", device())));
        }
        let count = new
            .iter()
            .filter(|other| other.allow && same_region(other, rule))
            .count();
        let was = old
            .iter()
            .filter(|other| other.allow && same_region(other, rule))
            .count();
        if count > was.max(1) {
            let reason = format!("{} has more than one rule", device());
            return Err(refuse(FIELD, reason));
        }
    }
    Ok(())
}

fn mounts(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    let named: BTreeSet<String> = edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::AddMount(mount) => Some(&mount.destination),
            Edit::RemoveMount { destination } | Edit::RemoveMountOption { destination, .. } => {
                Some(destination)
            }
            _ => None,
        })
        .map(|destination| container_key(&destination.to_string_lossy()))
        .collect();
    let keys = ["mounts"];
    let place = |entry: &Value| container_key(entry["destination"].as_str().unwrap_or_default());
    // The sort by depth may move them: compared place by place, where order is
    // what decides which mount is seen.
    let by_place = |list: &[Value]| {
        let mut places: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in list {
            let place = place(entry);
            if !named.contains(&place) {
                places.entry(place).or_default().push(entry.clone());
            }
        }
        places
    };
    if by_place(list(before, &keys)?) != by_place(list(after, &keys)?) {
        return Err(refuse("mounts", "a mount changed that no edit names"));
    }
    Ok(())
}

fn only_namespaces_asked_for(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    const FIELD: &str = "linux.namespaces";
    let keys = ["linux", "namespaces"];
    let (old, new) = (list(before, &keys)?, list(after, &keys)?);
    if old == new {
        return Ok(());
    }
    if !new.starts_with(old) {
        return Err(refuse(
            FIELD,
            "an edit must not remove or change a namespace",
        ));
    }
    for namespace in namespaces(after)?.iter().skip(old.len()) {
        if namespace.kind == NamespaceKind::Pid {
            return Err(refuse(
                FIELD,
                "an edit must not change the pid namespace, which engines read from their own copy",
            ));
        }
        let asked = edits
            .iter()
            .any(|edit| matches!(edit, Edit::AddNamespace(kind) if *kind == namespace.kind));
        if !asked || namespace.path.is_some() {
            return Err(refuse(FIELD, "a namespace was added that no edit names"));
        }
    }
    Ok(())
}

fn hooks(before: &Value, after: &Value, edits: &[&Edit]) -> Check {
    for stage in HookStage::ALL {
        let keys = ["hooks", stage.key()];
        let (old, new) = (list(before, &keys)?, list(after, &keys)?);
        if old == new {
            continue;
        }
        let field = format!("hooks.{}", stage.key());
        let removed: BTreeSet<Option<&str>> = edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::RemoveHook { stage: of, path } if *of == stage => Some(path.to_str()),
                _ => None,
            })
            .collect();
        let others = |list: &[Value]| -> Vec<Value> {
            let others = list
                .iter()
                .filter(|hook| !removed.contains(&hook["path"].as_str()));
            others.cloned().collect()
        };
        if !others(new).starts_with(&others(old)) {
            return Err(refuse(&field, "a hook changed that no edit names"));
        }
        let (was, all) = (hooks_of(before, stage)?, hooks_of(after, stage)?);
        let times = |list: &[Hook], hook: &Hook| list.iter().filter(|other| *other == hook).count();
        if let Some(hook) = all
            .iter()
            .find(|hook| times(&all, hook) > times(&was, hook).max(1))
        {
            return Err(refuse(
                &field,
                format!("{} is there twice", hook.path.display()),
            ));
        }
    }
    Ok(())
}

fn gids(before: &Value, after: &Value) -> Check {
    let keys = ["process", "user", "additionalGids"];
    if list(after, &keys)?.starts_with(list(before, &keys)?) {
        return Ok(());
    }
    Err(refuse(
        "process.user.additionalGids",
        "an edit must not remove a group",
    ))
}

/// Entries that no edit names are the same, in the same order.
fn same_others(
    field: &str,
    old: &[Value],
    new: &[Value],
    is_named: impl Fn(&Value) -> bool,
) -> Check {
    let others = |entry: &&Value| !is_named(entry);
    if old.iter().filter(others).eq(new.iter().filter(others)) {
        return Ok(());
    }
    Err(refuse(field, "an entry changed that no edit names"))
}

fn counts(list: &[Value], name: impl Fn(&Value) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in list {
        *counts.entry(name(entry)).or_insert(0) += 1;
    }
    counts
}

/// The array at the end of a chain of keys; absent is empty.
fn list<'v>(root: &'v Value, keys: &[&str]) -> Result<&'v [Value], EditError> {
    let mut value = root;
    for key in keys {
        value = match value.get(key) {
            Some(value) => value,
            None => return Ok(&[]),
        };
    }
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        other => Err(EditError::Type {
            field: keys.join("."),
            expected: "array",
            found: json_type(other),
        }),
    }
}

fn refuse(field: &str, reason: impl Into<String>) -> EditError {
    EditError::Invariant {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
