//! `linux.resources` as typed values, and what an update makes of them.
//!
//! Pure. Read from the document's JSON and not through `oci-spec`, which drops
//! fields it does not know and reorders maps. Keys match as Go's decoder matches
//! them, because engines and their users rely on it: without regard to case, and
//! a later `CPU` adds to an earlier `cpu`. `devices` is not read here: the device
//! filter has it, and an update never touches it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod read;
mod update;

pub use read::ResourceError;

/// Processor limits (`linux.resources.cpu`). Times are microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Relative weight, 2 to 262144; 0 is unset.
    pub shares: Option<u64>,
    /// Time per period; negative is no limit.
    pub quota: Option<i64>,
    /// Unused time that may be saved up.
    pub burst: Option<u64>,
    /// Length of a period.
    pub period: Option<u64>,
    /// Real-time runtime per period (version 1).
    pub realtime_runtime: Option<i64>,
    /// Length of a real-time period (version 1).
    pub realtime_period: Option<u64>,
    /// Processors, as in `0-3,7`; empty is unset.
    pub cpus: String,
    /// Memory nodes, as in `0`; empty is unset.
    pub mems: String,
    /// 1: runs only when nothing else does.
    pub idle: Option<i64>,
}

/// Memory limits in bytes (`linux.resources.memory`); -1 is no limit, 0 unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// 0 to 100 (version 1).
    pub swappiness: Option<u64>,
    /// Processes wait instead of dying (version 1).
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit that the present use exceeds (version 2).
    pub check_before_update: Option<bool>,
}

/// A block device's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000; 0 is unset.
    #[serde(default)]
    pub weight: u16,
    /// Against the cgroup's children (version 1); 0 is unset.
    #[serde(default)]
    pub leaf_weight: u16,
}

/// A block device's limit in bytes or operations per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// The limit; 0 removes it.
    pub rate: u64,
}

/// Block device limits (`linux.resources.blockIO`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// 10 to 1000; 0 is unset.
    pub weight: Option<u16>,
    /// Against the cgroup's children (version 1).
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    pub read_bps: Vec<ThrottleDevice>,
    /// Bytes written per second.
    pub write_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    pub read_iops: Vec<ThrottleDevice>,
    /// Writes per second.
    pub write_iops: Vec<ThrottleDevice>,
}

/// A limit on huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hugepages {
    /// As the kernel names it, `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// A limit on an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdma {
    /// The device, as in `mlx5_1`.
    pub device: String,
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
}

/// An interface's priority (version 1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePriority {
    /// The interface, as in `eth0`.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

/// All limits of a container but device access, as last set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads: negative is no limit, 0 means 1.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages.
    pub hugepages: Vec<Hugepages>,
    /// Class of outgoing packets (version 1); 0 is unset.
    pub class_id: Option<u32>,
    /// Priorities of interfaces (version 1).
    pub priorities: Vec<InterfacePriority>,
    /// RDMA devices.
    pub rdma: Vec<Rdma>,
    /// Version 2 control files and their content, in the document's order,
    /// written last.
    pub unified: Vec<(String, String)>,
    /// Fields that are obsolete and do nothing; said once.
    #[serde(skip)]
    pub ignored: Vec<&'static str>,
}

impl Resources {
    /// Reads `linux.resources`; `null` is no limits at all.
    ///
    /// # Errors
    /// A field has the wrong type or is out of its type's range.
    pub fn parse(value: &Value) -> Result<Self, ResourceError> {
        let mut resources = Self::default();
        read::read(value, &mut resources)?;
        Ok(resources)
    }

    /// Whether a limit needs a version 2 controller that does not work in
    /// threaded cgroups.
    #[must_use]
    pub fn needs_domain(&self) -> bool {
        self.has_memory() || self.has_io() || self.has_cpu() || !self.hugepages.is_empty()
    }

    /// Whether any of the named version 2 controllers is needed.
    #[must_use]
    pub fn needs_any(&self, available: &str) -> bool {
        let needs = |controller| match controller {
            "pids" => self.pids.is_some(),
            "memory" => self.has_memory(),
            "io" => self.has_io(),
            "cpu" => self.has_cpu(),
            "cpuset" => !self.cpu.cpus.is_empty() || !self.cpu.mems.is_empty(),
            "hugetlb" => !self.hugepages.is_empty(),
            _ => false,
        };
        available
            .split_whitespace()
            .any(|controller| needs(controller) || self.names(controller))
    }

    /// Whether a file of this version 2 controller is given as it is.
    fn names(&self, controller: &str) -> bool {
        let of = |file: &str| file.split_once('.').is_some_and(|(c, _)| c == controller);
        self.unified.iter().any(|(file, _)| of(file))
    }

    pub(super) fn has_memory(&self) -> bool {
        let m = &self.memory;
        [m.reservation, m.limit, m.swap]
            .iter()
            .any(|v| set(v).is_some())
    }

    pub(super) fn has_io(&self) -> bool {
        let io = &self.block_io;
        set(&io.weight).is_some()
            || !io.weight_device.is_empty()
            || [&io.read_bps, &io.write_bps, &io.read_iops, &io.write_iops]
                .iter()
                .any(|list| !list.is_empty())
    }

    pub(super) fn has_cpu(&self) -> bool {
        let c = &self.cpu;
        set(&c.shares).is_some()
            || set(&c.quota).is_some()
            || set(&c.period).is_some()
            || c.idle.is_some()
            || c.burst.is_some()
    }
}

/// Zero is unset in most of `linux.resources`, as it always was in runc.
pub(super) fn set<T: Copy + Default + PartialEq>(value: &Option<T>) -> Option<T> {
    value.filter(|v| *v != T::default())
}

#[cfg(test)]
mod tests;
