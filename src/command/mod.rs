//! One module a command: orchestration, and the only output to stdout.

mod cdi;
mod cdi_text;
mod completions;
mod context;
mod create;
pub mod events;
mod exec;
mod explain;
mod features;
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

pub use context::Context;

use crate::cli::{Command, Invocation, UsageError};
use crate::error::{Error, Result};

/// Does what was asked and returns the exit status: 0, or that of the process
/// which `run` or `exec` waited for.
///
/// # Errors
/// Whatever kept the command from being done; nothing has been printed of it.
pub fn run(invocation: &Invocation) -> Result<u8> {
    let context = || Context::new(&invocation.globals);
    match &invocation.command {
        Command::Create(arguments) => create::run(&context()?, arguments)?,
        Command::Run(arguments) => return run::run(&context()?, arguments),
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
        Command::Explain(arguments) => explain::explain(arguments)?,
        Command::Edit(arguments) => explain::edit(arguments)?,
        Command::Help(text) => output::print(text)?,
        Command::Version => version::run()?,
        Command::Spec(arguments) => spec::run(arguments)?,
        Command::Features => features::run()?,
        Command::Cdi(arguments) => cdi::run(arguments)?,
        Command::Completions(arguments) => completions::run(arguments)?,
        Command::Man => man::run()?,
        Command::Checkpoint(_) => return Err(missing("checkpoint")),
        Command::Restore(_) => return Err(missing("restore")),
    }
    Ok(0)
}

/// A command that can be read but not done.
fn missing(command: &str) -> Error {
    Error::Usage(format!("{command}: not available in this version"))
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
