//! `explain`: what would become of a bundle, or has become of a container, and why.

use std::path::PathBuf;

use super::container_id::{self, ContainerId};
use super::devices::Devices;

/// Arguments of `explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Explain {
    /// A container, to show by what plan it was made, instead of a bundle
    #[arg(
        value_name = "container-id",
        value_parser = container_id::argument,
        conflicts_with_all = ["bundle", "host_root", "Devices"]
    )]
    pub id: Option<ContainerId>,
    /// Directory with config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Devices beyond those that the bundle asks for.
    #[command(flatten)]
    pub devices: Devices,
    /// Explain for the host that was recorded in this directory (doctor
    /// --record) instead of this one
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: ExplainFormat,
}

/// Shape of the output of `explain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplainFormat {
    /// Requests with what became of them, edits with their reason, and the diff.
    #[default]
    Text,
    /// The same as JSON.
    Json,
    /// A unified diff of config.json.
    Diff,
    /// The effective config.json.
    Config,
}
