//! `devices` and `heal`: the devices of a container that runs.

use std::path::PathBuf;

use super::container_id::{self, ContainerId};
use super::list::TableFormat;

/// Arguments of `devices`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct DevicesOf {
    /// Shape of the output
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub format: TableFormat,
    /// Show what add or remove would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Look for CDI specifications here and nowhere else; may be repeated
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
    /// What to do with the devices that follow; without it they are shown
    #[arg(value_enum, value_name = "add|remove", requires = "devices")]
    pub action: Option<Action>,
    /// CDI devices, as in nvidia.com/gpu=0
    #[arg(value_name = "VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,
}

/// What to do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Give it to the container.
    Add,
    /// Take it back.
    Remove,
}

/// Arguments of `heal`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Heal {
    /// Every container of the state root
    #[arg(long, conflicts_with = "id", required_unless_present = "id")]
    pub all: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: Option<ContainerId>,
}
