//! Looks at the cgroup we run in, for [`parent::decide`](super::parent::decide),
//! and moves its processes where that has been decided.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::error::{CgroupError, Result};
use super::layout::Layout;
use super::parent::{Migration, Place, Surroundings};

/// How often the list of processes is read again: more than any process forks
/// while it is being moved.
const ROUNDS: usize = 64;

/// Where this process is; `None` where that says nothing (version 1).
///
/// # Errors
/// `/proc` or the cgroup cannot be read.
pub fn surroundings() -> Result<Option<Surroundings>> {
    let layout = Layout::detect()?;
    let Some(hierarchy) = layout.hierarchy("").filter(|_| layout.is_v2()) else {
        return Ok(None);
    };
    let own = hierarchy.own_directory();
    let root = &hierarchy.mount_point;
    let above = own.parent().filter(|_| own != *root);
    Ok(Some(Surroundings {
        // The hierarchy's own root has no such file (cgroups(7)).
        nested: root.join("cgroup.events").exists(),
        own: place(root, &own)?,
        above: above.map(|above| place(root, above)).transpose()?,
    }))
}

fn place(root: &Path, directory: &Path) -> Result<Place> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(|e| CgroupError::io("read", path, e))
    };
    let below = directory.strip_prefix(root).unwrap_or(Path::new(""));
    let enabled: BTreeSet<String> = read("cgroup.subtree_control")?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    Ok(Place {
        path: format!("/{}", below.display()),
        writable: access(directory, AccessFlags::W_OK).is_ok()
            && access(&directory.join("cgroup.procs"), AccessFlags::W_OK).is_ok(),
        occupied: !read("cgroup.procs")?.trim().is_empty(),
        enabled,
    })
}

/// Moves every process, this one too if it is among them. Stops at the first
/// that cannot be moved: what has been moved stays, and calling again goes on.
///
/// # Errors
/// The cgroup cannot be made or written; a process that cannot be seen from
/// here is in it; processes keep appearing.
pub fn migrate(migration: &Migration) -> Result<()> {
    let layout = Layout::detect()?;
    let Some(hierarchy) = layout.hierarchy("").filter(|_| layout.is_v2()) else {
        return Ok(());
    };
    let directory = |path: &str| -> PathBuf {
        let below = path.trim_matches('/');
        if below.is_empty() {
            hierarchy.mount_point.clone()
        } else {
            hierarchy.mount_point.join(below)
        }
    };
    let (from, to) = (directory(&migration.from), directory(&migration.to));
    match fs::create_dir(&to) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(CgroupError::io("mkdir", to, e));
        }
        _ => {}
    }
    let (source, target) = (from.join("cgroup.procs"), to.join("cgroup.procs"));
    for _ in 0..ROUNDS {
        let listed =
            fs::read_to_string(&source).map_err(|e| CgroupError::io("read", &source, e))?;
        if listed.trim().is_empty() {
            return Ok(());
        }
        for pid in listed.lines() {
            if pid == "0" {
                return Err(CgroupError::Limit(format!(
                    "{}: has a process of another pid namespace, which cannot be moved from here",
                    from.display()
                )));
            }
            match fs::write(&target, pid) {
                // It has ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.map_err(|e| CgroupError::io("write", &target, e))?,
            }
        }
    }
    Err(CgroupError::Limit(format!(
        "{}: processes keep appearing in it",
        from.display()
    )))
}
