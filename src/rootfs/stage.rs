//! The private side of a creation: where mounts are prepared, and where
//! libcontainer works and finds the real root afterwards, if that is its to enter.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::{Preflight, RootfsError};
use crate::sys::fsmount::{self, Attributes, Context};

/// A tmpfs in the container's first mount namespace, gone with it.
///
/// libcontainer is given `parent/NAME` below it, NAME being the last name of the
/// real root's path. `parent` is a symbolic link: first to a directory beside it
/// with an empty NAME, after the assembly to the real parent. A link can be
/// replaced; a mount point could not be, and the last name may not be a link.
#[derive(Debug, Clone)]
pub struct Stage {
    dir: PathBuf,
    name: OsString,
    propagation: MsFlags,
}

const LINK: &str = "parent";
const BESIDE: &str = "scratch";

impl Stage {
    /// A stage at an empty directory of the host that nobody else can change and
    /// that the container's root user may search.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, preflight: &Preflight) -> Self {
        let name = preflight
            .rootfs
            .file_name()
            .unwrap_or_default()
            .to_os_string();
        Self {
            dir: dir.into(),
            name,
            propagation: MsFlags::MS_PRIVATE,
        }
    }

    /// The root receives what is mounted below it on the host later
    /// (`linux.rootfsPropagation` slave), instead of nothing.
    #[must_use]
    pub fn receiving(self) -> Self {
        Self {
            propagation: MsFlags::MS_SLAVE,
            ..self
        }
    }

    /// Of the container's root until pivot.
    pub(super) fn propagation(&self) -> MsFlags {
        self.propagation
    }

    /// A directory to prepare mounts at.
    pub(super) fn place_path(&self) -> PathBuf {
        self.dir.join("place")
    }

    /// Makes it at its first use.
    pub(super) fn place(&self) -> io::Result<OwnedFd> {
        let place = self.place_path();
        match std::fs::create_dir(&place) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => open_path(&place),
        }
    }

    /// What libcontainer is given as the root file system.
    #[must_use]
    pub fn library_root(&self) -> PathBuf {
        self.dir.join(LINK).join(&self.name)
    }

    /// Where a null device may be made.
    pub(super) fn null_node(&self) -> PathBuf {
        self.dir.join("null")
    }

    /// Makes libcontainer's root the real one, for who is where the stage is
    /// mounted.
    ///
    /// # Errors
    /// Names the root.
    pub fn reveal(&self, preflight: &Preflight) -> Result<(), RootfsError> {
        const NEW: &str = "new";
        let rootfs = &preflight.rootfs;
        let reveal = || -> io::Result<()> {
            let stage = open_path(&self.dir)?;
            let dir = Some(stage.as_raw_fd());
            symlinkat(rootfs.parent().unwrap_or(rootfs), dir, NEW)?;
            Ok(nix::fcntl::renameat(dir, NEW, dir, LINK)?)
        };
        reveal().map_err(|e| preflight.fault("reveal", e))
    }

    /// Makes the file system, which is nowhere yet, and gives libcontainer a root
    /// on it if that is to have one.
    ///
    /// # Errors
    /// Names the stage.
    pub fn make(&self, for_library: bool) -> Result<OwnedFd, RootfsError> {
        let make = || {
            let tmpfs = make_tmpfs()?;
            if for_library {
                self.furnish(&tmpfs)?;
            }
            Ok(tmpfs)
        };
        make().map_err(|e| self.fault(e))
    }

    fn furnish(&self, tmpfs: &OwnedFd) -> io::Result<()> {
        let dir = Some(tmpfs.as_raw_fd());
        let scratch = Path::new(BESIDE).join(&self.name);
        for path in [Path::new(BESIDE), &scratch, &scratch.join("dev")] {
            mkdirat(dir, path, Mode::from_bits_truncate(0o755))?;
        }
        Ok(symlinkat(BESIDE, dir, LINK)?)
    }

    fn attach(&self, made: &OwnedFd) -> io::Result<()> {
        set_propagation_above(&self.dir, MsFlags::MS_SLAVE)?;
        fsmount::attach(made, open_path(&self.dir)?.as_fd())
    }

    fn fault(&self, source: io::Error) -> RootfsError {
        RootfsError::Prepare {
            action: "prepare",
            path: self.dir.clone(),
            source,
        }
    }
}

fn make_tmpfs() -> io::Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set(c"source", Some(c"kusabi-stage"))?;
    context.set(c"mode", Some(c"0755"))?;
    context.mount(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)
}

impl Preflight {
    /// A detached copy of the root's mounts, for callers with CAP_SYS_ADMIN over
    /// their own mount namespace; `None` for others. A process in a new user
    /// namespace may be unable to reach the root by its path.
    ///
    /// # Errors
    /// Names the root.
    pub fn clone_tree(&self) -> Result<Option<OwnedFd>, RootfsError> {
        match fsmount::clone_tree(self.dir.as_fd(), c"", true) {
            Ok(tree) => Ok(Some(tree)),
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(None),
            Err(e) => Err(self.fault("copy the mounts of", e)),
        }
    }

    /// To be called in the container's first process, in its own mount namespace,
    /// before all else is mounted there: mounts the stage, and the root on itself, as runc
    /// does, so that hooks find it where `config.json` says.
    ///
    /// `made` is what [`Stage::make`] gave, `tree` what [`Preflight::clone_tree`]
    /// gave.
    ///
    /// # Errors
    /// Names the object; also when the root is no longer the one that was checked.
    pub fn stage(
        &self,
        stage: &Stage,
        made: &OwnedFd,
        tree: Option<OwnedFd>,
    ) -> Result<(), RootfsError> {
        stage.attach(made).map_err(|e| stage.fault(e))?;
        let attach = || {
            let place = open_path(&self.rootfs)?;
            self.verify(place.as_fd())?;
            let tree = match tree {
                Some(tree) => tree,
                None => fsmount::clone_tree(place.as_fd(), c"", true)?,
            };
            // Nothing that is mounted on the root may reach the host's.
            set_propagation(tree.as_fd(), stage.propagation)?;
            set_propagation_above(&self.rootfs, MsFlags::MS_SLAVE)?;
            fsmount::attach(&tree, place.as_fd())
        };
        attach().map_err(|e: io::Error| self.fault("mount", e))
    }

    /// Cuts all mounts of a new mount namespace off from the host's, so that nothing
    /// made in it shows there.
    ///
    /// # Errors
    /// Names the root.
    pub fn leave_the_host(&self) -> Result<(), RootfsError> {
        const NOTHING: Option<&str> = None;
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        nix::mount::mount(NOTHING, "/", NOTHING, slave, NOTHING)
            .map_err(|e| self.fault("make slave what is above", e.into()))
    }

    /// Makes the assembled root that of the calling process, for good (pivot_root(2),
    /// "pivot_root(".", ".")"). The host's mounts go from its namespace, and stay
    /// where they are on the host.
    ///
    /// # Errors
    /// Names the root.
    pub fn pivot(&self) -> Result<(), RootfsError> {
        const NOTHING: Option<&str> = None;
        let pivot = || -> io::Result<()> {
            let old = open_path(Path::new("/"))?;
            // By its path, as a hook may have put another root there.
            nix::unistd::chdir(&self.rootfs)?;
            nix::unistd::pivot_root(".", ".")?;
            nix::unistd::fchdir(old.as_raw_fd())?;
            // Once more: a hook may have brought mounts that are still the host's, and
            // unmounting them would reach there.
            let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            nix::mount::mount(NOTHING, ".", NOTHING, slave, NOTHING)?;
            nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
            Ok(nix::unistd::chdir("/")?)
        };
        pivot().map_err(|e| self.fault("pivot to", e))
    }

    /// Makes the root the working directory, in whose mount namespace the caller
    /// is.
    ///
    /// # Errors
    /// Names the root.
    pub fn enter(&self) -> Result<(), RootfsError> {
        let enter = || -> io::Result<()> {
            let root = open_path(&self.rootfs)?;
            self.verify(root.as_fd())?;
            Ok(nix::unistd::fchdir(root.as_raw_fd())?)
        };
        enter().map_err(|e| self.fault("chdir to", e))
    }

    /// Whether a directory is the one that the preflight looked at.
    pub(super) fn verify(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let metadata = File::from(dir.try_clone_to_owned()?).metadata()?;
        if (metadata.dev(), metadata.ino()) == self.identity {
            return Ok(());
        }
        Err(io::Error::other(
            "it was replaced while the container was being created",
        ))
    }

    pub(super) fn fault(&self, action: &'static str, source: io::Error) -> RootfsError {
        RootfsError::Prepare {
            action,
            path: self.rootfs.clone(),
            source,
        }
    }
}

/// Opens a trusted path of the host with `O_PATH`.
pub(super) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    Ok(file.into())
}

pub(super) fn set_propagation(mount: BorrowedFd<'_>, propagation: MsFlags) -> io::Result<()> {
    let attributes = Attributes {
        propagation: propagation.bits(),
        ..Attributes::default()
    };
    fsmount::set_attributes(mount, false, &attributes)
}

/// Sets the propagation of the mount that `path` is on: the nearest mount point
/// at or above it.
pub(super) fn set_propagation_above(path: &Path, propagation: MsFlags) -> io::Result<()> {
    let mut result = Err(nix::Error::EINVAL);
    for at in path.ancestors() {
        result = nix::mount::mount(None::<&str>, at, None::<&str>, propagation, None::<&str>);
        if result != Err(nix::Error::EINVAL) {
            break;
        }
    }
    Ok(result?)
}
