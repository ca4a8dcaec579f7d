//! kusabi's own options: devices by their CDI names, and GPUs.

use std::path::PathBuf;

/// Devices that the caller asks for, on top of what the bundle asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Devices {
    /// Inject a CDI device, as in nvidia.com/gpu=0; may be repeated
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,
    /// Look for CDI specifications here and nowhere else; may be repeated, the
    /// last directory has the highest priority
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Inject GPUs: a count, all, none, or names (index, UUID, bus id, GPU:MIG)
    /// with commas; device=N is the index N; may be repeated for other vendors
    #[arg(long, value_name = "[VENDOR:]N|all|none|ID,...")]
    pub gpus: Vec<String>,
    /// Share NVIDIA's GPUs: mps[,pipe-dir=,log-dir=,shm-dir=,threads=,memory=]
    /// or time-slice[,index=,config=]
    #[arg(long, value_name = "mps|time-slice[,KEY=VALUE,...]")]
    pub gpu_share: Option<String>,
    /// Tell the container its place among several: nccl, gloo or mpi, with
    /// master-addr=, master-port=, world-size=, rank=, local-rank=, interface=
    #[arg(long, value_name = "BACKEND[,KEY=VALUE,...]")]
    pub distributed: Option<String>,
    /// Put the container's cgroup below this one, whatever the bundle says
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
}
