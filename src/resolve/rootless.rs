//! The conversion of a configuration for callers without privilege: probes what
//! it depends on, and asks the pure part.

use std::path::{Path, PathBuf};

use crate::document::Document;
use crate::edit::{Edit, Plan};
use crate::error::Result;
use crate::host::caller;
use crate::host::nodes::probe;
use crate::rootless::{self, Caller, Situation};

/// The edits that `document`, which `plan` has led to, needs for this caller.
/// Host root needs none, and costs no look at the host.
///
/// # Errors
/// Ranges of the caller's that make no sense; a device that the host lacks.
pub(crate) fn conversion(caller: &Caller, document: &Document, plan: &Plan) -> Result<Plan> {
    if !rootless::applies(document, caller)? {
        return Ok(Plan::default());
    }
    let maps = caller::maps(Path::new("/"), caller)?;
    let devices: Vec<_> = rootless::devices(document, &host_paths(plan))?
        .into_iter()
        .map(|device| {
            let places = caller::node_places(&device);
            (device, places)
        })
        .collect();
    let nodes: Vec<PathBuf> = devices.iter().flat_map(|(_, p)| p.clone()).collect();
    let places = nodes.into_iter().chain(rootless::host_file_systems());
    let facts = probe(Path::new("/"), places)?;
    let plan = rootless::plan(
        document,
        &Situation {
            caller,
            maps: &maps,
            devices: &devices,
            facts: &facts,
        },
    )?;
    let dropped = document.device_rules()?.len();
    if dropped > 0 {
        tracing::debug!("rootless: {dropped} device rules dropped: they cannot be applied");
    }
    Ok(plan)
}

/// Where the nodes that a plan adds are on the host.
pub(super) fn host_paths(plan: &Plan) -> Vec<(PathBuf, PathBuf)> {
    plan.edits
        .iter()
        .filter_map(|planned| match &planned.edit {
            Edit::AddDevice(node) => Some((node.path.clone(), node.host_path.clone())),
            _ => None,
        })
        .collect()
}
