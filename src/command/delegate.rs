//! What becomes of a command line where the policy names other runtimes.
//!
//! A container that our state holds is ours. Anything else goes to the first
//! runtime of the list, with the words as they were typed, but for the options
//! that only kusabi has; `create` and `run` after the bundle has been edited.

use std::ffi::OsString;
use std::path::PathBuf;

use super::context::{Context, Loaded};
use super::prepare::{For, Options, Prepared, prepare};
use crate::cdi::Mode;
use crate::cli::{self, Bundle, Command, Devices, Invocation, UsageError};
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::log;
use crate::policy::{Backend, Policy};
use crate::runtime::delegate::{exec, find};

/// Hands a command line on where that is the policy's will, and then does not
/// return. `None` where it is ours.
pub fn hand_on(
    words: &[OsString],
    read: &std::result::Result<Invocation, Box<UsageError>>,
    policy: &Loaded,
) -> Option<Error> {
    let Ok(policy) = policy else {
        return None;
    };
    let Backend::Delegate(programs) = &policy.runtime.backend else {
        return None;
    };
    match read {
        // It may know what we do not, but for what has to be edited first.
        Err(_) => match cli::named(words) {
            None | Some("create" | "run") => None,
            Some(_) => Some(become_it(programs, words)),
        },
        Ok(invocation) if is_ours(invocation, policy) => None,
        Ok(_) => Some(become_it(programs, words)),
    }
}

/// Whether kusabi does it, `create` and `run` included.
fn is_ours(invocation: &Invocation, policy: &Policy) -> bool {
    match &invocation.command {
        Command::List(_) | Command::Features | Command::Spec(_) | Command::Restore(_) => false,
        command => command
            .container()
            .is_none_or(|id| holds(invocation, policy, id.as_str())),
    }
}

/// Whether a container is one of ours.
fn holds(invocation: &Invocation, policy: &Policy, id: &str) -> bool {
    let policy = Ok(policy.clone());
    Context::new(&invocation.globals, &policy).is_ok_and(|context| context.holds(id))
}

fn become_it(programs: &[PathBuf], words: &[OsString]) -> Error {
    match find(programs, std::env::var_os("PATH").as_deref()) {
        Ok(program) => exec(&program, &cli::without_own_options(words)),
        Err(error) => error,
    }
}

/// `create` or `run` by another runtime: edits the bundle, then becomes it.
/// `None` where the policy names no other.
///
/// # Errors
/// Everything; what succeeds does not return.
pub(super) fn make(
    context: &Context<'_>,
    words: &[OsString],
    bundle: &Bundle,
    devices: &Devices,
) -> Result<()> {
    let policy = context.policy()?;
    let Backend::Delegate(programs) = &policy.runtime.backend else {
        return Ok(());
    };
    let program = find(programs, std::env::var_os("PATH").as_deref())?;
    let options = Options {
        mode: Mode::Create,
        policy,
        id: None,
        host: None,
        container: For::Delegate,
    };
    let prepared = prepare(bundle.bundle.as_deref(), devices, &options)?;
    for note in &prepared.plan.notes {
        tracing::warn!("{}", note.text);
    }
    warn_of_moved_nodes(&prepared);
    prepared.write_back()?;
    // It goes on in this process, and logs for itself.
    log::commit();
    Err(exec(&program, &cli::without_own_options(words)))
}

/// `config.json` has no field for where a node is on the host. A runtime makes
/// nodes by their numbers, but binds them from the same path where the container
/// has a user namespace.
fn warn_of_moved_nodes(prepared: &Prepared) {
    for planned in &prepared.plan.edits {
        if let Edit::AddDevice(node) = &planned.edit
            && node.path != node.host_path
        {
            tracing::debug!(
                "{} is {} on the host, which another runtime does not know in a user namespace",
                node.path.display(),
                node.host_path.display()
            );
        }
    }
}
