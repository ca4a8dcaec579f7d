//! `config show`, `config check`.

use std::path::PathBuf;

use super::cdi::CdiFormat;

/// The commands below `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// `config show`
    Show(ConfigFile),
    /// `config check`
    Check(ConfigFile),
}

/// Arguments of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ConfigFile {
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: CdiFormat,
    /// The policy file [default: the one that holds here]
    #[arg(value_name = "file")]
    pub file: Option<PathBuf>,
}
