//! `linux.maskedPaths` and `linux.readonlyPaths`. Those inside /proc and /sys are
//! done to these mounts before they are attached ([`apply`]), the others inside
//! the container, after pivot ([`hide_inside`]).
//!
//! runc and libcontainer do all of them by name, inside the container. Whoever
//! exchanges the root's /proc for a look-alike at that moment gets the look-alike
//! masked, and the container the whole of procfs. On the stage nobody else can see
//! the mount, and what is mounted in it goes where it goes.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use super::errno::words;
use super::lookup::{self, Links};
use super::mountpoint::{lexical, metadata};
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

impl HiddenBelow {
    pub(super) fn is_empty(&self) -> bool {
        self.masked.is_empty() && self.readonly.is_empty()
    }
}

/// Hides paths of a mount that nobody else can reach yet. What is absent is
/// passed over, as runc does: which files there are depends on the kernel.
///
/// # Errors
/// Names the path, relative to the mount.
pub(super) fn apply(
    mounted: BorrowedFd<'_>,
    below: &HiddenBelow,
    masks: &mut Masks<'_>,
) -> Result<(), String> {
    for path in &below.readonly {
        each(mounted, path, make_readonly)
            .map_err(|e| format!("readonly {}: {}", path.display(), words(&e)))?;
    }
    for path in &below.masked {
        each(mounted, path, |target| masks.cover(target))
            .map_err(|e| format!("mask {}: {}", path.display(), words(&e)))?;
    }
    Ok(())
}

/// Hides paths of the file system whose root `root` is: the container's, from
/// inside. Absent ones are passed over.
///
/// # Errors
/// In runc's words.
pub fn hide_inside(root: BorrowedFd<'_>, hidden: &Hidden) -> Result<(), String> {
    for path in &hidden.readonly {
        each(root, path, make_readonly)
            .map_err(|e| format!("can't make {path:?} read-only: {}", words(&e)))?;
    }
    let mut masks = Masks::new(&containers_null, hidden.label.as_deref());
    let mut done = BTreeSet::new();
    for path in hidden.masked.iter().filter(|p| done.insert(lexical(p))) {
        each(root, path, |target| masks.cover(target))
            .map_err(|e| format!("can't mask path {path:?}: {}", words(&e)))?;
    }
    Ok(())
}

fn each(
    root: BorrowedFd<'_>,
    path: &Path,
    act: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    match lookup::find(root, path, Links::Followed) {
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

/// What masked paths are covered with.
pub(super) struct Masks<'a> {
    null: &'a dyn Fn() -> io::Result<OwnedFd>,
    label: Option<&'a str>,
    /// One file system serves all directories (as runc, which saves memory).
    empty: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    /// `null` opens a null device.
    pub(super) fn new(null: &'a dyn Fn() -> io::Result<OwnedFd>, label: Option<&'a str>) -> Self {
        Self {
            null,
            label,
            empty: None,
        }
    }

    /// A directory is covered by an empty one that stays empty, a file by a null
    /// device.
    fn cover(&mut self, target: BorrowedFd<'_>) -> io::Result<()> {
        if !metadata(target)?.is_dir() {
            return fsmount::attach(&self.null_device()?, target);
        }
        if let Some(empty) = &self.empty {
            let copy = fsmount::clone_tree(empty.as_fd(), c"", false)?;
            return fsmount::attach(&copy, target);
        }
        // Some kernels want room for a second inode.
        let empty = self
            .empty_directory(c"1")
            .or_else(|_| self.empty_directory(c"2"))?;
        fsmount::attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }

    fn empty_directory(&self, inodes: &CStr) -> io::Result<OwnedFd> {
        let context = Context::open(c"tmpfs")?;
        context.set(c"source", Some(c"tmpfs"))?;
        context.set(c"nr_blocks", Some(c"1"))?;
        context.set(c"nr_inodes", Some(inodes))?;
        if let Some(label) = self.label.filter(|_| selinux_is_on()) {
            let label =
                CString::new(label).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
            context.set(c"context", Some(&label))?;
        }
        context.set(c"ro", None)?;
        context.mount(libc::MOUNT_ATTR_RDONLY)
    }

    /// Whoever owns the node could change its mode; the mount is read-only
    /// therefore.
    fn null_device(&self) -> io::Result<OwnedFd> {
        let node = (self.null)()?;
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
}

/// Where it is off, the kernel refuses its options.
pub(super) fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux").exists()
}

/// A null device of the stage's own, or where none can be made (user namespace)
/// the host's: the image has no part in it (CVE-2025-31133).
pub(super) fn stages_null(stage: &Stage) -> io::Result<OwnedFd> {
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
    match made {
        Ok(()) | Err(nix::Error::EEXIST) => open_path(&own),
        Err(nix::Error::EPERM) => open_path(Path::new("/dev/null")),
        Err(e) => Err(e.into()),
    }
}

/// The one that the process sees; what it is gets looked at.
fn containers_null() -> io::Result<OwnedFd> {
    open_path(Path::new("/dev/null"))
}

/// The part of `path` below `mount`; `None` when it is elsewhere or the same.
pub(super) fn below(path: &Path, mount: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(mount).ok()?;
    (!rest.as_os_str().as_bytes().is_empty()).then(|| rest.to_path_buf())
}
