//! The table of commands: one row each, which parsing, help, completions and the
//! manual page all read.

use clap::{ArgMatches, Args, Command as Clap, FromArgMatches};

use super::normalise::Stop;
use super::values::Refusal;
use super::{Command, bundle, cdi, config, help};

/// What is read from a matched command line.
pub(super) type Reading = Result<Command, ReadError>;

/// Why a matched command line is refused.
pub(super) enum ReadError {
    /// By clap, or by a value parser through it.
    Clap(clap::Error),
    /// By the second half of a command's own reading.
    Refused(Refusal),
}

impl From<clap::Error> for ReadError {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

/// How many positional arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arity {
    /// At least so many.
    pub min: usize,
    /// At most so many.
    pub max: usize,
    /// A flag that does without the least number.
    pub unless: Option<&'static str>,
}

/// One command.
pub(super) struct Definition {
    /// As typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// What it does with its words.
    pub kind: Kind,
}

/// A command that does something, or one that has commands below it.
pub(super) enum Kind {
    /// Does something.
    Leaf {
        /// Number of arguments.
        arity: Arity,
        /// Where its flags end.
        stop: Stop,
        /// Adds its flags and arguments.
        define: fn(Clap) -> Clap,
        /// Takes what clap found.
        read: fn(&mut ArgMatches) -> Reading,
    },
    /// Has commands below it.
    Group(&'static [Definition]),
}

/// All commands, in the order in which help shows them.
pub(super) static COMMANDS: &[Definition] = &[
    leaf::<super::Create>(
        "create",
        "Make a container, ready to be started",
        exactly(1),
        |m| Ok(Command::Create(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Run>(
        "run",
        "Make a container and start it",
        Arity {
            min: 1,
            max: 1,
            unless: Some("service"),
        },
        |m| {
            Ok(Command::Run(Box::new(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<super::Target>(
        "start",
        "Start the process of a created container",
        exactly(1),
        |m| Ok(Command::Start(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Target>(
        "state",
        "Print the state of a container as JSON",
        exactly(1),
        |m| Ok(Command::State(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    owning::<super::Kill>(
        "kill",
        "Send a signal to a container's first process",
        Arity {
            min: 1,
            max: 2,
            unless: None,
        },
        |m| Ok(Command::Kill(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Delete>(
        "delete",
        "Remove what is left of a container",
        exactly(1),
        |m| Ok(Command::Delete(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    owning::<super::Exec>("exec", "Run a process in a container", at_least(1), |m| {
        super::Exec::from_arg_matches_mut(m)?
            .finish()
            .map(|exec| Command::Exec(Box::new(exec)))
            .map_err(ReadError::Refused)
    }),
    leaf::<super::Target>(
        "pause",
        "Freeze all processes of a container",
        exactly(1),
        |m| Ok(Command::Pause(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Target>(
        "resume",
        "Thaw all processes of a container",
        exactly(1),
        |m| Ok(Command::Resume(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    owning::<super::Ps>(
        "ps",
        "List the processes of a container",
        at_least(1),
        |m| Ok(Command::Ps(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::List>(
        "list",
        "List the containers below --root",
        exactly(0),
        |m| Ok(Command::List(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Update>(
        "update",
        "Change the limits of a container",
        exactly(1),
        |m| {
            Ok(Command::Update(Box::new(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<super::Events>(
        "events",
        "Print statistics and out-of-memory events",
        exactly(1),
        |m| Ok(Command::Events(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Checkpoint>(
        "checkpoint",
        "Save a running container to disk",
        exactly(1),
        |m| {
            Ok(Command::Checkpoint(Box::new(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<super::Restore>("restore", "Bring a saved container back", exactly(1), |m| {
        Ok(Command::Restore(Box::new(
            FromArgMatches::from_arg_matches_mut(m)?,
        )))
    }),
    leaf::<super::Spec>(
        "spec",
        "Write a config.json to start from",
        exactly(0),
        |m| Ok(Command::Spec(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<Nothing>(
        "features",
        "Print what this runtime can do as JSON",
        exactly(0),
        |_| Ok(Command::Features),
    ),
    leaf::<super::Explain>(
        "explain",
        "Show what would be changed in a bundle, or was for a container, and why",
        at_most(1),
        |m| Ok(Command::Explain(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Edit>(
        "edit",
        "Change a bundle's config.json in place",
        exactly(0),
        |m| Ok(Command::Edit(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::DevicesOf>(
        "devices",
        "Show, give or take the devices of a running container",
        at_least(1),
        |m| Ok(Command::Devices(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Heal>(
        "heal",
        "Repair the devices of running containers",
        Arity {
            min: 0,
            max: 1,
            unless: None,
        },
        |m| Ok(Command::Heal(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    Definition {
        name: "bundle",
        about: "Make bundles from service files",
        kind: Kind::Group(BUNDLE),
    },
    Definition {
        name: "cdi",
        about: "Look at CDI specifications",
        kind: Kind::Group(CDI),
    },
    leaf::<super::Gpus>(
        "gpus",
        "List the host's GPUs and who holds them",
        exactly(0),
        |m| Ok(Command::Gpus(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    leaf::<super::Doctor>(
        "doctor",
        "Look for what is wrong with this host, and say what would mend it",
        exactly(0),
        |m| Ok(Command::Doctor(FromArgMatches::from_arg_matches_mut(m)?)),
    ),
    Definition {
        name: "config",
        about: "Look at the policy file",
        kind: Kind::Group(CONFIG),
    },
    leaf::<super::Completions>(
        "completions",
        "Print a shell's completion script",
        exactly(1),
        |m| {
            Ok(Command::Completions(FromArgMatches::from_arg_matches_mut(
                m,
            )?))
        },
    ),
    leaf::<Nothing>("man", "Print the manual page", exactly(0), |_| {
        Ok(Command::Man)
    }),
];

const BUNDLE: &[Definition] = &[
    leaf::<bundle::BundleBuild>(
        "build",
        "Write a bundle for a service and print its directory",
        at_most(1),
        |m| {
            Ok(Command::Bundle(bundle::BundleCommand::Build(Box::new(
                FromArgMatches::from_arg_matches_mut(m)?,
            ))))
        },
    ),
    leaf::<bundle::BundleOf>(
        "spec",
        "Print a service's config.json and write nothing",
        exactly(0),
        |m| {
            Ok(Command::Bundle(bundle::BundleCommand::Spec(Box::new(
                FromArgMatches::from_arg_matches_mut(m)?,
            ))))
        },
    ),
    leaf::<bundle::BundleWriteConfig>(
        "write-config",
        "Write a service's config.json into a directory",
        exactly(1),
        |m| {
            Ok(Command::Bundle(bundle::BundleCommand::WriteConfig(
                Box::new(FromArgMatches::from_arg_matches_mut(m)?),
            )))
        },
    ),
    leaf::<bundle::BundleClean>(
        "clean",
        "Remove a bundle that build has made",
        exactly(1),
        |m| {
            Ok(Command::Bundle(bundle::BundleCommand::Clean(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<Nothing>(
        "schema",
        "Print the JSON Schema of service files",
        exactly(0),
        |_| Ok(Command::Bundle(bundle::BundleCommand::Schema)),
    ),
];

const CDI: &[Definition] = &[
    leaf::<cdi::CdiList>(
        "list",
        "List the devices of all specifications",
        exactly(0),
        |m| {
            Ok(Command::Cdi(cdi::Cdi::List(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<cdi::CdiShow>(
        "show",
        "Show what devices change in a container",
        at_least(1),
        |m| {
            Ok(Command::Cdi(cdi::Cdi::Show(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<cdi::CdiValidate>("validate", "Check specification files", at_least(0), |m| {
        Ok(Command::Cdi(cdi::Cdi::Validate(
            FromArgMatches::from_arg_matches_mut(m)?,
        )))
    }),
];

const CONFIG: &[Definition] = &[
    leaf::<config::ConfigFile>(
        "show",
        "Show every key of the policy, what holds, and where it was set",
        at_most(1),
        |m| {
            Ok(Command::Config(config::Config::Show(
                FromArgMatches::from_arg_matches_mut(m)?,
            )))
        },
    ),
    leaf::<config::ConfigFile>("check", "Check a policy file", at_most(1), |m| {
        Ok(Command::Config(config::Config::Check(
            FromArgMatches::from_arg_matches_mut(m)?,
        )))
    }),
];

/// A command without flags or arguments.
#[derive(clap::Args)]
struct Nothing {}

const fn exactly(count: usize) -> Arity {
    Arity {
        min: count,
        max: count,
        unless: None,
    }
}

const fn at_most(max: usize) -> Arity {
    Arity {
        min: 0,
        max,
        unless: None,
    }
}

const fn at_least(min: usize) -> Arity {
    Arity {
        min,
        max: usize::MAX,
        unless: None,
    }
}

const fn leaf<A: Args>(
    name: &'static str,
    about: &'static str,
    arity: Arity,
    read: fn(&mut ArgMatches) -> Reading,
) -> Definition {
    Definition {
        name,
        about,
        kind: Kind::Leaf {
            arity,
            stop: Stop::Never,
            define: A::augment_args,
            read,
        },
    }
}

/// A command whose words after the first argument are not its own.
const fn owning<A: Args>(
    name: &'static str,
    about: &'static str,
    arity: Arity,
    read: fn(&mut ArgMatches) -> Reading,
) -> Definition {
    Definition {
        name,
        about,
        kind: Kind::Leaf {
            arity,
            stop: Stop::AfterFirst,
            define: A::augment_args,
            read,
        },
    }
}

impl Definition {
    /// The row called `name`.
    pub fn find(table: &'static [Self], name: &str) -> Option<&'static Self> {
        table.iter().find(|definition| definition.name == name)
    }

    /// Whether the words after its first argument are not its own.
    pub fn owns_what_follows(&self) -> bool {
        matches!(
            self.kind,
            Kind::Leaf {
                stop: Stop::AfterFirst,
                ..
            }
        )
    }

    /// clap's definition of this command alone; that of a group has no commands.
    pub fn clap(&self) -> Clap {
        let command = Clap::new(self.name);
        let command = match &self.kind {
            Kind::Leaf { define, .. } => define(command),
            Kind::Group(_) => command,
        };
        command.about(self.about).long_about(None)
    }

    /// clap's definition with every command below.
    pub fn clap_tree(&self) -> Clap {
        let command = self.clap().disable_help_flag(true).arg(help::help_flag());
        match &self.kind {
            Kind::Leaf { .. } => command,
            Kind::Group(children) => command
                .disable_help_subcommand(true)
                .subcommand_required(true)
                .subcommands(children.iter().map(Self::clap_tree)),
        }
    }
}
