//! Containers whose mount namespace is not a new one.
//!
//! **Without one** (no `mount` in `linux.namespaces`) their mounts are those of
//! whoever runs us, as with runc: the root is mounted on itself there, the mounts
//! of the configuration below it, and the process is kept in it by chroot(2)
//! alone. They stay after `delete`; `umount -R ROOTFS` takes them off. Everything is
//! put together in a namespace that is thrown away, and only then attached
//! ([`transplant`](crate::rootfs::transplant)); the process goes there last.
//!
//! **By path** the container's process pivots in the namespace that it joins, as
//! with runc: from then on that one is the container's, for all who are in it or
//! join it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use super::RuntimeError;
use super::credentials::KindText;
use crate::error::{Error, Result};
use crate::rootfs::{self, Preflight, Stage, show_terminal};
use crate::sys::process::setns;

const OWN: &str = "/proc/self/ns/mnt";

/// Our mount namespace, which the container is to be in.
#[derive(Debug)]
pub struct SharedMounts {
    namespace: File,
    preflight: Rc<Preflight>,
}

impl SharedMounts {
    /// The one that we are in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(preflight: &Rc<Preflight>) -> Result<Self> {
        let namespace = File::open(OWN).map_err(|e| Error::io("open", OWN, e))?;
        Ok(Self {
            namespace,
            preflight: Rc::clone(preflight),
        })
    }

    /// Brings the assembled root here. By a process in the namespace that it was
    /// assembled in; it leaves that.
    ///
    /// # Errors
    /// Names the mount.
    pub fn bring(&self, stage: &Stage) -> std::result::Result<(), String> {
        rootfs::transplant(&self.preflight, stage, self.namespace.as_fd())
            .map_err(|e| e.to_string())
    }

    /// Makes the root here that of the calling process, for good. `terminal` tells
    /// whether its standard input is one, for `/dev/console`.
    ///
    /// # Errors
    /// One line, naming the step.
    pub fn enter(&self, terminal: bool) -> std::result::Result<(), String> {
        setns(self.namespace.as_fd(), libc::CLONE_NEWNS)
            .map_err(|e| format!("return to the shared mount namespace: {}", e.kind_text()))?;
        self.preflight.enter().map_err(|e| e.to_string())?;
        change_root().map_err(|e| format!("chroot: {}", e.kind_text()))?;
        if terminal {
            mount_console().map_err(|e| format!("mount /dev/console: {}", e.kind_text()))?;
        }
        Ok(())
    }
}

/// Makes a directory the root and the working directory of this process.
///
/// # Errors
/// The kernel's.
pub fn change_root_to(root: BorrowedFd<'_>) -> io::Result<()> {
    nix::unistd::fchdir(root.as_raw_fd())?;
    change_root()
}

fn change_root() -> io::Result<()> {
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// Binds the terminal on `/dev/console`, as libcontainer does where it has
/// pivoted. Its path there is known by its number alone.
fn mount_console() -> io::Result<()> {
    let wrong = || io::Error::other("standard input is not a terminal of this container");
    let ours = File::from(io::stdin().as_fd().try_clone_to_owned()?).metadata()?;
    let slave = open_place(&format!("/dev/pts/{}", libc::minor(ours.rdev())))?;
    let found = slave.metadata()?;
    if (found.dev(), found.ino(), found.rdev()) != (ours.dev(), ours.ino(), ours.rdev())
        || !found.file_type().is_char_device()
    {
        return Err(wrong());
    }
    show_terminal(slave.as_fd())
}

fn open_place(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)
}

/// Does something in another mount namespace, or in ours where there is none to
/// go to, and returns. Paths are then resolved there, and its root is `/`.
///
/// # Errors
/// The namespace cannot be joined, or not left again; the action's.
pub fn within<T>(namespace: Option<BorrowedFd<'_>>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(namespace) = namespace else {
        return act();
    };
    let back = File::open(OWN).map_err(|e| Error::io("open", OWN, e))?;
    let here = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(".")
        .map_err(|e| Error::io("open", ".", e))?;
    setns(namespace, libc::CLONE_NEWNS)
        .map_err(|e| RuntimeError::syscall("join the mount namespace", e))?;
    let done = act();
    setns(back.as_fd(), libc::CLONE_NEWNS)
        .and_then(|()| Ok(nix::unistd::fchdir(here.as_raw_fd())?))
        .map_err(|e| RuntimeError::syscall("return to the own mount namespace", e))?;
    done
}

/// Undoes what a creation that failed has mounted in a namespace that is not the
/// container's alone.
///
/// # Errors
/// The kernel's.
pub fn take_off(joined: Option<&OwnedFd>, preflight: &Preflight, stage: &Path) -> Result<()> {
    within(joined.map(AsFd::as_fd), || {
        if joined.is_some() {
            let flags = nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW;
            // EINVAL: it was not mounted yet, or went with the old root.
            let _ = nix::mount::umount2(stage, flags);
        }
        rootfs::detach(preflight)
            .map_err(|e| Error::io("detach the mounts of", preflight.rootfs(), e))
    })
}
