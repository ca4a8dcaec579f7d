//! The one place with `unsafe`: thin, typed wrappers of system calls that neither
//! the standard library nor `nix` offers in the form needed here.
//!
//! Each wrapper does one call, takes and returns owned or borrowed descriptors,
//! and adds no policy. Errors are [`std::io::Error`] with the kernel's errno; the
//! caller knows the object and words the message. `entry` alone is none: it is what
//! runs before there is a program to wrap anything for.
#![allow(unsafe_code)]

pub mod bpf;
#[cfg(kusabi_entry)]
mod entry;
pub mod fsmount;
pub mod process;
pub mod schedule;
pub mod signal;
pub mod tty;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Turns a C-style result into an [`io::Result`].
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Turns a system call that returns a new descriptor into an [`OwnedFd`].
fn check_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw =
        RawFd::try_from(check(result)?).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just returned this descriptor, so it is open and
    // nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Takes ownership of a descriptor that a library or the caller of the process
/// left open under a known number.
///
/// # Errors
/// `EBADF` when the number is not an open descriptor.
pub fn adopt_fd(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only inspects the descriptor table.
    check(unsafe { libc::fcntl(raw, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, as just checked; callers hand over numbers that no
    // other value in this process owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// `fcntl(F_SETFD)`: whether the descriptor is closed by `execve`.
///
/// # Errors
/// `EBADF` when the number is not an open descriptor.
pub fn set_cloexec(fd: RawFd, cloexec: bool) -> io::Result<()> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD changes only this descriptor's flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) }.into()).map(drop)
}

/// `close_range(first, ~0, CLOSE_RANGE_CLOEXEC)`.
///
/// # Errors
/// The kernel's, on Linux before 5.11.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: marks descriptors; closes none.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// `close_range(first, last)`: closes for good.
///
/// Only for a process that is about to become another program: values that own
/// one of these descriptors must never be used or dropped again.
///
/// # Errors
/// The kernel's, on Linux before 5.9.
pub fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: by the contract above nobody uses these numbers any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC)`.
///
/// # Errors
/// The kernel's.
pub fn memfd_exec(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a valid C string for the length of the call.
    let first =
        check_fd(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), base | MFD_EXEC) });
    match first {
        // MFD_EXEC is newer (6.3) than memfd_create; before it, memfds are executable.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: as above.
            check_fd(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), base) })
        }
        other => other,
    }
}

/// Seals a memfd against every later change.
///
/// # Errors
/// The kernel's.
pub fn seal_memfd(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: changes only the seals of this memfd.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Removes a variable from this process's environment.
///
/// May only be called while the process has a single thread; kusabi never has
/// more until a container's process is off.
pub fn remove_env(name: &str) {
    // SAFETY: single-threaded by the contract above, so nobody reads the
    // environment concurrently.
    unsafe { std::env::remove_var(name) }
}

/// Standard input, output or error as a descriptor that may be polled.
///
/// Numbers above 2 are taken as 2.
#[must_use]
pub fn standard_fd(number: u8) -> BorrowedFd<'static> {
    // SAFETY: this process never closes its standard descriptors, which are opened
    // at its start where the caller has not.
    unsafe { BorrowedFd::borrow_raw(RawFd::from(number.min(2))) }
}
