//! The `kusabi` binary: read the command line, do it, print one error.

use std::ffi::OsString;
use std::process::ExitCode;

use kusabi::{Error, cli, command, log};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    command::seal_early(&words);
    let read = cli::parse(words.iter().cloned());
    let policy = match &read {
        Ok(invocation) => command::policy(&invocation.command),
        Err(_) => command::policy_of_anything(),
    };
    let handed_on = command::hand_on(&words, &read, &policy);
    let globals = match &read {
        Ok(invocation) => &invocation.globals,
        Err(error) => &error.globals,
    };
    let done = log::init(globals, policy.as_ref().ok().map(|policy| &policy.log))
        .and_then(|()| handed_on.map_or(Ok(()), Err))
        .and_then(|()| read.map_err(|error| Error::from(command::usage(error))))
        .and_then(|invocation| command::run(&words, &invocation, &policy));
    match done {
        Ok(status) => {
            log::commit();
            ExitCode::from(status)
        }
        Err(error) => {
            log::failure(&error, matches!(error, Error::Shown { .. }));
            ExitCode::from(error.exit_code())
        }
    }
}
