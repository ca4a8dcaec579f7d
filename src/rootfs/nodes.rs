//! Devices and links in a root, by descriptor: where libcontainer would use
//! plain paths, because /dev has no mount of its own or the device is elsewhere.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use pathrs::flags::ResolverFlags;
use pathrs::{InodeType, RootRef};

use super::errno::from_pathrs;
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
pub(super) fn make(root: &RootRef<'_>, device: &DeviceNode, bind: bool) -> Result<(), String> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err("must name a file".into());
    };
    let mut strict = *root;
    strict.set_resolver_flags(ResolverFlags::NO_SYMLINKS);
    let parent: OwnedFd = strict
        .mkdir_all(parent, &Permissions::from_mode(0o755))
        .map_err(|e| format!("make its directory: {}", from_pathrs(&e)))?
        .into();
    let parent = RootRef::from_fd(parent.as_fd());
    let name = Path::new(name);
    let made = if bind {
        Err(io::ErrorKind::PermissionDenied.into())
    } else {
        mknod(&parent, name, device)
    };
    match made {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_existing(&parent, name, device),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bind_node(&parent, name, &device.host_path)
        }
        Err(e) => Err(format!("make node: {e}")),
    }
}

pub(super) fn mknod(parent: &RootRef<'_>, name: &Path, device: &DeviceNode) -> io::Result<()> {
    let mode = device.file_mode.unwrap_or(0o666);
    let permissions = Permissions::from_mode(mode);
    let number = libc::makedev(device.major, device.minor);
    let inode = match device.kind {
        DeviceKind::Char => InodeType::CharacterDevice(permissions, number),
        DeviceKind::Block => InodeType::BlockDevice(permissions, number),
        DeviceKind::Fifo => InodeType::Fifo(permissions),
        DeviceKind::All => return Err(io::Error::other("a node is c, b or p, never a")),
    };
    parent.create(name, &inode).map_err(|e| from_pathrs(&e))?;
    let node = parent.resolve_nofollow(name).map_err(|e| from_pathrs(&e))?;
    // It may have been exchanged since: what is changed must be what was made.
    if !is_node(&metadata(node.as_fd())?, device) {
        return Err(io::Error::other("it was replaced while it was being made"));
    }
    set_mode(node.as_fd(), mode)?;
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
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

fn check_existing(parent: &RootRef<'_>, name: &Path, device: &DeviceNode) -> Result<(), String> {
    if device.path != Path::new("/dev/null") {
        return Ok(());
    }
    let found = parent
        .resolve_nofollow(name)
        .map_err(|e| from_pathrs(&e))
        .and_then(|handle| metadata(handle.as_fd()))
        .map_err(|e| format!("look at it: {e}"))?;
    if is_node(&found, device) {
        Ok(())
    } else {
        Err("exists and is another file".into())
    }
}

fn bind_node(parent: &RootRef<'_>, name: &Path, host: &Path) -> Result<(), String> {
    let empty = InodeType::File(Permissions::from_mode(0o644));
    match parent.create(name, &empty).map_err(|e| from_pathrs(&e)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("make a place for it: {e}"));
        }
        _ => {}
    }
    let bind = || {
        let target = parent.resolve_nofollow(name).map_err(|e| from_pathrs(&e))?;
        if metadata(target.as_fd())?.is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let source = open_path(host)?;
        let node = fsmount::clone_tree(source.as_fd(), c"", false)?;
        fsmount::attach(&node, target.as_fd())
    };
    bind().map_err(|e: io::Error| format!("bind {}: {e}", host.display()))
}

/// The links every /dev has. Those that the image has stay; ptmx is always ours.
///
/// # Errors
/// The reason, naming the link.
pub(super) fn make_links(root: &RootRef<'_>) -> Result<(), String> {
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
    let mut strict = *root;
    strict.set_resolver_flags(ResolverFlags::NO_SYMLINKS);
    let dev: OwnedFd = strict
        .mkdir_all("/dev", &Permissions::from_mode(0o755))
        .map_err(|e| from_pathrs(&e).to_string())?
        .into();
    let dev = RootRef::from_fd(dev.as_fd());
    for (target, name) in links {
        let fail = |e: io::Error| format!("link {name}: {e}");
        if name == "ptmx" {
            match dev.remove_file(name).map_err(|e| from_pathrs(&e)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
                _ => {}
            }
        }
        match dev
            .create(name, &InodeType::Symlink(PathBuf::from(target)))
            .map_err(|e| from_pathrs(&e))
        {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
            _ => {}
        }
    }
    Ok(())
}
