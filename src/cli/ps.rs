//! `ps`.

use super::container_id::{self, ContainerId};
use super::list::TableFormat;

/// Arguments of `ps`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Ps {
    /// Shape of the output
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub format: TableFormat,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
    /// Options for ps(1) [default: -ef]
    #[arg(value_name = "ps options")]
    pub options: Vec<std::ffi::OsString>,
}
