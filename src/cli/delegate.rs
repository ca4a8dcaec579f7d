//! Command lines that another runtime is to get: which command they name, and
//! what of them is ours. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{ArgAction, Args as _};

use super::definitions::COMMANDS;
use super::normalise::find;
use super::{Command, ContainerId, Devices, Globals};

/// Global options of other runtimes that take a value in a word of its own.
const THEIR_VALUES: &[&str] = &["criu", "cgroup-manager", "log-level"];

/// The command that a command line names, also where it has global options that
/// only another runtime knows.
#[must_use]
pub fn named(words: &[OsString]) -> Option<&'static str> {
    let globals = Globals::augment_args(clap::Command::new("kusabi"));
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let Some((name, value)) = flag(word) else {
            return COMMANDS
                .iter()
                .map(|definition| definition.name)
                .find(|name| word == OsStr::new(name));
        };
        let takes = match find(&globals, &name) {
            Some(argument) => takes_a_word(argument),
            None => THEIR_VALUES.contains(&name.as_str()),
        };
        if takes && value.is_none() {
            words.next();
        }
    }
    None
}

/// A command line without the options that only kusabi has; everything else as
/// it was typed.
#[must_use]
pub fn without_own_options(words: &[OsString]) -> Vec<OsString> {
    let globals = Globals::augment_args(clap::Command::new("kusabi"));
    let own = Devices::augment_args(clap::Command::new("kusabi"));
    let mut command: Option<clap::Command> = None;
    let mut owns_rest = false;
    let mut kept: Vec<OsString> = words.iter().take(1).cloned().collect();
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let Some((name, value)) = flag(word).filter(|_| word != "--") else {
            kept.push(word.clone());
            // What follows is no command of ours, or somebody else's words.
            if word == "--" || owns_rest {
                break;
            }
            if command.is_none() {
                let Some(definition) = COMMANDS
                    .iter()
                    .find(|definition| word == OsStr::new(definition.name))
                else {
                    break;
                };
                command = Some(definition.clap());
                owns_rest = definition.owns_what_follows();
            }
            continue;
        };
        let argument = command
            .as_ref()
            .and_then(|command| find(command, &name))
            .or_else(|| find(&globals, &name));
        let takes = match argument {
            Some(argument) => takes_a_word(argument),
            None => command.is_none() && THEIR_VALUES.contains(&name.as_str()),
        };
        let second = match value {
            None if takes => rest.next(),
            _ => None,
        };
        if argument.is_none() || find(&own, &name).is_none() {
            kept.push(word.clone());
            kept.extend(second.cloned());
        }
    }
    kept.extend(rest.cloned());
    kept
}

/// A flag's name, and its value if it is in the same word.
fn flag(word: &OsStr) -> Option<(String, Option<&[u8]>)> {
    let bytes = word.as_bytes();
    let body = match bytes {
        [b'-', b'-', body @ ..] if !body.is_empty() => body,
        [b'-', body @ ..] if body.first().is_some_and(u8::is_ascii_alphabetic) => body,
        _ => return None,
    };
    let mut parts = body.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next()?).into_owned();
    Some((name, parts.next()))
}

fn takes_a_word(argument: &clap::Arg) -> bool {
    let optional = argument
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    !matches!(argument.get_action(), ArgAction::SetTrue) && !optional
}

impl Command {
    /// The container that a command is about, if it is there already.
    #[must_use]
    pub fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Start(of) | Self::State(of) | Self::Pause(of) | Self::Resume(of) => Some(&of.id),
            Self::Kill(of) => Some(&of.id),
            Self::Delete(of) => Some(&of.id),
            Self::Exec(of) => Some(&of.id),
            Self::Ps(of) => Some(&of.id),
            Self::Update(of) => Some(&of.id),
            Self::Events(of) => Some(&of.id),
            Self::Checkpoint(of) => Some(&of.id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_is_found_behind_options_of_others() {
        for (line, command) in [
            ("kusabi create --bundle /b c", Some("create")),
            ("kusabi --root create state c", Some("state")),
            ("kusabi --root=/r -debug kill c", Some("kill")),
            (
                "kusabi --cgroup-manager systemd --log-level debug create c",
                Some("create"),
            ),
            ("kusabi --cgroup-manager=disabled run c", Some("run")),
            ("kusabi --rootless true delete c", Some("delete")),
            ("kusabi --systemd-cgroup create c", Some("create")),
            ("kusabi mounts add", None),
            ("kusabi", None),
        ] {
            assert_eq!(named(&words(line)), command, "{line}");
        }
    }

    #[test]
    fn only_our_own_options_go() {
        for (line, kept) in [
            (
                "k create --device a/b=c --bundle /b c",
                "k create --bundle /b c",
            ),
            ("k create -device=a/b=c --cdi-dir=/x c", "k create c"),
            (
                "k --root /r run -d --cdi-dir /x --pid-file --device c",
                "k --root /r run -d --pid-file --device c",
            ),
            (
                "k --log --device create --device x c",
                "k --log --device create c",
            ),
            (
                "k create --no-pivot -- --device",
                "k create --no-pivot -- --device",
            ),
            (
                "k --root=/r create --log /l --bundle=--device c",
                "k --root=/r create --log /l --bundle=--device c",
            ),
            (
                "k --cdi-dir /x --log create -cdi-dir=/y delete --cdi-dir /z -f c",
                "k --log create delete -f c",
            ),
            (
                "k --cdi-dir /x exec --cdi-dir /y c prog --cdi-dir /z --device d",
                "k exec c prog --cdi-dir /z --device d",
            ),
            (
                "k --cdi-dir /x exec --device /y c prog",
                "k exec --device /y c prog",
            ),
            (
                "k --cdi-dir=/x --cgroup-manager cgroupfs theirs --cdi-dir /y",
                "k --cgroup-manager cgroupfs theirs --cdi-dir /y",
            ),
        ] {
            assert_eq!(without_own_options(&words(line)), words(kept), "{line}");
        }
    }
}
