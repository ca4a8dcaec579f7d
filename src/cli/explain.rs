//! `explain`: what would become of a bundle, and why.

use std::path::PathBuf;

use super::devices::Devices;

/// Arguments of `explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Explain {
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
    /// One line an edit, with its reason.
    #[default]
    Text,
    /// The plan as JSON.
    Json,
    /// A unified diff of config.json.
    Diff,
    /// The effective config.json.
    Config,
}
