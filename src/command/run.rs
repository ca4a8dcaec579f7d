//! `run`: create, start, and unless detached, stay until the end.

use super::context::Context;
use super::create::create_from;
use crate::cli::Run;
use crate::error::{Error, Result};
use crate::log;
use crate::runtime::RuntimeError;
use crate::runtime::create::Created;
use crate::runtime::delete::delete;
use crate::runtime::seal;
use crate::runtime::start::start;
use crate::runtime::supervise::Supervisor;

/// Runs a container; returns its exit status, 0 when detached.
///
/// # Errors
/// Whatever kept it from being created or started; nothing of it is left then.
pub fn run(context: &Context<'_>, arguments: &Run) -> Result<u8> {
    seal::ensure(&context.root.path)?;
    let supervisor = if arguments.detach {
        None
    } else {
        // Before anything is made: a signal from here on is not lost.
        Some(Supervisor::new(!arguments.no_subreaper)?)
    };
    let created = create_from(
        context,
        &arguments.bundle,
        &arguments.devices,
        arguments.id.as_str(),
        supervisor.is_some(),
    )?;
    let Created {
        locked,
        newborn,
        console,
        ..
    } = created;
    if let Err(error) = start(&locked) {
        let error = match (error, &supervisor) {
            // It has said so itself, on what is our error stream, or on a terminal
            // that is ours to relay.
            (error @ Error::Runtime(RuntimeError::Program(_)), Some(supervisor)) => {
                supervisor.run(newborn.pid, &newborn.pidfd, console)?;
                Error::Shown {
                    source: Box::new(error),
                }
            }
            (error, _) => error,
        };
        // The caller will not come back for a container that never ran.
        if let Err(also) = delete(locked, true) {
            tracing::warn!("delete after failed start: {also}");
        }
        if let Some(path) = &arguments.bundle.pid_file {
            // Best effort: the container it named is gone.
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    let Some(supervisor) = supervisor else {
        return Ok(0);
    };
    // It runs, for as long as it likes: what there is to warn of is said now.
    log::commit();
    // Others may look at, stop and delete it meanwhile.
    let store = crate::runtime::state::Store::new(context.root.path.clone());
    drop(locked);
    let status = supervisor.run(newborn.pid, &newborn.pidfd, console)?;
    if !arguments.keep {
        match store.lock(arguments.id.as_str()) {
            Ok(locked) => delete(locked, true)?,
            // Somebody else has deleted it.
            Err(error) => tracing::debug!("{error}"),
        }
    }
    Ok(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
}
