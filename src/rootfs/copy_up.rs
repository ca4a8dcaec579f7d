//! `tmpcopyup`: a tmpfs that starts with what the image has below it.
//!
//! The source is hostile and may change meanwhile: every name is opened without
//! following it, relative to the descriptor of its directory, and what is copied
//! is what that descriptor says. The target is not attached yet, hence ours.

use std::ffi::OsStr;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use pathrs::flags::OpenFlags;
use pathrs::{Handle, RootRef};

use super::errno::from_pathrs;
use super::mountpoint::metadata;

/// Deeper than any image's; beyond it somebody is after our stack.
const MAX_DEPTH: usize = 128;

/// Copies everything below the directory `from` into `to`: directories, files,
/// links and nodes, with owners and modes.
///
/// # Errors
/// The first failure.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    copy_directory(from, to, 0)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    let source = RootRef::from_fd(from);
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", from.as_raw_fd()))? {
        let name = entry?.file_name();
        let handle = source
            .resolve_nofollow(&name)
            .map_err(|e| from_pathrs(&e))?;
        let about = metadata(handle.as_fd())?;
        copy_entry(&handle, &about, to, &name, depth)?;
        mirror_owner_and_mode(&about, to, &name)?;
    }
    Ok(())
}

fn copy_entry(
    handle: &Handle,
    about: &Metadata,
    to: BorrowedFd<'_>,
    name: &OsStr,
    depth: usize,
) -> io::Result<()> {
    let target = RootRef::from_fd(to);
    let kind = about.file_type();
    if kind.is_dir() {
        mkdirat(Some(to.as_raw_fd()), name, Mode::S_IRWXU)?;
        let directory = target.resolve_nofollow(name).map_err(|e| from_pathrs(&e))?;
        copy_directory(handle.as_fd(), directory.as_fd(), depth + 1)
    } else if kind.is_file() {
        let mut reader = handle
            .reopen(OpenFlags::O_RDONLY)
            .map_err(|e| from_pathrs(&e))?;
        let flags = OpenFlags::O_WRONLY | OpenFlags::O_EXCL | OpenFlags::O_NOFOLLOW;
        let mut writer = target
            .create_file(name, flags, &Permissions::from_mode(0o600))
            .map_err(|e| from_pathrs(&e))?;
        io::copy(&mut reader, &mut writer).map(drop)
    } else if kind.is_symlink() {
        let link = readlinkat(Some(handle.as_fd().as_raw_fd()), "")?;
        Ok(symlinkat(link.as_os_str(), Some(to.as_raw_fd()), name)?)
    } else {
        let node = if kind.is_block_device() {
            SFlag::S_IFBLK
        } else if kind.is_char_device() {
            SFlag::S_IFCHR
        } else if kind.is_fifo() {
            SFlag::S_IFIFO
        } else {
            SFlag::S_IFSOCK
        };
        Ok(mknodat(
            Some(to.as_raw_fd()),
            name,
            node,
            Mode::S_IRUSR,
            about.rdev(),
        )?)
    }
}

fn mirror_owner_and_mode(about: &Metadata, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    let dir = Some(to.as_raw_fd());
    fchownat(
        dir,
        name,
        Some(uid),
        Some(gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    if !about.is_symlink() {
        let mode = Mode::from_bits_truncate(about.mode());
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}
