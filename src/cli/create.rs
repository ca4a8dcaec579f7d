//! `create`, and what `run` shares with it.

use std::path::PathBuf;

use super::container_id::{self, ContainerId};
use super::devices::Devices;
use super::values;

/// Arguments of `create`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Create {
    /// How the container is made.
    #[command(flatten)]
    pub bundle: Bundle,
    /// Devices beyond those that the bundle asks for.
    #[command(flatten)]
    pub devices: Devices,
    /// Name of the new container, unique below --root
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}

/// Options of every command that makes a container from a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Bundle {
    /// Directory with config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that gets the terminal's master descriptor
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the container's first process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the process id of the container's first process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Do not pivot_root into the rootfs; for a rootfs on an initramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N descriptors on, from 3 upwards, after those of LISTEN_FDS
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "0")]
    pub preserve_fds: u32,
}
