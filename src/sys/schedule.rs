//! What the scheduler, the block layer and the memory manager are told about the
//! calling process: `sched_setattr`, `sched_setaffinity`, `ioprio_set`,
//! `set_mempolicy`, `personality`.

use std::io;

use super::check;

/// `struct sched_attr` as of its first version (`sched_setattr(2)`), times in
/// nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub runtime: u64,
    /// Likewise.
    pub deadline: u64,
    /// Likewise.
    pub period: u64,
}

/// `sched_setattr(0)`.
///
/// # Errors
/// `EPERM` for SCHED_DEADLINE where the affinity does not span the root domain;
/// `EINVAL`.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> io::Result<()> {
    let attr = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: attributes.policy,
        sched_flags: attributes.flags,
        sched_nice: attributes.nice,
        sched_priority: attributes.priority,
        sched_runtime: attributes.runtime,
        sched_deadline: attributes.deadline,
        sched_period: attributes.period,
    };
    // SAFETY: `attr` is valid for the call and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// `sched_setaffinity(0)` with a mask of any length.
///
/// # Errors
/// `EINVAL` when the mask holds no processor that the cgroup allows.
pub fn set_affinity(mask: &[libc::c_ulong]) -> io::Result<()> {
    // SAFETY: pointer and length describe the same slice.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })
    .map(drop)
}

/// `sched_getaffinity(0)`: as many words as the kernel uses, lowest first.
///
/// # Errors
/// `EINVAL` with more than 65 536 processors.
pub fn affinity() -> io::Result<Vec<libc::c_ulong>> {
    let mut mask: Vec<libc::c_ulong> = vec![0; 65_536 / libc::c_ulong::BITS as usize];
    // SAFETY: the kernel writes at most the given length.
    let bytes = check(unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(mask.as_slice()),
            mask.as_mut_ptr(),
        )
    })?;
    mask.truncate(usize::try_from(bytes).unwrap_or(0) / size_of::<libc::c_ulong>());
    Ok(mask)
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0)` with class and level in one number.
///
/// # Errors
/// `EPERM` for the real-time class without CAP_SYS_ADMIN; `EINVAL`.
pub fn set_io_priority(value: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// `set_mempolicy(2)`; an empty mask is no mask.
///
/// # Errors
/// `EINVAL` for nodes that do not exist or flags that exclude each other.
pub fn set_memory_policy(mode: i32, nodes: &[libc::c_ulong]) -> io::Result<()> {
    let (pointer, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // The kernel takes one bit less than it is told.
        (
            nodes.as_ptr(),
            nodes.len() * libc::c_ulong::BITS as usize + 1,
        )
    };
    // SAFETY: the kernel reads as many bits as the slice has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
}

/// `personality(2)`.
///
/// # Errors
/// `EINVAL` where the kernel does not know the domain.
pub fn set_personality(domain: libc::c_ulong) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::personality(domain) }.into()).map(drop)
}
