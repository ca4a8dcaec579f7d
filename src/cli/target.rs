//! `start`, `state`, `pause`, `resume`: an id and nothing else.

use super::container_id::{self, ContainerId};

/// The container that a command is about.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Target {
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}
