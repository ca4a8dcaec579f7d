//! The one place that changes a [`Document`].
//!
//! Pure: the input stays as it is, the result is a new document or an error, so
//! nothing is ever half done. Applying a plan twice is applying it once, and what
//! no edit names is unchanged; [`invariants`](super::invariants) checks the
//! latter after every plan.
//!
//! Where the Container Device Interface says how an edit merges ("OCI Edits" of
//! its specification), its reference implementation's result is kept, with two
//! differences: a mount of the same destination is replaced where it stands
//! before the sort by depth, and nothing is ever added twice.

mod hooks;
mod linux;
mod mounts;
mod process;

use serde_json::Value;

use super::{Edit, EditError, Plan, invariants};
use crate::document::Document;

/// What an edit did to the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The document is another one now.
    Changed,
    /// The document already said so: an engine made the same edit, or the list
    /// of device rules already allows the device.
    Unchanged,
}

impl Outcome {
    fn changed_if(changed: bool) -> Self {
        if changed {
            Self::Changed
        } else {
            Self::Unchanged
        }
    }
}

/// The result of a plan.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The effective document.
    pub document: Document,
    /// What each edit of the plan did, in the plan's order.
    pub outcomes: Vec<Outcome>,
}

/// The document with all edits of the plan made.
///
/// # Errors
/// [`EditError::Type`] where the document has a value of the wrong type in an
/// edit's way, [`EditError::Invariant`] where an edit makes no sense or would
/// change what edits may not.
pub fn apply(document: &Document, plan: &Plan) -> Result<Document, EditError> {
    apply_traced(document, plan).map(|applied| applied.document)
}

/// As [`apply`], and what each edit did.
///
/// # Errors
/// As [`apply`].
pub fn apply_traced(document: &Document, plan: &Plan) -> Result<Applied, EditError> {
    if plan.edits.is_empty() {
        return Ok(Applied {
            document: document.clone(),
            outcomes: Vec::new(),
        });
    }
    let mut root = document.value().clone();
    let mut mounts = mounts::Mounts::default();
    let mut outcomes = Vec::with_capacity(plan.edits.len());
    for (index, planned) in plan.edits.iter().enumerate() {
        let later = plan.edits.get(index + 1..).unwrap_or_default();
        let outcome = match &planned.edit {
            // It keeps its place: removing and adding it again would move it each
            // time that the plan is applied.
            Edit::RemoveDevice { path } if linux::is_added(path, later)? => Outcome::Unchanged,
            edit => one(&mut root, &mut mounts, edit)?,
        };
        outcomes.push(outcome);
    }
    mounts.finish(&mut root)?;
    invariants::check(document.value(), &root, plan)?;
    Ok(Applied {
        document: document.with_edited_value(root)?,
        outcomes,
    })
}

fn one(root: &mut Value, mounts: &mut mounts::Mounts, edit: &Edit) -> Result<Outcome, EditError> {
    match edit {
        Edit::SetEnv { name, value } => process::set_env(root, name, value),
        Edit::DefaultEnv { name, value } => process::default_env(root, name, value),
        Edit::AddGid(gid) => process::add_gid(root, *gid),
        Edit::AddDevice(node) => linux::add_device(root, node),
        Edit::RemoveDevice { path } => linux::remove_device(root, path),
        Edit::AllowDevice(rule) => linux::allow_device(root, rule),
        Edit::RevokeDevice(rule) => linux::revoke_device(root, rule),
        Edit::DropDeviceRules => linux::drop_device_rules(root),
        Edit::AddNetDevice { host, name } => linux::add_net_device(root, host, name),
        Edit::SetRdt(rdt) => linux::set_rdt(root, rdt),
        Edit::MapIds { uid, gid } => linux::map_ids(root, uid, gid),
        Edit::AddNamespace(kind) => linux::add_namespace(root, *kind),
        Edit::SetCgroupsPath(path) => linux::set_cgroups_path(root, path),
        Edit::AddMount(mount) => mounts.add(root, mount),
        Edit::RemoveMount { destination } => mounts.remove(root, destination),
        Edit::RemoveMountOption {
            destination,
            option,
        } => mounts.remove_option(root, destination, option),
        Edit::AddHook(stage, hook) => hooks::add(root, *stage, hook),
        Edit::RemoveHook { stage, path } => hooks::remove(root, *stage, path),
        Edit::RemoveAnnotation { key } => process::remove_annotation(root, key),
    }
}

/// An edit that makes no sense for any document.
fn refuse(field: &str, reason: impl Into<String>) -> EditError {
    EditError::Invariant {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
