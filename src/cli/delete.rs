//! `delete`.

use super::container_id::{self, ContainerId};

/// Arguments of `delete`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Delete {
    /// Kill what still runs; a container that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}
