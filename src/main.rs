//! The `kusabi` binary: read the command line, do it, print one error.

use std::process::ExitCode;

use kusabi::policy::Policy;
use kusabi::{Error, cli, command, log};

fn main() -> ExitCode {
    let read = cli::parse(std::env::args_os());
    let globals = match &read {
        Ok(invocation) => &invocation.globals,
        Err(error) => &error.globals,
    };
    let policy = match &read {
        Ok(invocation) => command::policy(&invocation.command),
        Err(_) => Ok(Policy::default()),
    };
    let done = log::init(globals, policy.as_ref().ok().map(|policy| &policy.log))
        .and_then(|()| read.map_err(|error| Error::from(command::usage(error))))
        .and_then(|invocation| command::run(&invocation, &policy));
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
