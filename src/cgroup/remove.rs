//! Removing the container's directories, and taking back a failed create.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::{CgroupError, Result};
use super::handle::{Cgroup, Driver};
use super::procs;
use super::systemd::Unit;

/// The first pause after `EBUSY`. A process that was killed is usually gone from
/// its cgroup within a millisecond; the kernel sends no event for it on version 1.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Removes the container's directories with everything below them, then
    /// those above that [`Cgroup::create`] made and nobody else uses. Processes
    /// that are dying are waited for until `patience` has passed.
    ///
    /// # Errors
    /// A directory still has processes, or may not be removed. The others are
    /// removed nevertheless; calling again is safe.
    pub fn remove(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut failed = None;
        if let Driver::Systemd(unit) = &self.driver
            && let Err(error) = self.stop_unit(unit, deadline)
        {
            failed = Some(error);
        }
        for directory in &self.directories {
            if let Err(error) = remove_tree(&directory.path, deadline) {
                failed.get_or_insert(error);
            }
        }
        self.remove_parents();
        failed.map_or(Ok(()), |error| Err(CgroupError::Remove(Box::new(error))))
    }

    /// [`Cgroup::remove`] for a container that can have no process left: one that
    /// is there is another container's, which has taken the same cgroup, and of
    /// that nothing is removed.
    ///
    /// # Errors
    /// As [`Cgroup::remove`]; [`CgroupError::NotEmpty`] when `patience` has passed.
    pub fn remove_empty(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        self.wait_empty(deadline)
            .map_err(|error| CgroupError::Remove(Box::new(error)))?;
        self.remove(patience)
    }

    /// Takes back what [`Cgroup::create`] made, and nothing that was there
    /// before. What is in use stays; there is nobody to tell.
    pub fn undo(&self) {
        let deadline = Instant::now() + Duration::from_millis(200);
        if let Driver::Systemd(unit) = &self.driver
            && let Err(error) = self.stop_unit(unit, deadline)
        {
            tracing::debug!("{error}");
        }
        for path in self.made.iter().rev() {
            if let Err(error) = rmdir_until(path, deadline) {
                tracing::debug!("{error}");
            }
        }
    }

    /// Lets systemd stop the unit once no process is left in it. Who is still
    /// there may be another container's, which has taken the name since.
    fn stop_unit(&self, unit: &Unit, deadline: Instant) -> Result<()> {
        self.wait_empty(deadline)?;
        if unit.is_slice() {
            // Others may be in it; and it goes when nobody is.
            return Ok(());
        }
        Ok(unit.stop()?)
    }

    fn wait_empty(&self, deadline: Instant) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.pids(true) {
                Err(e) if e.is_absent() => return Ok(()),
                Ok(pids) if pids.is_empty() => return Ok(()),
                Ok(pids) if Instant::now() >= deadline => {
                    return Err(CgroupError::NotEmpty { count: pids.len() });
                }
                Ok(_) => {}
                Err(e) => return Err(e),
            }
            std::thread::sleep(pause);
            pause = (pause + pause / 8).min(LAST_PAUSE);
        }
    }

    /// `/pod` in `/pod/container` may have become somebody else's parent: then
    /// the kernel refuses, which is right.
    fn remove_parents(&self) {
        let own = |path: &Path| self.directories.iter().any(|d| d.path == path);
        for path in self.made.iter().rev().filter(|p| !own(p)) {
            if let Err(error) = rmdir(path) {
                tracing::debug!("{error}");
            }
        }
    }
}

/// Removes a cgroup and those below it.
pub(super) fn remove_tree(path: &Path, deadline: Instant) -> Result<()> {
    if rmdir(path).is_ok() {
        return Ok(());
    }
    // A read-only mount fails for directories that are not there, too: only
    // reading tells.
    match procs::children(path) {
        Err(e) if e.is_absent() => return Ok(()),
        children => {
            for child in children? {
                remove_tree(&child, deadline)?;
            }
        }
    }
    rmdir_until(path, deadline)
}

fn rmdir(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(CgroupError::io("rmdir", path, e)),
        _ => Ok(()),
    }
}

fn rmdir_until(path: &Path, deadline: Instant) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match rmdir(path) {
            Err(e) if e.errno() == Some(Errno::EBUSY) && Instant::now() < deadline => {}
            Err(e) if e.errno() == Some(Errno::EINTR) => continue,
            result => return result,
        }
        std::thread::sleep(pause);
        // A few quick tries, then patience.
        pause = (pause + pause / 8).min(LAST_PAUSE);
    }
}
