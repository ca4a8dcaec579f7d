//! Version 1: each controller's files in its own directory.

use std::path::Path;

use super::{Blkio, BlkioEntry, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats};
use super::{Throttling, hugepage_sizes, parse};
use crate::cgroup::error::{CgroupError, Result};
use crate::cgroup::file;
use crate::cgroup::handle::Cgroup;

/// Nanoseconds in a tick of `cpuacct.stat`: the kernel tells user space of
/// 100 ticks a second, whatever its own rate.
const TICK: u64 = 10_000_000;

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats> {
    let mut stats = Stats::default();
    let present = |controller| cgroup.directory(controller).filter(|d| d.is_dir());
    if let Some(directory) = present("cpuset") {
        stats.cpuset = cpuset(directory)?;
    }
    if let Some(directory) = present("memory") {
        stats.memory = memory(directory)?;
    }
    if let Some(directory) = present("cpu") {
        stats.cpu.throttling = throttling(directory)?;
    }
    if let Some(directory) = present("cpuacct") {
        stats.cpu.usage = cpu(directory)?;
    }
    if let Some(directory) = present("pids") {
        let limit = file::read_number(&directory.join("pids.max"))?;
        stats.pids = Pids {
            current: file::read_number(&directory.join("pids.current"))?,
            limit: if limit == u64::MAX { 0 } else { limit },
        };
    }
    if let Some(directory) = present("blkio") {
        stats.blkio = blkio(directory)?;
    }
    if let Some(directory) = present("hugetlb") {
        for size in hugepage_sizes() {
            let entry = hugetlb(directory, &size)?;
            stats.hugetlb.insert(size, entry);
        }
    }
    Ok(stats)
}

fn bad(path: &Path) -> impl FnOnce(String) -> CgroupError {
    let path = path.to_path_buf();
    move |reason| CgroupError::Parse { path, reason }
}

/// An absent file counts as zero: not every kernel has every knob.
fn number_or_zero(path: &Path) -> Result<u64> {
    match file::read_number(path) {
        Err(e) if e.is_absent() => Ok(0),
        result => result,
    }
}

fn cpuset(directory: &Path) -> Result<Cpuset> {
    let number = |name: &str| number_or_zero(&directory.join(name));
    let list = |name: &str| {
        let path = directory.join(name);
        match file::read_optional(&path)? {
            Some(text) => parse::list(text.trim()).map_err(bad(&path)),
            None => Ok(Vec::new()),
        }
    };
    let level = directory.join("cpuset.sched_relax_domain_level");
    let level_text = file::read_optional(&level)?.unwrap_or_else(|| "0".to_owned());
    Ok(Cpuset {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: number("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: number("cpuset.mem_hardwall")?,
        mem_exclusive: number("cpuset.mem_exclusive")?,
        memory_migrate: number("cpuset.memory_migrate")?,
        memory_spread_page: number("cpuset.memory_spread_page")?,
        memory_spread_slab: number("cpuset.memory_spread_slab")?,
        memory_pressure: number("cpuset.memory_pressure")?,
        sched_load_balance: number("cpuset.sched_load_balance")?,
        // The only one that may be negative, and usually is.
        sched_relax_domain_level: level_text
            .trim()
            .parse()
            .map_err(|_| bad(&level)(format!("{level_text:?} is not a number")))?,
    })
}

fn memory(directory: &Path) -> Result<Memory> {
    let path = directory.join("memory.stat");
    let raw = parse::flat(&file::read(&path)?).map_err(bad(&path))?;
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: memory_entry(directory, "memory")?,
        swap: memory_entry(directory, "memory.memsw")?,
        kernel: memory_entry(directory, "memory.kmem")?,
        kernel_tcp: memory_entry(directory, "memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

/// Swap and kernel memory may not be accounted for, or have no limit any more.
fn memory_entry(directory: &Path, prefix: &str) -> Result<MemoryEntry> {
    let number = |name: &str| number_or_zero(&directory.join(format!("{prefix}.{name}")));
    Ok(MemoryEntry {
        limit: number("limit_in_bytes")?,
        usage: number("usage_in_bytes")?,
        max: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
    })
}

fn throttling(directory: &Path) -> Result<Throttling> {
    let path = directory.join("cpu.stat");
    let text = file::read_optional(&path)?.unwrap_or_default();
    let all = parse::flat(&text).map_err(bad(&path))?;
    let value = |key: &str| all.get(key).copied().unwrap_or(0);
    Ok(Throttling {
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_time: value("throttled_time"),
    })
}

fn cpu(directory: &Path) -> Result<CpuUsage> {
    let path = directory.join("cpuacct.stat");
    let ticks = parse::flat(&file::read(&path)?).map_err(bad(&path))?;
    let time = |key: &str| ticks.get(key).copied().unwrap_or(0).saturating_mul(TICK);
    let path = directory.join("cpuacct.usage_percpu");
    let numbers = file::read(&path)?;
    let percpu = numbers
        .split_whitespace()
        .map(file::parse_number)
        .collect::<std::result::Result<_, _>>()
        .map_err(bad(&path))?;
    let mut usage = CpuUsage {
        total: file::read_number(&directory.join("cpuacct.usage"))?,
        percpu,
        kernel: time("system"),
        user: time("user"),
        ..CpuUsage::default()
    };
    let path = directory.join("cpuacct.usage_all");
    if let Some(text) = file::read_optional(&path)? {
        // `cpu user system`, then a line for each processor.
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1).map(file::parse_number);
            if let (Some(user), Some(kernel)) = (words.next(), words.next()) {
                usage.percpu_user.push(user.map_err(bad(&path))?);
                usage.percpu_kernel.push(kernel.map_err(bad(&path))?);
            }
        }
    }
    Ok(usage)
}

/// Where to put a file's numbers.
type Target = fn(&mut Blkio) -> &mut Vec<BlkioEntry>;

/// Block statistics are in the files of whichever scheduler keeps them. A set
/// counts if its first file has anything to say; the first set that does wins.
const SETS: [(&str, &[(&str, Target)]); 5] = [
    ("blkio.bfq.", &DETAILED),
    ("blkio.bfq.", &BRIEF_RECURSIVE),
    ("blkio.", &DETAILED),
    ("blkio.throttle.", &BRIEF_RECURSIVE),
    ("blkio.throttle.", &BRIEF),
];
const DETAILED: [(&str, Target); 8] = [
    ("sectors_recursive", |b| &mut b.sectors_recursive),
    ("io_service_time_recursive", |b| {
        &mut b.io_service_time_recursive
    }),
    ("io_wait_time_recursive", |b| &mut b.io_wait_time_recursive),
    ("io_merged_recursive", |b| &mut b.io_merged_recursive),
    ("io_queued_recursive", |b| &mut b.io_queued_recursive),
    ("time_recursive", |b| &mut b.io_time_recursive),
    ("io_serviced_recursive", |b| &mut b.io_serviced_recursive),
    ("io_service_bytes_recursive", |b| {
        &mut b.io_service_bytes_recursive
    }),
];
const BRIEF_RECURSIVE: [(&str, Target); 2] = [
    ("io_serviced_recursive", |b| &mut b.io_serviced_recursive),
    ("io_service_bytes_recursive", |b| {
        &mut b.io_service_bytes_recursive
    }),
];
const BRIEF: [(&str, Target); 2] = [
    ("io_serviced", |b| &mut b.io_serviced_recursive),
    ("io_service_bytes", |b| &mut b.io_service_bytes_recursive),
];

fn blkio(directory: &Path) -> Result<Blkio> {
    let entries = |prefix: &str, name: &str| {
        let path = directory.join(format!("{prefix}{name}"));
        match file::read_optional(&path)? {
            Some(text) => parse::blkio(&text).map_err(bad(&path)),
            None => Ok(Vec::new()),
        }
    };
    for (prefix, files) in SETS {
        let mut blkio = Blkio::default();
        for (index, (name, target)) in files.iter().enumerate() {
            let found = entries(prefix, name)?;
            if found.is_empty() && index == 0 {
                break;
            }
            *target(&mut blkio) = found;
        }
        if blkio != Blkio::default() {
            return Ok(blkio);
        }
    }
    Ok(Blkio::default())
}

/// Reservations where the kernel counts them, else pages.
fn hugetlb(directory: &Path, size: &str) -> Result<Hugetlb> {
    let reserved = format!("hugetlb.{size}.rsvd");
    let prefix = if directory
        .join(format!("{reserved}.usage_in_bytes"))
        .exists()
    {
        reserved
    } else {
        format!("hugetlb.{size}")
    };
    let number = |name: &str| file::read_number(&directory.join(format!("{prefix}.{name}")));
    Ok(Hugetlb {
        usage: number("usage_in_bytes")?,
        max: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
    })
}
