//! From what callers of runc type to what clap reads.
//!
//! runc's parser is Go's: a long flag may have one dash, a flag may be repeated
//! (the last one wins), a switch may be `--flag=false`, global options may follow
//! the command, and some commands stop at their first argument. clap cannot be
//! told all of this, so the words are sorted here, by clap's own definitions,
//! into one spelling that leaves no choice: `--flag=value … -- argument …`.
//!
//! Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command};

use super::values;

/// The words of one command, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// Flags of the command itself.
    pub flags: Vec<Flag>,
    /// Flags of `globals`, wherever they stood.
    pub globals: Vec<Flag>,
    /// The arguments.
    pub positionals: Vec<OsString>,
    /// Words after the last one that was read; only where reading stopped at the
    /// first positional.
    pub rest: Vec<OsString>,
    /// `-h` or `--help` was given.
    pub help: bool,
    /// `-v` or `--version` was given, where `versioned`.
    pub version: bool,
}

/// One flag with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// Its long name.
    pub name: String,
    /// `None` for a switch that is on.
    pub value: Option<OsString>,
}

/// Where reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end, or at `--`.
    Never,
    /// What follows the first positional belongs to someone else, and so are the
    /// positionals (`exec ID command --its-flag`).
    AfterFirst,
    /// At the first positional, which is a command's name.
    AtCommand,
}

/// Flags for which an empty value is not the same as no flag: runc makes
/// `--root ""` the working directory.
const EMPTY_MEANS_SOMETHING: &[&str] = &["root"];

/// Sorts `words` by the flags of `own`, and of `globals` where `own` has none
/// of that name.
///
/// # Errors
/// runc's words for an unknown flag, one without its value, a switch that is
/// neither true nor false.
pub(super) fn sort(
    words: impl IntoIterator<Item = OsString>,
    own: Option<&Command>,
    globals: &Command,
    stop: Stop,
) -> (Sorted, Result<(), String>) {
    let mut sorted = Sorted::default();
    let result = read(&mut sorted, words.into_iter(), own, globals, stop);
    (sorted, result)
}

fn read(
    sorted: &mut Sorted,
    mut words: impl Iterator<Item = OsString>,
    own: Option<&Command>,
    globals: &Command,
    stop: Stop,
) -> Result<(), String> {
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            let mine = if stop == Stop::AtCommand {
                1
            } else {
                usize::MAX
            };
            sorted.positionals.extend(words.by_ref().take(mine));
            break;
        }
        // A dash and something that is no letter ends the flags: `-1` is a
        // signal, or a mistake that is named when it is read.
        let is_flag = bytes.len() > 1
            && bytes[0] == b'-'
            && (bytes[1] == b'-' || bytes[1].is_ascii_alphabetic());
        let belongs_to_others = stop == Stop::AfterFirst && !sorted.positionals.is_empty();
        if belongs_to_others || (bytes.len() > 1 && bytes[0] == b'-' && !is_flag) {
            sorted.positionals.push(word);
            sorted.positionals.extend(words.by_ref());
            break;
        }
        if !is_flag {
            sorted.positionals.push(word);
            if stop == Stop::AtCommand {
                break;
            }
            continue;
        }
        let dashes = if bytes[1] == b'-' { 2 } else { 1 };
        let body = &bytes[dashes..];
        let (name, given) = match body.iter().position(|b| *b == b'=') {
            Some(at) => (&body[..at], Some(&body[at + 1..])),
            None => (body, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let given = given.map(|value| OsString::from_vec(value.to_vec()));
        let (argument, into) = match (own.and_then(|own| find(own, &name)), find(globals, &name)) {
            (Some(argument), _) => (argument, &mut sorted.flags),
            (None, Some(argument)) => (argument, &mut sorted.globals),
            (None, None) => {
                let switch = match name.as_str() {
                    "h" | "help" => &mut sorted.help,
                    "v" | "version" if own.is_none() => &mut sorted.version,
                    _ => return Err(format!("flag provided but not defined: -{name}")),
                };
                *switch = truth(&name, given.as_deref())?;
                continue;
            }
        };
        let long = argument.get_long().unwrap_or(&name).to_owned();
        match argument.get_action() {
            ArgAction::SetTrue => {
                into.retain(|flag| flag.name != long);
                if truth(&name, given.as_deref())? {
                    into.push(Flag {
                        name: long,
                        value: None,
                    });
                }
            }
            _ if takes_optional_value(argument) => {
                into.retain(|flag| flag.name != long);
                let word = if truth(&name, given.as_deref())? {
                    "true"
                } else {
                    "false"
                };
                into.push(Flag {
                    name: long,
                    value: Some(word.into()),
                });
            }
            action => {
                let value = match given {
                    Some(value) => value,
                    None => words.next().ok_or_else(|| {
                        format!("flag needs an argument: {}", word.to_string_lossy())
                    })?,
                };
                if !matches!(action, ArgAction::Append) {
                    into.retain(|flag| flag.name != long);
                    if value.is_empty() && !EMPTY_MEANS_SOMETHING.contains(&long.as_str()) {
                        continue;
                    }
                }
                into.push(Flag {
                    name: long,
                    value: Some(value),
                });
            }
        }
    }
    sorted.rest.extend(words);
    Ok(())
}

/// A switch of which not given, true and false are three things.
fn takes_optional_value(argument: &Arg) -> bool {
    argument
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0)
}

fn truth(name: &str, given: Option<&OsStr>) -> Result<bool, String> {
    match given {
        None => Ok(true),
        Some(value) if value.is_empty() => Ok(true),
        Some(value) => value.to_str().and_then(values::boolean).ok_or_else(|| {
            format!(
                "invalid value {:?} for flag -{name}: parse error",
                value.to_string_lossy()
            )
        }),
    }
}

/// The option of that name, long, short or alias.
pub(super) fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut letters = name.chars();
    let short = match (letters.next(), letters.next()) {
        (Some(letter), None) => Some(letter),
        _ => None,
    };
    command.get_arguments().find(|argument| {
        argument.get_long() == Some(name)
            || (short.is_some() && argument.get_short() == short)
            || argument
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Whether an option that is given several times has several values.
pub(super) fn adds_up(command: &Command, name: &str) -> bool {
    find(command, name).is_some_and(|argument| matches!(argument.get_action(), ArgAction::Append))
}

/// The one spelling that clap gets; its first word is `argv[0]`.
pub(super) fn canonical(flags: Vec<Flag>, positionals: Vec<OsString>) -> Vec<OsString> {
    let mut words = Vec::with_capacity(flags.len() + positionals.len() + 2);
    words.push(OsString::new());
    for flag in flags {
        let mut word = OsString::with_capacity(flag.name.len() + 3);
        word.push("--");
        word.push(flag.name);
        if let Some(value) = flag.value {
            word.push("=");
            word.push(value);
        }
        words.push(word);
    }
    if !positionals.is_empty() {
        words.push("--".into());
        words.extend(positionals);
    }
    words
}
