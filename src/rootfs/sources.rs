//! Where bind mounts come from.
//!
//! A source is a path of the host, named by whoever wrote the configuration; but
//! one that lies in the container's root goes through what the image has there.
//! That part of it is resolved like a destination: inside the root, with the
//! mounts that are in place by then.
//!
//! The container's root user may be nobody on the host, and an idmapped mount
//! needs the rights of the host's root. So sources are opened by whoever has the
//! rights, in the container's mount namespace, and come as detached copies.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::assemble::Assembly;
use super::errno::words;
use super::lookup::{self, Links};
use super::stage::open_path;
use super::tree::open_host;
use super::{Preflight, RootfsError};
use crate::sys::fsmount::{self, Attributes};

/// Opens the sources of bind mounts, each as a detached copy of the tree there.
pub trait Sources {
    /// The source of the placement of this index.
    ///
    /// # Errors
    /// The reason, naming the source.
    fn open(&mut self, index: usize) -> Result<OwnedFd, String>;
}

/// Opens them with the rights of this process, which is in the container's mount
/// namespace.
#[derive(Debug)]
pub struct OwnRights<'a> {
    assembly: &'a Assembly<'a>,
    root: OwnedFd,
    id_maps: &'a IdMaps,
}

/// The user namespaces whose mappings idmapped mounts get, by index of placement.
#[derive(Debug, Default)]
pub struct IdMaps {
    /// Shared where mounts have the same mappings.
    pub namespaces: Vec<(usize, Rc<OwnedFd>)>,
}

impl IdMaps {
    fn of(&self, index: usize) -> Option<BorrowedFd<'_>> {
        let mut found = self.namespaces.iter().filter(|(i, _)| *i == index);
        found.next().map(|(_, namespace)| namespace.as_fd())
    }
}

impl<'a> OwnRights<'a> {
    /// # Errors
    /// When the root cannot be opened, or is another than the one that was checked.
    pub fn new(assembly: &'a Assembly<'a>, id_maps: &'a IdMaps) -> Result<Self, RootfsError> {
        let preflight = assembly.preflight();
        let open = || {
            let root = open_path(preflight.rootfs())?;
            preflight.verify(root.as_fd())?;
            Ok(root)
        };
        let root = open().map_err(|e| preflight.fault("open", e))?;
        Ok(Self {
            assembly,
            root,
            id_maps,
        })
    }
}

impl Sources for OwnRights<'_> {
    fn open(&mut self, index: usize) -> Result<OwnedFd, String> {
        let Some((placement, inside)) = self.assembly.source(index) else {
            return Err("is no bind mount".into());
        };
        let source = placement.mount.source.clone().unwrap_or_default();
        let name = source.display();
        let found = match inside {
            Some(path) => lookup::find(self.root.as_fd(), path, Links::Followed),
            None => open_host(&source),
        };
        let found = found.map_err(|e| format!("open {name}: {}", words(&e)))?;
        let copy = fsmount::clone_tree(found.as_fd(), c"", placement.options.has(libc::MS_REC))
            .map_err(|e| format!("copy {name}: {}", words(&e)))?;
        if let Some(recursive) = placement.options.map_ids {
            let namespace = self
                .id_maps
                .of(index)
                .ok_or_else(|| format!("no mapping for {name}"))?;
            map_ids(copy.as_fd(), namespace, recursive)
                .map_err(|e| format!("failed to set MOUNT_ATTR_IDMAP on {name}: {e}"))?;
        }
        Ok(copy)
    }
}

/// Gives a detached copy the ids of a user namespace.
///
/// # Errors
/// The kernel's, as text.
pub(super) fn map_ids(
    copy: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), String> {
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
        ..Attributes::default()
    };
    fsmount::set_attributes(copy, recursive, &attributes).map_err(|e| match e.raw_os_error() {
        Some(libc::EINVAL) => {
            let e = words(&e);
            format!("{e} (maybe the filesystem used doesn't support idmap mounts on this kernel?)")
        }
        _ => words(&e),
    })
}

impl Preflight {
    /// The part of a source below the root, where it lies in it.
    pub(super) fn part_inside(&self, source: &Path, seen: &mut Identities) -> Option<PathBuf> {
        part_inside(self.identity(), source, seen)
    }
}

/// Device and inode of directories that many sources have in common.
pub(super) type Identities = HashMap<PathBuf, Option<(u64, u64)>>;

/// From the top, so that nothing is followed below the root. By identity: the
/// same root may be reached by several paths.
pub(super) fn part_inside(
    root: (u64, u64),
    source: &Path,
    seen: &mut Identities,
) -> Option<PathBuf> {
    let mut ancestors: Vec<&Path> = source.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let known = seen.get(ancestor).copied();
        let identity = known.unwrap_or_else(|| {
            let metadata = std::fs::metadata(ancestor).ok();
            let identity = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
            seen.insert(ancestor.to_path_buf(), identity);
            identity
        });
        if identity? == root {
            let rest = source.strip_prefix(ancestor).ok()?;
            // It leaves the root again at once.
            if !rest.starts_with("..") {
                return Some(Path::new("/").join(rest));
            }
        }
    }
    None
}

/// Whether this process may map the ids of a mount of the file system that
/// `path` is on, to those of a user namespace. Tried with a copy that is never
/// attached.
#[must_use]
pub fn can_map_ids(path: &Path, namespace: BorrowedFd<'_>) -> bool {
    let copy = open_host(path).and_then(|dir| fsmount::clone_tree(dir.as_fd(), c"", false));
    copy.is_ok_and(|copy| map_ids(copy.as_fd(), namespace, false).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_in_the_root_is_told_by_identity() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("data")).unwrap();
        std::os::unix::fs::symlink(&root, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("data/link")).unwrap();
        let metadata = std::fs::metadata(&root).unwrap();
        let inside = |path: PathBuf| {
            let identity = (metadata.dev(), metadata.ino());
            part_inside(identity, &path, &mut Identities::default())
        };
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(inside(root.join("data/x")), some("/data/x"));
        assert_eq!(inside(dir.path().join("link/no/such")), some("/no/such"));
        assert_eq!(
            inside(root.join("data/link/passwd")),
            some("/data/link/passwd")
        );
        assert_eq!(inside(root.clone()), some("/"));
        assert_eq!(inside(dir.path().join("root/../other")), None);
        assert_eq!(inside(dir.path().join("root/../root/x")), some("/x"));
        assert_eq!(inside(dir.path().join("other")), None);
    }
}
