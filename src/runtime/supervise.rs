//! Foreground containers: signals forwarded, terminal relayed, children reaped,
//! the program's exit status returned.
//!
//! Signals are blocked before anything is created and taken from a signalfd, so
//! that none is lost between create and wait. Everything is one poll loop in one
//! thread.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::RuntimeError;
use super::console::Relay;
use super::notify::Notify;
use crate::error::Result;
use crate::sys::process::{pidfd_send_signal, prctl};

/// Signals held back since before the container was made.
pub struct Supervisor {
    signals: SignalFd,
}

/// Signals that concern the supervisor itself, or that the kernel sends it for
/// its own doing.
const NOT_FORWARDED: &[i32] = &[
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

impl Supervisor {
    /// Blocks signals and, unless told not to, becomes the reaper of the
    /// container's orphans. Call before the container is created.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(subreaper: bool) -> Result<Self> {
        if subreaper {
            prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
                .map_err(|e| RuntimeError::syscall("set child subreaper", e))?;
        }
        let fail = |e: Errno| RuntimeError::syscall("block signals", e);
        let mut set = SigSet::all();
        for fault in [
            nix::sys::signal::SIGSEGV,
            nix::sys::signal::SIGBUS,
            nix::sys::signal::SIGILL,
            nix::sys::signal::SIGFPE,
            nix::sys::signal::SIGABRT,
        ] {
            set.remove(fault);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(fail)?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(fail)?;
        Ok(Self { signals })
    }

    /// Supervises until the program ends, and tells systemd when it is ready.
    ///
    /// Returns its exit status, or 128 plus the signal that ended it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(
        &self,
        pid: i32,
        pidfd: &OwnedFd,
        console: Option<OwnedFd>,
        mut notify: Option<Notify>,
    ) -> Result<i32> {
        let mut relay = console.map(Relay::new).transpose()?;
        let pid = Pid::from_raw(pid);
        let mut status = None;
        loop {
            let mut fds = vec![
                PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            // Positions of the relay's descriptors, where polled.
            let mut places = [None; 3];
            if let Some(relay) = &relay {
                for (place, (fd, read, write)) in places.iter_mut().zip(relay.interests()) {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::POLLIN, read);
                    flags.set(PollFlags::POLLOUT, write);
                    if !flags.is_empty() {
                        *place = Some(fds.len());
                        fds.push(PollFd::new(fd, flags));
                    }
                }
            }
            if let Some(fd) = notify.as_ref().and_then(Notify::interest) {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(RuntimeError::syscall("poll", e).into()),
                Ok(_) => {}
            }
            let ready = |place: Option<usize>, wanted: PollFlags| {
                place
                    .and_then(|i| fds[i].revents())
                    .is_some_and(|r| r.intersects(wanted | PollFlags::POLLHUP | PollFlags::POLLERR))
            };
            let moved = (
                ready(places[0], PollFlags::POLLIN),
                ready(places[1], PollFlags::POLLIN),
                ready(places[2], PollFlags::POLLOUT),
            );
            let ended = ready(Some(0), PollFlags::POLLIN);
            drop(fds);
            if let Some(relay) = &mut relay {
                relay.turn(moved.0, moved.1, moved.2);
            }
            if let Some(notify) = &mut notify {
                // We are the process to watch: systemd gets our exit status.
                notify.turn(nix::unistd::getpid().as_raw())?;
            }
            self.forward(pidfd, relay.as_ref())?;
            reap(pid, &mut status);
            if ended || status.is_some() {
                break;
            }
        }
        if let Some(relay) = &mut relay {
            relay.drain();
        }
        drop(relay);
        let status = match status {
            Some(status) => status,
            None => waitpid(pid, Some(WaitPidFlag::__WALL))
                .map_err(|e| RuntimeError::syscall("wait for the container", e))?,
        };
        Ok(match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => 1,
        })
    }

    fn forward(&self, pidfd: &OwnedFd, relay: Option<&Relay>) -> Result<()> {
        loop {
            let info = match self.signals.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) | Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(RuntimeError::syscall("read signals", e).into()),
            };
            let signal = i32::try_from(info.ssi_signo).unwrap_or_default();
            match relay {
                Some(relay) if signal == libc::SIGWINCH => relay.resize(),
                _ if NOT_FORWARDED.contains(&signal) => {}
                // ESRCH: it has just ended, and the loop is about to see that.
                _ => drop(pidfd_send_signal(pidfd.as_fd(), signal)),
            }
        }
    }
}

/// Collects every ended child; keeps the status of the one supervised.
fn reap(supervised: Pid, status: &mut Option<WaitStatus>) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(ended) if ended.pid() == Some(supervised) => {
                if matches!(ended, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                    *status = Some(ended);
                }
            }
            Ok(_) => {}
        }
    }
}
