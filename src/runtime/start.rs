//! `start`: a created container becomes its program.

use std::os::fd::AsFd;

use super::RuntimeError;
use super::fault::{Step, point};
use super::fifo;
use super::hooks;
use super::state::{CONFIG_FILE, Locked, State, Status};
use crate::document::Document;
use crate::edit::HookStage;
use crate::error::Result;
use crate::host::bounded;
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Starts a created container.
///
/// The device filter is verified once more: a container whose filter has gone
/// since `create` does not start.
///
/// # Errors
/// Wrong state, in runc's words; a filter that is not in force; init's own
/// reason; a failing poststart hook, after which the container has been killed.
pub fn start(locked: &Locked) -> Result<State> {
    let mut state = locked.read()?;
    match state.status() {
        Status::Created => {}
        Status::Stopped => {
            return wrong("cannot start a container that has stopped");
        }
        Status::Running => return wrong("cannot start an already running container"),
        other => {
            return wrong(&format!(
                "cannot start a container in the {} state",
                other.word()
            ));
        }
    }
    let init = state.init.ok_or(RuntimeError::NotRunning)?;
    let pidfd = pidfd_open(init.pid).map_err(|_| RuntimeError::NotRunning)?;
    // Between reading the pid and opening it, it may have been recycled.
    if !init.is_alive() {
        return Err(RuntimeError::NotRunning.into());
    }
    super::create::verify_filter(&state)?;
    point(Step::StartVerify)?;
    fifo::open_gate(locked.path(), &pidfd)?;
    // From here on it is the user's program. One whose start has failed does not
    // live on, as for runc when a poststart hook fails: its caller takes it for
    // a container that never ran.
    if let Err(error) = started(locked, &mut state) {
        let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        return Err(error);
    }
    Ok(state)
}

/// What is left to do once the program runs.
fn started(locked: &Locked, state: &mut State) -> Result<()> {
    point(Step::StartRelease)?;
    // That the gate has been passed is the record.
    state.started = true;
    poststart(locked, state)?;
    point(Step::StartHooks)
}

fn poststart(locked: &Locked, state: &State) -> Result<()> {
    if !state.late_hooks {
        return Ok(());
    }
    let document = effective(locked)?;
    let list = hooks::of_stage(&document.hooks()?, HookStage::Poststart);
    hooks::run(
        HookStage::Poststart,
        &list,
        &state.to_oci(Status::Running),
        &[],
    )
}

/// The configuration a container was created with.
///
/// # Errors
/// I/O errors; a file that is no longer a document.
pub fn effective(locked: &Locked) -> Result<Document> {
    let path = locked.path().join(CONFIG_FILE);
    let bytes = bounded::read(&path, bounded::MAX_JSON)?;
    Ok(Document::parse(&bytes)?)
}

fn wrong<T>(text: &str) -> Result<T> {
    Err(RuntimeError::WrongState(text.to_owned()).into())
}
