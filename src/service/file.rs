//! The service file as values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::capability::Capability;
use crate::edit::Access;

/// A service file that is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// What the services belong to; the scope of their secrets.
    pub deployment: String,
    /// By name, in the order of the file; at least one.
    pub services: Vec<(String, Service)>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// What kind of service it is; not interpreted.
    pub rtype: Option<String>,
    /// How many endpoints it lists; not interpreted.
    pub endpoints: usize,
    /// The image's name; for people.
    pub image: Option<String>,
    /// What it runs.
    pub command: Command,
    /// Variables as written, references unresolved, in the order of the file.
    pub env: Vec<(String, String)>,
    /// What it may use.
    pub resources: Resources,
    /// What is mounted into it, in the order of the file.
    pub storage: Vec<Storage>,
    /// Device nodes of the host, in the order of the file.
    pub devices: Vec<Device>,
    /// Exactly these; `None` is the default set.
    pub capabilities: Option<Vec<Capability>>,
    /// Every capability and device, no masks.
    pub privileged: bool,
    /// Whether it uses the host's network.
    pub host_network: bool,
    /// Its host name; `None` is the container's id.
    pub hostname: Option<String>,
    /// The cgroup below which its own is made.
    pub cgroup_parent: Option<String>,
}

/// `command`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// What follows them.
    pub args: Vec<String>,
    /// The working directory.
    pub workdir: Option<String>,
}

/// `resources`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Whole cores.
    pub cpu: Option<i64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// GPUs.
    pub gpu: Option<Gpu>,
}

/// How many GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Some(u32),
    /// As many as there are.
    All,
}

/// `resources.gpu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// How many.
    pub count: Count,
    /// Whose; `None` is the only vendor that the host has.
    pub vendor: Option<String>,
    /// How they are shared.
    pub sharing: Option<Sharing>,
    /// Variables for distributed work.
    pub distributed: Option<Distributed>,
}

/// `resources.gpu.sharing` with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// Through NVIDIA's multi-process service.
    Mps {
        /// The control daemon's pipes.
        pipe_dir: Option<PathBuf>,
        /// Its logs.
        log_dir: Option<PathBuf>,
        /// The `/dev/shm` that the daemon sees.
        shm_dir: Option<PathBuf>,
        /// Per cent of a GPU's threads.
        active_thread_percentage: Option<u32>,
        /// How much of a GPU's memory.
        pinned_memory_limit: Option<PinnedMemory>,
    },
    /// By turns.
    TimeSlice {
        /// The one device that is visible.
        index: u32,
        /// A file that is mounted.
        config: Option<PathBuf>,
    },
}

/// How much memory of each GPU may be pinned, in MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinnedMemory {
    /// The same of each.
    Each(u64),
    /// By the GPU's number inside the container.
    PerDevice(BTreeMap<u32, u64>),
}

/// `resources.gpu.distributed`; `None` is the documented default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distributed {
    /// `nccl`, `gloo` or `mpi`.
    pub backend: Option<String>,
    /// `MASTER_ADDR`.
    pub master_addr: Option<String>,
    /// `MASTER_PORT`.
    pub master_port: Option<u16>,
    /// `WORLD_SIZE`.
    pub world_size: Option<u32>,
    /// `RANK`.
    pub rank: Option<u32>,
    /// `LOCAL_RANK`.
    pub local_rank: Option<u32>,
    /// The backend's interface.
    pub interface: Option<String>,
}

/// One of `storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// What is mounted.
    pub kind: StorageKind,
    /// Where, in the container.
    pub target: PathBuf,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// What it is on.
    pub tier: Option<String>,
}

/// What a storage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageKind {
    /// A path of the host.
    Bind {
        /// The path.
        source: PathBuf,
    },
    /// A volume by name.
    Named {
        /// The name.
        name: String,
    },
    /// A volume of this container alone.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<i64>,
        /// Permission bits.
        mode: Option<u32>,
    },
    /// A bucket that is mounted on the host.
    S3 {
        /// The bucket.
        bucket: String,
        /// The part of it.
        prefix: Option<String>,
        /// Where it is served; for who mounts it on the host.
        endpoint: Option<String>,
        /// What opens it; for who mounts it on the host.
        credentials: Option<String>,
    },
}

/// One of `devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// On the host and in the container.
    pub path: PathBuf,
    /// What may be done with it.
    pub access: Access,
}
