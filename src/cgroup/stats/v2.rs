//! Version 2: every controller's files in one directory, there only if it is
//! enabled.

use std::path::Path;

use nix::errno::Errno;

use super::{Blkio, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Psi, Stats, Throttling};
use super::{hugepage_sizes, parse};
use crate::cgroup::error::{CgroupError, Result};
use crate::cgroup::{file, procs};

pub(super) fn read(directory: &Path) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(directory)?,
        memory: memory(directory)?,
        pids: pids(directory)?,
        blkio: io(directory)?,
        hugetlb: hugepage_sizes()
            .into_iter()
            .filter_map(|size| Some(hugetlb(directory, &size).transpose()?.map(|h| (size, h))))
            .collect::<Result<_>>()?,
        ..Stats::default()
    })
}

/// The parsed content of a file that may be absent.
fn parsed<T>(
    directory: &Path,
    name: &str,
    parse: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> Result<Option<T>> {
    let path = directory.join(name);
    match file::read_optional(&path)? {
        Some(text) => match parse(&text) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(CgroupError::Parse { path, reason }),
        },
        None => Ok(None),
    }
}

fn number(directory: &Path, name: &str) -> Result<Option<u64>> {
    parsed(directory, name, |text| file::parse_number(text.trim()))
}

/// Pressure may be off: at build, at boot (which reads as "not supported") or
/// for this cgroup.
fn psi(directory: &Path, name: &str) -> Result<Option<Psi>> {
    match parsed(directory, name, parse::psi) {
        Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => Ok(None),
        result => result,
    }
}

/// `cpu.stat` counts without the controller, too.
fn cpu(directory: &Path) -> Result<Cpu> {
    let all = parsed(directory, "cpu.stat", parse::flat)?.unwrap_or_default();
    let value = |key: &str| all.get(key).copied().unwrap_or(0);
    let time = |key: &str| value(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: time("usage_usec"),
            kernel: time("system_usec"),
            user: time("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: time("throttled_usec"),
        },
        psi: psi(directory, "cpu.pressure")?,
    })
}

fn memory(directory: &Path) -> Result<Memory> {
    let mut memory = Memory {
        psi: psi(directory, "memory.pressure")?,
        ..Memory::default()
    };
    let Some(raw) = parsed(directory, "memory.stat", parse::flat)? else {
        return Ok(memory);
    };
    memory.cache = raw.get("file").copied().unwrap_or(0);
    memory.raw = raw;
    memory.usage = memory_entry(directory, "memory")?;
    // As version 1 counts it: memory and swap together. The two peaks need not
    // have been at the same time.
    let swap = memory_entry(directory, "memory.swap")?;
    memory.swap = MemoryEntry {
        limit: swap.limit.saturating_add(memory.usage.limit),
        usage: swap.usage.saturating_add(memory.usage.usage),
        max: 0,
        failcnt: 0,
    };
    Ok(memory)
}

fn memory_entry(directory: &Path, prefix: &str) -> Result<MemoryEntry> {
    let number =
        |name: &str| number(directory, &format!("{prefix}.{name}")).map(Option::unwrap_or_default);
    Ok(MemoryEntry {
        limit: number("max")?,
        usage: number("current")?,
        max: number("peak")?,
        failcnt: 0,
    })
}

fn pids(directory: &Path) -> Result<Pids> {
    let Some(current) = number(directory, "pids.current")? else {
        // Without the controller, processes at least can be counted.
        let processes = procs::of_directory(directory)?.len();
        return Ok(Pids {
            current: u64::try_from(processes).unwrap_or(u64::MAX),
            limit: 0,
        });
    };
    let limit = number(directory, "pids.max")?.unwrap_or(0);
    Ok(Pids {
        current,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

fn io(directory: &Path) -> Result<Blkio> {
    let (bytes, operations) = parsed(directory, "io.stat", parse::io_stat)?.unwrap_or_default();
    Ok(Blkio {
        io_service_bytes_recursive: bytes,
        io_serviced_recursive: operations,
        psi: psi(directory, "io.pressure")?,
        ..Blkio::default()
    })
}

/// Reservations where the kernel counts them, else pages; nothing without the
/// controller.
fn hugetlb(directory: &Path, size: &str) -> Result<Option<Hugetlb>> {
    let mut usage = number(directory, &format!("hugetlb.{size}.rsvd.current"))?;
    if usage.is_none() {
        usage = number(directory, &format!("hugetlb.{size}.current"))?;
    }
    let Some(usage) = usage else {
        return Ok(None);
    };
    let events = parsed(directory, &format!("hugetlb.{size}.events"), parse::flat)?;
    Ok(Some(Hugetlb {
        usage,
        max: 0,
        failcnt: events.and_then(|e| e.get("max").copied()).unwrap_or(0),
    }))
}
