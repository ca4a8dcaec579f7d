//! Where `exec` puts its process.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::entry::{self, Entry};
use super::error::{CgroupError, Result};
use super::file;
use super::handle::Cgroup;
use super::path::SubCgroups;

/// The cgroup for processes that can be nowhere else, below the container's.
const LEAF: &str = "kusabi-exec";

/// A place for an `exec`ed process. Try them in order: the next one if
/// [`ExecPlace::open`] finds nothing, or `clone3` says `EBUSY` (a cgroup that
/// hands controllers to its children takes no processes), `EOPNOTSUPP` (a
/// threaded one) or `ENODEV` (it has just gone). The error to report is the
/// first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecPlace {
    directories: Vec<(String, PathBuf)>,
    make: bool,
}

impl ExecPlace {
    /// Opens the way in.
    ///
    /// # Errors
    /// The cgroup is not there, or may not be entered.
    pub fn open(&self) -> Result<Entry> {
        if let Some((_, leaf)) = self.directories.first().filter(|_| self.make)
            && let Err(e) = std::fs::create_dir(leaf)
            && e.kind() != std::io::ErrorKind::AlreadyExists
        {
            let error = CgroupError::io("mkdir", leaf, e);
            return Err(CgroupError::Join(Box::new(error)));
        }
        entry::open(
            self.directories
                .iter()
                .map(|(c, p)| (c.as_str(), p.as_path())),
        )
    }

    /// The version 2 directory, made if it is ours to make.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directories.first().map(|(_, path)| path.as_path())
    }

    /// Sees that the place is there, for who cannot be born in it.
    ///
    /// # Errors
    /// As [`ExecPlace::open`].
    pub fn exists(&self) -> Result<()> {
        self.open().map(drop)
    }

    /// The error for a `clone3` into this place that failed.
    #[must_use]
    pub fn refused(&self, source: std::io::Error) -> CgroupError {
        let path = self.directories.first().map(|(_, path)| path.clone());
        CgroupError::Join(Box::new(CgroupError::Write {
            value: "0".to_owned(),
            path: path.unwrap_or_default(),
            source,
        }))
    }
}

impl Cgroup {
    /// The places for a process that `exec` adds: the container's own cgroup;
    /// on version 2, unless `--cgroup` names a place, then the one its first
    /// process `init` is in now, which may have moved itself; then a leaf of
    /// ours.
    ///
    /// # Errors
    /// `--cgroup` names a controller the container is not in, or leaves the
    /// container's cgroup.
    pub fn exec_places(&self, init: Pid, sub: &SubCgroups) -> Result<Vec<ExecPlace>> {
        sub.check(|controller| self.directory(controller).is_some())?;
        let mut directories = Vec::new();
        for (controller, directory) in self.directories() {
            let below = sub.below(controller, directory)?;
            directories.push((controller.to_owned(), below));
        }
        let place = |directories, make| ExecPlace { directories, make };
        let mut places = vec![place(directories, false)];
        let Some(own) = self.directory("").filter(|_| self.v2 && sub.is_empty()) else {
            return Ok(places);
        };
        let unified = |path| vec![(String::new(), path)];
        if let Some(current) = cgroup_of(init)
            && current != own
        {
            places.push(place(unified(current), false));
        }
        places.push(place(unified(own.join(LEAF)), true));
        Ok(places)
    }
}

/// The version 2 cgroup a process is in, if we can see it.
fn cgroup_of(pid: Pid) -> Option<PathBuf> {
    let text = file::read(format!("/proc/{pid}/cgroup").as_ref()).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Removed, or above the root of our cgroup namespace.
    if path.ends_with(" (deleted)") || path.starts_with("/..") {
        return None;
    }
    Some(
        ["/sys/fs/cgroup", path.trim_start_matches('/')]
            .iter()
            .collect(),
    )
}
