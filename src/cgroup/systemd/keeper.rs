//! The process that a scope is started with.
//!
//! systemd makes a scope for processes that exist, but the container's must be
//! born in a cgroup whose device filter is in force. So the scope is made for a
//! process that does nothing, and that ends as soon as the container's first
//! process is there, or when we do.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::error::SystemdError;
use crate::sys::process::{Cloned, clone3, exit_now, pidfd_send_signal, prctl};

/// Holds a scope open until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    pid: i32,
    pidfd: OwnedFd,
}

impl Keeper {
    /// Starts the process. The caller must be single-threaded.
    pub(super) fn start() -> Result<Self, SystemdError> {
        let parent = nix::unistd::getpid();
        match clone3(0, None, false).map_err(SystemdError::Keeper)? {
            Cloned::Child => wait_for_the_end(parent),
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }
}

/// The child. It holds no descriptor, so that nobody waits for it: neither who
/// reads our output nor who waits for a lock of ours.
fn wait_for_the_end(parent: nix::unistd::Pid) -> ! {
    let tied = prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into());
    // Told to die with its parent too late is told nothing.
    if tied.is_ok() && nix::unistd::getppid() == parent {
        let _: io::Result<()> = crate::sys::close_range(0, u32::MAX);
        loop {
            nix::unistd::pause();
        }
    }
    exit_now(1)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        while waitid(
            Id::PIDFd(self.pidfd.as_fd()),
            WaitPidFlag::WEXITED | WaitPidFlag::__WALL,
        ) == Err(nix::errno::Errno::EINTR)
        {}
    }
}
