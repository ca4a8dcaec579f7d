//! Taking turns: the container sees one device, and, where there is one, the
//! file that says how long a turn is.

use std::path::Path;

use super::objection::{origin_of, refuse};
use super::request::TimeSlice;
use super::{Context, GpuError};
use crate::edit::{Edit, Mount, Plan, Source};
use crate::host::facts::{FileKind, Presence, Snapshot};

const INSIDE: &str = "/etc/nvidia/gpu-time-slicing.yaml";

pub(super) fn plan(
    wish: &TimeSlice,
    snapshot: &Snapshot,
    context: &Context,
    sources: &[Source],
    plan: &mut Plan,
) -> Result<(), GpuError> {
    let origin = origin_of("time-slice", sources);
    let edit = Edit::SetEnv {
        name: "CUDA_VISIBLE_DEVICES".to_owned(),
        value: wish.index.to_string(),
    };
    plan.push(edit, origin.clone());
    let Some(config) = &wish.config else {
        return Ok(());
    };
    let objections = objection(config, snapshot).into_iter().collect();
    refuse("time-slice", objections, &origin, context, plan)?;
    let edit = Edit::AddMount(Mount {
        destination: INSIDE.into(),
        kind: None,
        source: Some(config.clone()),
        options: ["ro", "nosuid", "nodev", "noexec", "bind", "rprivate"]
            .map(str::to_owned)
            .to_vec(),
    });
    plan.push(edit, origin);
    Ok(())
}

fn objection(config: &Path, snapshot: &Snapshot) -> Option<String> {
    let path = config.display();
    match snapshot.file(config).map(Presence::followed) {
        Some(Presence::Present(facts)) if facts.kind == FileKind::File => None,
        Some(Presence::Present(facts)) => Some(format!(
            "the time slicing config {path} is {}, not a regular file",
            facts.kind.noun()
        )),
        Some(Presence::Unknown { reason }) => Some(format!(
            "the time slicing config {path} cannot be examined: {reason}"
        )),
        Some(Presence::Absent) | None => {
            Some(format!("the time slicing config {path} does not exist"))
        }
    }
}
