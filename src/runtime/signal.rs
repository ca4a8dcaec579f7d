//! `kill`: signals to a container's init, or to all its processes.

use std::os::fd::AsFd;

use super::RuntimeError;
use super::state::{State, Status};
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
    if whole_cgroup && let Some(cgroup) = &state.cgroup {
        return signal_all(state, cgroup, signal, all);
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

fn signal_all(
    state: &State,
    cgroup: &crate::cgroup::Cgroup,
    signal: i32,
    asked: bool,
) -> Result<()> {
    if state.status() == Status::Stopped && !asked {
        return Err(RuntimeError::NotRunning.into());
    }
    if signal == libc::SIGKILL {
        return Ok(cgroup.kill_all()?);
    }
    let send = |pid: nix::unistd::Pid| {
        crate::sys::process::kill(pid.as_raw(), signal)
            .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EINVAL)))
    };
    Ok(cgroup.signal_all(send)?)
}
