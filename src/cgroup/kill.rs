//! Signals to every process of a cgroup.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{CgroupError, Result, reason};
use super::file;
use super::handle::Cgroup;
use super::procs;

/// How long processes may take to stand still before they are signalled. If
/// they do not, they are signalled all the same.
const STANDSTILL: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Kills every process in the cgroup and below, also those that fork while
    /// we look and those that are frozen. It does not wait for their end.
    ///
    /// # Errors
    /// The cgroup has gone ([`CgroupError::Gone`]), or cannot be read.
    pub fn kill_all(&self) -> Result<()> {
        if !self.exists() {
            return Err(CgroupError::Gone);
        }
        self.kill_there().map_err(|error| self.or_gone(error))
    }

    fn kill_there(&self) -> Result<()> {
        let send = |pid| kill(pid, Signal::SIGKILL);
        // On version 2 and in the hybrid's unified hierarchy the kernel does it,
        // since Linux 5.14.
        let path = self.directory("").map(|d| d.join("cgroup.kill"));
        let done = match path.map(|path| file::write(&path, "1")) {
            Some(Ok(())) => true,
            // In a threaded cgroup it does not.
            Some(Err(e)) if e.errno() == Some(Errno::EOPNOTSUPP) => false,
            Some(Err(e)) if !e.is_absent() => return Err(e),
            Some(Err(_)) | None => false,
        };
        match (done, self.v2) {
            (true, true) => Ok(()),
            (true, false) => {
                // A process may be in version 1's hierarchies only; and one that
                // is frozen there does not die.
                if self.has_strangers()? {
                    return self.signal_all(send);
                }
                self.thaw()
            }
            (false, _) => self.signal_all(send),
        }
    }

    /// Sends every process in the cgroup and below a signal, by `send`, while
    /// they stand still so that none escapes by forking. A process that has
    /// ended is no error.
    ///
    /// # Errors
    /// The cgroup has gone ([`CgroupError::Gone`]), or cannot be read.
    pub fn signal_all(&self, send: impl Fn(Pid) -> nix::Result<()>) -> Result<()> {
        if !self.exists() {
            return Err(CgroupError::Gone);
        }
        if let Err(error) = self.freeze(STANDSTILL) {
            if !self.exists() {
                return Err(CgroupError::Gone);
            }
            tracing::warn!("{error}");
        }
        let pids = self.pids(true);
        for pid in pids.iter().flatten() {
            match send(*pid) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => tracing::warn!("kill {pid}: {}", reason(&errno.into())),
            }
        }
        if let Err(error) = self.thaw()
            && self.exists()
        {
            tracing::warn!("{error}");
        }
        pids.map(drop).map_err(|error| self.or_gone(error))
    }

    /// systemd removes a scope's cgroup by itself when the last process of it has
    /// ended, also under our hands.
    fn or_gone(&self, error: CgroupError) -> CgroupError {
        match error.is_absent() && !self.exists() {
            true => CgroupError::Gone,
            false => error,
        }
    }

    /// Whether a process is in the version 1 hierarchies but not in the unified
    /// one.
    fn has_strangers(&self) -> Result<bool> {
        let mut known = Vec::new();
        if let Some(directory) = self.directory("") {
            match procs::collect(directory, &mut known) {
                Err(e) if e.is_absent() => {}
                result => result?,
            }
        }
        let known: BTreeSet<Pid> = known.into_iter().collect();
        let pids = self.pids(true)?;
        Ok(pids.iter().any(|pid| !known.contains(pid)))
    }
}
