//! Processes by pid *and* start time, so that a recycled pid is never taken for
//! a container.

use procfs::process::{Process, Stat};
use serde::{Deserialize, Serialize};

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pid in the namespace of the runtime.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

/// What the kernel says about an [`Identity`] now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs, sleeps or is stopped.
    Alive,
    /// It has ended, was reaped, or its pid belongs to another process.
    Gone,
}

impl Identity {
    /// Reads the start time of a process that exists.
    ///
    /// `None` when there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        read(pid).map(|found| Self {
            pid,
            start_time: found.starttime,
        })
    }

    /// Whether the process still runs. Zombies and dead processes do not; but one
    /// whose first thread alone has ended does, though it is shown as a zombie.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match read(self.pid) {
            Some(found) if found.starttime != self.start_time => Liveness::Gone,
            Some(found) if matches!(found.state, 'X' | 'x') => Liveness::Gone,
            Some(found) if found.state == 'Z' && found.num_threads < 2 => Liveness::Gone,
            Some(_) => Liveness::Alive,
            None => Liveness::Gone,
        }
    }

    /// Shorthand for [`Liveness::Alive`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.liveness() == Liveness::Alive
    }
}

fn read(pid: i32) -> Option<Stat> {
    Process::new(pid).ok()?.stat().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_older_one_of_the_same_pid_is_not() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        let older = Identity {
            start_time: me.start_time - 1,
            ..me
        };
        assert_eq!(older.liveness(), Liveness::Gone);
    }

    #[test]
    fn a_zombie_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = crate::sys::process::pidfd_open(id.pid).unwrap();
        let mut poll = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&pidfd),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut poll, nix::poll::PollTimeout::NONE).unwrap();
        assert_eq!(id.liveness(), Liveness::Gone);
        child.wait().unwrap();
    }
}
