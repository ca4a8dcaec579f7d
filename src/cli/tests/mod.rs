//! What callers and people type, read.

mod callers;
mod habits;

use std::path::PathBuf;

use super::*;

fn read(line: &str) -> Result<Invocation, Box<UsageError>> {
    let words = std::iter::once("kusabi").chain(line.split(' ').filter(|w| !w.is_empty()));
    parse(words.map(OsString::from))
}

fn command(line: &str) -> Command {
    read(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
}

fn refused(line: &str) -> (String, u8) {
    let error = read(line).expect_err(line);
    (error.message, error.exit_code)
}

fn id(text: &str) -> ContainerId {
    ContainerId::parse(text).unwrap()
}

fn target(text: &str) -> Target {
    Target { id: id(text) }
}

fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn create(bundle: Bundle) -> Command {
    Command::Create(Create {
        bundle,
        devices: Devices::default(),
        id: id("ID"),
    })
}

fn exec(line: &str) -> Exec {
    match command(line) {
        Command::Exec(exec) => *exec,
        other => panic!("{other:?}"),
    }
}

/// What an exec is when nothing but the id is said.
fn plain_exec() -> Exec {
    exec("exec ID")
}

fn kill(all: bool, signal: i32) -> Command {
    Command::Kill(Kill {
        all,
        id: id("ID"),
        signal: Signal::parse(&signal.to_string()).unwrap(),
    })
}
