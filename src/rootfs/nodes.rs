//! Devices and links in a root, by descriptor: where libcontainer would use
//! plain paths, because /dev has no mount of its own or the device is elsewhere.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::errno::words;
use super::lookup;
use super::mountpoint::{metadata, set_mode};
use super::stage::open_path;
use crate::edit::{DeviceKind, DeviceNode};
use crate::sys::fsmount;

/// "Default Devices" of the OCI runtime specification, which every container
/// gets; /dev/console and /dev/ptmx are not nodes of their own.
pub(super) const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/urandom", 1, 9),
    ("/dev/random", 1, 8),
];

/// The same as nodes.
pub(super) fn default_devices() -> Vec<DeviceNode> {
    let node = |&(path, major, minor): &(&str, u32, u32)| DeviceNode {
        path: path.into(),
        host_path: path.into(),
        kind: DeviceKind::Char,
        major,
        minor,
        file_mode: Some(0o666),
        uid: None,
        gid: None,
    };
    DEFAULT_DEVICES.iter().map(node).collect()
}

/// Makes one device, or binds the host's. One that exists already stays as it
/// is, as with runc, except /dev/null: the runtime itself goes on to use it.
///
/// # Errors
/// The reason.
pub(super) fn make(root: BorrowedFd<'_>, device: &DeviceNode, bind: bool) -> Result<(), String> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err("must name a file".into());
    };
    let parent = lookup::directory(root, parent).map_err(|e| format!("make its directory: {e}"))?;
    let parent = parent.as_fd();
    let made = if bind {
        Err(io::ErrorKind::PermissionDenied.into())
    } else {
        mknod(parent, name, device)
    };
    match made {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_existing(parent, name, device),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bind_node(parent, name, &device.host_path)
        }
        Err(e) => Err(format!("make node: {e}")),
    }
}

pub(super) fn mknod(dir: BorrowedFd<'_>, name: &OsStr, device: &DeviceNode) -> io::Result<()> {
    let mode = device.file_mode.unwrap_or(0o666);
    let number = libc::makedev(device.major, device.minor);
    let (kind, number) = match device.kind {
        DeviceKind::Char => (FileType::CharacterDevice, number),
        DeviceKind::Block => (FileType::BlockDevice, number),
        DeviceKind::Fifo => (FileType::Fifo, 0),
        DeviceKind::All => return Err(io::Error::other("a node is c, b or p, never a")),
    };
    let bits = Mode::from_raw_mode(mode & 0o7777);
    rustix::fs::mknodat(dir, lookup::single(name)?, kind, bits, number)?;
    let node = lookup::child(dir, name)?;
    // It may have been exchanged since: what is changed must be what was made.
    let found = metadata(node.as_fd())?;
    if !is_node(&found, device) {
        return Err(io::Error::other("it was replaced while it was being made"));
    }
    // The umask, or an access list of the directory.
    if found.mode() & 0o7777 != mode & 0o7777 {
        set_mode(node.as_fd(), mode)?;
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(());
    }
    let fd = Some(node.as_fd().as_raw_fd());
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(fchownat(
        fd,
        "",
        Some(uid),
        Some(gid),
        AtFlags::AT_EMPTY_PATH,
    )?)
}

fn is_node(found: &std::fs::Metadata, device: &DeviceNode) -> bool {
    let kind = found.file_type();
    let number = libc::makedev(device.major, device.minor);
    match device.kind {
        DeviceKind::Char => kind.is_char_device() && found.rdev() == number,
        DeviceKind::Block => kind.is_block_device() && found.rdev() == number,
        DeviceKind::Fifo => kind.is_fifo(),
        DeviceKind::All => false,
    }
}

fn check_existing(parent: BorrowedFd<'_>, name: &OsStr, device: &DeviceNode) -> Result<(), String> {
    if device.path != Path::new("/dev/null") {
        return Ok(());
    }
    let found = lookup::child(parent, name)
        .and_then(|found| metadata(found.as_fd()))
        .map_err(|e| format!("look at it: {}", words(&e)))?;
    if is_node(&found, device) {
        Ok(())
    } else {
        Err("exists and is another file".into())
    }
}

fn bind_node(parent: BorrowedFd<'_>, name: &OsStr, host: &Path) -> Result<(), String> {
    match lookup::new_file(parent, Path::new(name)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("make a place for it: {e}"));
        }
        _ => {}
    }
    let bind = || {
        let target = lookup::child(parent, name)?;
        if metadata(target.as_fd())?.is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let source = open_path(host)?;
        let node = fsmount::clone_tree(source.as_fd(), c"", false)?;
        fsmount::attach(&node, target.as_fd())
    };
    bind().map_err(|e: io::Error| format!("bind {}: {}", host.display(), words(&e)))
}

/// The links every /dev has. Those that the image has stay; ptmx is always ours.
///
/// # Errors
/// The reason, naming the link.
pub(super) fn make_links(root: BorrowedFd<'_>) -> Result<(), String> {
    let mut links = vec![
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    if Path::new("/proc/kcore").exists() {
        links.push(("/proc/kcore", "core"));
    }
    let dev = lookup::directory(root, Path::new("/dev")).map_err(|e| words(&e))?;
    for (target, name) in links {
        let fail = |e: Errno| format!("link {name}: {}", io::Error::from(e));
        if name == "ptmx" {
            match rustix::fs::unlinkat(&dev, name, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(())
}
