//! `gpus`: the host's GPUs and who holds them.

use std::path::PathBuf;

use super::cdi::CdiFormat;

/// Arguments of `gpus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Gpus {
    /// List the GPUs of the host that was recorded in this directory
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: CdiFormat,
}
