//! `edit`: change a bundle's config.json in place.

use std::path::PathBuf;

use super::devices::Devices;

/// Arguments of `edit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Edit {
    /// Directory with config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Devices beyond those that the bundle asks for.
    #[command(flatten)]
    pub devices: Devices,
}
