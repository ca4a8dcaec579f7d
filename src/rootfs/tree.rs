//! Resolves a path as the container will see it, before the container exists.
//!
//! A destination of `mounts` may lie in the image, or below an earlier mount,
//! where what the image has does not matter. [`Tree`] walks one component at a
//! time, never leaves the root, follows symbolic links the way a process inside
//! would, and changes over to a mount's own content where one will be attached.
//!
//! It only looks. What it says may be out of date a moment later, so it serves
//! to refuse early and with a good message; safety comes from attaching by
//! descriptor (see the module above).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::lookup;

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing, or nothing that could be seen: below a mount that is made fresh,
    /// or below a directory that the caller may not search.
    Absent,
    /// A directory.
    Directory,
    /// A symbolic link; only when the last component was not to be followed.
    Link,
    /// A character device and its numbers.
    Char(u64, u64),
    /// Any other file.
    Other,
}

impl Node {
    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        if kind.is_dir() {
            Self::Directory
        } else if kind.is_symlink() {
            Self::Link
        } else if kind.is_char_device() {
            let device = metadata.rdev();
            Self::Char(libc::major(device).into(), libc::minor(device).into())
        } else {
            Self::Other
        }
    }

    /// For messages.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Char(..) => "a character device",
            Self::Other => "a file",
        }
    }
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Absolute inside the container, without links.
    pub path: PathBuf,
    /// What is there.
    pub node: Node,
    /// A symbolic link was followed on the way.
    pub through_link: bool,
}

/// What a mount brings with it.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing yet, or nothing known: a new file system.
    Fresh,
    /// The tree or file that is bound.
    Bound(OwnedFd),
}

/// One position of a walk.
#[derive(Debug)]
enum Place<'a> {
    Seen(&'a OwnedFd),
    Opened(OwnedFd),
    Nothing,
}

impl Place<'_> {
    fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Seen(fd) => Some(fd),
            Self::Opened(fd) => Some(fd),
            Self::Nothing => None,
        }
    }
}

/// The image, and the mounts that will cover parts of it.
#[derive(Debug)]
pub(super) struct Tree {
    image: OwnedFd,
    layers: Vec<(PathBuf, Content)>,
}

impl Tree {
    /// Starts with the bare image.
    pub(super) fn new(image: OwnedFd) -> Self {
        Self {
            image,
            layers: Vec::new(),
        }
    }

    /// Adds the next mount at a path that [`Tree::resolve`] returned.
    pub(super) fn cover(&mut self, path: PathBuf, content: Content) {
        self.layers.push((path, content));
    }

    /// Whether a mount was put exactly there.
    pub(super) fn is_covered(&self, path: &Path) -> bool {
        self.layers.iter().any(|(at, _)| at == path)
    }

    /// Resolves `path` inside the root; a relative path is relative to the root.
    /// The last component is followed if it is a link and `follow` is set.
    ///
    /// # Errors
    /// `ELOOP` for too many links, `ENOTDIR` for a file in the middle, and what
    /// the file system says; an unsearchable directory is not an error.
    pub(super) fn resolve(&self, path: &Path, follow: bool) -> io::Result<Found> {
        self.walk(path, follow).map(|(found, _)| found)
    }

    /// What a bind mount of `path` brings; nothing known where nothing is seen.
    ///
    /// # Errors
    /// As [`Tree::resolve`].
    pub(super) fn content(&self, path: &Path) -> io::Result<Content> {
        let (_, fd) = self.walk(path, true)?;
        Ok(fd.map_or(Content::Fresh, Content::Bound))
    }

    fn walk(&self, path: &Path, follow: bool) -> io::Result<(Found, Option<OwnedFd>)> {
        let mut todo: VecDeque<OsString> = names(path).collect();
        let mut position: Vec<(OsString, Place<'_>, Node)> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                position.pop();
                continue;
            }
            let (parent, kind) = match position.last() {
                None => (Some(&self.image), Node::Directory),
                Some((_, place, node)) => (place.fd(), *node),
            };
            if !matches!(kind, Node::Directory | Node::Absent) {
                return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
            }
            let here = joined(&position, &name);
            let (place, node) = match self.layers.iter().rev().find(|(at, _)| *at == here) {
                Some((_, Content::Fresh)) => (Place::Nothing, Node::Directory),
                Some((_, Content::Bound(fd))) => (Place::Seen(fd), node_of(fd)?),
                None => match parent.map(|fd| lookup::child(fd.as_fd(), &name)) {
                    Some(Ok(fd)) => {
                        let node = node_of(&fd)?;
                        (Place::Opened(fd), node)
                    }
                    Some(Err(e)) if is_invisible(&e) => (Place::Nothing, Node::Absent),
                    Some(Err(e)) => return Err(e),
                    None => (Place::Nothing, Node::Absent),
                },
            };
            if node == Node::Link && (follow || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = place.fd().map_or_else(|| Ok(PathBuf::new()), read_link)?;
                if target.is_absolute() {
                    position.clear();
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(name);
                }
                continue;
            }
            position.push((name, place, node));
        }
        let node = position
            .last()
            .map_or(Node::Directory, |(_, _, node)| *node);
        let mut at = PathBuf::from("/");
        at.extend(position.iter().map(|(name, _, _)| name));
        let seen = position
            .last()
            .map_or(Some(&self.image), |(_, place, _)| place.fd());
        let seen = seen.map(OwnedFd::try_clone).transpose()?;
        let found = Found {
            path: at,
            node,
            through_link: links > 0,
        };
        Ok((found, seen))
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

fn joined(position: &[(OsString, Place<'_>, Node)], name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(position.iter().map(|(name, _, _)| name));
    path.push(name);
    path
}

fn node_of(fd: &OwnedFd) -> io::Result<Node> {
    Ok(Node::of(&File::from(fd.try_clone()?).metadata()?))
}

fn read_link(fd: &OwnedFd) -> io::Result<PathBuf> {
    let target = nix::fcntl::readlinkat(Some(fd.as_raw_fd()), "")?;
    Ok(PathBuf::from(target))
}

/// Absent, or in a directory that the caller may not search: a rootless caller
/// is not the owner that the user namespace will make of it.
fn is_invisible(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES))
}

/// Opens a path of the host with `O_PATH`, following links: the root itself, or
/// the source of a bind mount.
///
/// # Errors
/// What `open(2)` says.
pub(super) fn open_host(path: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::new(open_host(dir.path()).unwrap());
        (dir, tree)
    }

    fn path_of(tree: &Tree, path: &str) -> String {
        tree.resolve(Path::new(path), true)
            .unwrap()
            .path
            .display()
            .to_string()
    }

    #[test]
    fn links_stay_in_the_root() {
        let (dir, tree) = image();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("/etc", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc", dir.path().join("a/b/up")).unwrap();
        assert_eq!(path_of(&tree, "/absolute/passwd"), "/etc/passwd");
        assert_eq!(path_of(&tree, "/a/b/up/x"), "/etc/x");
        assert_eq!(path_of(&tree, "a/../../../a/b"), "/a/b");
        let etc = tree.resolve(Path::new("/absolute"), true).unwrap();
        assert_eq!((etc.node, etc.through_link), (Node::Absent, true));
        let link = tree.resolve(Path::new("/absolute"), false).unwrap();
        assert_eq!((link.node, link.through_link), (Node::Link, false));
    }

    #[test]
    fn a_loop_and_a_file_in_the_middle_are_errors() {
        let (dir, tree) = image();
        symlink("two", dir.path().join("one")).unwrap();
        symlink("one", dir.path().join("two")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let errno = |p: &str| tree.resolve(Path::new(p), true).unwrap_err().raw_os_error();
        assert_eq!(errno("/one/x"), Some(libc::ELOOP));
        assert_eq!(errno("/file/x"), Some(libc::ENOTDIR));
        assert_eq!(
            tree.resolve(Path::new("/file"), true).unwrap().node,
            Node::Other
        );
    }

    #[test]
    fn a_fresh_mount_hides_the_image() {
        let (dir, mut tree) = image();
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        symlink("/etc", dir.path().join("dev/pts")).unwrap();
        assert_eq!(path_of(&tree, "/dev/pts/x"), "/etc/x");
        tree.cover("/dev".into(), Content::Fresh);
        assert_eq!(path_of(&tree, "/dev/pts/x"), "/dev/pts/x");
        assert_eq!(
            tree.resolve(Path::new("/dev"), true).unwrap().node,
            Node::Directory
        );
    }

    #[test]
    fn a_bound_tree_is_seen_with_its_links() {
        let (_image, mut tree) = image();
        let volume = tempfile::tempdir().unwrap();
        symlink("/proc", volume.path().join("link")).unwrap();
        tree.cover(
            "/vol".into(),
            Content::Bound(open_host(volume.path()).unwrap()),
        );
        let found = tree.resolve(Path::new("/vol/link/sys"), true).unwrap();
        assert_eq!(found.path, Path::new("/proc/sys"));
        assert!(found.through_link);
    }

    #[test]
    fn the_last_of_two_mounts_at_a_path_counts() {
        let (_image, mut tree) = image();
        let volume = tempfile::tempdir().unwrap();
        symlink("/proc", volume.path().join("link")).unwrap();
        tree.cover(
            "/vol".into(),
            Content::Bound(open_host(volume.path()).unwrap()),
        );
        tree.cover("/vol".into(), Content::Fresh);
        assert_eq!(path_of(&tree, "/vol/link/sys"), "/vol/link/sys");
    }
}
