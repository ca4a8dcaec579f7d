//! `run`.

use super::bundle::ServiceOptions;
use super::container_id::{self, ContainerId};
use super::create::Bundle;
use super::devices::Devices;

/// Arguments of `run`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Run {
    /// How the container is made.
    #[command(flatten)]
    pub bundle: Bundle,
    /// Devices beyond those that the bundle asks for.
    #[command(flatten)]
    pub devices: Devices,
    /// A service in place of a bundle.
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Return as soon as the container runs
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container's state when it has ended
    #[arg(long)]
    pub keep: bool,
    /// Do not become the parent of processes that the container orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// Name of the new container, unique below --root; may be left out with
    /// --service [default: SERVICE-rep-N]
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: Option<ContainerId>,
}
