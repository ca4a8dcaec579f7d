//! The container's root file system, which is hostile: made by an image, and
//! perhaps changed by somebody else while a container is being created from it.
//!
//! [`preflight`] reads the root before anything is made and refuses what cannot
//! be right: `/dev`, `/proc` or `/sys` as symbolic links, mounts over `/proc`,
//! devices behind links, a working directory behind a magic link. It follows the
//! mounts of the configuration in their order, so what an image has below a path
//! that a mount will cover does not matter.
//!
//! # Why libcontainer never sees the root
//!
//! libcontainer attaches mounts by descriptor, but makes devices and links, and
//! removes `dev/ptmx`, by the path `ROOTFS/dev/...`. Whoever can rename inside the
//! root meanwhile (a shared volume, a rootless user's directory, another
//! container on the same root) exchanges `dev` for a link and has these done
//! anywhere on the host. A mount on `dev` is no protection: its mount point may be
//! renamed from any other mount namespace. So:
//!
//! 1. [`Preflight::stage`], in the container's first process: a private tmpfs is
//!    mounted, and the real root on itself, in that namespace only.
//! 2. [`Assembly::assemble`], in the container's namespaces: every destination is
//!    found or made with `openat2(RESOLVE_IN_ROOT)` below the real root's
//!    descriptor, judged where it is, and the mount is moved onto that descriptor.
//!    Devices and links are made by descriptor.
//! 3. The hooks before pivot run, by the parent, which the process waits for. It
//!    enters its root ([`Preflight::pivot`]).
//!
//! That is for the first process to do where it has the runtime's rights;
//! libcontainer then starts it as an additional one. Where it has not, libcontainer
//! is given an empty directory of the tmpfs as its root. It makes the default
//! devices and links there, mounts nothing, and asks for the createRuntime hooks.
//! The parent has the root assembled while it waits ([`Stage::reveal`]), and it goes
//! on to pivot.
//!
//! Someone who changes the root during a creation can thus make it fail, or have a
//! mount end up elsewhere *inside* the same root, but reaches nothing outside it.
//!
//! | feature | kernel | without it |
//! |---|---|---|
//! | `openat2` | 5.6 | pathrs walks with `O_PATH` and checks what it found |
//! | `open_tree`, `move_mount`, `fsopen` | 5.2 | create fails (libcontainer needs them too) |
//! | `mount_setattr` | 5.12 | the same |
//!
//! # What remains
//!
//! - Between the last look ([`Assembly::assemble`] ends with one) and pivot, /dev
//!   or /proc can still be exchanged for another directory of the root. The
//!   container's programs then see that directory. /dev/null, the terminal
//!   and sysctls are checked after pivot by their inode and file system.
//! - Masked and read-only paths of /proc and /sys are made so on the stage, and
//!   move with their mounts. Those elsewhere in the root are found by name, inside
//!   the root, after pivot: hooks may have to write there first, and who can
//!   exchange them can write them anyway.
//! - Directories and empty files for mount points are made in the root and, below
//!   earlier mounts, in volumes, as with runc. They stay.
//! - The parents of the root's own path are trusted.
//!
//! This module may look at the host and act in a container's mount namespace. It
//! derives nothing about the host from the image's own tree.

mod assemble;
mod copy_up;
mod errno;
mod hide;
pub mod live;
mod lookup;
mod mounting;
mod mountpoint;
mod nodes;
mod options;
mod restore;
mod rules;
mod sources;
mod stage;
mod terminal;
mod transplant;
mod tree;

pub use assemble::{Assembly, Placement};
pub(crate) use errno::from_pathrs;
use errno::words;
pub use hide::{Hidden, hide_inside};
pub use options::{MountOptions, known as known_mount_options};
pub use restore::{lands_at, make_places, reopen};
pub use sources::{IdMaps, OwnRights, Sources, can_map_ids};
pub use stage::Stage;
pub use terminal::show_terminal;
pub use transplant::{detach, transplant};

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::edit::{DeviceNode, Mount};
use rules::ProcPosition;
use tree::{Content, Found, Node, Tree};

/// Why a root file system is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// The root itself cannot be used.
    #[error("invalid rootfs: {}: {reason}", path.display())]
    Root {
        /// The root as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the directories that the runtime mounts on is something else.
    #[error(
        "invalid rootfs: {name} in {} is {found}: it must be mounted on ordinary directory",
        rootfs.display()
    )]
    Special {
        /// `/dev`, `/proc` or `/sys`.
        name: &'static str,
        /// The root.
        rootfs: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// A mount may not be made where it would end up.
    #[error("error mounting {source_text:?} to rootfs at {destination:?}: {reason}")]
    Mount {
        /// The source as in `mounts`; empty when there is none.
        source_text: PathBuf,
        /// The destination as in `mounts`.
        destination: PathBuf,
        /// Why not, and with which resolved path.
        reason: String,
    },
    /// A step of the preparation failed.
    #[error("{action} {}: {}", path.display(), words(source))]
    Prepare {
        /// What was done, as in `mount`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A device may not be made where it would end up.
    #[error("linux.devices: {}: {reason}", path.display())]
    Device {
        /// The path as in `linux.devices`, or the runtime's own.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The working directory is not a place inside the container.
    #[error(
        "process.cwd {}: {reason} (current working directory is outside of container mount \
         namespace root -- possible container breakout detected)",
        path.display()
    )]
    Cwd {
        /// As in `process.cwd`.
        path: PathBuf,
        /// What it leads to.
        reason: String,
    },
}

impl RootfsError {
    fn mount(mount: &Mount, reason: String) -> Self {
        Self::Mount {
            source_text: mount.source.clone().unwrap_or_default(),
            destination: mount.destination.clone(),
            reason,
        }
    }
}

/// What of the effective configuration decides where things are put.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The bundle: relative bind sources start here.
    pub bundle: &'a Path,
    /// `mounts`, in order.
    pub mounts: &'a [Mount],
    /// `linux.devices`.
    pub devices: &'a [DeviceNode],
    /// Whether devices are bound from the host instead of made (user namespace).
    pub bind_devices: bool,
    /// `process.terminal`.
    pub terminal: bool,
    /// `process.cwd`.
    pub cwd: &'a Path,
}

/// Who provides `/dev`, which decides whether the runtime puts devices there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DevSetup {
    /// A new file system of the container's own: the usual case.
    Mounted,
    /// The image's directory, for lack of a mount.
    Image,
    /// A bind or the host's devtmpfs: somebody else's, to be left as it is.
    Provided,
}

/// A root that was found fit.
#[derive(Debug)]
pub struct Preflight {
    rootfs: PathBuf,
    dir: OwnedFd,
    identity: (u64, u64),
    dev: DevSetup,
}

impl Preflight {
    /// The root, canonical.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The root's directory, opened with `O_PATH`.
    #[must_use]
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Device and inode number of the root's directory.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Who provides `/dev`.
    #[must_use]
    pub fn dev(&self) -> DevSetup {
        self.dev
    }
}

/// Checks a root against what will be done in it.
///
/// `rootfs` is an absolute path without symbolic links, as `canonicalize` gives.
///
/// # Errors
/// Names the first thing that is wrong; the words about `/proc` are runc's.
pub fn preflight(rootfs: &Path, view: &View<'_>) -> Result<Preflight, RootfsError> {
    let invalid = |reason: String| RootfsError::Root {
        path: rootfs.to_path_buf(),
        reason,
    };
    let canonical = rootfs.canonicalize().map_err(|e| invalid(words(&e)))?;
    if canonical.file_name().is_none() {
        return Err(invalid(
            "the root of the host cannot be a container's".into(),
        ));
    }
    if canonical != rootfs {
        return Err(invalid("not an absolute path, or a symlink".into()));
    }
    let open = || tree::open_host(rootfs).map_err(|e| invalid(words(&e)));
    let dir = open()?;
    let metadata = dir
        .try_clone()
        .and_then(|fd| File::from(fd).metadata())
        .map_err(|e| invalid(words(&e)))?;
    if !metadata.is_dir() {
        return Err(invalid("not a directory".into()));
    }

    let mut tree = Tree::new(open()?);
    check_special(rootfs, &tree)?;
    let identity = (metadata.dev(), metadata.ino());
    for mount in view.mounts {
        let judged = judge_mount(rootfs, identity, view.bundle, mount, &tree);
        let (at, content) = judged.map_err(|reason| RootfsError::mount(mount, reason))?;
        // What is only changed stays what it is.
        if !is_remount(mount) {
            tree.cover(at, content);
        }
    }
    let dev = dev_setup(view.mounts, &tree);
    if dev != DevSetup::Provided {
        check_devices(view, dev, &tree)?;
    }
    check_cwd(view.cwd, &tree)?;
    Ok(Preflight {
        rootfs: canonical,
        dir,
        identity,
        dev,
    })
}

/// The image's /dev, /proc and /sys: the runtime mounts there, and an image that
/// makes them links aims at something else (CVE-2023-27561, CVE-2026-41579).
fn check_special(rootfs: &Path, tree: &Tree) -> Result<(), RootfsError> {
    for name in ["/dev", "/proc", "/sys"] {
        let found = tree
            .resolve(Path::new(name), false)
            .map_err(|e| RootfsError::Root {
                path: rootfs.join(name.trim_start_matches('/')),
                reason: words(&e),
            })?;
        if !matches!(found.node, Node::Absent | Node::Directory) {
            let found = found.node.describe();
            return Err(RootfsError::Special {
                name,
                rootfs: rootfs.to_path_buf(),
                found,
            });
        }
    }
    Ok(())
}

/// Whether a mount is a bind mount: by its options, or by a type of `bind`.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Whether a mount that exists is only changed.
fn is_remount(mount: &Mount) -> bool {
    mount.options.iter().any(|o| o == "remount")
}

/// Where a mount will be and what it brings, or why it may not be made.
fn judge_mount(
    rootfs: &Path,
    identity: (u64, u64),
    bundle: &Path,
    mount: &Mount,
    tree: &Tree,
) -> Result<(PathBuf, Content), String> {
    let destination = mountpoint::inside(rootfs, &mount.destination);
    let found = tree.resolve(&destination, true).map_err(|e| words(&e))?;
    let target = rootfs.join(found.path.strip_prefix("/").unwrap_or(&found.path));
    if found.path == Path::new("/") {
        return Err(format!(
            "mountpoint {target:?} is on the top of rootfs {rootfs:?}"
        ));
    }
    let kind = mount.kind.as_deref().unwrap_or_default();
    let bind = is_bind(mount);
    if !bind && matches!(kind, "proc" | "sysfs") && !is_ordinary_directory(&found) {
        return Err(format!(
            "filesystem {kind:?} must be mounted on ordinary directory"
        ));
    }
    if !bind && !is_remount(mount) && !matches!(found.node, Node::Absent | Node::Directory) {
        return Err(format!(
            "{target:?} is {}, not a directory",
            found.node.describe()
        ));
    }
    let content = if bind && !is_remount(mount) {
        bound_content(identity, bundle, mount, tree)?
    } else {
        Content::Fresh
    };
    match rules::proc_position(&found.path) {
        ProcPosition::Outside | ProcPosition::Replaceable => {}
        ProcPosition::Root => {
            let is_proc = match &content {
                Content::Bound(source) => is_procfs(source).map_err(|e| words(&e))?,
                // A source that is not seen yet is judged when it is bound.
                Content::Fresh => bind || kind == "proc" || is_remount(mount),
            };
            if !is_proc {
                return Err(format!(
                    "{target:?} cannot be mounted because it is not of type proc"
                ));
            }
        }
        ProcPosition::Inside => {
            return Err(format!(
                "{target:?} cannot be mounted because it is inside /proc"
            ));
        }
    }
    Ok((found.path, content))
}

fn is_ordinary_directory(found: &Found) -> bool {
    !found.through_link && matches!(found.node, Node::Absent | Node::Directory)
}

/// The source of a bind mount, unless the caller may not reach it.
fn bound_content(
    identity: (u64, u64),
    bundle: &Path,
    mount: &Mount,
    tree: &Tree,
) -> Result<Content, String> {
    let Some(source) = &mount.source else {
        return Err("a bind mount needs a source".into());
    };
    let source = bundle.join(source);
    let failed = |e: io::Error| format!("source {}: {}", source.display(), words(&e));
    if let Some(inside) =
        sources::part_inside(identity, &source, &mut sources::Identities::default())
    {
        return tree.content(&inside).map_err(failed);
    }
    match tree::open_host(&source) {
        Ok(fd) => Ok(Content::Bound(fd)),
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => Ok(Content::Fresh),
        Err(e) => Err(failed(e)),
    }
}

fn is_procfs(fd: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC)
}

fn dev_setup(mounts: &[Mount], tree: &Tree) -> DevSetup {
    let dev = Path::new("/dev");
    if !tree.is_covered(dev) {
        return DevSetup::Image;
    }
    // The last mount there is what the container will see.
    let provided = mounts
        .iter()
        .rev()
        .find(|m| {
            tree.resolve(&m.destination, true)
                .is_ok_and(|f| f.path == dev)
        })
        .is_some_and(|m| is_bind(m) || m.kind.as_deref() == Some("devtmpfs"));
    if provided {
        DevSetup::Provided
    } else {
        DevSetup::Mounted
    }
}

/// Every path that a node is made at, or that the runtime opens by name once it
/// is inside: none of them may be a link, nor lie behind one (CVE-2025-52565,
/// crun CVE-2026-88264 and CVE-2026-88265).
fn check_devices(view: &View<'_>, dev: DevSetup, tree: &Tree) -> Result<(), RootfsError> {
    let own = view.devices.iter().map(|d| d.path.as_path());
    let console = view.terminal.then_some("/dev/console");
    let defaults = nodes::DEFAULT_DEVICES.into_iter().map(|(path, ..)| path);
    let always = defaults.chain(console).map(Path::new);
    for path in own.chain(always) {
        let refuse = |reason: String| RootfsError::Device {
            path: path.to_path_buf(),
            reason,
        };
        if let Some(fault) = rules::device_path_fault(path) {
            return Err(refuse(fault.into()));
        }
        let found = tree.resolve(path, false).map_err(|e| refuse(words(&e)))?;
        if found.through_link {
            let reason = format!(
                "the image leads it to {} through a link",
                found.path.display()
            );
            return Err(refuse(reason));
        }
        let usable = match found.node {
            Node::Absent | Node::Char(..) => true,
            Node::Link | Node::Directory => false,
            // Binding a host's node over a file is how it is done; elsewhere an
            // existing file stays, which the container's own programs must face,
            // but not the runtime.
            Node::Other => view.bind_devices || path != Path::new("/dev/null"),
        };
        let wrong_null = path == Path::new("/dev/null")
            && !view.bind_devices
            && matches!(found.node, Node::Char(major, minor) if (major, minor) != (1, 3));
        if !usable || wrong_null {
            let advice = match dev {
                DevSetup::Image => ": mount a tmpfs on /dev, or remove it from the image",
                _ => "",
            };
            return Err(refuse(format!(
                "is {} already{advice}",
                found.node.describe()
            )));
        }
    }
    Ok(())
}

/// CVE-2024-21626: a working directory behind a descriptor of the runtime.
fn check_cwd(cwd: &Path, tree: &Tree) -> Result<(), RootfsError> {
    let refuse = |reason: String| RootfsError::Cwd {
        path: cwd.to_path_buf(),
        reason,
    };
    if rules::is_magic(cwd) {
        return Err(refuse("is behind a magic link of /proc".into()));
    }
    // A directory that is not there yet, or cannot be entered, is chdir's to judge.
    if let Ok(found) = tree.resolve(cwd, true)
        && rules::is_magic(&found.path)
    {
        let target = found.path.display();
        return Err(refuse(format!("leads to {target}, a magic link of /proc")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
