//! `update`.

use std::path::PathBuf;

use super::container_id::{self, ContainerId};
use super::values::{self, Refusal};

/// Arguments of `update`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Update {
    /// Read the resources, as in config.json's linux.resources, from FILE, or
    /// from standard input if it is `-`; all other limits are then ignored,
    /// except the two schemata
    #[arg(short, long, value_name = "FILE", value_parser = resources)]
    pub resources: Option<Resources>,
    /// The limits given one by one.
    #[command(flatten)]
    pub limits: Limits,
    /// L3 cache schema line of Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema line of Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::argument)]
    pub id: ContainerId,
}

/// Where `update` reads resources from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resources {
    /// `-`
    Stdin,
    /// A file.
    File(PathBuf),
}

fn resources(text: &str) -> Result<Resources, Refusal> {
    Ok(match text {
        "-" => Resources::Stdin,
        file => Resources::File(file.into()),
    })
}

/// Limits given as flags; `None` leaves the present value.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Weight of block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    pub blkio_weight: Option<u16>,
    /// Length of a CPU period in microseconds; 0 is the system's default
    #[arg(long, value_name = "MICROSECONDS", value_parser = |s: &str| values::unsigned_for("cpu-period", s))]
    pub cpu_period: Option<u64>,
    /// CPU time in each period in microseconds; -1 is without limit
    #[arg(long, value_name = "MICROSECONDS", value_parser = |s: &str| values::signed_for("cpu-quota", s))]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up and used beyond the quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = |s: &str| values::unsigned_for("cpu-burst", s))]
    pub cpu_burst: Option<u64>,
    /// Weight of CPU time against other containers
    #[arg(long, value_name = "SHARES", value_parser = |s: &str| values::unsigned_for("cpu-share", s))]
    pub cpu_share: Option<u64>,
    /// Length of a real-time period in microseconds; 0 is the system's default
    #[arg(long, value_name = "MICROSECONDS", value_parser = |s: &str| values::unsigned_for("cpu-rt-period", s))]
    pub cpu_rt_period: Option<u64>,
    /// Real-time CPU time in each period in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = |s: &str| values::signed_for("cpu-rt-runtime", s))]
    pub cpu_rt_runtime: Option<i64>,
    /// 1 runs the container only when nothing else wants the CPU, 0 does not
    #[arg(long, value_name = "0|1", value_parser = |s: &str| values::signed_for("cpu-idle", s))]
    pub cpu_idle: Option<i64>,
    /// CPUs, as in 0-2,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as in 0,1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory in bytes, or with a suffix b, k, m, g, t, p; -1 is without limit
    #[arg(long, value_name = "BYTES", value_parser = |s: &str| values::memory_for("memory", s))]
    pub memory: Option<i64>,
    /// Memory that is left alone under pressure
    #[arg(long, value_name = "BYTES", value_parser = |s: &str| values::memory_for("memory-reservation", s))]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is without limit
    #[arg(long, value_name = "BYTES", value_parser = |s: &str| values::memory_for("memory-swap", s))]
    pub memory_swap: Option<i64>,
    /// Without effect, as in the kernel
    #[arg(long, hide = true, value_name = "BYTES", value_parser = |s: &str| values::memory_for("kernel-memory", s))]
    pub kernel_memory: Option<i64>,
    /// Without effect, as in the kernel
    #[arg(long, hide = true, value_name = "BYTES", value_parser = |s: &str| values::memory_for("kernel-memory-tcp", s))]
    pub kernel_memory_tcp: Option<i64>,
    /// Number of tasks
    #[arg(long, value_name = "N", value_parser = values::integer)]
    pub pids_limit: Option<i64>,
}

/// runc cuts the number to 16 bits; a wrong weight is better refused.
fn weight(text: &str) -> Result<u16, Refusal> {
    let value = values::integer(text)?;
    u16::try_from(value).map_err(|_| Refusal::Flag(format!("{value} is not between 10 and 1000")))
}
