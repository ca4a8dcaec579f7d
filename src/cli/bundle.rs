//! `bundle build`, `bundle spec`, `bundle write-config`, `bundle clean`,
//! `bundle schema`, and what `run --service` shares with them.

use std::path::PathBuf;

use super::devices::Devices;
use super::values;

/// The commands below `bundle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleCommand {
    /// `bundle build`
    Build(Box<BundleBuild>),
    /// `bundle spec`
    Spec(Box<BundleOf>),
    /// `bundle write-config`
    WriteConfig(Box<BundleWriteConfig>),
    /// `bundle clean`
    Clean(BundleClean),
    /// `bundle schema`
    Schema,
}

/// Which service becomes a container, and what the caller decides about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ServiceOptions {
    /// The service file
    #[arg(long, value_name = "FILE")]
    pub service: Option<PathBuf>,
    /// The service [default: the only one of the file]
    #[arg(long, value_name = "SERVICE")]
    pub name: Option<String>,
    /// Which of several containers of the service this is [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub replica: Option<u32>,
    /// Directory that is the container's root file system
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// The image's configuration, or an OCI image layout with, where it has
    /// several images, a tag
    #[arg(long, value_name = "CONFIG.json|LAYOUT[:TAG]")]
    pub image: Option<String>,
    /// Which of an image's platforms [default: this machine's]
    #[arg(long, value_name = "linux/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// The program, then its arguments, in place of all others; repeated once
    /// for each word
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    pub args: Vec<String>,
    /// The working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The user, by number or by its name in the root file system
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// An environment variable; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Directory of secrets, as DIR/DEPLOYMENT/NAME
    #[arg(long, value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Where a volume is: NAME=PATH, anon:TARGET=PATH or s3:BUCKET/PREFIX=PATH;
    /// may be repeated
    #[arg(long = "volume", value_name = "VOLUME=PATH")]
    pub volumes: Vec<String>,
    /// A unix socket that the container gets [default inside:
    /// /run/kusabi/api.sock]
    #[arg(long, value_name = "HOST[:CONTAINER]")]
    pub socket: Option<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub terminal: bool,
}

impl ServiceOptions {
    /// A flag that was given and means nothing without `--service`.
    #[must_use]
    pub fn stray(&self) -> Option<&'static str> {
        let given = [
            ("--name", self.name.is_some()),
            ("--replica", self.replica.is_some()),
            ("--rootfs", self.rootfs.is_some()),
            ("--image", self.image.is_some()),
            ("--platform", self.platform.is_some()),
            ("--arg", !self.args.is_empty()),
            ("--cwd", self.cwd.is_some()),
            ("--user", self.user.is_some()),
            ("--hostname", self.hostname.is_some()),
            ("--env", !self.env.is_empty()),
            ("--secrets", self.secrets.is_some()),
            ("--volume", !self.volumes.is_empty()),
            ("--socket", self.socket.is_some()),
            ("--terminal", self.terminal),
        ];
        let stray = given.iter().find(|(_, given)| *given);
        stray
            .filter(|_| self.service.is_none())
            .map(|(flag, _)| *flag)
    }
}

/// Whose machine a specification is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Elsewhere {
    /// Look at this tree of another machine's files, and not at this machine
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Look at no machine at all
    #[arg(long)]
    pub no_probe: bool,
    /// A variable of the host's environment, for $E:NAME; may be repeated
    #[arg(long = "host-env", value_name = "NAME=VALUE")]
    pub host_env: Vec<String>,
}

/// What a bundle is made of: the arguments of `bundle spec`, and of the commands
/// that write one.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct BundleOf {
    /// The service.
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Its machine.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
    /// Devices beyond those that the service asks for.
    #[command(flatten)]
    pub devices: Devices,
}

/// Arguments of `bundle build`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct BundleBuild {
    /// What it is made of.
    #[command(flatten)]
    pub of: BundleOf,
    /// The new directory [default: bundles/ID below --root]
    #[arg(value_name = "directory")]
    pub out: Option<PathBuf>,
}

/// Arguments of `bundle write-config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct BundleWriteConfig {
    /// What it is made of.
    #[command(flatten)]
    pub of: BundleOf,
    /// The directory that gets config.json
    #[arg(value_name = "directory")]
    pub out: Option<PathBuf>,
}

/// Arguments of `bundle clean`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct BundleClean {
    /// Remove a config.json that was changed after it was built, too
    #[arg(short, long)]
    pub force: bool,
    /// The bundle's directory
    #[arg(value_name = "directory")]
    pub directory: Option<PathBuf>,
}
