//! Version 2 control files, and the version 1 scales that the specification
//! still uses.

use super::{Conversion, Write, pids_max, rdma};
use crate::cgroup::resources::{BlockIo, Cpu, Memory, ResourceError, Resources, set};

/// Which file takes block device weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IoWeight {
    /// `io.weight`, on a scale of its own.
    #[default]
    Weight,
    /// `io.bfq.weight`, on version 1's scale.
    Bfq {
        /// Single devices may have one (Linux 5.4).
        per_device: bool,
    },
}

/// What must be known of the cgroup before values can be converted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// `memory.current`, where `checkBeforeUpdate` asks for it and it is known.
    pub memory_usage: Option<u64>,
    /// Who schedules block devices.
    pub io_weight: IoWeight,
}

/// The writes for version 2.
///
/// # Errors
/// Memory and swap contradict each other or the present use, or a `unified` key
/// is not the name of a control file.
pub fn convert(resources: &Resources, facts: &Facts) -> Result<Conversion, ResourceError> {
    let mut all = Conversion::default();
    if let Some(limit) = resources.pids {
        all.writes
            .push(Write::new("pids", "pids.max", pids_max(limit)));
    }
    memory(&resources.memory, facts, &mut all)?;
    io(&resources.block_io, facts.io_weight, &mut all);
    cpu(&resources.cpu, &mut all);
    for (file, value) in [
        ("cpuset.cpus", &resources.cpu.cpus),
        ("cpuset.mems", &resources.cpu.mems),
    ] {
        if !value.is_empty() {
            all.writes.push(Write::new("cpuset", file, value));
        }
    }
    for page in &resources.hugepages {
        let file = |kind: &str| format!("hugetlb.{}{kind}.max", page.page_size);
        all.writes.push(Write::new("hugetlb", file(""), page.limit));
        all.writes
            .push(Write::new("hugetlb", file(".rsvd"), page.limit).optional());
    }
    all.writes.extend(resources.rdma.iter().map(rdma));
    for (present, field) in [
        (set(&resources.class_id).is_some(), "network.classID"),
        (!resources.priorities.is_empty(), "network.priorities"),
    ] {
        if present {
            all.dropped.push((field, "exists in cgroup v1 only"));
        }
    }
    for (file, content) in &resources.unified {
        if file.contains('/') || file.is_empty() || file == "." || file == ".." {
            return Err(ResourceError::Value(format!(
                "unified resource {file:?} must be a file name (no slashes)"
            )));
        }
        // One line is one setting: the kernel reads no further.
        let lines = content.split_inclusive('\n');
        let empty = content.is_empty().then_some("");
        for line in lines.chain(empty) {
            let mut write = Write::new("unified", file.clone(), line);
            write.rule.unified = true;
            all.writes.push(write);
        }
    }
    Ok(all)
}

fn memory(memory: &Memory, facts: &Facts, all: &mut Conversion) -> Result<(), ResourceError> {
    let limit = set(&memory.limit).unwrap_or(0);
    let swap = set(&memory.swap).unwrap_or(0);
    if let (Some(usage), Some(true)) = (facts.memory_usage, memory.check_before_update) {
        for (what, value) in [("memory+swap", swap), ("memory", limit)] {
            if u64::try_from(value).is_ok_and(|v| v != 0 && v <= usage) {
                return Err(ResourceError::Value(format!(
                    "rejecting {what} limit {value} <= usage {usage}"
                )));
            }
        }
    }
    if let Some(value) = swap_max(swap, limit)? {
        let write = Write::new("memory", "memory.swap.max", value);
        // Without swap accounting there is no swap to limit or allow.
        all.writes.push(match write.value.as_str() {
            "max" | "0" => write.optional(),
            _ => write,
        });
    }
    for (file, value) in [
        ("memory.max", set(&memory.limit)),
        ("memory.low", set(&memory.reservation)),
    ] {
        if let Some(value) = value {
            all.writes.push(Write::new("memory", file, max_or(value)));
        }
    }
    if memory.disable_oom_killer == Some(true) {
        all.dropped
            .push(("memory.disableOOMKiller", "exists in cgroup v1 only"));
    }
    if memory.swappiness.is_some_and(|v| v != u64::MAX) {
        all.dropped
            .push(("memory.swappiness", "exists in cgroup v1 only"));
    }
    Ok(())
}

/// `memory.swap.max` from the specification's memory plus swap.
///
/// # Errors
/// In runc's words, where the difference makes no sense.
pub fn swap_max(swap: i64, memory: i64) -> Result<Option<String>, ResourceError> {
    let refuse = |text: String| Err(ResourceError::Value(text));
    match (swap, memory) {
        (0, -1) => Ok(Some(max_or(-1))),
        (0, _) => Ok(None),
        (-1, _) | (_, -1) => Ok(Some(max_or(swap))),
        (_, 0) => refuse("unable to set swap limit without memory limit".to_owned()),
        (_, ..0) => refuse(format!("invalid memory value: {memory}")),
        _ if swap < memory => refuse("memory+swap limit should be >= memory limit".to_owned()),
        _ => Ok(Some((swap - memory).to_string())),
    }
}

fn max_or(value: i64) -> String {
    match value {
        -1 => "max".to_owned(),
        _ => value.to_string(),
    }
}

fn io(io: &BlockIo, file: IoWeight, all: &mut Conversion) {
    let (name, convert): (_, fn(u16) -> u64) = match file {
        IoWeight::Weight => ("io.weight", io_weight),
        IoWeight::Bfq { .. } => ("io.bfq.weight", u64::from),
    };
    if let Some(weight) = set(&io.weight) {
        all.writes.push(Write::new("io", name, convert(weight)));
    }
    for device in io.weight_device.iter().filter(|d| d.weight != 0) {
        if file == (IoWeight::Bfq { per_device: false }) {
            let why = "this kernel's BFQ has no weights for single devices";
            all.dropped.push(("blockIO.weightDevice", why));
            break;
        }
        let weight = convert(device.weight);
        let value = format!("{}:{} {weight}\n", device.major, device.minor);
        all.writes.push(Write::new("io", name, value));
    }
    if set(&io.leaf_weight).is_some() || io.weight_device.iter().any(|d| d.leaf_weight != 0) {
        all.dropped
            .push(("blockIO.leafWeight", "exists in cgroup v1 only"));
    }
    for (key, devices) in [
        ("rbps", &io.read_bps),
        ("wbps", &io.write_bps),
        ("riops", &io.read_iops),
        ("wiops", &io.write_iops),
    ] {
        for device in devices {
            let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            all.writes.push(Write::new("io", "io.max", value));
        }
    }
}

/// `io.weight` (1 to 10000) from version 1's weight (10 to 1000), linearly. Zero
/// stays zero; below 10 is 1, since the kernel has nothing lower.
#[must_use]
pub fn io_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        _ => 1 + u64::from(weight).saturating_sub(10) * 9999 / 990,
    }
}

fn cpu(cpu: &Cpu, all: &mut Conversion) {
    if let Some(idle) = cpu.idle {
        all.writes.push(Write::new("cpu", "cpu.idle", idle));
    }
    if let Some(shares) = set(&cpu.shares) {
        all.writes
            .push(Write::new("cpu", "cpu.weight", cpu_weight(shares)));
    }
    let quota = set(&cpu.quota);
    let period = set(&cpu.period);
    if let Some(burst) = cpu.burst {
        // A larger burst may only fit the quota that comes next.
        let after = quota.map(|_| "cpu.max");
        all.writes
            .push(Write::new("cpu", "cpu.max.burst", burst).retry_after(after));
    }
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota @ 1..) => quota.to_string(),
            _ => "max".to_owned(),
        };
        // 100 ms is the kernel's own default.
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        all.writes.push(Write::new("cpu", "cpu.max", value));
    }
    if set(&cpu.realtime_period).is_some() || set(&cpu.realtime_runtime).is_some() {
        all.dropped
            .push(("cpu.realtimeRuntime", "exists in cgroup v1 only"));
    }
}

/// `cpu.weight` (1 to 10000, usually 100) from version 1's shares (2 to 262144,
/// usually 1024), by the curve that meets minimum, default and maximum of both.
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // Exact: the number has 18 bits at most.
            #[expect(clippy::cast_precision_loss, reason = "at most 18 bits")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}
