//! `spec`.

use std::path::PathBuf;

/// Arguments of `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Spec {
    /// Directory that gets config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Make a configuration that a caller who is not root can use
    #[arg(long)]
    pub rootless: bool,
}
