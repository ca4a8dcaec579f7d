//! `bpf(2)` for device programs on cgroups, without libbpf.
//!
//! Only what the device filter needs: load, attach, replace, detach, list and
//! identify. Resource limits are left alone: since Linux 5.11 programs are
//! charged to the memory cgroup, not to `RLIMIT_MEMLOCK`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const CGROUP_DEVICE_PROGRAM: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const CGROUP_DEVICE_ATTACH: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: more programs may be attached here and below; all must allow.
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE`: put the program in the place of another, since Linux 5.6.
const REPLACE: u32 = 1 << 2;
/// Bytes of one instruction.
const INSTRUCTION: usize = 8;
/// `BPF_OBJ_NAME_LEN`, with the terminating zero.
const NAME: usize = 16;

/// Commands of `bpf(2)` (`enum bpf_cmd`).
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    Load = 5,
    Attach = 8,
    Detach = 9,
    FdById = 13,
    InfoByFd = 15,
    Query = 16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct LoadAttr {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct QueryAttr {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct InfoAttr {
    program: u32,
    length: u32,
    info: u64,
}

/// `union bpf_attr`. The kernel writes some fields back without regard to the
/// size it was given (`query.revision` since 6.17 lies behind all that
/// [`QueryAttr`] has), so this is larger than any kernel's.
#[repr(C)]
union Attr {
    load: LoadAttr,
    attach: AttachAttr,
    query: QueryAttr,
    info: InfoAttr,
    id: u32,
    room: [u64; 64],
}

impl Attr {
    fn zeroed() -> Self {
        Self { room: [0; 64] }
    }
}

/// `struct bpf_prog_info`, as far as Linux 4.15 had it.
#[derive(Default)]
#[repr(C)]
struct RawInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; NAME],
}

/// What the kernel says of a loaded program. None of it can be chosen by the
/// loader but the name; none of it changes afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Unique among loaded programs.
    pub id: u32,
    /// Hash of the instructions; the algorithm is the kernel's.
    pub tag: [u8; 8],
    /// When it was loaded, in ns since boot.
    pub load_time: u64,
    /// Whether it is a device program.
    pub is_device: bool,
    /// The name given at load, without zeros.
    pub name: Vec<u8>,
}

/// # Safety
/// Every pointer in `attr` that `command` follows must be valid for what the
/// kernel does with it, for the length given beside it, until this returns.
unsafe fn bpf(command: Command, attr: &mut Attr, size: usize) -> io::Result<i32> {
    // SAFETY: `attr` is a live, writable buffer of more than `size` bytes and
    // larger than the kernel's union; the caller answers for what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as i32, &raw mut *attr, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    // Lossless: no Linux has pointers of more than 64 bits.
    pointer as usize as u64
}

/// Loads a device program of eight-byte instructions. With `log`, the verifier
/// writes there, zero-terminated, why it refuses.
///
/// # Errors
/// `EACCES` or `EINVAL` when the verifier refuses the program, `E2BIG` when it
/// is too long, `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` (`CAP_SYS_ADMIN`).
pub fn load_device_program(
    code: &[u8],
    name: &CStr,
    mut log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    /// The verifier gives up with `EAGAIN` when a signal is pending.
    const ATTEMPTS: u32 = 5;

    let too_long = |_| io::Error::from_raw_os_error(libc::E2BIG);
    let mut short_name = [0; NAME];
    for (to, from) in short_name[..NAME - 1].iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut attr = Attr::zeroed();
        attr.load = LoadAttr {
            kind: CGROUP_DEVICE_PROGRAM,
            instruction_count: u32::try_from(code.len() / INSTRUCTION).map_err(too_long)?,
            instructions: address(code.as_ptr()),
            license: address(LICENSE.as_ptr()),
            log_level: u32::from(log.is_some()),
            log_size: u32::try_from(log.as_ref().map_or(0, |log| log.len())).map_err(too_long)?,
            log: log.as_mut().map_or(0, |log| address(log.as_mut_ptr())),
            kernel_version: 0,
            flags: 0,
            name: short_name,
        };
        // SAFETY: `code`, the license and `log` outlive the call, their lengths
        // are beside them (the license is zero-terminated), and only `log`,
        // which is borrowed mutably, is written to.
        match unsafe { bpf(Command::Load, &mut attr, size_of::<LoadAttr>()) } {
            // SAFETY: the kernel has just given us this descriptor, with
            // close-on-exec; nobody else knows it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Attaches a device program to a cgroup v2 directory beside what is there, or
/// atomically in the place of `replaced`.
///
/// # Errors
/// `EBADF` when `cgroup` is no cgroup v2 directory, `EPERM` when an ancestor's
/// program forbids more below it, `ENOENT` when `replaced` is not attached,
/// `EINVAL` when `replaced` is given and the kernel is older than 5.6.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = Attr::zeroed();
    attr.attach = AttachAttr {
        target: raw(cgroup),
        program: raw(program),
        kind: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replace: replaced.map_or(0, raw),
    };
    // SAFETY: this command follows no pointer.
    unsafe { bpf(Command::Attach, &mut attr, size_of::<AttachAttr>()) }.map(drop)
}

/// Detaches a device program from a cgroup v2 directory.
///
/// # Errors
/// `ENOENT` when it is not attached there.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::zeroed();
    attr.attach = AttachAttr {
        target: raw(cgroup),
        program: raw(program),
        kind: CGROUP_DEVICE_ATTACH,
        flags: 0,
        replace: 0,
    };
    // SAFETY: this command follows no pointer.
    unsafe { bpf(Command::Detach, &mut attr, size_of::<AttachAttr>()) }.map(drop)
}

/// The ids of the device programs attached to this very cgroup v2 directory.
///
/// # Errors
/// `EBADF` when `cgroup` is no cgroup v2 directory, `EPERM` without
/// `CAP_NET_ADMIN`.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // Today's limit is 64 (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0_u32; 64];
    loop {
        let mut attr = Attr::zeroed();
        attr.query = QueryAttr {
            target: raw(cgroup),
            kind: CGROUP_DEVICE_ATTACH,
            query_flags: 0,
            attach_flags: 0,
            ids: address(ids.as_mut_ptr()),
            count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            padding: 0,
        };
        // SAFETY: `ids` has room for `count` ids and is borrowed by nobody else.
        let result = unsafe { bpf(Command::Query, &mut attr, size_of::<QueryAttr>()) };
        // SAFETY: all of the union was initialised as integers, for which any
        // bits are a value.
        let count = usize::try_from(unsafe { attr.query.count }).unwrap_or(usize::MAX);
        match result {
            Ok(_) => {
                ids.truncate(count);
                return Ok(ids);
            }
            // `count` is how many there were.
            Err(error)
                if error.raw_os_error() == Some(libc::ENOSPC)
                    && count > ids.len()
                    && count <= 1 << 16 =>
            {
                ids.resize(count, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A descriptor of the program with this id.
///
/// # Errors
/// `ENOENT` when it is gone, `EPERM` without `CAP_SYS_ADMIN` or when a security
/// module forbids it.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::zeroed();
    attr.id = id;
    // prog_id, next_id, open_flags.
    let size = 3 * size_of::<u32>();
    // SAFETY: this command follows no pointer.
    let fd = unsafe { bpf(Command::FdById, &mut attr, size) }?;
    // SAFETY: the kernel has just given us this descriptor, with close-on-exec;
    // nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel says of a program.
///
/// # Errors
/// `EBADF`, `EINVAL` when the descriptor is not a program's.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = RawInfo::default();
    let mut attr = Attr::zeroed();
    attr.info = InfoAttr {
        program: raw(program),
        length: u32::try_from(size_of::<RawInfo>()).unwrap_or(0),
        info: address(&raw mut info),
    };
    // SAFETY: `info` is a live buffer of `length` bytes, all integers, that the
    // kernel fills; the pointers within it are null, so it follows none.
    unsafe { bpf(Command::InfoByFd, &mut attr, size_of::<InfoAttr>()) }?;
    Ok(ProgramInfo {
        id: info.id,
        tag: info.tag,
        load_time: info.load_time,
        is_device: info.kind == CGROUP_DEVICE_PROGRAM,
        name: info
            .name
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsFd as _;

    use super::*;

    /// Offsets and sizes of Linux 6.18's `include/uapi/linux/bpf.h`.
    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<LoadAttr>(), 64);
        assert_eq!(offset_of!(LoadAttr, log), 32);
        assert_eq!(offset_of!(LoadAttr, name), 48);
        assert_eq!(size_of::<AttachAttr>(), 20);
        assert_eq!(offset_of!(QueryAttr, ids), 16);
        assert_eq!(offset_of!(QueryAttr, count), 24);
        assert_eq!(offset_of!(InfoAttr, info), 8);
        assert_eq!(size_of::<RawInfo>(), 80);
        assert_eq!(offset_of!(RawInfo, load_time), 40);
        assert_eq!(offset_of!(RawInfo, name), 64);
        assert!(size_of::<Attr>() > 256);
    }

    /// The kernel's own checks answer without any privilege.
    #[test]
    fn errors_are_the_kernels() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let code = |result: io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
        let refused = [libc::EBADF, libc::EINVAL, libc::EPERM];
        assert!(refused.contains(&code(program_info(file.as_fd()).map(drop))));
        assert!(refused.contains(&code(device_programs(file.as_fd()).map(drop))));
        assert!(refused.contains(&code(attach_device_program(
            file.as_fd(),
            file.as_fd(),
            None
        ))));
        let nothing = load_device_program(&[], c"empty", None).map(drop);
        assert!([libc::E2BIG, libc::EPERM, libc::EINVAL].contains(&code(nothing)));
    }
}
