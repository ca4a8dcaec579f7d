//! The root of a container that runs: nodes and mount points in it, from outside.
//!
//! Everything goes through one descriptor of that root, which also reaches what
//! is mounted below it in the container's own mount namespace. Names are resolved
//! as in the rest of this module, below the descriptor and never through a link
//! that leads out; only attaching and detaching a mount has to be done *in* that
//! namespace, and is by [`Place::attach`] and [`Place::detach`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};
use pathrs::RootRef;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use super::errno::{from_pathrs, words};
use super::lookup::{self, Links};
use super::mountpoint::{self, metadata, with_exact_modes};
use super::stage::open_path;
use super::{is_procfs, nodes};
use crate::edit::{DeviceKind, DeviceNode};
use crate::sys::fsmount::{self, Attributes};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// A node; numbers are 0 for a FIFO.
    Node(DeviceKind, u32, u32),
    /// Another file.
    Other,
    /// It could not be looked at.
    Unknown(String),
}

impl Seen {
    /// Whether this is the node that a device should be.
    #[must_use]
    pub fn is(&self, device: &DeviceNode) -> bool {
        match (self, device.kind) {
            (Self::Node(DeviceKind::Fifo, ..), DeviceKind::Fifo) => true,
            (Self::Node(kind, major, minor), wanted) => {
                (*kind, *major, *minor) == (wanted, device.major, device.minor)
            }
            _ => false,
        }
    }

    fn of(found: &std::fs::Metadata) -> Self {
        let kind = found.file_type();
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
        let (major, minor) = (number(major.into()), number(minor.into()));
        if kind.is_char_device() {
            Self::Node(DeviceKind::Char, major, minor)
        } else if kind.is_block_device() {
            Self::Node(DeviceKind::Block, major, minor)
        } else if kind.is_fifo() {
            Self::Node(DeviceKind::Fifo, 0, 0)
        } else {
            Self::Other
        }
    }
}

/// What is at a path of this machine.
#[must_use]
pub fn look_on_host(path: &Path) -> Seen {
    match std::fs::metadata(path) {
        Ok(found) => Seen::of(&found),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Seen::Absent,
        Err(e) => Seen::Unknown(e.to_string()),
    }
}

/// The root of a running process.
#[derive(Debug)]
pub struct LiveRoot {
    root: OwnedFd,
}

impl LiveRoot {
    /// Opens the root of a process. The caller makes sure, afterwards, that the
    /// pid is still that process's.
    ///
    /// # Errors
    /// The process is gone, or not ours to look at.
    pub fn of(pid: i32) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(format!("/proc/{pid}/root"))?;
        Ok(Self { root: file.into() })
    }

    fn root(&self) -> RootRef<'_> {
        RootRef::from_fd(self.root.as_fd())
    }

    /// What is at a path in the container.
    #[must_use]
    pub fn look(&self, path: &Path) -> Seen {
        let found = self
            .root()
            .resolve_nofollow(path)
            .map_err(|e| from_pathrs(&e))
            .and_then(|handle| metadata(handle.as_fd()));
        match found {
            Ok(found) => Seen::of(&found),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Seen::Absent,
            Err(e) => Seen::Unknown(e.to_string()),
        }
    }

    /// Makes a node; one that is there already is left, and `false` returned.
    ///
    /// # Errors
    /// Something else is there, or the file system does not let us.
    pub fn make_node(&self, device: &DeviceNode) -> Result<bool, String> {
        match self.look(&device.path) {
            seen if seen.is(device) => return Ok(false),
            Seen::Absent => {}
            other => return Err(format!("there is {} in its place", describe(&other))),
        }
        with_exact_modes(|| {
            let (parent, name) = self.parent(&device.path, true)?;
            nodes::mknod(parent.as_fd(), name.as_os_str(), device)
                .map_err(|e| format!("make node: {}", words(&e)))?;
            Ok(true)
        })
    }

    /// Removes a node; one that is not there is no error.
    ///
    /// # Errors
    /// Another file is there, or the file system does not let us.
    pub fn remove_node(&self, path: &Path) -> Result<(), String> {
        match self.look(path) {
            Seen::Absent => return Ok(()),
            Seen::Node(..) => {}
            other => return Err(format!("there is {} in its place", describe(&other))),
        }
        self.remove(path, false)
    }

    /// Removes what a mount was attached to: a file, or an empty directory.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self, path: &Path, directory: bool) -> Result<(), String> {
        let (parent, name) = self.parent(path, false)?;
        let parent = RootRef::from_fd(parent.as_fd());
        match directory {
            true => parent.remove_dir(&name),
            false => parent.remove_file(&name),
        }
        .map_err(|e| format!("remove: {}", words(&from_pathrs(&e))))
    }

    /// The directory of a path, made if need be, without following a link.
    fn parent(&self, path: &Path, make: bool) -> Result<(OwnedFd, PathBuf), String> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err("must name a file".into());
        };
        let root = self.root.as_fd();
        let parent = match make {
            true => lookup::directory(root, parent),
            false => lookup::find(root, parent, Links::Refused),
        }
        .map_err(|e| format!("its directory: {}", words(&e)))?;
        if is_procfs(parent.as_fd()).map_err(|e| words(&e))? {
            return Err("is inside /proc".into());
        }
        Ok((parent, name.into()))
    }

    /// Finds or makes what a mount is attached to.
    ///
    /// # Errors
    /// It is of the wrong kind, inside /proc, or cannot be made.
    pub fn place(&self, path: &Path, directory: bool) -> Result<Place, String> {
        let place = match self.find_place(path)? {
            Some(place) => place,
            None => {
                let make = || {
                    // Nothing is made where a link on the way is refused below.
                    self.parent(path, true)?;
                    mountpoint::create(self.root.as_fd(), path, directory)
                        .map_err(|e| format!("make a place for it: {}", words(&e)))
                };
                self.place_at(with_exact_modes(make)?, path, true)?
            }
        };
        let found = metadata(place.target.as_fd()).map_err(|e| words(&e))?;
        if found.is_dir() != directory {
            return Err("what is there is a directory where a file is wanted, or a file where a directory is".into());
        }
        Ok(place)
    }

    /// Finds what a mount is attached to, or may have been.
    ///
    /// # Errors
    /// It is inside /proc, or cannot be looked at.
    pub fn find_place(&self, path: &Path) -> Result<Option<Place>, String> {
        match lookup::find(self.root.as_fd(), path, Links::Followed) {
            Ok(found) => self.place_at(found, path, false).map(Some),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(words(&e)),
        }
    }

    fn place_at(&self, target: OwnedFd, path: &Path, made: bool) -> Result<Place, String> {
        if is_procfs(target.as_fd()).map_err(|e| words(&e))? {
            return Err("is inside /proc".into());
        }
        let (parent, name) = match path.file_name() {
            Some(name) => (self.parent(path, false)?.0, PathBuf::from(name)),
            None => return Err("is the root".into()),
        };
        Ok(Place {
            target,
            parent,
            name,
            made,
        })
    }
}

fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Absent => "nothing".into(),
        Seen::Node(kind, major, minor) => format!("{} {major}:{minor}", kind.letter()),
        Seen::Other => "another file".into(),
        Seen::Unknown(reason) => format!("something unreadable ({reason})"),
    }
}

/// Where a mount goes in the container.
#[derive(Debug)]
pub struct Place {
    target: OwnedFd,
    parent: OwnedFd,
    name: PathBuf,
    made: bool,
}

impl Place {
    /// Whether it was made for the mount.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// Attaches a mount. In the container's mount namespace.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn attach(&self, mount: &OwnedFd) -> Result<(), String> {
        fsmount::attach(mount, self.target.as_fd()).map_err(|e| format!("attach: {}", words(&e)))
    }

    /// Detaches what is mounted at the name; that nothing is, is no error. In the
    /// container's mount namespace, by a process of its own: it changes the working
    /// directory.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn detach(&self) -> Result<(), String> {
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        let detached =
            nix::unistd::fchdir(self.parent.as_raw_fd()).and_then(|()| umount2(&self.name, flags));
        match detached {
            Ok(()) => Ok(()),
            // The container has done so, or one of us who was killed; not where the
            // name is a link to the place of the mount.
            Err(nix::errno::Errno::EINVAL) if !is_mount(self.target.as_fd()) => Ok(()),
            Err(e) => Err(format!("detach: {}", words(&e.into()))),
        }
    }
}

/// Whether it is the root of a mount, or that cannot be told.
fn is_mount(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).map_or(true, |found| {
        found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// A detached copy of a host path, private, with attributes.
///
/// # Errors
/// The kernel's.
pub fn copy_of(source: &Path, recursive: bool, attributes: &Attributes) -> io::Result<OwnedFd> {
    let source = open_path(source)?;
    let tree = fsmount::clone_tree(source.as_fd(), c"", recursive)?;
    // Nothing that is mounted there later may reach the host, nor the other way.
    let private = Attributes {
        propagation: MsFlags::MS_PRIVATE.bits(),
        ..Attributes::default()
    };
    fsmount::set_attributes(tree.as_fd(), true, &private)?;
    if attributes.set != 0 || attributes.clear != 0 {
        fsmount::set_attributes(tree.as_fd(), recursive, attributes)?;
    }
    Ok(tree)
}

/// Gives such a copy the ids of a user namespace (`MOUNT_ATTR_IDMAP`).
///
/// # Errors
/// The kernel's, as text: the file system must be one that can do it.
pub fn map_ids(copy: &OwnedFd, namespace: &OwnedFd, recursive: bool) -> Result<(), String> {
    super::sources::map_ids(copy.as_fd(), namespace.as_fd(), recursive)
        .map_err(|e| format!("map its ids: {e}"))
}

/// Whether a host path is a directory.
///
/// # Errors
/// It cannot be looked at.
pub fn is_directory(path: &Path) -> io::Result<bool> {
    File::from(open_path(path)?).metadata().map(|m| m.is_dir())
}
