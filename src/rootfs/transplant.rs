//! From the mount namespace that a root was assembled in to another one, where
//! processes and mounts are that are not ours.
//!
//! The root is attached there first, alone, and made private: whatever is mounted
//! below it afterwards reaches no other namespace, and no propagation of a mount
//! that was there before is touched. runc makes all of the host's mounts slaves
//! instead, and mounts one after the other.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};
use procfs::process::{MountInfo, MountOptFields, Process};

use super::lookup::{self, Links};
use super::stage::{open_path, set_propagation};
use super::{Preflight, RootfsError, Stage};
use crate::sys::fsmount::{self, Attributes};
use crate::sys::process::setns;

/// Attaches copies of the assembled root and of all mounts below it at the same
/// place of the mount namespace `there`, and stays in that. The caller is in the
/// namespace of the assembly.
///
/// # Errors
/// Names the mount. What was attached until then stays; [`detach`] takes it off.
pub fn transplant(
    preflight: &Preflight,
    stage: &Stage,
    there: BorrowedFd<'_>,
) -> Result<(), RootfsError> {
    let fault = |action| move |e| preflight.fault(action, e);
    let assembled = open_path(&preflight.rootfs).map_err(fault("open"))?;
    preflight
        .verify(assembled.as_fd())
        .map_err(fault("copy the mounts of"))?;
    let root =
        fsmount::clone_tree(assembled.as_fd(), c"", false).map_err(fault("copy the mounts of"))?;
    let below =
        copies_below(assembled.as_fd(), &preflight.rootfs).map_err(fault("copy the mounts of"))?;

    setns(there, libc::CLONE_NEWNS).map_err(fault("join the mount namespace of"))?;
    let place = open_path(&preflight.rootfs).map_err(fault("open"))?;
    preflight.verify(place.as_fd()).map_err(fault("mount"))?;
    fsmount::attach(&root, place.as_fd()).map_err(fault("mount"))?;
    // What is attached to a shared mount becomes shared.
    set_propagation(root.as_fd(), stage.propagation()).map_err(fault("make private"))?;
    for (path, copy) in &below {
        let attached = lookup::find(root.as_fd(), path, Links::Refused)
            .and_then(|target| fsmount::attach(copy, target.as_fd()));
        attached.map_err(|e| moved(preflight, path, e))?;
    }
    // Exchanging names in the root moves what was attached away.
    for (path, copy) in &below {
        let same = lookup::find(root.as_fd(), path, Links::Refused)
            .and_then(|found| Ok(mount_id(found.as_fd())? == mount_id(copy.as_fd())?));
        let same = same.map_err(|e| moved(preflight, path, e))?;
        if !same {
            let text = "it was moved away while the container was being created";
            return Err(moved(preflight, path, io::Error::other(text)));
        }
    }
    Ok(())
}

fn moved(preflight: &Preflight, path: &Path, source: io::Error) -> RootfsError {
    RootfsError::Prepare {
        action: "mount",
        path: preflight.rootfs.join(path),
        source,
    }
}

/// Takes off what [`transplant`] or [`Preflight::stage`] has mounted at the root,
/// with everything below, in the caller's mount namespace.
///
/// # Errors
/// The kernel's.
pub fn detach(preflight: &Preflight) -> io::Result<()> {
    let found = match open_path(&preflight.rootfs) {
        // The namespace has another root by now, and ours went with the old one.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    // The same mount as before there was any of ours.
    if mount_id(found.as_fd())? == mount_id(preflight.dir.as_fd())? {
        return Ok(());
    }
    // Of a copy that is a peer of the host's mounts, the host's would go as well.
    let private = Attributes {
        propagation: MsFlags::MS_PRIVATE.bits(),
        ..Attributes::default()
    };
    fsmount::set_attributes(found.as_fd(), true, &private)?;
    drop(found);
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    Ok(umount2(&preflight.rootfs, flags)?)
}

/// Copies of the mounts on the root, each with what is mounted below it, and
/// where they are in it. What a later mount has covered is left out.
fn copies_below(root: BorrowedFd<'_>, rootfs: &Path) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let all = Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(io::Error::other)?;
    let all: Vec<MountInfo> = all.into_iter().collect();
    let own = mount_id(root)?;
    // It cannot be copied, and a copy of what it is mounted on comes without it.
    let unbindable = all.iter().find(|m| {
        let mut fields = m.opt_fields.iter();
        fields.any(|field| matches!(field, MountOptFields::Unbindable)) && is_above(&all, own, m)
    });
    if let Some(mount) = unbindable {
        return Err(io::Error::other(format!(
            "{} is unbindable, which only a container with a mount namespace can have",
            unescaped(&mount.mount_point).display()
        )));
    }
    let mut copies = Vec::new();
    for mount in all.iter().filter(|m| m.pid == own && m.mnt_id != own) {
        let place = unescaped(&mount.mount_point);
        let Ok(path) = place.strip_prefix(rootfs) else {
            continue;
        };
        let found = lookup::find(root, path, Links::Refused)?;
        if is_on(&all, mount_id(found.as_fd())?, mount) {
            let copy = fsmount::clone_tree(found.as_fd(), c"", true)?;
            copies.push((path.to_path_buf(), copy));
        }
    }
    Ok(copies)
}

/// Whether a mount is on another one, or on one that is.
fn is_above(all: &[MountInfo], lowest: i32, mount: &MountInfo) -> bool {
    let mut parents = vec![mount.mnt_id];
    let mut id = mount.pid;
    // An initramfs' root is its own parent.
    while !parents.contains(&id) {
        if id == lowest {
            return true;
        }
        parents.push(id);
        id = all.iter().find(|m| m.mnt_id == id).map_or(id, |m| m.pid);
    }
    false
}

/// Whether a mount is another one, or lies upon it at the same place.
fn is_on(all: &[MountInfo], mut id: i32, lowest: &MountInfo) -> bool {
    while id != lowest.mnt_id {
        let upon = all
            .iter()
            .find(|m| m.mnt_id == id && m.pid != id && m.mount_point == lowest.mount_point);
        match upon {
            Some(mount) => id = mount.pid,
            None => return false,
        }
    }
    true
}

/// proc_pid_fdinfo(5).
fn mount_id(fd: BorrowedFd<'_>) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// proc_pid_mountinfo(5) writes blanks and backslashes as `\ooo`.
fn unescaped(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(byte);
            rest = &tail[3..];
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_mountinfo_are_read() {
        for (written, meant) in [
            ("/a\\040b", "/a b"),
            ("/a\\134040", "/a\\040"),
            ("/a\\0", "/a\\0"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(unescaped(Path::new(written)), Path::new(meant));
        }
    }

    #[test]
    fn a_descriptor_s_mount_is_known() {
        let root = open_path(Path::new("/")).unwrap();
        let proc = open_path(Path::new("/proc")).unwrap();
        assert_ne!(
            mount_id(root.as_fd()).unwrap(),
            mount_id(proc.as_fd()).unwrap()
        );
    }
}
