//! The command line: words in, [`Invocation`] out. No I/O.
//!
//! runc's callers type what Go's flag parser lets them type, so reading has two
//! stages: `normalise` sorts the words by Go's habits, clap turns them into
//! typed values. Only the command that was named is ever defined for clap: start
//! is a hot path. What the values mean on this host is decided by the commands.

mod bundle;
mod cdi;
mod checkpoint;
mod completions;
mod config;
mod container_id;
mod create;
mod definitions;
mod delegate;
mod delete;
mod devices;
mod doctor;
mod edit;
mod events;
mod exec;
mod explain;
mod globals;
mod gpus;
mod help;
mod kill;
mod list;
mod live;
mod normalise;
mod ps;
mod restore;
mod run;
mod signal;
mod spec;
mod target;
#[cfg(test)]
mod tests;
mod update;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};

pub use bundle::{
    BundleBuild, BundleClean, BundleCommand, BundleOf, BundleWriteConfig, Elsewhere, ServiceOptions,
};
pub use cdi::{Cdi, CdiFormat, CdiList, CdiShow, CdiValidate};
pub use checkpoint::{CgroupsMode, Checkpoint, Criu, EmptyNamespace, PageServer};
pub use completions::Completions;
pub use config::{Config, ConfigFile};
pub use container_id::{ContainerId, InvalidContainerId};
pub use create::{Bundle, Create};
pub use delegate::{named, without_own_options};
pub use delete::Delete;
pub use devices::Devices;
pub use doctor::Doctor;
pub use edit::Edit;
pub use events::Events;
pub use exec::{Exec, ExecUser};
pub use explain::{Explain, ExplainFormat};
pub use globals::{Caller, Globals, LogFormat, RootIsSlash, RootOrigin, Rootless, StateRoot};
pub use gpus::Gpus;
pub use help::full_definition;
pub use kill::Kill;
pub use list::{List, TableFormat};
pub use live::{Action, DevicesOf, Heal};
pub use ps::Ps;
pub use restore::Restore;
pub use run::Run;
pub use signal::{Signal, UnknownSignal};
pub use spec::Spec;
pub use target::Target;
pub use update::{Limits, Resources, Update};

use definitions::{COMMANDS, Definition, Kind, ReadError};
use normalise::{Sorted, Stop};

/// A whole command line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Options of every command.
    pub globals: Globals,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Print this text.
    Help(String),
    /// `--version`
    Version,
    /// `create`
    Create(Create),
    /// `run`
    Run(Box<Run>),
    /// `start`
    Start(Target),
    /// `state`
    State(Target),
    /// `kill`
    Kill(Kill),
    /// `delete`
    Delete(Delete),
    /// `exec`
    Exec(Box<Exec>),
    /// `pause`
    Pause(Target),
    /// `resume`
    Resume(Target),
    /// `ps`
    Ps(Ps),
    /// `list`
    List(List),
    /// `update`
    Update(Box<Update>),
    /// `events`
    Events(Events),
    /// `checkpoint`
    Checkpoint(Box<Checkpoint>),
    /// `restore`
    Restore(Box<Restore>),
    /// `spec`
    Spec(Spec),
    /// `features`
    Features,
    /// `explain`
    Explain(Explain),
    /// `edit`
    Edit(Edit),
    /// `bundle …`
    Bundle(BundleCommand),
    /// `devices`
    Devices(DevicesOf),
    /// `heal`
    Heal(Heal),
    /// `cdi …`
    Cdi(Cdi),
    /// `doctor`
    Doctor(Doctor),
    /// `gpus`
    Gpus(Gpus),
    /// `config …`
    Config(Config),
    /// `completions`
    Completions(Completions),
    /// `man`
    Man,
}

/// A command line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// One line.
    pub message: String,
    /// The help that a person at a terminal would now want.
    pub help: Option<String>,
    /// 1; 3 for a command that does not exist; 255 for a failed exec: as runc.
    pub exit_code: u8,
    /// What had been read of them, so that the error goes to the right log.
    pub globals: Globals,
}

/// Reads a command line; the first word is the program.
///
/// # Errors
/// With runc's words where callers or people know them.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, Box<UsageError>> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| "kusabi".into());
    Parser {
        program: program.to_string_lossy().into_owned(),
        definition: Globals::augment_args(clap::Command::new("kusabi")),
        flags: Vec::new(),
    }
    .parse(words)
}

/// The state of one reading.
struct Parser {
    /// `argv[0]`, which runc's messages begin with.
    program: String,
    /// clap's definition of the global options.
    definition: clap::Command,
    /// Global options seen so far.
    flags: Vec<normalise::Flag>,
}

impl Parser {
    fn parse(
        mut self,
        words: impl Iterator<Item = OsString>,
    ) -> Result<Invocation, Box<UsageError>> {
        let (sorted, result) = normalise::sort(words, None, &self.definition, Stop::AtCommand);
        let Sorted {
            globals,
            positionals,
            rest,
            help,
            version,
            ..
        } = sorted;
        self.flags = globals;
        result.map_err(|message| self.refuse(message, Some(help::root())))?;
        let name = positionals.into_iter().next();
        let wants_help = help || name.is_none();
        if version && !help {
            return self.finish(Command::Version);
        }
        let Some(name) = name.filter(|name| !(help && name.is_empty())) else {
            return self.finish(Command::Help(help::root()));
        };
        if wants_help || name == "help" || name == "h" {
            let topic = if wants_help {
                Some(name)
            } else {
                rest.into_iter().find(|w| !w.is_empty())
            };
            return self.help(topic.as_deref());
        }
        let Some(definition) = find(COMMANDS, &name) else {
            return Err(self.no_such_topic(&name));
        };
        self.command(definition, rest)
    }

    /// Reads the words of `definition`, or of the command below it.
    fn command(
        mut self,
        definition: &'static Definition,
        words: Vec<OsString>,
    ) -> Result<Invocation, Box<UsageError>> {
        let (stop, children) = match &definition.kind {
            Kind::Leaf { stop, .. } => (*stop, None),
            Kind::Group(children) => (Stop::AtCommand, Some(*children)),
        };
        let clap = definition.clap();
        let (sorted, result) = normalise::sort(words, Some(&clap), &self.definition, stop);
        self.flags.extend(sorted.globals);
        if sorted.help {
            return self.finish(Command::Help(help::of(definition)));
        }
        result.map_err(|message| self.refuse(message, Some(help::of(definition))))?;
        let Some(children) = children else {
            return self.leaf(definition, clap, sorted.flags, sorted.positionals);
        };
        match sorted.positionals.first() {
            None => self.finish(Command::Help(help::of(definition))),
            Some(name) => match find(children, name) {
                Some(child) => self.command(child, sorted.rest),
                None => Err(self.no_such_topic(name)),
            },
        }
    }

    fn leaf(
        self,
        definition: &'static Definition,
        clap: clap::Command,
        flags: Vec<normalise::Flag>,
        positionals: Vec<OsString>,
    ) -> Result<Invocation, Box<UsageError>> {
        let Kind::Leaf { arity, read, .. } = &definition.kind else {
            return self.finish(Command::Help(help::of(definition)));
        };
        let count = positionals.len();
        let relaxed = arity
            .unless
            .is_some_and(|flag| count <= arity.max && flags.iter().any(|given| given.name == flag));
        let rule = if relaxed {
            None
        } else if arity.min == arity.max && count != arity.min {
            Some(("exactly", arity.min))
        } else if count < arity.min {
            Some(("a minimum of", arity.min))
        } else if count > arity.max {
            Some(("a maximum of", arity.max))
        } else {
            None
        };
        if let Some((word, number)) = rule {
            let message = format!(
                "{}: \"{}\" requires {word} {number} argument(s)",
                self.program, definition.name
            );
            return Err(self.refuse(message, Some(help::of(definition))));
        }
        let matched = clap
            .disable_help_flag(true)
            .try_get_matches_from(normalise::canonical(flags, positionals));
        match matched
            .map_err(ReadError::Clap)
            .and_then(|mut m| read(&mut m))
        {
            Ok(command) => self.finish(command),
            Err(error) => {
                let (message, exit_code) = help::refusal(error);
                let mut refused = self.refuse(message, None);
                refused.exit_code = exit_code;
                Err(refused)
            }
        }
    }

    fn help(self, topic: Option<&OsStr>) -> Result<Invocation, Box<UsageError>> {
        match topic {
            None => self.finish(Command::Help(help::root())),
            Some(name) => match find(COMMANDS, name) {
                Some(definition) => self.finish(Command::Help(help::of(definition))),
                None => Err(self.no_such_topic(name)),
            },
        }
    }

    fn no_such_topic(&self, name: &OsStr) -> Box<UsageError> {
        let mut error = self.refuse(
            format!("No help topic for '{}'", name.to_string_lossy()),
            None,
        );
        error.exit_code = 3;
        error
    }

    fn finish(self, mut command: Command) -> Result<Invocation, Box<UsageError>> {
        match self.globals() {
            Ok(globals) => {
                if let Some(dirs) = command.cdi_dirs_mut() {
                    dirs.splice(0..0, globals.cdi_dirs.iter().cloned());
                }
                Ok(Invocation { globals, command })
            }
            Err(error) => {
                let (message, exit_code) = help::refusal(ReadError::Clap(error));
                Err(Box::new(UsageError {
                    message,
                    help: None,
                    exit_code,
                    globals: Globals::default(),
                }))
            }
        }
    }

    fn refuse(&self, message: String, help: Option<String>) -> Box<UsageError> {
        Box::new(UsageError {
            message,
            help,
            exit_code: 1,
            // If these are wrong, too, the first error is the one to show.
            globals: self.globals().unwrap_or_default(),
        })
    }

    fn globals(&self) -> Result<Globals, clap::Error> {
        if self.flags.is_empty() {
            return Ok(Globals::default());
        }
        let mut flags = self.flags.clone();
        // The same option may stand before and after the command.
        let mut seen = Vec::new();
        flags.reverse();
        flags.retain(|flag| {
            let new = !seen.contains(&flag.name);
            seen.push(flag.name.clone());
            new || normalise::adds_up(&self.definition, &flag.name)
        });
        flags.reverse();
        let mut matches = self
            .definition
            .clone()
            .disable_help_flag(true)
            .try_get_matches_from(normalise::canonical(flags, Vec::new()))?;
        Globals::from_arg_matches_mut(&mut matches)
    }
}

impl Command {
    /// The directories that a command which looks for CDI specifications was
    /// given; the global ones come before them, and so below them in priority.
    fn cdi_dirs_mut(&mut self) -> Option<&mut Vec<PathBuf>> {
        match self {
            Self::Create(of) => Some(&mut of.devices.cdi_dirs),
            Self::Run(of) => Some(&mut of.devices.cdi_dirs),
            Self::Explain(of) => Some(&mut of.devices.cdi_dirs),
            Self::Edit(of) => Some(&mut of.devices.cdi_dirs),
            Self::Devices(of) => Some(&mut of.cdi_dirs),
            Self::Doctor(of) => Some(&mut of.cdi_dirs),
            Self::Cdi(Cdi::List(of)) => Some(&mut of.cdi_dirs),
            Self::Cdi(Cdi::Show(of)) => Some(&mut of.cdi_dirs),
            Self::Cdi(Cdi::Validate(of)) => Some(&mut of.cdi_dirs),
            Self::Bundle(BundleCommand::Build(line)) => Some(&mut line.of.devices.cdi_dirs),
            Self::Bundle(BundleCommand::Spec(of)) => Some(&mut of.devices.cdi_dirs),
            Self::Bundle(BundleCommand::WriteConfig(line)) => Some(&mut line.of.devices.cdi_dirs),
            _ => None,
        }
    }
}

fn find(table: &'static [Definition], name: &OsStr) -> Option<&'static Definition> {
    Definition::find(table, name.to_str()?)
}
