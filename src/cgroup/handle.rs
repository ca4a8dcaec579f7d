//! The handle on a container's cgroup, kept with the container's state.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::convert::{Conversion, v1, v2};
use super::create::Planned;
use super::error::{CgroupError, Result};
use super::layout::Layout;
use super::resources::Resources;
use super::systemd::{SystemdSpec, Unit};
use super::{create, file, writer};
use crate::device::policy::Policy;

/// What a container's cgroup is made from.
#[derive(Debug, Clone, Copy)]
pub struct CgroupSpec<'a> {
    /// `linux.cgroupsPath`; empty counts as absent.
    pub cgroups_path: Option<&'a str>,
    /// The container's id, which names the cgroup if nothing else does.
    pub id: &'a str,
    /// `linux.resources`, or `null`.
    pub resources: &'a Value,
    /// Permission errors are expected, and tolerated as runc does: no path and
    /// no limits asked for.
    pub rootless: bool,
    /// Who owns the cgroup inside the container, see [`super::delegated_uid`].
    /// Version 2 only: version 1 cannot be delegated safely.
    pub owner: Option<u32>,
    /// Has systemd make the cgroup, `cgroups_path` then being
    /// `slice:prefix:name`.
    pub systemd: Option<SystemdSpec<'a>>,
}

/// Who makes, changes and removes the directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Driver {
    /// We do, in the file system.
    Cgroupfs,
    /// systemd makes and removes them, and is told of limits.
    Systemd(Unit),
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// The controller, `name=NAME`, or the empty string for the unified one.
    pub controller: String,
    pub path: PathBuf,
}

/// A container's cgroup: the same directory in each hierarchy. It holds no file
/// open; stored and read back, it serves every later command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    pub(super) driver: Driver,
    pub(super) v2: bool,
    /// May be empty: rootless, without permission, nothing asked for.
    pub(super) directories: Vec<Directory>,
    /// Directories that we made, parents first.
    pub(super) made: Vec<PathBuf>,
    pub(super) rootless: bool,
    /// The limits as last set.
    pub(super) resources: Resources,
}

impl Cgroup {
    /// Checks what is asked for and says what would be made, without making it.
    ///
    /// # Errors
    /// The path or the resources make no sense, or the cgroup is in use or
    /// frozen.
    pub fn plan(layout: &Layout, spec: &CgroupSpec<'_>) -> Result<Planned> {
        create::plan(layout, spec)
    }

    /// Makes the container's directory in every hierarchy, ready for processes,
    /// with no limits set yet. On failure nothing that was made stays.
    ///
    /// # Errors
    /// As [`Self::plan`], or it cannot be made.
    pub fn create(layout: &Layout, spec: &CgroupSpec<'_>) -> Result<Self> {
        Ok(Self::plan(layout, spec)?.make()?.0)
    }

    /// Writes all limits but device access.
    ///
    /// # Errors
    /// The first limit that the kernel refuses, in runc's words. Earlier ones
    /// stay set.
    pub fn apply(&self) -> Result<()> {
        self.write(&self.resources)
    }

    /// [`Cgroup::apply`] for a cgroup with a scope's keeper in it, besides whom there
    /// has to be room for the process that is born. To be followed by
    /// [`Cgroup::apply_without_keeper`].
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn apply_with_keeper(&self) -> Result<()> {
        self.write(self.with_room().as_ref().unwrap_or(&self.resources))
    }

    /// Sets what [`Cgroup::apply_with_keeper`] could not, once the keeper has gone.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn apply_without_keeper(&self) -> Result<()> {
        match self.with_room() {
            Some(_) => self.apply(),
            None => Ok(()),
        }
    }

    /// The limits with room for two processes, if they are systemd's to set and
    /// have less.
    fn with_room(&self) -> Option<Resources> {
        const ROOM: i64 = 2;
        let too_few = self
            .resources
            .pids
            .is_some_and(|pids| (0..ROOM).contains(&pids));
        (too_few && matches!(self.driver, Driver::Systemd(_))).then(|| Resources {
            pids: Some(ROOM),
            ..self.resources.clone()
        })
    }

    /// Changes the limits that `update` (a `linux.resources` object) names, and
    /// remembers them; device access is never touched. The caller stores `self`.
    ///
    /// # Errors
    /// As [`Self::apply`]; the old limits are written back, and `self` is
    /// unchanged.
    pub fn update(&mut self, update: &Value) -> Result<()> {
        let new = self.resources.updated(update)?;
        if let Err(error) = self.write(&new) {
            if let Err(again) = self.write(&self.resources) {
                tracing::warn!("setting the old limits back failed too: {again}");
            }
            return Err(error);
        }
        self.resources = new;
        Ok(())
    }

    fn write(&self, resources: &Resources) -> Result<()> {
        let mut conversion = self.convert(resources)?;
        if let Driver::Systemd(unit) = &self.driver {
            // Only now: systemd would let the kernel kill where a limit is too low.
            conversion = self.convert(&unit.set_limits(resources, self.v2)?)?;
        }
        for field in &resources.ignored {
            tracing::warn!("linux.resources.{field} is obsolete and ignored");
        }
        for (field, why) in &conversion.dropped {
            tracing::warn!("linux.resources.{field} is ignored: {why}");
        }
        let available = || {
            let list = self.directory("").map(|d| d.join("cgroup.controllers"));
            list.and_then(|path| file::read(&path).ok())
                .unwrap_or_default()
        };
        let directory = |controller: &str| self.directory(if self.v2 { "" } else { controller });
        writer::write_all(&conversion.writes, directory, available)
    }

    fn convert(&self, resources: &Resources) -> Result<Conversion> {
        Ok(if self.v2 {
            v2::convert(resources, &self.v2_facts(resources)?)?
        } else {
            v1::convert(resources, &self.v1_facts(resources)?)?
        })
    }

    /// Tells who manages the cgroup what the device filter allows from now on,
    /// so that nobody takes it away or opens more.
    ///
    /// # Errors
    /// systemd refuses.
    pub fn announce_devices(&self, policy: &Policy) -> Result<()> {
        match &self.driver {
            Driver::Cgroupfs => Ok(()),
            Driver::Systemd(unit) => Ok(unit.set_devices(policy, self.v2)?),
        }
    }

    fn v1_facts(&self, resources: &Resources) -> Result<v1::Facts> {
        let mut facts = v1::Facts::default();
        if let Some(memory) = self.directory("memory")
            && v1::needs_memory_limit(&resources.memory)
        {
            facts.swap = memory.join("memory.memsw.limit_in_bytes").exists();
            facts.memory_limit = Some(file::read_number(&memory.join("memory.limit_in_bytes"))?);
        }
        if let Some(blkio) = self.directory("blkio") {
            facts.bfq = !blkio.join("blkio.weight").exists();
        }
        Ok(facts)
    }

    fn v2_facts(&self, resources: &Resources) -> Result<v2::Facts> {
        let mut facts = v2::Facts::default();
        let Some(directory) = self.directory("") else {
            return Ok(facts);
        };
        if resources.memory.check_before_update == Some(true) {
            // The best that can be done: a limit is no less right for not
            // knowing the use.
            facts.memory_usage = file::read_number(&directory.join("memory.current")).ok();
        }
        let io = &resources.block_io;
        if io.weight.is_some() || !io.weight_device.is_empty() {
            // An older BFQ reads back a bare number, a newer one `default N`.
            if let Some(text) = file::read_optional(&directory.join("io.bfq.weight"))? {
                let per_device = text.trim().parse::<i64>().is_err();
                facts.io_weight = v2::IoWeight::Bfq { per_device };
            }
        }
        Ok(facts)
    }

    /// The container's directory for a controller, `name=NAME`, or the empty
    /// string for the unified hierarchy (the only one on version 2).
    #[must_use]
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        self.directories
            .iter()
            .find(|d| d.controller == controller)
            .map(|d| d.path.as_path())
    }

    /// Each controller's directory, as runc's `cgroup_paths`: on version 2 one,
    /// under the empty string. Empty if there was no permission to make any.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.directories
            .iter()
            .map(|d| (d.controller.as_str(), d.path.as_path()))
    }

    /// Where device access is confined: the version 1 `devices` directory, or
    /// the version 2 one.
    #[must_use]
    pub fn devices_target(&self) -> Option<&Path> {
        self.main_directory()
    }

    /// The directory that stands for all when processes are counted.
    pub(super) fn main_directory(&self) -> Option<&Path> {
        self.directory(if self.v2 { "" } else { "devices" })
    }

    /// Whether the cgroup is on version 2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Whether failures to join are tolerated, as for any rootless container.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        self.rootless
    }

    /// Who made the cgroup, and must remove it.
    #[must_use]
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The limits as last set.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Whether the cgroup is still there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.main_directory().is_some_and(Path::is_dir)
    }

    /// How often the kernel has killed one of the processes for want of memory.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let (directory, name) = if self.v2 {
            (self.directory(""), "memory.events")
        } else {
            (self.directory("memory"), "memory.oom_control")
        };
        let Some(path) = directory.map(|d| d.join(name)) else {
            return Ok(0);
        };
        let Some(text) = file::read_optional(&path)? else {
            return Ok(0);
        };
        let count = file::value_of(&text, "oom_kill").unwrap_or("0");
        file::parse_number(count).map_err(|reason| CgroupError::Parse { path, reason })
    }
}
