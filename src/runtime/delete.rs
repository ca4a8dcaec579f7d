//! `delete`: removing what is left of a container.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::RuntimeError;
use super::fault::{Step, point};
use super::hooks;
use super::identity::Identity;
use super::state::{Locked, State, Status};
use crate::cgroup::{Cgroup, CgroupError};
use crate::edit::HookStage;
use crate::error::Result;
use crate::lease;
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// How long a killed process may take to end; runc's ten seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a process that was never released may take to see that its creator
/// is gone.
const UNRELEASED: Duration = Duration::from_secs(2);

/// Deletes a container: processes, cgroup, poststop hooks, state directory.
///
/// A directory whose `create` was killed has a record with status creating, and
/// is removed completely too.
///
/// # Errors
/// [`RuntimeError::NotStopped`] without `force`; a process or cgroup that will
/// not go. What has been removed stays removed, and calling again goes on.
pub fn delete(locked: Locked, force: bool) -> Result<()> {
    let state = match locked.read() {
        Ok(state) => state,
        // Killed between mkdir and the first record: nothing else was made.
        Err(crate::Error::Runtime(RuntimeError::NotExist)) => return locked.remove(),
        Err(error) => return Err(error),
    };
    let status = state.status();
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(RuntimeError::NotStopped {
            id: state.id,
            status: status.word(),
        }
        .into());
    }
    let inhabited = is_inhabited(&state);
    kill_init(&state, status)?;
    if let (Some(cgroup), true) = (&state.cgroup, inhabited) {
        // Also ends what outlived init where the pid namespace is shared.
        match cgroup.kill_all() {
            // Removed by a delete that was killed.
            Err(CgroupError::Gone) => {}
            result => result?,
        }
    }
    point(Step::DeleteKill)?;
    match &state.cgroup {
        Some(cgroup) if inhabited => cgroup.remove(PATIENCE)?,
        Some(cgroup) if state.init.is_some() => cgroup.remove_empty(UNRELEASED)?,
        Some(cgroup) => abandon(cgroup),
        None => {}
    }
    point(Step::DeleteCgroup)?;
    if let Some(group) = &state.resctrl {
        group.remove()?;
    }
    poststop(&locked, &state);
    point(Step::DeleteHooks)?;
    give_back(&locked, &state);
    point(Step::DeleteLease)?;
    locked.remove()?;
    point(Step::DeleteState)
}

/// Frees the devices that it holds. What is wrong with the store must not keep a
/// container for ever: its init is gone, which ends the lease, too.
fn give_back(locked: &Locked, state: &State) {
    if !state.leased {
        return;
    }
    let container = lease::Container {
        id: state.id.clone(),
        root: locked.path().parent().unwrap_or(locked.path()).to_owned(),
    };
    if let Err(error) = lease::release(&lease::Store::default(), &container, state.init) {
        tracing::warn!("leases: {error}");
    }
}

/// Whether processes in the cgroup are the container's. They are while its init
/// is there, since no other container is given an inhabited cgroup; afterwards
/// only where they could outlive it.
fn is_inhabited(state: &State) -> bool {
    match (state.init, state.restorer) {
        (None, restorer) => restorer.is_some(),
        (Some(init), restorer) => {
            let alive = |process: Identity| process.is_alive();
            !state.private_pid || alive(init) || restorer.is_some_and(alive)
        }
    }
}

/// Removes the cgroup of a create that was killed before any process was on
/// record. Such a process has not been released, and ends when its creator does.
/// Any other process there belongs to a container that has taken the same path
/// since, and keeps it.
fn abandon(cgroup: &Cgroup) {
    if let Err(error) = cgroup.remove_empty(UNRELEASED) {
        tracing::warn!("left in place, it is in use: {error}");
    }
}

fn kill_init(state: &State, status: Status) -> Result<()> {
    // Not by the status: where create was killed it says stopped, and init may
    // wait for a start that will not come. Not everybody has a cgroup to end it.
    let Some(init) = state.init else {
        return Ok(());
    };
    let Ok(pidfd) = pidfd_open(init.pid) else {
        return Ok(());
    };
    if !init.is_alive() {
        return Ok(());
    }
    // ESRCH: it ended by itself.
    let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    if status == Status::Paused
        && let Some(cgroup) = &state.cgroup
    {
        cgroup.thaw()?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(0) => {
                return Err(RuntimeError::Refused("container init still running".into()).into());
            }
            Err(e) => return Err(RuntimeError::syscall("wait for container init", e).into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// A poststop hook that fails must not keep a container for ever (OCI
/// `runtime.md`, "Lifecycle", step 13): it is logged.
fn poststop(locked: &Locked, state: &State) {
    if !state.late_hooks {
        return;
    }
    let run = || -> Result<()> {
        let document = super::start::effective(locked)?;
        let list = hooks::of_stage(&document.hooks()?, HookStage::Poststop);
        if list.is_empty() {
            return Ok(());
        }
        // The bundle may be gone; hooks then run where we are.
        let _ = std::env::set_current_dir(&state.bundle);
        for hook in list {
            if let Err(e) = hooks::run(
                HookStage::Poststop,
                &[hook],
                &state.to_oci(Status::Stopped),
                &[],
            ) {
                tracing::warn!("{e}");
            }
        }
        Ok(())
    };
    if let Err(error) = run() {
        tracing::warn!("poststop hooks: {error}");
    }
}
