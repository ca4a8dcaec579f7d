//! `pause` and `resume`: all processes of a container stand still, or go on.
//!
//! Neither takes the container's lock: an `exec --ignore-paused` may hold it
//! until its process, born frozen, can run; and nothing is written.

use std::time::Duration;

use super::context::Context;
use crate::cgroup::Cgroup;
use crate::cli::Target;
use crate::error::Result;
use crate::runtime::RuntimeError;
use crate::runtime::state::{State, Status, Store};

/// How long processes may take to stand still, as runc.
const PATIENCE: Duration = Duration::from_secs(10);

/// `pause`.
///
/// # Errors
/// The container is neither created nor running, or cannot be frozen; then it
/// runs on.
pub(super) fn pause(context: &Context<'_>, arguments: &Target) -> Result<()> {
    let state = Store::new(context.root.path.clone()).load(arguments.id.as_str())?;
    match state.status() {
        Status::Created | Status::Running => Ok(cgroup(&state)?.freeze(PATIENCE)?),
        Status::Creating | Status::Paused | Status::Stopped => Err(RuntimeError::NotRunning.into()),
    }
}

/// `resume`.
///
/// # Errors
/// The container is not paused, or cannot be thawed.
pub(super) fn resume(context: &Context<'_>, arguments: &Target) -> Result<()> {
    let state = Store::new(context.root.path.clone()).load(arguments.id.as_str())?;
    match state.status() {
        Status::Paused => Ok(cgroup(&state)?.thaw()?),
        _ => Err(RuntimeError::NotPaused.into()),
    }
}

fn cgroup(state: &State) -> Result<&Cgroup> {
    Ok(state.cgroup.as_ref().ok_or(RuntimeError::NotRunning)?)
}
