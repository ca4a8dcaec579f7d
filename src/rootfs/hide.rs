//! `linux.maskedPaths` and `linux.readonlyPaths` inside /proc and /sys, done to
//! these mounts before they are attached.
//!
//! runc and libcontainer do it by name, inside the container. Whoever exchanges
//! the root's /proc for a look-alike at that moment gets the look-alike masked,
//! and the container the whole of procfs. On the stage nobody else can see the
//! mount, and what is mounted in it goes where it goes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};
use pathrs::RootRef;

use super::errno::from_pathrs;
use super::mountpoint::metadata;
use super::stage::{Stage, open_path};
use crate::sys::fsmount::{self, Attributes, Context};

/// Paths to be hidden, absolute inside the container, and how.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// `linux.maskedPaths`.
    pub masked: Vec<PathBuf>,
    /// `linux.readonlyPaths`.
    pub readonly: Vec<PathBuf>,
    /// `linux.mountLabel`, for what covers a directory.
    pub label: Option<String>,
}

const NULL: u64 = libc::makedev(1, 3);

/// Those below one mount, relative to it.
#[derive(Debug, Default)]
pub(super) struct HiddenBelow {
    pub(super) masked: Vec<PathBuf>,
    pub(super) readonly: Vec<PathBuf>,
}

/// Hides paths of a mount that nobody else can reach yet. What is absent is
/// passed over, as runc does: which files there are depends on the kernel.
///
/// # Errors
/// Names the path, relative to the mount.
pub(super) fn apply(
    mounted: BorrowedFd<'_>,
    below: &HiddenBelow,
    stage: &Stage,
    label: Option<&str>,
) -> Result<(), String> {
    let root = RootRef::from_fd(mounted);
    for path in &below.readonly {
        each(&root, path, make_readonly)
            .map_err(|e| format!("readonly {}: {e}", path.display()))?;
    }
    for path in &below.masked {
        each(&root, path, |target| mask(target, stage, label))
            .map_err(|e| format!("mask {}: {e}", path.display()))?;
    }
    Ok(())
}

fn each(
    root: &RootRef<'_>,
    path: &Path,
    act: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    match root.resolve(path).map_err(|e| from_pathrs(&e)) {
        Ok(target) => act(target.as_fd()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
        Err(e) => Err(e),
    }
}

fn make_readonly(target: BorrowedFd<'_>) -> io::Result<()> {
    let copy = fsmount::clone_tree(target, c"", true)?;
    let readonly = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    fsmount::set_attributes(copy.as_fd(), false, &readonly)?;
    fsmount::attach(&copy, target)
}

/// A directory is covered by an empty one that stays empty, a file by /dev/null.
fn mask(target: BorrowedFd<'_>, stage: &Stage, label: Option<&str>) -> io::Result<()> {
    if !metadata(target)?.is_dir() {
        return fsmount::attach(&null_device(stage)?, target);
    }
    let context = Context::open(c"tmpfs")?;
    context.set(c"source", Some(c"tmpfs"))?;
    // As for other mounts: where SELinux is off, the kernel refuses the option.
    if let Some(label) = label.filter(|_| Path::new("/sys/fs/selinux").exists()) {
        let label = CString::new(label).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        context.set(c"context", Some(&label))?;
    }
    context.set(c"ro", None)?;
    let cover = context.mount(libc::MOUNT_ATTR_RDONLY)?;
    fsmount::attach(&cover, target)
}

/// A null device of the stage's own, or where none can be made (user namespace)
/// the host's, looked at: the image has no part in it (CVE-2025-31133).
///
/// Whoever owns the node could change its mode; the mount is read-only therefore.
fn null_device(stage: &Stage) -> io::Result<OwnedFd> {
    let own = stage.null_node();
    let mode = Mode::from_bits_truncate(0o666);
    let made = mknod(&own, SFlag::S_IFCHR, mode, NULL).and_then(|()| {
        // Past the umask: any user may write to what is masked, to no effect.
        nix::sys::stat::fchmodat(
            None,
            &own,
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
    });
    let path = match made {
        Ok(()) | Err(nix::Error::EEXIST) => own.as_path(),
        Err(nix::Error::EPERM) => Path::new("/dev/null"),
        Err(e) => return Err(e.into()),
    };
    let node = open_path(path)?;
    let found = metadata(node.as_fd())?;
    if !found.file_type().is_char_device() || found.rdev() != NULL {
        return Err(io::Error::other("is not the null device"));
    }
    let copy = fsmount::clone_tree(node.as_fd(), c"", false)?;
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
        clear: libc::MOUNT_ATTR_NODEV,
        ..Attributes::default()
    };
    fsmount::set_attributes(copy.as_fd(), false, &attributes)?;
    Ok(copy)
}

/// The part of `path` below `mount`; `None` when it is elsewhere or the same.
pub(super) fn below(path: &Path, mount: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(mount).ok()?;
    (!rest.as_os_str().as_bytes().is_empty()).then(|| rest.to_path_buf())
}
