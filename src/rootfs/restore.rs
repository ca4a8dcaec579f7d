//! The places of mounts for CRIU, which mounts but does not make them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lookup::{self, Links};
use super::mountpoint::{create, inside, metadata, with_exact_modes};
use super::tree::{Tree, open_host};
use super::{Preflight, RootfsError, is_bind};
use crate::edit::Mount;
use crate::sys::fsmount;

/// Where a destination is as the container sees it, links followed.
///
/// # Errors
/// The root cannot be read.
pub fn lands_at(preflight: &Preflight, destination: &Path) -> Result<PathBuf, RootfsError> {
    let destination = inside(preflight.rootfs(), destination);
    let fail = |e: io::Error| prepare("resolve", &destination, e);
    let root = preflight.dir().try_clone().map_err(fail)?;
    let found = Tree::new(root).resolve(&destination, true).map_err(fail)?;
    Ok(found.path)
}

/// The root, as the mount namespace that the caller is now in has it.
///
/// # Errors
/// It cannot be opened, or is another directory than the one that was judged.
pub fn reopen(preflight: &Preflight) -> Result<OwnedFd, RootfsError> {
    let rootfs = preflight.rootfs();
    let fail = |e: io::Error| prepare("open", rootfs, e);
    let root = open_host(rootfs).map_err(fail)?;
    let found = metadata(root.as_fd()).map_err(fail)?;
    if (found.dev(), found.ino()) != preflight.identity() {
        let text = "it was exchanged while the container was being restored";
        return Err(fail(io::Error::other(text)));
    }
    Ok(root)
}

/// Makes the places of mounts in the root and, by mounting those as well, in
/// binds. To be called in a mount namespace that nobody else needs. What is below
/// a tmpfs is in the image already; so is a cgroup's place, which is below one or
/// comes with its mount.
///
/// # Errors
/// Names the mount.
pub fn make_places(
    root: BorrowedFd<'_>,
    rootfs: &Path,
    mounts: &[Mount],
) -> Result<(), RootfsError> {
    for mount in mounts {
        let kind = mount.kind.as_deref().unwrap_or_default();
        let on_tmpfs = mounts.iter().any(|other| {
            other.kind.as_deref() == Some("tmpfs")
                && other.destination != mount.destination
                && mount.destination.starts_with(&other.destination)
        });
        if kind == "cgroup" || kind == "cgroup2" || on_tmpfs {
            continue;
        }
        with_exact_modes(|| make_place(root, rootfs, mount))
            .map_err(|e| prepare("create criu restore mountpoint for", &mount.destination, e))?;
    }
    Ok(())
}

fn make_place(root: BorrowedFd<'_>, rootfs: &Path, mount: &Mount) -> io::Result<()> {
    let source = match &mount.source {
        Some(source) if is_bind(mount) => Some(open_host(source)?),
        _ => None,
    };
    let directory = match &source {
        Some(source) => metadata(source.as_fd())?.is_dir(),
        None => true,
    };
    let destination = inside(rootfs, &mount.destination);
    let target: OwnedFd = match lookup::find(root, &destination, Links::Followed) {
        Ok(found) => found,
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => create(root, &destination, directory)?,
        Err(e) => return Err(e),
    };
    let Some(source) = source else {
        return Ok(());
    };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd()))?;
    if !path.starts_with(rootfs) || path == rootfs {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    let tree = fsmount::clone_tree(source.as_fd(), c"", true)?;
    fsmount::attach(&tree, target.as_fd())
}

fn prepare(action: &'static str, path: &Path, source: io::Error) -> RootfsError {
    RootfsError::Prepare {
        action,
        path: path.to_path_buf(),
        source,
    }
}
