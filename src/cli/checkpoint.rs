//! `checkpoint`, and what `restore` shares with it.

use std::path::{Path, PathBuf};

use super::container_id::{self, ContainerId};
use super::values::{self, Refusal};

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Checkpoint {
    /// What CRIU is told in both directions.
    #[command(flatten)]
    pub criu: Criu,
    /// Directory of an earlier pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR", value_parser = parent_path)]
    pub parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Allow files that have no name any more to be linked again
    #[arg(long)]
    pub link_remap: bool,
    /// Descriptor on which CRIU says that it is ready to serve pages
    #[arg(long, value_name = "FD", value_parser = values::integer, default_value = "-1")]
    pub status_fd: i64,
    /// Send memory pages to ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = page_server)]
    pub page_server: Option<PageServer>,
    /// Save memory only and let the container run on
    #[arg(long)]
    pub pre_dump: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}

/// Options of CRIU that `checkpoint` and `restore` have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Criu {
    /// Directory of the image [default: checkpoint in the working directory]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory for CRIU's own files and logs
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow Unix sockets with a peer outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session whose leader is outside
    #[arg(long)]
    pub shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Move memory pages only when they are used
    #[arg(long)]
    pub lazy_pages: bool,
    /// How cgroups are treated: soft, full, strict or ignore
    #[arg(long, value_enum, value_name = "MODE")]
    pub manage_cgroups_mode: Option<CgroupsMode>,
    /// Make a namespace of this kind but leave it empty; may be repeated
    #[arg(long, value_name = "NAMESPACE", value_parser = empty_namespace)]
    pub empty_ns: Vec<EmptyNamespace>,
    /// Write no memory page twice
    #[arg(long)]
    pub auto_dedup: bool,
}

/// CRIU's `--manage-cgroups` modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupsMode {
    /// Restore only what CRIU makes itself.
    Soft,
    /// Restore everything.
    Full,
    /// Restore everything, and fail where something exists.
    Strict,
    /// Do nothing.
    Ignore,
}

/// A namespace that CRIU may leave empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyNamespace {
    /// `network`
    Network,
}

/// Where CRIU sends pages to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

fn parent_path(text: &str) -> Result<PathBuf, Refusal> {
    if Path::new(text).is_absolute() {
        return Err(Refusal::Alone("--parent-path must be relative".to_owned()));
    }
    Ok(text.into())
}

fn page_server(text: &str) -> Result<PageServer, Refusal> {
    let shape =
        || Refusal::Alone("Use --page-server ADDRESS:PORT to specify page server".to_owned());
    let (address, port) = text.rsplit_once(':').ok_or_else(shape)?;
    // An IPv6 address has colons of its own and therefore needs its brackets.
    let address = match address.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        Some(inner) => inner,
        None if address.contains(':') => return Err(shape()),
        None => address,
    };
    if address.is_empty() || port.is_empty() {
        return Err(shape());
    }
    let port = port
        .parse()
        .map_err(|_| Refusal::Alone("Invalid port number".to_owned()))?;
    Ok(PageServer {
        address: address.to_owned(),
        port,
    })
}

fn empty_namespace(text: &str) -> Result<EmptyNamespace, Refusal> {
    match text {
        "network" => Ok(EmptyNamespace::Network),
        other => Err(Refusal::Alone(format!(
            "namespace {other:?} is not supported"
        ))),
    }
}
