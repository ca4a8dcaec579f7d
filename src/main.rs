//! The `kusabi` binary: read the command line, do it, print one error.

use std::process::ExitCode;

use kusabi::{Error, cli, command, log};

fn main() -> ExitCode {
    let read = cli::parse(std::env::args_os());
    let globals = match &read {
        Ok(invocation) => &invocation.globals,
        Err(error) => &error.globals,
    };
    let done = log::init(globals)
        .and_then(|()| read.map_err(|error| Error::from(command::usage(error))))
        .and_then(|invocation| command::run(&invocation));
    match done {
        Ok(status) => {
            log::commit();
            ExitCode::from(status)
        }
        Err(error) => {
            log::failure(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
