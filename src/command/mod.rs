//! One module a command: orchestration, and the only output to stdout.

mod bundle;
mod cdi;
mod cdi_text;
mod checkpoint;
mod completions;
mod config;
mod context;
mod create;
mod delegate;
mod devices;
mod doctor;
pub mod events;
mod exec;
mod explain;
mod features;
mod gpus;
mod lifecycle;
mod man;
mod output;
mod pause;
mod prepare;
mod ps;
mod run;
mod spec;
pub mod update;
mod version;

pub use context::{Context, Loaded};
pub use delegate::hand_on;

use std::ffi::OsString;

use context::known;

use crate::cli::{Command, Invocation, UsageError};
use crate::error::{Error, Result};
use crate::host::policy_file::{self, Surroundings};
use crate::policy::Policy;

/// Does what was asked and returns the exit status: 0, or that of the process
/// which `run` or `exec` waited for.
///
/// # Errors
/// Whatever kept the command from being done; nothing has been printed of it.
pub fn run(words: &[OsString], invocation: &Invocation, policy: &Loaded) -> Result<u8> {
    let context = || Context::new(&invocation.globals, policy);
    // Who holds a container that is not ours depends on it.
    let context = || {
        let context = context()?;
        if let (Err(_), Some(id)) = (policy, invocation.command.container())
            && !context.holds(id.as_str())
        {
            context.policy()?;
        }
        Ok::<_, Error>(context)
    };
    match &invocation.command {
        Command::Create(arguments) => {
            let context = context()?;
            delegate::make(&context, words, &arguments.bundle, &arguments.devices)?;
            create::run(&context, arguments)?;
        }
        Command::Run(arguments) => {
            let context = context()?;
            delegate::make(&context, words, &arguments.bundle, &arguments.devices)?;
            return run::run(&context, arguments);
        }
        Command::Start(arguments) => lifecycle::start(&context()?, arguments)?,
        Command::State(arguments) => lifecycle::state(&context()?, arguments)?,
        Command::Kill(arguments) => lifecycle::kill(&context()?, arguments)?,
        Command::Delete(arguments) => lifecycle::delete(&context()?, arguments)?,
        Command::List(arguments) => lifecycle::list(&context()?, arguments)?,
        Command::Exec(arguments) => return exec::run(&context()?, arguments),
        Command::Pause(arguments) => pause::pause(&context()?, arguments)?,
        Command::Resume(arguments) => pause::resume(&context()?, arguments)?,
        Command::Update(arguments) => update::run(&context()?, arguments)?,
        Command::Events(arguments) => events::run(&context()?, arguments)?,
        Command::Ps(arguments) => ps::run(&context()?, arguments)?,
        Command::Explain(arguments) => match &arguments.id {
            Some(id) => explain::explain_container(&context()?, id.as_str(), arguments.format)?,
            None => explain::explain(arguments, known(policy)?)?,
        },
        Command::Edit(arguments) => explain::edit(arguments, known(policy)?)?,
        Command::Devices(arguments) => devices::run(&context()?, arguments)?,
        Command::Heal(arguments) => devices::heal(&context()?, arguments)?,
        Command::Help(text) => output::print(text)?,
        Command::Version => version::run()?,
        Command::Spec(arguments) => spec::run(arguments)?,
        Command::Features => features::run()?,
        Command::Bundle(arguments) => {
            bundle::run(|| Ok(context()?.root.path), arguments, known(policy)?)?;
        }
        Command::Cdi(arguments) => cdi::run(arguments, known(policy)?)?,
        Command::Doctor(arguments) => doctor::run(arguments, policy)?,
        Command::Gpus(arguments) => gpus::run(arguments)?,
        Command::Config(arguments) => config::run(arguments)?,
        Command::Completions(arguments) => completions::run(arguments)?,
        Command::Man => man::run()?,
        Command::Checkpoint(arguments) => checkpoint::dump(&context()?, arguments)?,
        Command::Restore(arguments) => return checkpoint::restore(&context()?, arguments),
    }
    Ok(0)
}

/// What the operator allows, as far as a command has to do with it.
///
/// # Errors
/// Why it cannot be told; most commands fail of it.
pub fn policy(command: &Command) -> Loaded {
    match command {
        Command::Help(_)
        | Command::Version
        | Command::Config(_)
        | Command::Gpus(_)
        | Command::Completions(_)
        | Command::Man => Ok(Policy::default()),
        _ => policy_of_anything(),
    }
}

/// What the operator allows.
///
/// # Errors
/// Why it cannot be told.
pub fn policy_of_anything() -> Loaded {
    policy_file::load(&Surroundings::here())
}

/// Shows the help that belongs to a command line which cannot be read, on
/// stdout as runc does: stderr is for the one error.
#[must_use]
pub fn usage(error: Box<UsageError>) -> Box<UsageError> {
    if let Some(help) = &error.help {
        // The error itself follows; a closed stdout must not hide it.
        let _ = output::print(&format!("Incorrect Usage.\n\n{help}"));
    }
    error
}
