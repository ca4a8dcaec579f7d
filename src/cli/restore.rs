//! `restore`.

use std::path::PathBuf;

use super::checkpoint::Criu;
use super::container_id::{self, ContainerId};

/// Arguments of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Restore {
    /// What CRIU is told in both directions.
    #[command(flatten)]
    pub criu: Criu,
    /// Directory with config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that gets the terminal's master descriptor
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File that gets the process id of the container's first process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Return as soon as the container runs
    #[arg(short, long)]
    pub detach: bool,
    /// Do not become the parent of processes that the container orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// Do not pivot_root into the rootfs; for a rootfs on an initramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// LSM profile, as TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// LSM context of mounts
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}
