//! The container's cgroup and device filter: made, filtered and verified before
//! there is a process, and looked at again afterwards.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::CreateRequest;
use super::judge::Judged;
use crate::cgroup::systemd::{Keeper, SystemdSpec};
use crate::cgroup::{Cgroup, CgroupSpec, Driver, Layout, Planned};
use crate::device::{DeviceFilter, Installed, Standing, Target};
use crate::document::Document;
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
    let mut spec = cgroup_spec(request, judged)?;
    let (filter, annotations);
    if request.systemd {
        filter = filter_of(request.document)?;
        annotations = request.document.annotations()?;
        spec.systemd = Some(SystemdSpec {
            devices: request.caller.is_host_root().then_some(filter.policy()),
            annotations: &annotations,
        });
    }
    let planned = Cgroup::plan(&layout, &spec)?;
    Ok((layout, planned))
}

/// Where the container's process is to be born.
pub(super) struct Place {
    /// Where the cgroup's directories are seen on the host.
    pub view: CgroupView,
    pub cgroup: Cgroup,
    /// To be dropped once the process is there.
    pub keeper: Option<Keeper>,
}

/// Makes the cgroup, limits and filters it, and puts it on record; `made` and
/// `filtered` are what these steps are called.
pub(super) fn make(
    request: &CreateRequest<'_>,
    (layout, planned): (Layout, Planned),
    locked: &Locked,
    state: &mut State,
    undo: &mut Undo<'_>,
    [made, filtered]: [Step; 2],
) -> Result<Place> {
    let filter = filter_of(request.document)?;
    let (cgroup, keeper) = planned.make()?;
    {
        let cgroup = cgroup.clone();
        undo.push("cgroup", move || Ok(cgroup.remove(PATIENCE)?));
    }
    state.cgroup = Some(cgroup.clone());
    cgroup.apply_with_keeper()?;
    point(made)?;

    state.filter = confine(request, &cgroup, &filter, state)?;
    locked.write(state)?;
    point(filtered)?;
    Ok(Place {
        view: cgroup_view(&layout, &cgroup),
        cgroup,
        keeper,
    })
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
        systemd: None,
    })
}

/// The device filter of a document.
///
/// # Errors
/// Rules that cannot be honoured.
pub fn filter_of(document: &Document) -> Result<DeviceFilter> {
    let rules = document.device_rules()?;
    let devices = document.devices()?;
    let declared: Vec<&Path> = devices.iter().map(|d| d.path.as_path()).collect();
    Ok(DeviceFilter::for_container(&rules, &declared)?)
}

/// Puts the filter in force where the caller may have one.
fn confine(
    request: &CreateRequest<'_>,
    cgroup: &Cgroup,
    filter: &DeviceFilter,
    state: &State,
) -> Result<Option<Installed>> {
    if cgroup.devices_target().is_none() {
        if !state.private_pid {
            tracing::warn!(
                "Creating a rootless container with no cgroup and no private pid namespace. \
                 Such configuration is strongly discouraged (as it is impossible to properly \
                 kill all container's processes)."
            );
        }
        return Ok(None);
    }
    if !request.caller.is_host_root() {
        // The kernel lets nobody else set one. Nor can anybody else make a node,
        // or be given one that the caller could not open.
        tracing::debug!("no device filter: the caller is not the host's root");
        return Ok(None);
    }
    install(cgroup, filter)
}

/// Puts a filter in force in place of an earlier one.
///
/// # Errors
/// It is not in force.
pub fn install(cgroup: &Cgroup, filter: &DeviceFilter) -> Result<Option<Installed>> {
    let Some(directory) = cgroup.devices_target() else {
        return Ok(None);
    };
    with_target(cgroup, directory, |target| Ok(filter.install(target)?)).map(Some)
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
    if let Standing::Narrower(what) = standing(state)? {
        tracing::warn!("device filter of {}: {what}", state.id);
    }
    Ok(())
}

/// How the filter in force compares with the recorded one. A program of systemd's
/// on its own scope, which says the same, does not count.
///
/// # Errors
/// More is allowed than the record says.
pub fn standing(state: &State) -> Result<Standing> {
    let (Some(cgroup), Some(filter)) = (&state.cgroup, &state.filter) else {
        return Ok(Standing::Exact);
    };
    let Some(directory) = cgroup.devices_target() else {
        return Ok(Standing::Exact);
    };
    let standing = with_target(cgroup, directory, |target| Ok(filter.verify(target)?))?;
    match standing {
        Standing::Narrower(what)
            if cgroup.is_v2() && matches!(cgroup.driver(), Driver::Systemd(_)) =>
        {
            tracing::debug!("device filter of {}: {what}", state.id);
            Ok(Standing::Exact)
        }
        standing => Ok(standing),
    }
}

/// The process is where it should be before anybody is told that it exists.
pub(super) fn verify(state: &State, newborn: &Newborn) -> Result<()> {
    verify_filter(state)?;
    if let Some(cgroup) = &state.cgroup {
        let own = nix::unistd::Pid::from_raw(newborn.pid);
        // It may have gone below, as with a systemd that hands cgroups on.
        let is_there = || -> Result<bool> {
            Ok(cgroup.pids(false)?.contains(&own) || cgroup.pids(true)?.contains(&own))
        };
        if cgroup.devices_target().is_some() && !is_there()? {
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
