//! Which processes are in a cgroup.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::error::{CgroupError, Result};
use super::file;
use super::handle::Cgroup;

impl Cgroup {
    /// The processes in the cgroup, and with `recursive` in those below it, as
    /// our pid namespace numbers them. Without a cgroup there are none.
    ///
    /// # Errors
    /// The cgroup has gone or cannot be read.
    pub fn pids(&self, recursive: bool) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        match self.main_directory() {
            Some(directory) if recursive => collect(directory, &mut pids)?,
            Some(directory) => pids = of_directory(directory)?,
            None => {}
        }
        Ok(pids)
    }
}

/// The processes of one directory alone.
pub(super) fn of_directory(directory: &Path) -> Result<Vec<Pid>> {
    let mut path = directory.join("cgroup.procs");
    let text = match file::read(&path) {
        // A threaded cgroup tells threads only.
        Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => {
            path.set_file_name("cgroup.threads");
            file::read(&path)?
        }
        result => result?,
    };
    let parse = |line: &str| {
        line.parse()
            .map(Pid::from_raw)
            .map_err(|_| CgroupError::Parse {
                path: path.clone(),
                reason: format!("{line:?} is not a process id"),
            })
    };
    text.lines().map(parse).collect()
}

/// The processes of a directory and all below it. One below may vanish while we
/// look, the directory itself may not.
pub(super) fn collect(directory: &Path, pids: &mut Vec<Pid>) -> Result<()> {
    pids.extend(of_directory(directory)?);
    for child in children(directory)? {
        match collect(&child, pids) {
            Err(e) if e.is_absent() => {}
            result => result?,
        }
    }
    Ok(())
}

/// The cgroups right below one.
pub(super) fn children(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let failed = |e| CgroupError::io("readdir", directory, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
