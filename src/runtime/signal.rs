//! `kill`: signals to a container's init, or to all its processes.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::RuntimeError;
use super::state::{State, Status};
use crate::cgroup::CgroupError;
use crate::error::{Error, Result};
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Sends a signal.
///
/// With `all`, or where the container shares its pid namespace with others and
/// the signal is SIGKILL (killing init then ends nobody else), every process in
/// the cgroup gets it.
///
/// # Errors
/// [`RuntimeError::NotRunning`] in runc's words, which containerd maps to "not
/// found".
pub fn kill(state: &State, signal: i32, all: bool) -> Result<()> {
    let whole_cgroup = all || (!state.private_pid && signal == libc::SIGKILL);
    if whole_cgroup
        && let Some(cgroup) = &state.cgroup
        && cgroup.devices_target().is_some()
    {
        return signal_all(state, cgroup, signal, all);
    }
    if all {
        // Who asks for all is not told that there are none, as with a cgroup.
        return signal_each(state, signal);
    }
    let status = state.status();
    let init = match (status, state.init) {
        (Status::Stopped, _) | (_, None) => return Err(RuntimeError::NotRunning.into()),
        (_, Some(init)) => init,
    };
    let gone = |e: std::io::Error| -> Error {
        if e.raw_os_error() == Some(libc::ESRCH) {
            RuntimeError::NotRunning.into()
        } else {
            RuntimeError::syscall(format!("signal process {}", init.pid), e).into()
        }
    };
    let pidfd = pidfd_open(init.pid).map_err(gone)?;
    // The descriptor is open: from here on the pid cannot be recycled.
    if !init.is_alive() {
        return Err(RuntimeError::NotRunning.into());
    }
    pidfd_send_signal(pidfd.as_fd(), signal).map_err(gone)?;
    // A frozen process does not see even SIGKILL on cgroup v1.
    if signal == libc::SIGKILL
        && status == Status::Paused
        && let Some(cgroup) = &state.cgroup
    {
        cgroup.thaw()?;
    }
    Ok(())
}

/// Without a cgroup. Nobody stands still meanwhile: one that forks may be missed,
/// but not by SIGKILL, which ends the pid namespace with its init.
fn signal_each(state: &State, signal: i32) -> Result<()> {
    for pid in super::population::processes(state)? {
        match crate::sys::process::kill(pid, signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => {
                return Err(RuntimeError::syscall(format!("signal process {pid}"), e).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Init may have ended and others live on, so only a cgroup that has gone says
/// that the container does not run; and who asked for all is not told even that.
fn signal_all(
    state: &State,
    cgroup: &crate::cgroup::Cgroup,
    signal: i32,
    asked: bool,
) -> Result<()> {
    let result = if signal == libc::SIGKILL {
        cgroup.kill_all()
    } else {
        cgroup.signal_all(|pid| {
            crate::sys::process::kill(pid.as_raw(), signal)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EINVAL)))
        })
    };
    match result {
        Err(CgroupError::Gone) if asked => Ok(()),
        Err(CgroupError::Gone) if state.status() == Status::Stopped => {
            Err(RuntimeError::NotRunning.into())
        }
        result => Ok(result?),
    }
}
