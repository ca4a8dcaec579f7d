//! `events`.

use core::time::Duration;

use super::container_id::{self, ContainerId};
use super::values;

/// Arguments of `events`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Events {
    /// Time between two lines of statistics
    #[arg(long, value_name = "DURATION", value_parser = values::interval, default_value = "5s")]
    pub interval: Duration,
    /// Print the statistics once and end
    #[arg(long)]
    pub stats: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}
