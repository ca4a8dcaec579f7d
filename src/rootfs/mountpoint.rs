//! Finds or makes the place of one mount inside the root, by descriptor, and
//! judges where that is.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::errno::words;
use super::lookup::{self, Links};
use super::rules::{self, ProcPosition};
use super::tree::Tree;
use super::{is_bind, is_procfs};
use crate::edit::Mount;

/// What is going to be mounted, as far as its place depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brings {
    pub(super) directory: bool,
    pub(super) procfs: bool,
}

impl Brings {
    /// A mount that exists.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn of(mounted: BorrowedFd<'_>) -> Result<Self, String> {
        let metadata = metadata(mounted).map_err(|e| words(&e))?;
        Ok(Self {
            directory: metadata.is_dir(),
            procfs: is_procfs(mounted).map_err(|e| words(&e))?,
        })
    }
}

/// The place of a mount.
#[derive(Debug)]
pub(super) struct Target {
    fd: OwnedFd,
    /// Its mode, where the mount was not the reason to make it.
    mode: Option<u32>,
}

impl Target {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it was there before.
    pub(super) fn existed(&self) -> bool {
        self.mode.is_some()
    }

    /// The mode that a tmpfs takes over from the directory that it covers.
    pub(super) fn inherited_mode(&self) -> Option<u32> {
        self.mode
    }
}

/// The root, and which mounts must still be at their names in the end.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    rootfs: &'a Path,
    root: BorrowedFd<'a>,
    /// /dev and /proc with the identity of what was put there.
    fixed: Vec<(&'a Mount, PathBuf, (u64, u64))>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(rootfs: &'a Path, root: BorrowedFd<'a>) -> Self {
        Self {
            rootfs,
            root,
            fixed: Vec::new(),
        }
    }

    /// Opens a mount's destination; makes it where it is absent: an empty file
    /// for a file, else a directory.
    ///
    /// # Errors
    /// The reason, in runc's words where it has some.
    pub(super) fn open_or_create(&self, mount: &Mount, brings: &Brings) -> Result<Target, String> {
        let destination = &mount.destination;
        let kind = mount.kind.as_deref().unwrap_or_default();
        let strict = !is_bind(mount) && matches!(kind, "proc" | "sysfs");
        let links = if strict {
            Links::Refused
        } else {
            Links::Followed
        };
        let fail = |e: io::Error| match e.raw_os_error() {
            Some(libc::ELOOP | libc::ENOTDIR) if strict => {
                format!("filesystem {kind:?} must be mounted on ordinary directory")
            }
            _ => format!(
                "create mountpoint for {} mount: {}",
                destination.display(),
                crate::error::reason(&e)
            ),
        };
        let found = match lookup::find(self.root, destination, links) {
            Ok(found) => Some(found),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => None,
            Err(e) => return Err(fail(e)),
        };
        let target = match found {
            Some(fd) => {
                let found = metadata(fd.as_fd()).map_err(fail)?;
                if found.is_dir() != brings.directory {
                    return Err(fail(io::Error::from_raw_os_error(libc::ENOTDIR)));
                }
                let mode = Some(found.mode() & 0o7777);
                Target { fd, mode }
            }
            None => Target {
                fd: create(self.root, destination, brings.directory).map_err(fail)?,
                mode: None,
            },
        };
        self.check(mount, target.as_fd(), brings)?;
        Ok(target)
    }

    /// Opens a destination that has to be there.
    ///
    /// # Errors
    /// The reason.
    pub(super) fn open_existing(&self, mount: &Mount) -> Result<OwnedFd, String> {
        let fd =
            lookup::find(self.root, &mount.destination, Links::Followed).map_err(|e| words(&e))?;
        let brings = Brings::of(fd.as_fd())?;
        self.check(mount, fd.as_fd(), &brings)?;
        Ok(fd)
    }

    /// Judges where a descriptor is, whatever path led to it.
    fn check(&self, mount: &Mount, target: BorrowedFd<'_>, brings: &Brings) -> Result<(), String> {
        let full = std::fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd()))
            .map_err(|e| format!("get mount destination real path: {}", words(&e)))?;
        let Ok(inside) = full.strip_prefix(self.rootfs) else {
            return Err(format!(
                "mountpoint {full:?} is outside of rootfs {:?}",
                self.rootfs
            ));
        };
        if inside.as_os_str().is_empty() {
            return Err(format!(
                "mountpoint {full:?} is on the top of rootfs {:?}",
                self.rootfs
            ));
        }
        let inside = Path::new("/").join(inside);
        let procfs = |fd| is_procfs(fd).map_err(|e| words(&e));
        let refused = |why| Err(format!("{full:?} cannot be mounted because it is {why}"));
        match rules::proc_position(&inside) {
            ProcPosition::Root if !brings.procfs => refused("not of type proc"),
            ProcPosition::Inside => refused("inside /proc"),
            // A procfs that somebody has moved to another name while we work.
            ProcPosition::Outside if procfs(target)? && !self.is_own_procfs(mount) => {
                refused("inside /proc")
            }
            _ => Ok(()),
        }
    }

    /// A second mount on the same name, or below a procfs that the configuration
    /// itself puts somewhere else.
    fn is_own_procfs(&self, mount: &Mount) -> bool {
        let destination = lexical(&mount.destination);
        self.fixed.iter().any(|(earlier, at, _)| {
            at != Path::new("/proc")
                && earlier.kind.as_deref() == Some("proc")
                && destination.starts_with(at)
        })
    }

    /// Remembers a mount that must not move.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn placed(
        &mut self,
        mount: &'a Mount,
        mounted: BorrowedFd<'_>,
    ) -> Result<(), String> {
        let at = lexical(&mount.destination);
        if at == Path::new("/dev") || mount.kind.as_deref() == Some("proc") {
            let metadata = metadata(mounted).map_err(|e| words(&e))?;
            self.fixed.retain(|(_, earlier, _)| *earlier != at);
            self.fixed
                .push((mount, at, (metadata.dev(), metadata.ino())));
        }
        Ok(())
    }

    /// Looks once more, without following a link, whether those mounts are still
    /// where they were put: exchanging names in the root moves them away.
    ///
    /// # Errors
    /// The first mount that is not, and what was found.
    pub(super) fn still_in_place(&self) -> Result<(), (&'a Mount, String)> {
        for (mount, at, identity) in &self.fixed {
            let found = lookup::find(self.root, at, Links::Refused)
                .and_then(|found| metadata(found.as_fd()))
                .map_err(|e| (*mount, format!("look again: {}", words(&e))))?;
            if (found.dev(), found.ino()) != *identity {
                let text = "it was moved away while the container was being created";
                return Err((mount, text.into()));
            }
        }
        Ok(())
    }
}

/// Makes an empty file or a directory, also where a link of the root leads but
/// nothing is yet. The link is read first; what it says is then gone along
/// without following any other.
pub(super) fn create(
    root: BorrowedFd<'_>,
    destination: &Path,
    directory: bool,
) -> io::Result<OwnedFd> {
    let place = Tree::new(root.try_clone_to_owned()?).resolve(destination, true)?;
    if directory {
        lookup::directory(root, &place.path)
    } else {
        lookup::new_file(root, &place.path)
    }
}

/// Does something that makes files, with exactly the modes that it gives them,
/// whatever the caller's umask is.
pub(super) fn with_exact_modes<T>(act: impl FnOnce() -> T) -> T {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let done = act();
    nix::sys::stat::umask(umask);
    done
}

pub(super) fn metadata(fd: BorrowedFd<'_>) -> io::Result<Metadata> {
    File::from(fd.try_clone_to_owned()?).metadata()
}

/// `fchmod` for a descriptor opened with `O_PATH`.
pub(super) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// A destination as the container sees it: without the root's own path, which
/// runc lets it start with, and clean.
pub(super) fn inside(rootfs: &Path, destination: &Path) -> PathBuf {
    let clean = lexical(destination);
    match clean.strip_prefix(rootfs) {
        Ok(rest) => Path::new("/").join(rest),
        // Not cleaned: what `..` means depends on links.
        Err(_) => destination.to_path_buf(),
    }
}

/// A destination without `.`, `..` and repeated slashes, absolute.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}
