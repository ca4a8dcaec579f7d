//! Processes: clone3, pidfd, namespaces, credentials, `execve`, seccomp.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{check, check_fd};

/// Makes the function the program, whose result is its exit code: it is entered from
/// the C library, for a crate that is `no_main`. [`begin`] has been called. Only with
/// glibc, which hands [`std::env::args_os`] the words as well.
///
/// The standard library's own start, which is left out, has a handler that tells of
/// a stack that overflowed, at the price of reading `/proc/self/maps` every time.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        /// Called once, by the C library.
        #[unsafe(no_mangle)]
        extern "C" fn main(
            _count: std::ffi::c_int,
            _words: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            $crate::sys::process::begin();
            u8::into($run())
        }
    };
}

/// What a program needs before its first line, and the standard library would do:
/// something is open at 0, 1 and 2, so that nothing else is taken for it, and a
/// reader that went away is an error of the write and no signal.
pub fn begin() {
    // SAFETY: asks for a flag of a descriptor, opens a path as the lowest number that
    // is free, and sets a signal without a handler to call.
    unsafe {
        for fd in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            if libc::fcntl(fd, libc::F_GETFD) < 0
                && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != fd
            {
                libc::abort();
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    // A command's life is short: it takes memory in few steps and gives none back.
    #[cfg(target_env = "gnu")]
    // SAFETY: changes what the allocator does from now on, by a thread that is alone.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 512 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

/// What [`clone3`] returned, and to whom.
#[derive(Debug)]
pub enum Cloned {
    /// This is the parent.
    Parent {
        /// The child, as this process's pid namespace numbers it.
        pid: i32,
        /// A descriptor that refers to the child and is never recycled.
        pidfd: OwnedFd,
    },
    /// This is the child.
    Child,
}

/// `clone3(2)` without a shared address space: fork, with namespaces and cgroup.
///
/// `flags` are `CLONE_NEW*`; `CLONE_PIDFD` is added, and `CLONE_INTO_CGROUP`
/// where `cgroup` (a cgroup v2 directory) is given. The child is reported to the
/// parent with SIGCHLD unless `sibling` makes it a child of our own parent.
///
/// The caller must be single-threaded: the child goes on running Rust, and locks
/// held by other threads would stay locked in it.
///
/// # Errors
/// The kernel's.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>, sibling: bool) -> io::Result<Cloned> {
    // libc has no CLONE_INTO_CGROUP that fits in a c_int; linux/sched.h has it.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    if sibling {
        args.flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
    } else {
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` outlives the call; no stack is given and CLONE_VM is not
    // set, so the child runs on a copy of this address space, as after fork.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    })?;
    if result == 0 {
        return Ok(Cloned::Child);
    }
    let pid = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: CLONE_PIDFD stored a descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// `pidfd_open(2)`.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// `pidfd_send_signal(2)`; takes real-time signals, which `nix` cannot name.
///
/// # Errors
/// `ESRCH` when the process is gone.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means SI_USER.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// `kill(2)` with a number, for processes known only by pid within a cgroup.
///
/// # Errors
/// `ESRCH` when the process is gone.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// `setns(2)` on a namespace file or, with several flags, on a pidfd.
///
/// # Errors
/// The kernel's.
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }.into()).map(drop)
}

/// `ioctl(NS_GET_NSTYPE)`: which kind of namespace a file of nsfs is, as
/// `CLONE_NEW*`.
///
/// # Errors
/// `ENOTTY` for other files.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // _IO(0xb7, 3) of linux/nsfs.h; its type is not the same in every C library.
    const NS_GET_NSTYPE: u16 = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE.into()) }.into())?;
    i32::try_from(kind).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// `setdomainname(2)`.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN over the UTS namespace; `EINVAL` when too long.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe the same text.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// `unshare(2)`.
///
/// # Errors
/// The kernel's.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// `prctl(option, value)` for options that take one integer.
///
/// # Errors
/// The kernel's.
pub fn prctl(option: i32, value: u64) -> io::Result<i32> {
    // SAFETY: the callers' options (dumpable, keepcaps, no_new_privs, subreaper,
    // pdeathsig) take integers only.
    let result = check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into())?;
    i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// Ends the process without running destructors or `atexit` handlers, which
/// belong to the process this one was cloned from.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always sound.
    unsafe { libc::_exit(code) }
}

/// Sets all three user ids with the raw system call (no NSS, no thread sync).
///
/// # Errors
/// `EINVAL` for an id the user namespace does not map, `EPERM`.
pub fn setresuid(uid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Sets all three group ids.
///
/// # Errors
/// `EINVAL` for an id the user namespace does not map, `EPERM`.
pub fn setresgid(gid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// `setgroups(2)`.
///
/// # Errors
/// `EPERM` where the user namespace denies it.
pub fn setgroups(gids: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe the same slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) }).map(drop)
}

/// `execve(2)`; returns only on failure.
#[must_use]
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: both arrays are null-terminated and point to strings that live
    // across the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// `execveat(fd, "", AT_EMPTY_PATH)`; returns only on failure.
#[must_use]
pub fn fexecve(fd: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: as in `execve`; the empty path is a static C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Puts signal handling back to what a new program expects: SIGPIPE, which
/// [`begin`] ignores, to its default, and nothing blocked.
///
/// # Errors
/// The kernel's; none is expected.
pub fn reset_signals() -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an all-zero sigset is initialised by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()).into())
    }
    .map(drop)
}

/// Sets a resource limit of another process.
///
/// # Errors
/// `EPERM` to raise a hard limit without CAP_SYS_RESOURCE.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is valid for the call; the old limit is not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
    .map(drop)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)` with a compiled classic BPF program of
/// eight-byte instructions. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` in `flags`
/// the listener is returned.
///
/// # Errors
/// `EINVAL` for a program of no whole number of instructions or one the kernel
/// refuses, `EACCES` without CAP_SYS_ADMIN or no_new_privs.
pub fn seccomp_filter(program: &[u8], flags: u32) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if !program.len().is_multiple_of(8) {
        return Err(invalid());
    }
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let fprog = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| invalid())?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points to `len` instructions that live across the call; the
    // kernel copies and does not write them.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    })?;
    if u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    check_fd(result).map(Some)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, name)`, then adds to who may do what with
/// it (`keyctl_setperm(3)`); zero leaves that alone.
///
/// # Errors
/// The kernel's; `ENOSYS` where keyrings are not built in.
pub fn join_session_keyring(name: &CStr, extra_permissions: u32) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    const KEYCTL_SETPERM: libc::c_int = 5;
    const KEYCTL_DESCRIBE: libc::c_int = 6;
    // SAFETY: `name` is a valid C string.
    let key = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    })?;
    if extra_permissions == 0 {
        return Ok(());
    }
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most the given length.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            key,
            text.as_mut_ptr(),
            text.len(),
        )
    })?;
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let described = String::from_utf8_lossy(&text[..length]);
    let permissions = described
        .split(';')
        .nth(3)
        .and_then(|p| u32::from_str_radix(p, 16).ok())
        .ok_or_else(|| io::Error::other("unreadable keyring description"))?;
    // SAFETY: no pointers.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SETPERM,
            key,
            permissions | extra_permissions,
        )
    })
    .map(drop)
}

/// Sends `message` and at most one descriptor over a connected Unix socket.
///
/// # Errors
/// The kernel's; `EPIPE` when the other side is gone.
pub fn send_fd(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    let iov = [io::IoSlice::new(message)];
    let raw = fd.map(|f| [f.as_raw_fd()]);
    let control: Vec<ControlMessage<'_>> = raw
        .as_ref()
        .map(|f| ControlMessage::ScmRights(f))
        .into_iter()
        .collect();
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &iov,
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message of at most `limit` bytes and a descriptor that may come
/// with it. An empty message means that the other side has closed.
///
/// # Errors
/// The kernel's.
pub fn recv_fd(socket: BorrowedFd<'_>, limit: usize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
    let mut buffer = vec![0; limit];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut was_reset = false;
    let (length, raw) = loop {
        let mut iov = [io::IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        match received {
            Err(nix::errno::Errno::EINTR) => {}
            // Said once where the other side has closed without reading all;
            // what it sent before that can still be read.
            Err(nix::errno::Errno::ECONNRESET) if !was_reset => was_reset = true,
            Err(e) => return Err(e.into()),
            Ok(message) => {
                let raw = message.cmsgs()?.find_map(|c| match c {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                break (message.bytes, raw);
            }
        }
    };
    buffer.truncate(length);
    // SAFETY: SCM_RIGHTS has just installed this descriptor for us alone.
    Ok((buffer, raw.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })))
}
