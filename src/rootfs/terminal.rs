//! The terminal at `/dev/console`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::lookup::{self, Links};
use super::mountpoint::metadata;
use super::stage::open_path;
use crate::sys::fsmount;

/// Mounts a terminal of the container's on `/dev/console`, for a process inside
/// its root. Whoever else changes that root can keep it from being done, and no
/// more: no link is followed on the way (CVE-2025-52565).
///
/// # Errors
/// The kernel's.
pub fn show_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let root = open_path(Path::new("/"))?;
    let dev = lookup::find(root.as_fd(), Path::new("dev"), Links::Refused)?;
    let name = OsStr::new("console");
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&dev, name, new, Mode::from_bits_truncate(0o666)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let place = lookup::child(dev.as_fd(), name)?;
    if metadata(place.as_fd())?.is_symlink() {
        return Err(Errno::LOOP.into());
    }
    let tree = fsmount::clone_tree(terminal, c"", false)?;
    fsmount::attach(&tree, place.as_fd())
}
