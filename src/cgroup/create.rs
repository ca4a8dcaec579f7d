//! Making the container's directories.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::convert::v1;
use super::error::{CgroupError, Result};
use super::freezer::FreezerState;
use super::handle::{Cgroup, CgroupSpec, Directory, Driver};
use super::layout::Layout;
use super::path::{self, Place, Wanted};
use super::resources::{ResourceError, Resources};
use super::systemd::{self, Keeper};
use super::{delegate, file, writer};

/// How often a directory may be removed under our hands by another container
/// that made it and ends.
const RACES: usize = 16;

/// A cgroup that is about to be made: checked, with nothing done yet.
///
/// Whoever stores [`Planned::cgroup`] before [`Planned::make`] can remove what
/// was made even if it is killed in between.
#[derive(Debug)]
pub struct Planned {
    cgroup: Cgroup,
    places: Vec<Place>,
    owner: Option<u32>,
    lenient: bool,
    unit: Option<systemd::Planned>,
}

pub(super) fn plan(layout: &Layout, spec: &CgroupSpec<'_>) -> Result<Planned> {
    let resources = Resources::parse(spec.resources)?;
    if !layout.is_v2() && !resources.unified.is_empty() {
        return Err(ResourceError::UnifiedOnV1.into());
    }
    let asked = spec.cgroups_path.filter(|p| !p.is_empty());
    let unit = match &spec.systemd {
        None => None,
        Some(wanted) => Some(systemd::Planned::new(
            asked,
            spec.id,
            spec.rootless,
            layout.is_v2(),
            &resources,
            wanted,
        )?),
    };
    let wanted = match &unit {
        None => Wanted::new(asked, spec.id, spec.rootless)?,
        Some(unit) => Wanted::new(unit.cgroup.to_str(), spec.id, spec.rootless)?,
    };
    let places = path::places(layout, &wanted)?;
    let cgroup = Cgroup {
        driver: unit.as_ref().map_or(Driver::Cgroupfs, |planned| {
            Driver::Systemd(planned.unit.clone())
        }),
        v2: layout.is_v2(),
        directories: places
            .iter()
            .map(|p| Directory {
                controller: p.controller.to_owned(),
                path: p.path.clone(),
            })
            .collect(),
        // What systemd makes it removes.
        made: match unit {
            None => missing(&places),
            Some(_) => Vec::new(),
        },
        rootless: spec.rootless,
        resources,
    };
    refuse_in_use(&cgroup)?;
    Ok(Planned {
        cgroup,
        places,
        owner: spec.owner,
        // Nobody asked for this cgroup: without permission there is none.
        lenient: spec.rootless && asked.is_none() && unit.is_none(),
        unit,
    })
}

impl Planned {
    /// The cgroup as it will be, all directories that are not there yet counted
    /// as made by us.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Makes the directories, or has systemd make them. On failure nothing that
    /// was made stays. A scope of systemd's lasts only as long as the keeper or
    /// another process in it does.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn make(self) -> Result<(Cgroup, Option<Keeper>)> {
        let Self {
            mut cgroup,
            places,
            owner,
            lenient,
            unit,
        } = self;
        cgroup.made.clear();
        let keeper = match unit {
            None => None,
            Some(unit) => unit
                .start()
                .map_err(|e| CgroupError::Create(Box::new(e.into())))?,
        };
        let result = if cgroup.v2 {
            unified(&mut cgroup, &places, lenient)
        } else {
            legacy(&mut cgroup, &places, lenient)
        };
        let result = result.and_then(|()| match (owner, cgroup.directory("")) {
            (Some(uid), Some(directory)) if cgroup.v2 => delegate::delegate(directory, uid),
            _ => Ok(()),
        });
        if let Err(error) = result {
            drop(keeper);
            cgroup.undo();
            return Err(CgroupError::Create(Box::new(error)));
        }
        Ok((cgroup, keeper))
    }
}

/// The directories on the ways down to `places` that are not there, parents
/// first. Controllers that are mounted together share theirs.
fn missing(places: &[Place]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for place in places {
        let mut missing: Vec<PathBuf> = place
            .path
            .ancestors()
            .take_while(|path| *path != place.mount_point && !path.is_dir())
            .map(Path::to_path_buf)
            .collect();
        missing.reverse();
        missing.retain(|path| !all.contains(path));
        all.extend(missing);
    }
    all
}

/// A second container in the same cgroup would share limits and be killed with
/// the first; one born in a frozen cgroup would never run.
fn refuse_in_use(cgroup: &Cgroup) -> Result<()> {
    match cgroup.pids(true) {
        Ok(pids) if !pids.is_empty() => return Err(CgroupError::NotEmpty { count: pids.len() }),
        Err(e) if !e.is_absent() => return Err(e),
        _ => {}
    }
    match cgroup.freezer_state()? {
        FreezerState::Frozen => Err(CgroupError::Frozen),
        FreezerState::Thawed | FreezerState::Undefined => Ok(()),
    }
}

/// Makes `path`, which is below `mount_point`, calling `each` for every
/// directory on the way down (the mount point's own not), made or not.
fn make(
    mount_point: &Path,
    path: &Path,
    made: &mut Vec<PathBuf>,
    each: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<()> {
    let mut races = 0;
    'again: loop {
        let mut current = mount_point.to_path_buf();
        let below = path.strip_prefix(mount_point).unwrap_or(Path::new(""));
        for component in below.components() {
            current.push(component);
            match std::fs::create_dir(&current) {
                Ok(()) => made.push(current.clone()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == ErrorKind::NotFound && races < RACES => {
                    races += 1;
                    continue 'again;
                }
                Err(e) => return Err(CgroupError::io("mkdir", &current, e)),
            }
            match each(&current) {
                Err(e) if e.is_absent() && races < RACES => {
                    races += 1;
                    continue 'again;
                }
                result => result?,
            }
        }
        return Ok(());
    }
}

/// Version 1: every hierarchy on its own.
fn legacy(cgroup: &mut Cgroup, places: &[Place], lenient: bool) -> Result<()> {
    for place in places {
        let made = &mut cgroup.made;
        let result = match place.controller {
            "cpuset" => {
                let wanted = v1::cpuset(&cgroup.resources.cpu);
                let leaf = &place.path;
                make(&place.mount_point, leaf, made, &mut |directory| {
                    // The leaf's own values first: its parent's might overlap
                    // with an exclusive sibling.
                    if directory == leaf {
                        writer::write_all(&wanted, |_| Some(directory), String::new)?;
                    }
                    inherit_cpuset(directory)
                })
            }
            _ => make(&place.mount_point, &place.path, made, &mut |_| Ok(())),
        };
        // Those without limits are for others' bookkeeping only.
        let limits = !matches!(place.controller, "name=systemd" | "misc" | "");
        match result {
            Ok(()) => {}
            Err(e) if !limits || (lenient && e.is_permission()) => {
                tracing::debug!("no {} cgroup: {e}", place.controller);
                cgroup
                    .directories
                    .retain(|d| d.controller != place.controller);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A version 1 cpuset takes no process until it has processors and memory nodes.
fn inherit_cpuset(directory: &Path) -> Result<()> {
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let path = directory.join(name);
        if file::read(&path)?.trim().is_empty() {
            file::write(&path, &file::read(&parent.join(name))?)?;
        }
    }
    Ok(())
}

/// Version 2: one directory, with every controller there is enabled on the way
/// down.
fn unified(cgroup: &mut Cgroup, places: &[Place], lenient: bool) -> Result<()> {
    let Some(place) = places.first() else {
        return Ok(());
    };
    let controllers = file::read(&place.mount_point.join("cgroup.controllers"))?;
    let resources = &cgroup.resources;
    let made = &mut cgroup.made;
    enable(&place.mount_point, &controllers, resources);
    let result = make(&place.mount_point, &place.path, made, &mut |directory| {
        check_domain(directory, resources)?;
        if directory != place.path {
            enable(directory, &controllers, resources);
        }
        Ok(())
    });
    match result {
        Err(e) if lenient && resources.needs_any(&controllers) => {
            Err(CgroupError::Rootless(Box::new(e)))
        }
        Err(e) if lenient => {
            tracing::debug!("no cgroup: {e}");
            cgroup.directories.clear();
            Ok(())
        }
        result => result,
    }
}

/// Hands the controllers on to a directory's children. A controller that cannot
/// be is only an error for who wants to set its limits, which then says so.
fn enable(directory: &Path, controllers: &str, resources: &Resources) {
    let path = directory.join("cgroup.subtree_control");
    let enabled = file::read(&path).unwrap_or_default();
    let mut missing: Vec<String> = controllers
        .split_whitespace()
        .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return;
    }
    match file::write(&path, &missing.join(" ")) {
        Ok(()) => return,
        // It has processes, and would be made threaded by those controllers that
        // take it nevertheless: not by those for which nobody asks for a limit.
        Err(e) if e.errno() == Some(Errno::EBUSY) => {
            tracing::debug!("{e}");
            missing.retain(|one| resources.needs_any(&one[1..]));
        }
        Err(_) => {}
    }
    for one in &missing {
        if let Err(error) = file::write(&path, one) {
            tracing::debug!("{error}");
        }
    }
}

/// Finds out if a cgroup was made below one with processes. Limits on processor
/// time could still work there, in threaded mode; others cannot.
fn check_domain(directory: &Path, resources: &Resources) -> Result<()> {
    let path = directory.join("cgroup.type");
    let Ok(kind) = file::read(&path) else {
        return Ok(());
    };
    let refuse = |state: String| {
        Err(CgroupError::Domain {
            path: directory.to_path_buf(),
            state,
        })
    };
    match kind.trim() {
        "domain invalid" if resources.needs_domain() => refuse("an invalid state".to_owned()),
        "domain invalid" => {
            // The best that is left, and better than an error.
            if let Err(error) = file::write(&path, "threaded") {
                tracing::debug!("{error}");
            }
            Ok(())
        }
        kind @ ("domain threaded" | "threaded") if resources.needs_domain() => {
            refuse(format!("{kind} mode"))
        }
        _ => Ok(()),
    }
}
