//! `kill`.

use super::container_id::{self, ContainerId};
use super::signal::{self, Signal};

/// Arguments of `kill`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Kill {
    /// A stopped container is no error (older engines send this)
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
    /// Name or number of the signal
    #[arg(value_name = "signal", value_parser = signal::argument, default_value = "TERM")]
    pub signal: Signal,
}
