//! `doctor`: what is wrong with this host.

use std::path::PathBuf;

use super::cdi::CdiFormat;

/// Arguments of `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Doctor {
    /// Look at the host that was recorded in this directory
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Write down what tells of the host's GPUs, as a tree that --host-root reads
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Look for CDI specifications here and nowhere else; may be repeated
    #[arg(long = "cdi-dir", value_name = "DIR", conflicts_with = "record")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: CdiFormat,
}
