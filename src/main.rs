//! The `kusabi` binary: read the command line, do it, print one error.

#![cfg_attr(target_env = "gnu", no_main)]

use std::ffi::OsString;

use kusabi::runtime::seal;
use kusabi::{Error, cli, command, log};

#[cfg(target_env = "gnu")]
kusabi::program!(run);

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    run().into()
}

fn run() -> u8 {
    seal::begin();
    let words: Vec<OsString> = std::env::args_os().collect();
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
            status
        }
        Err(error) => {
            log::failure(&error, matches!(error, Error::Shown { .. }));
            error.exit_code()
        }
    }
}
