//! The container's cgroup and device filter: made, filtered and verified before
//! there is a process, and looked at again afterwards.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::CreateRequest;
use super::judge::Judged;
use crate::cgroup::{Cgroup, CgroupSpec, Layout, Planned};
use crate::device::{DeviceFilter, Standing, Target};
use crate::error::{Error, Result};
use crate::runtime::RuntimeError;
use crate::runtime::birth::Newborn;
use crate::runtime::delete::PATIENCE;
use crate::runtime::fault::{Step, point};
use crate::runtime::lower_mounts::CgroupView;
use crate::runtime::state::{Locked, State};
use crate::runtime::undo::Undo;

/// The cgroup that will be made, and the hierarchies it is in.
pub(super) fn plan(request: &CreateRequest<'_>, judged: &Judged) -> Result<(Layout, Planned)> {
    let layout = Layout::detect()?;
    let planned = Cgroup::plan(&layout, &cgroup_spec(request, judged)?)?;
    Ok((layout, planned))
}

/// Makes the cgroup, limits and filters it, and puts it on record. Returns it,
/// and where its directories are seen on the host.
pub(super) fn make(
    request: &CreateRequest<'_>,
    (layout, planned): (Layout, Planned),
    locked: &Locked,
    state: &mut State,
    undo: &mut Undo<'_>,
) -> Result<(CgroupView, Cgroup)> {
    let cgroup = planned.make()?;
    {
        let cgroup = cgroup.clone();
        undo.push("cgroup", move || Ok(cgroup.remove(PATIENCE)?));
    }
    state.cgroup = Some(cgroup.clone());
    cgroup.apply()?;
    point(Step::CreateCgroup)?;

    install_filter(request, &cgroup, state)?;
    locked.write(state)?;
    point(Step::CreateFilter)?;
    Ok((cgroup_view(&layout, &cgroup), cgroup))
}

/// Makes the resctrl group, if there is one, and puts it on record.
pub(super) fn share(
    judged: &Judged,
    locked: &Locked,
    state: &mut State,
    undo: &mut Undo<'_>,
) -> Result<()> {
    let Some(planned) = &judged.resctrl else {
        return Ok(());
    };
    let group = planned.group().clone();
    // On record first, as the cgroup.
    state.resctrl = Some(group.clone());
    locked.write(state)?;
    undo.push("resctrl group", move || group.remove());
    planned.make()
}

/// How the cgroup of a document is made.
///
/// # Errors
/// Fields of the wrong type.
fn cgroup_spec<'a>(request: &'a CreateRequest<'_>, judged: &Judged) -> Result<CgroupSpec<'a>> {
    let document = request.document;
    Ok(CgroupSpec {
        cgroups_path: document.cgroups_path()?,
        id: request.id,
        resources: &document.value()["linux"]["resources"],
        rootless: request.rootless_cgroups,
        owner: judged.cgroup_owner,
    })
}

fn install_filter(request: &CreateRequest<'_>, cgroup: &Cgroup, state: &mut State) -> Result<()> {
    let Some(directory) = cgroup.devices_target() else {
        if !state.private_pid {
            tracing::warn!(
                "Creating a rootless container with no cgroup and no private pid namespace. \
                 Such configuration is strongly discouraged (as it is impossible to properly \
                 kill all container's processes)."
            );
        }
        return Ok(());
    };
    if !request.caller.is_host_root() {
        // The kernel lets nobody else set one. Nor can anybody else make a node,
        // or be given one that the caller could not open.
        tracing::debug!("no device filter: the caller is not the host's root");
        return Ok(());
    }
    let rules = request.document.device_rules()?;
    let devices = request.document.devices()?;
    let declared: Vec<&Path> = devices.iter().map(|d| d.path.as_path()).collect();
    let filter = DeviceFilter::for_container(&rules, &declared)?;
    state.filter = Some(with_target(cgroup, directory, |target| {
        Ok(filter.install(target)?)
    })?);
    Ok(())
}

/// Opens the place a filter is in.
fn with_target<T>(
    cgroup: &Cgroup,
    directory: &Path,
    act: impl FnOnce(&Target<'_>) -> Result<T>,
) -> Result<T> {
    if !cgroup.is_v2() {
        return act(&Target::V1(directory));
    }
    let file = fs::File::open(directory).map_err(|e| Error::io("open", directory, e))?;
    act(&Target::V2(file.as_fd()))
}

/// Checks that the recorded device filter is in force.
///
/// # Errors
/// A filter that is missing or another than the recorded one.
pub fn verify_filter(state: &State) -> Result<()> {
    let (Some(cgroup), Some(filter)) = (&state.cgroup, &state.filter) else {
        return Ok(());
    };
    let Some(directory) = cgroup.devices_target() else {
        return Ok(());
    };
    let standing = with_target(cgroup, directory, |target| Ok(filter.verify(target)?))?;
    if let Standing::Narrower(what) = standing {
        tracing::warn!("device filter of {}: {what}", state.id);
    }
    Ok(())
}

/// The process is where it should be before anybody is told that it exists.
pub(super) fn verify(state: &State, newborn: &Newborn) -> Result<()> {
    verify_filter(state)?;
    if let Some(cgroup) = &state.cgroup {
        let own = nix::unistd::Pid::from_raw(newborn.pid);
        if cgroup.devices_target().is_some() && !cgroup.pids(true)?.contains(&own) {
            return Err(RuntimeError::Init(
                "the container's process left its cgroup during create".into(),
            )
            .into());
        }
    }
    Ok(())
}

fn cgroup_view(layout: &Layout, cgroup: &Cgroup) -> CgroupView {
    if cgroup.is_v2() {
        match (layout.hierarchies().first(), cgroup.directories().next()) {
            (Some(hierarchy), Some((_, own))) => CgroupView::V2 {
                mountpoint: hierarchy.mount_point.clone(),
                own: own.to_path_buf(),
            },
            _ => CgroupView::None,
        }
    } else {
        let mut views: Vec<(String, PathBuf)> = Vec::new();
        for hierarchy in layout.hierarchies() {
            let own = hierarchy.names.iter().find_map(|n| cgroup.directory(n));
            let name = hierarchy
                .mount_point
                .file_name()
                .map(|n| n.to_string_lossy().into_owned());
            if let (Some(own), Some(name)) = (own, name)
                // As runc: beside version 1 the unified hierarchy is not shown.
                && hierarchy.names.iter().any(|n| !n.is_empty())
            {
                views.push((name, own.to_path_buf()));
            }
        }
        if views.is_empty() {
            CgroupView::None
        } else {
            CgroupView::V1(views)
        }
    }
}
