//! From `linux.cgroupsPath` to one directory in each hierarchy.
//!
//! Pure. The rules are runc's for its cgroupfs driver: an absolute path is taken
//! from the hierarchy's root, a relative one from the cgroup of the caller
//! (version 1) or from that cgroup's parent (version 2, where a cgroup with
//! processes cannot have children with controllers). `..` never leaves the place
//! where it started.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::layout::{Hierarchy, Layout};

/// The parent of containers that name no cgroup, from each hierarchy's root.
const DEFAULT_PARENT: &str = "/kusabi";

/// The version 1 hierarchies a container joins, in the order in which their
/// limits are set. The last three have none and may be absent or unwritable.
const LEGACY: [&str; 16] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "name=systemd",
    "misc",
    "",
];

/// Why a path cannot be a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The root of a hierarchy is nobody's container.
    #[error("linux.cgroupsPath {path:?}: is the root of the hierarchy, name a cgroup below it")]
    Root {
        /// As written.
        path: String,
    },
    /// The kernel refuses a line break, and so does every file that lists paths.
    #[error("linux.cgroupsPath {path:?}: has a line break")]
    LineBreak {
        /// As written.
        path: String,
    },
    /// The id cannot be a directory's name.
    #[error("container id {id:?} cannot name a cgroup, set linux.cgroupsPath")]
    Id {
        /// The id.
        id: String,
    },
    /// Nobody could confine devices.
    #[error("mountpoint for devices not found")]
    NoDevices,
    /// A `--cgroup` argument without a controller's name where one is needed.
    #[error("invalid --cgroup argument: {argument} ({reason})")]
    Argument {
        /// As typed.
        argument: String,
        /// What is missing.
        reason: &'static str,
    },
    /// A `--cgroup` argument for a controller that has one already.
    #[error("invalid --cgroup argument(s): controller {controller} specified multiple times")]
    Twice {
        /// The controller.
        controller: String,
    },
    /// A `--cgroup` argument for a hierarchy the container is not in.
    #[error("unknown controller {controller} in SubCgroupPaths")]
    UnknownController {
        /// The controller.
        controller: String,
    },
    /// A `--cgroup` argument that leaves the container's cgroup.
    #[error("bad sub cgroup path: {path}")]
    Escapes {
        /// As typed.
        path: String,
    },
}

/// Where a container wants to be, before any hierarchy is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// From the root of each hierarchy.
    Absolute(PathBuf),
    /// From the caller's own cgroup.
    Relative(PathBuf),
}

impl Wanted {
    /// Reads `linux.cgroupsPath`. Absent, empty or nothing but dots: a cgroup
    /// named after the id, below `/kusabi` (which is made), or beside the
    /// caller's own if the caller may make none at the root.
    ///
    /// # Errors
    /// The path is a hierarchy's root or has a line break, or the id cannot be a
    /// directory's name.
    pub fn new(cgroups_path: Option<&str>, id: &str, rootless: bool) -> Result<Self, PathError> {
        let raw = cgroups_path.unwrap_or_default();
        if raw.contains('\n') {
            return Err(PathError::LineBreak { path: raw.into() });
        }
        let clean = inside(Path::new(raw));
        if !clean.as_os_str().is_empty() {
            return Ok(if raw.starts_with('/') {
                Self::Absolute(clean)
            } else {
                Self::Relative(clean)
            });
        }
        if raw.starts_with('/') {
            return Err(PathError::Root { path: raw.into() });
        }
        let mut name = Path::new(id).components();
        match (name.next(), name.next()) {
            (Some(Component::Normal(one)), None) if one == id => Ok(if rootless {
                Self::Relative(one.into())
            } else {
                Self::Absolute(inside(Path::new(DEFAULT_PARENT)).join(one))
            }),
            _ => Err(PathError::Id { id: id.into() }),
        }
    }

    fn in_hierarchy(&self, hierarchy: &Hierarchy, from: impl Fn(&Hierarchy) -> PathBuf) -> PathBuf {
        match self {
            Self::Absolute(path) => hierarchy.mount_point.join(path),
            Self::Relative(path) => from(hierarchy).join(path),
        }
    }
}

/// A container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The controller, `name=NAME`, or the empty string for the unified one.
    pub controller: &'static str,
    /// Where the hierarchy is mounted: nothing at or above it is ever made.
    pub mount_point: PathBuf,
    /// The container's directory.
    pub path: PathBuf,
}

/// The container's directory in each hierarchy, in the order of work. Two
/// controllers that are mounted together share a directory.
///
/// # Errors
/// Version 1 without the devices controller: nothing would confine devices.
pub fn places(layout: &Layout, wanted: &Wanted) -> Result<Vec<Place>, PathError> {
    let place = |controller: &'static str, from: &dyn Fn(&Hierarchy) -> PathBuf| {
        let hierarchy = layout.hierarchy(controller)?;
        Some(Place {
            controller,
            mount_point: hierarchy.mount_point.clone(),
            path: wanted.in_hierarchy(hierarchy, from),
        })
    };
    if layout.is_v2() {
        // The caller's own cgroup has the caller in it.
        let beside = |h: &Hierarchy| {
            let own = h.own_directory();
            match own.parent() {
                Some(parent) if own != h.mount_point => parent.to_path_buf(),
                _ => own,
            }
        };
        return Ok(place("", &beside).into_iter().collect());
    }
    if layout.hierarchy("devices").is_none() {
        return Err(PathError::NoDevices);
    }
    // As runc: a relative path is at the root of a hybrid's unified hierarchy.
    let own = |h: &Hierarchy| match h.names.first() {
        Some(name) if name.is_empty() => h.mount_point.clone(),
        _ => h.own_directory(),
    };
    Ok(LEGACY.iter().filter_map(|name| place(name, &own)).collect())
}

/// Resolves `.` and `..` as if in a root directory, without looking at any file:
/// the result is relative and never starts with `..`.
fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// What `exec --cgroup` asks for: below which directories of the container's
/// cgroup the process is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubCgroups(BTreeMap<String, String>);

impl SubCgroups {
    /// Reads the arguments: one `PATH` for all hierarchies, or any number of
    /// `CONTROLLER[,CONTROLLER…]:PATH`.
    ///
    /// # Errors
    /// In runc's words: an empty or repeated controller, or several bare paths.
    pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Self, PathError> {
        let mut paths = BTreeMap::new();
        for argument in arguments.iter().map(AsRef::as_ref) {
            let bad = |reason| PathError::Argument {
                argument: argument.to_owned(),
                reason,
            };
            let Some((controllers, path)) = argument.split_once(':') else {
                if arguments.len() != 1 {
                    return Err(bad("missing <controller>: prefix"));
                }
                paths.insert(String::new(), argument.to_owned());
                continue;
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(bad("empty <controller> prefix"));
                }
                if paths
                    .insert(controller.to_owned(), path.to_owned())
                    .is_some()
                {
                    return Err(PathError::Twice {
                        controller: controller.to_owned(),
                    });
                }
            }
        }
        Ok(Self(paths))
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory for one hierarchy: what was asked for it, or for all, else
    /// the container's own.
    ///
    /// # Errors
    /// The path leaves the container's directory.
    pub fn below(&self, controller: &str, directory: &Path) -> Result<PathBuf, PathError> {
        let Some(path) = self.0.get(controller).or_else(|| self.0.get("")) else {
            return Ok(directory.to_path_buf());
        };
        let mut depth = 0_i32;
        for component in Path::new(path).components() {
            match component {
                Component::Normal(_) => depth += 1,
                Component::ParentDir => depth -= 1,
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
            if depth < 0 {
                return Err(PathError::Escapes { path: path.clone() });
            }
        }
        Ok(directory
            .components()
            .chain(inside(Path::new(path)).components())
            .collect())
    }

    /// Refuses a controller that the container has no directory for.
    ///
    /// # Errors
    /// Names the first such controller.
    pub fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), PathError> {
        match self.0.keys().find(|name| !name.is_empty() && !known(name)) {
            Some(controller) => Err(PathError::UnknownController {
                controller: controller.clone(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
