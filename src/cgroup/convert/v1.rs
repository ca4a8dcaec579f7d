//! Version 1 control files.

use super::{Conversion, Write, pids_max, rdma};
use crate::cgroup::resources::{BlockIo, Cpu, Memory, ResourceError, Resources, set};

/// What must be known of the cgroup before the order of writes is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// `memory.limit_in_bytes` as it is, where it is needed.
    pub memory_limit: Option<u64>,
    /// Swap is accounted for (`memory.memsw.limit_in_bytes` exists).
    pub swap: bool,
    /// The block weights are BFQ's (`blkio.weight` does not exist).
    pub bfq: bool,
}

/// The writes for all version 1 controllers but `devices` and `freezer`.
///
/// # Errors
/// `unified` is asked for, or the swappiness is out of range.
pub fn convert(resources: &Resources, facts: &Facts) -> Result<Conversion, ResourceError> {
    if !resources.unified.is_empty() {
        return Err(ResourceError::UnifiedOnV1);
    }
    let mut writes = cpuset(&resources.cpu);
    writes.extend(memory(&resources.memory, facts)?);
    writes.extend(cpu(&resources.cpu));
    if let Some(limit) = resources.pids {
        writes.push(Write::new("pids", "pids.max", pids_max(limit)));
    }
    writes.extend(block_io(&resources.block_io, facts));
    for page in &resources.hugepages {
        let file = |kind: &str| format!("hugetlb.{}{kind}.limit_in_bytes", page.page_size);
        writes.push(Write::new("hugetlb", file(""), page.limit));
        writes.push(Write::new("hugetlb", file(".rsvd"), page.limit).optional());
    }
    if let Some(class) = set(&resources.class_id) {
        writes.push(Write::new("net_cls", "net_cls.classid", class));
    }
    for interface in &resources.priorities {
        let value = format!("{} {}", interface.name, interface.priority);
        writes.push(Write::new("net_prio", "net_prio.ifpriomap", value));
    }
    writes.extend(resources.rdma.iter().map(rdma));
    Ok(Conversion {
        writes,
        dropped: Vec::new(),
    })
}

/// The processors and memory nodes that were asked for.
#[must_use]
pub fn cpuset(cpu: &Cpu) -> Vec<Write> {
    [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(file, value)| Write::new("cpuset", file, value))
        .collect()
}

/// Whether [`Facts::memory_limit`] matters.
#[must_use]
pub fn needs_memory_limit(memory: &Memory) -> bool {
    set(&memory.limit).is_some()
}

fn memory(memory: &Memory, facts: &Facts) -> Result<Vec<Write>, ResourceError> {
    let limit = set(&memory.limit);
    let mut swap = set(&memory.swap);
    if limit == Some(-1) && swap.is_none() && facts.swap {
        swap = Some(-1);
    }
    let write = |file, value: Option<i64>| value.map(|v| Write::new("memory", file, v));
    let limit_write = write("memory.limit_in_bytes", limit);
    let swap_write = write("memory.memsw.limit_in_bytes", swap);
    // The kernel keeps memory <= memory+swap at every moment: the one that grows
    // past the other's old value goes last.
    let swap_first = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => {
            // A negative one is huge, as the kernel would read it.
            let current = facts.memory_limit.unwrap_or(u64::MAX);
            u64::try_from(swap).map_or(true, |swap| current < swap)
        }
        _ => false,
    };
    let mut writes: Vec<Write> = if swap_first {
        swap_write.into_iter().chain(limit_write).collect()
    } else {
        limit_write.into_iter().chain(swap_write).collect()
    };
    writes.extend(write(
        "memory.soft_limit_in_bytes",
        set(&memory.reservation),
    ));
    if memory.disable_oom_killer == Some(true) {
        writes.push(Write::new("memory", "memory.oom_control", "1"));
    }
    match memory.swappiness {
        // -1 once meant "unset".
        None | Some(u64::MAX) => {}
        Some(value @ 0..=100) => writes.push(Write::new("memory", "memory.swappiness", value)),
        Some(value) => {
            return Err(ResourceError::Value(format!(
                "invalid memory swappiness value: {value} (valid range is 0-100)"
            )));
        }
    }
    Ok(writes)
}

fn cpu(cpu: &Cpu) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = set(&cpu.shares) {
        writes.push(Write::new("cpu", "cpu.shares", shares).read_back());
    }
    let quota = set(&cpu.quota);
    // The old quota may be too much for the new period, or the new burst for the
    // old quota.
    let after_quota = quota.map(|_| "cpu.cfs_quota_us");
    if let Some(period) = set(&cpu.period) {
        writes.push(Write::new("cpu", "cpu.cfs_period_us", period).retry_after(after_quota));
    }
    if let Some(burst) = cpu.burst {
        let write = Write::new("cpu", "cpu.cfs_burst_us", burst).optional();
        writes.push(write.retry_after(after_quota));
    }
    if let Some(quota) = quota {
        writes.push(Write::new("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(idle) = cpu.idle {
        writes.push(Write::new("cpu", "cpu.idle", idle));
    }
    let runtime = set(&cpu.realtime_runtime);
    let after_runtime = runtime.map(|_| "cpu.rt_runtime_us");
    if let Some(period) = set(&cpu.realtime_period) {
        writes.push(Write::new("cpu", "cpu.rt_period_us", period).retry_after(after_runtime));
    }
    if let Some(runtime) = runtime {
        writes.push(Write::new("cpu", "cpu.rt_runtime_us", runtime));
    }
    writes
}

fn block_io(io: &BlockIo, facts: &Facts) -> Vec<Write> {
    let (weight_file, device_file) = if facts.bfq {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    } else {
        ("blkio.weight", "blkio.weight_device")
    };
    let mut writes = Vec::new();
    if let Some(weight) = set(&io.weight) {
        writes.push(Write::new("blkio", weight_file, weight));
    }
    if let Some(weight) = set(&io.leaf_weight) {
        writes.push(Write::new("blkio", "blkio.leaf_weight", weight));
    }
    for device in &io.weight_device {
        for (file, weight) in [
            (device_file, device.weight),
            ("blkio.leaf_weight_device", device.leaf_weight),
        ] {
            if weight != 0 {
                let value = format!("{}:{} {weight}", device.major, device.minor);
                writes.push(Write::new("blkio", file, value));
            }
        }
    }
    for (file, devices) in [
        ("blkio.throttle.read_bps_device", &io.read_bps),
        ("blkio.throttle.write_bps_device", &io.write_bps),
        ("blkio.throttle.read_iops_device", &io.read_iops),
        ("blkio.throttle.write_iops_device", &io.write_iops),
    ] {
        for device in devices {
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            writes.push(Write::new("blkio", file, value));
        }
    }
    writes
}
