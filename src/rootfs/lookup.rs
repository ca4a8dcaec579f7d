//! Names in a root, by descriptor: found, and made where they are absent.
//!
//! The kernel resolves them, `openat2(2)` with `RESOLVE_IN_ROOT`, as it does for
//! pathrs. It is asked directly first, since what is absent is the common case
//! here (mount points, masked paths) and pathrs reads some files of /proc to say
//! so. pathrs has the last word wherever the kernel gives no final answer: before
//! Linux 5.6, under a seccomp filter that does not know the call, when a rename
//! came between.
//!
//! Makes nothing through a symbolic link: what it makes lies in a directory that
//! it holds open.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use pathrs::RootRef;
use pathrs::flags::ResolverFlags;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::errno::from_pathrs;
use super::mountpoint::metadata;

/// Whether symbolic links on the way are followed, inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// As a process would whose root this is.
    Followed,
    /// They are `ELOOP`.
    Refused,
}

/// Opens what is at `path` below `root` with `O_PATH`.
///
/// # Errors
/// `ENOENT`, and what the kernel says else.
pub(super) fn find(root: BorrowedFd<'_>, path: &Path, links: Links) -> io::Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refused {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(found),
        Err(e) if is_final(e) => Err(e.into()),
        Err(_) => {
            let mut root = RootRef::from_fd(root);
            if links == Links::Refused {
                root.set_resolver_flags(ResolverFlags::NO_SYMLINKS);
            }
            let found = root.resolve(path).map_err(|e| from_pathrs(&e))?;
            Ok(found.into())
        }
    }
}

fn is_final(errno: Errno) -> bool {
    [
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::ACCESS,
        Errno::NAMETOOLONG,
    ]
    .contains(&errno)
}

/// Opens one name of a directory with `O_PATH`, whatever it is.
///
/// # Errors
/// As `openat(2)`.
pub(super) fn child(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    open_child(dir, name, OFlags::empty())
}

fn open_child(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, single(name)?, flags, Mode::empty())?;
    Ok(opened)
}

/// A name that leads nowhere but into the directory that it is looked up in.
pub(super) fn single(name: &OsStr) -> io::Result<&OsStr> {
    match Path::new(name).components().next() {
        Some(Component::Normal(only)) if only == name => Ok(name),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Opens a directory; makes what is missing of the way to it, mode 0755 but for
/// the umask.
///
/// # Errors
/// `ELOOP` or `ENOTDIR` for a symbolic link, `EINVAL` for `..`, and what
/// `mkdirat(2)` says.
pub(super) fn directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    // From the end, as mostly all but the last is there.
    let mut missing = Vec::new();
    let mut at = path;
    let mut dir = loop {
        if at.as_os_str().is_empty() {
            break root.try_clone_to_owned()?;
        }
        match find(root, at, Links::Refused) {
            Ok(found) => break found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        missing.push(name);
        at = parent;
    };
    while let Some(name) = missing.pop() {
        match rustix::fs::mkdirat(&dir, single(name)?, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        dir = open_child(dir.as_fd(), name, OFlags::DIRECTORY)?;
    }
    if metadata(dir.as_fd())?.is_dir() {
        Ok(dir)
    } else {
        Err(Errno::NOTDIR.into())
    }
}

/// Makes an empty file, mode 0644 but for the umask, and what is missing of the
/// way to it.
///
/// # Errors
/// As [`directory`]; `EEXIST` where something is already.
pub(super) fn new_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let dir = directory(root, parent)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    Ok(rustix::fs::openat(&dir, single(name)?, flags, mode)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = fs::File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn links_stay_in_the_root_or_are_refused() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/own"), "").unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        symlink("../../..", dir.path().join("up")).unwrap();
        for path in ["/link/own", "link/own", "up/etc/own", "/../etc/own"] {
            find(root.as_fd(), Path::new(path), Links::Followed).unwrap();
        }
        let refused = find(root.as_fd(), Path::new("/link/own"), Links::Refused);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ELOOP));
        let absent = find(root.as_fd(), Path::new("/link/passwd"), Links::Followed);
        assert_eq!(absent.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_way_is_made_and_found_again() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("a")).unwrap();
        let made = directory(root.as_fd(), Path::new("/a/b/c")).unwrap();
        let again = directory(root.as_fd(), Path::new("/a/b/c")).unwrap();
        let inode = |fd: &OwnedFd| metadata(fd.as_fd()).unwrap().ino();
        assert_eq!(inode(&made), inode(&again));
        new_file(root.as_fd(), Path::new("/a/d/file")).unwrap();
        new_file(root.as_fd(), Path::new("own")).unwrap();
        assert!(dir.path().join("a/d/file").is_file());
        let twice = new_file(root.as_fd(), Path::new("/a/d/file"));
        assert_eq!(twice.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn nothing_is_made_through_a_link_or_a_file() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for path in [
            "/link/x",
            "/dangling",
            "/dangling/x",
            "/file",
            "/file/x",
            "/x/..",
            "/x/../y",
        ] {
            assert!(
                directory(root.as_fd(), Path::new(path)).is_err(),
                "{path} was made"
            );
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        for name in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(single(OsStr::new(name)).is_err(), "{name:?}");
        }
    }
}
