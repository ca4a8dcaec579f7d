//! What a cgroup has used, in the shape of runc's `events --stats`.
//!
//! The types are that JSON, field by field: absent where runc leaves out a zero,
//! present where it writes one. Nothing here prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::Result;
use super::handle::Cgroup;

mod parse;
mod v1;
mod v2;

/// A line of `events --stats`, below `data`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes, on version 1.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size, as in `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Cache and memory bandwidth, where the container is in a resctrl group;
    /// for the caller to fill in.
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    /// Always null: the runtime knows no container's interfaces.
    pub network_interfaces: Option<()>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    /// Time refused.
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    /// Time waited for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    /// By processor, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// Outside the kernel, by processor, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
}

/// What the quota has refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    /// Periods in which the quota ran out.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    /// Nanoseconds without a processor.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

/// Pressure: time in which tasks stood still for want of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Psi {
    /// At least one task.
    #[serde(skip_serializing_if = "is_default")]
    pub some: PsiLine,
    /// All tasks at once.
    #[serde(skip_serializing_if = "is_default")]
    pub full: PsiLine,
}

/// Percent of the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PsiLine {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// Version 1's cpuset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cpuset {
    /// Processors that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// By nobody else.
    pub cpu_exclusive: u64,
    /// Memory nodes that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// Kernel memory is confined, too.
    pub mem_hardwall: u64,
    /// By nobody else.
    pub mem_exclusive: u64,
    /// Pages follow a change of nodes.
    pub memory_migrate: u64,
    /// Page cache is spread over the nodes.
    pub memory_spread_page: u64,
    /// Slabs are spread over the nodes.
    pub memory_spread_slab: u64,
    /// Rate of direct reclaim.
    pub memory_pressure: u64,
    /// The scheduler balances load.
    pub sched_load_balance: u64,
    /// How far it looks for an idle processor.
    pub sched_relax_domain_level: i64,
}

/// Bytes of memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of files.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    /// All that counts against the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    /// The kernel's, on version 1.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    /// The kernel's for TCP, on version 1.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Time waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Bytes of one kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// May be used.
    pub limit: u64,
    /// Is used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Was used at most.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// There are.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// There may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Block device traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Operations that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of waiting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Operations merged with others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Milliseconds of the device's time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Time waited for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

/// Bytes of huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    /// Are used or reserved.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Were at most, on version 1.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Cgroup {
    /// Reads what the cgroup has used. Controllers that are not there count
    /// nothing.
    ///
    /// # Errors
    /// A file that is there cannot be read or understood, or the cgroup goes
    /// away meanwhile.
    pub fn stats(&self) -> Result<Stats> {
        if self.v2 {
            return match self.directory("") {
                Some(directory) => v2::read(directory),
                None => Ok(Stats::default()),
            };
        }
        v1::read(self)
    }
}

/// Sizes of huge pages as control files name them, from the names of
/// `/sys/kernel/mm/hugepages`.
fn hugepage_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let names = entries.flatten().map(|e| e.file_name());
    let mut sizes: Vec<String> = names
        .filter_map(|name| parse::hugepage_size(name.to_str()?))
        .collect();
    sizes.sort_unstable();
    sizes
}
