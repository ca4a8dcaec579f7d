//! `run`: create, start, and unless detached, stay until the end.

use super::bundle;
use super::context::Context;
use super::create::create_from;
use crate::bundle::{BundleSpec, clean};
use crate::cli::{Bundle, ContainerId, Devices, Run};
use crate::error::{Error, Result};
use crate::log;
use crate::runtime::RuntimeError;
use crate::runtime::create::Created;
use crate::runtime::delete::delete;
use crate::runtime::notify::Notify;
use crate::runtime::seal;
use crate::runtime::start::start;
use crate::runtime::state::{Locked, Store};
use crate::runtime::supervise::Supervisor;

/// Runs a container; returns its exit status, 0 when detached.
///
/// # Errors
/// Whatever kept it from being created or started; nothing of it is left then.
pub fn run(context: &Context<'_>, arguments: &Run) -> Result<u8> {
    seal::ensure()?;
    let Some(_) = &arguments.service.service else {
        bundle::refuse_stray(&arguments.service)?;
        let id = arguments.id.as_ref().map(ContainerId::as_str);
        return run_bundle(
            context,
            arguments,
            &arguments.bundle,
            &arguments.devices,
            id.unwrap_or_default(),
            None,
        );
    };
    let served = bundle::serve(
        context,
        &arguments.service,
        &arguments.devices,
        arguments.bundle.bundle.as_deref(),
        arguments.id.as_ref().map(ContainerId::as_str),
    )?;
    let bundle = Bundle {
        bundle: Some(served.path.clone()),
        ..arguments.bundle.clone()
    };
    // What was asked for is in the bundle already.
    let devices = Devices {
        cdi_dirs: arguments.devices.cdi_dirs.clone(),
        ..Devices::default()
    };
    let spec = Some(&served.spec);
    let status = run_bundle(context, arguments, &bundle, &devices, &served.id, spec);
    let gone = status.is_err() || !(arguments.detach || arguments.keep);
    if gone
        && served.made
        && let Err(error) = clean(&served.path, false)
    {
        tracing::warn!("clean {}: {error}", served.path.display());
    }
    status
}

fn run_bundle(
    context: &Context<'_>,
    arguments: &Run,
    bundle: &Bundle,
    devices: &Devices,
    id: &str,
    served: Option<&BundleSpec>,
) -> Result<u8> {
    let supervisor = if arguments.detach {
        None
    } else {
        // Before anything is made: a signal from here on is not lost.
        Some(Supervisor::new(!arguments.no_subreaper)?)
    };
    let created = create_from(context, bundle, devices, id, supervisor.is_some(), served)?;
    let Created {
        locked,
        newborn,
        console,
        ..
    } = created;
    let host = context.notify_socket.as_deref();
    let started = host
        .map(|host| Notify::open(locked.path(), host))
        .transpose()
        .and_then(|notify| start(&locked).map(|_| notify));
    let notify = match started {
        Ok(notify) => notify,
        Err(error) => {
            let error = match (error, &supervisor) {
                // It has said so itself, on what is our error stream, or on a
                // terminal that is ours to relay.
                (error @ Error::Runtime(RuntimeError::Program(_)), Some(supervisor)) => {
                    supervisor.run(newborn.pid, &newborn.pidfd, console, None)?;
                    Error::Shown {
                        source: Box::new(error),
                    }
                }
                (error, _) => error,
            };
            return Err(abandon(locked, arguments, error));
        }
    };
    let Some(supervisor) = supervisor else {
        // Others may look at, stop and delete it meanwhile.
        drop(locked);
        if let Some(notify) = notify {
            notify.wait(newborn.pid, &newborn.pidfd)?;
        }
        return Ok(0);
    };
    // It runs, for as long as it likes: what there is to warn of is said now.
    log::commit();
    let store = Store::new(context.root.path.clone());
    drop(locked);
    let status = supervisor.run(newborn.pid, &newborn.pidfd, console, notify)?;
    if !arguments.keep {
        match store.lock(id) {
            Ok(locked) => delete(locked, true)?,
            // Somebody else has deleted it.
            Err(error) => tracing::debug!("{error}"),
        }
    }
    Ok(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
}

/// Removes a container that could not be started: the caller will not come back
/// for one that never ran.
fn abandon(locked: Locked, arguments: &Run, error: Error) -> Error {
    if let Err(also) = delete(locked, true) {
        tracing::warn!("delete after failed start: {also}");
    }
    if let Some(path) = &arguments.bundle.pid_file {
        // Best effort: the container it named is gone.
        let _ = std::fs::remove_file(path);
    }
    error
}
