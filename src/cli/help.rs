//! What a person reads: help texts, and clap's errors in runc's words.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args as _};

use super::definitions::{COMMANDS, Definition, Kind, ReadError};
use super::globals::Globals;
use super::values::Refusal;

const ABOUT: &str = "Open Container Initiative runtime for containers with devices";

const TEMPLATE: &str = "\
NAME:
   {name} - {about}

USAGE:
   {usage}

{all-args}
";

/// The whole command line as clap knows it: for help, completions and the
/// manual page, never for reading.
#[must_use]
pub fn full_definition() -> clap::Command {
    Globals::augment_args(clap::Command::new("kusabi"))
        .about(ABOUT)
        .long_about(None)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .arg(help_flag())
        .subcommand_required(true)
        .subcommands(COMMANDS.iter().map(Definition::clap_tree))
}

/// One help for `-h` and `--help`.
pub(super) fn help_flag() -> Arg {
    Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help("Print this help")
}

/// The help of the program itself.
pub(super) fn root() -> String {
    render(full_definition())
}

/// The help of one command.
pub(super) fn of(definition: &Definition) -> String {
    let name = path_to(definition, COMMANDS).unwrap_or_else(|| definition.name.to_owned());
    let name = format!("kusabi {name}");
    render(definition.clap_tree().display_name(&name).bin_name(name))
}

/// All words of a command, as in `cdi list`.
fn path_to(definition: &Definition, among: &[Definition]) -> Option<String> {
    among.iter().find_map(|one| match &one.kind {
        _ if std::ptr::eq(one, definition) => Some(one.name.to_owned()),
        Kind::Group(children) => {
            let rest = path_to(definition, children)?;
            Some(format!("{} {rest}", one.name))
        }
        Kind::Leaf { .. } => None,
    })
}

fn render(command: clap::Command) -> String {
    command.help_template(TEMPLATE).render_help().to_string()
}

/// One line in runc's words, and the exit code.
pub(super) fn refusal(error: ReadError) -> (String, u8) {
    let error = match error {
        ReadError::Clap(error) => error,
        ReadError::Refused(refusal) => return worded(&refusal, None, ""),
    };
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.clone(),
        _ => String::new(),
    };
    // As in `--log-format <FORMAT>`, or `<container-id>` of an argument.
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    let flag = argument
        .strip_prefix("--")
        .and_then(|rest| rest.split([' ', '=', '[']).next());
    if let Some(refusal) = error
        .source()
        .and_then(|source| source.downcast_ref::<Refusal>())
    {
        return worded(refusal, flag, &value);
    }
    match (error.kind(), flag) {
        (ErrorKind::InvalidValue, Some("log-format")) => {
            (format!("invalid log-format: {value}"), 1)
        }
        (ErrorKind::InvalidValue, Some("format")) => ("invalid format option".to_owned(), 1),
        (ErrorKind::InvalidValue, name) => {
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => format!("expected {}", words.join(", ")),
                _ => "expected a value".to_owned(),
            };
            let name = name.map_or_else(|| argument.to_owned(), |flag| format!("flag -{flag}"));
            (format!("invalid value {value:?} for {name}: {known}"), 1)
        }
        (ErrorKind::InvalidUtf8, _) => ("an argument is not valid UTF-8".to_owned(), 1),
        // Nothing else is left once the words are sorted; if clap thinks
        // otherwise, its own first line says more than we could.
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            (line.strip_prefix("error: ").unwrap_or(line).to_owned(), 1)
        }
    }
}

fn worded(refusal: &Refusal, flag: Option<&str>, value: &str) -> (String, u8) {
    match (refusal, flag) {
        (Refusal::Flag(why), Some(flag)) => (
            format!("invalid value {value:?} for flag -{flag}: {why}"),
            1,
        ),
        (Refusal::Exec(_), _) => (refusal.to_string(), 255),
        (Refusal::Flag(_) | Refusal::Alone(_), _) => (refusal.to_string(), 1),
    }
}
