//! A container's resctrl group (`linux.intelRdt`): shares of cache and memory
//! bandwidth, as Intel RDT and AMD QoS have them (OCI `config-linux.md`, "Intel
//! RDT"; kernel `Documentation/filesystems/resctrl.rst`).
//!
//! A group is a directory in a file system that the host's administrator has
//! mounted. A container without `closID` gets one of its own, named by its id and
//! removed with it; a `closID` names one that others may share, and is never
//! removed. Every function takes the mount point, or has it on record.

mod stats;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use procfs::FromBufRead as _;
use procfs::process::MountInfos;
use serde::{Deserialize, Serialize};

use crate::document::{Document, intel_rdt};
use crate::error::{Error, Result, reason};

/// A container's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    root: PathBuf,
    path: PathBuf,
    monitoring: Option<PathBuf>,
    /// Whether the directory is the container's alone, and goes with it.
    own: bool,
}

/// A group that has been decided on and not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    group: Group,
    lines: String,
    must_exist: bool,
}

/// Decides on the group of a document, given where resctrl is mounted.
///
/// # Errors
/// In runc's words: a host without resctrl, or without the feature that is asked
/// for; a `closID` that is no name.
pub fn plan(document: &Document, id: &str, mounted: Option<&Path>) -> Result<Option<Planned>> {
    let Some(rdt) = intel_rdt(document.value())? else {
        return Ok(None);
    };
    let refuse = |text: String| Err(Error::Usage(text));
    let Some(root) = mounted else {
        return refuse("intelRdt is specified in config, but Intel RDT is not enabled".into());
    };
    let class = rdt.clos_id.unwrap_or_default();
    if class == "." || class == ".." || (class.len() > 1 && class.contains('/')) {
        return refuse(format!("invalid intelRdt.ClosID {class:?}"));
    }
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let (l3, bandwidth) = (text(&rdt.l3_cache_schema), text(&rdt.mem_bw_schema));
    if l3.is_some() && !has(root, "L3") {
        return refuse(
            "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"
                .into(),
        );
    }
    if bandwidth.is_some() && !has(root, "MB") {
        return refuse(
            "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled".into(),
        );
    }
    let path = match class.as_str() {
        "" => root.join(id),
        // The default group, which everybody is in.
        "/" => root.to_path_buf(),
        name => root.join(name),
    };
    let lines: String = [l3, bandwidth]
        .into_iter()
        .flatten()
        .chain(rdt.schemata.into_iter().filter(|line| !line.is_empty()))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(Some(Planned {
        must_exist: !class.is_empty() && lines.is_empty(),
        group: Group {
            root: root.to_path_buf(),
            monitoring: rdt
                .enable_monitoring
                .then(|| path.join("mon_groups").join(id)),
            own: class.is_empty() && !path.exists(),
            path,
        },
        lines,
    }))
}

impl Planned {
    /// What goes on record before anything is made.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Makes the group with its limits, before anything runs in it.
    ///
    /// # Errors
    /// The kernel's, with what it says in `info/last_cmd_status`. What was made
    /// stays, for [`Group::remove`].
    pub fn make(&self) -> Result<()> {
        let Group { root, path, .. } = &self.group;
        if self.must_exist
            && let Err(error) = fs::metadata(path)
        {
            return Err(failed(
                root,
                &format!(
                    "clos dir not accessible (must be pre-created when schemata, l3CacheSchema \
                     and memBwSchema are empty): stat {}",
                    path.display()
                ),
                &error,
            ));
        }
        mkdir(root, path)?;
        if !self.lines.is_empty() {
            let schemata = Schemata {
                root: root.clone(),
                path: path.join("schemata"),
                lines: self.lines.clone(),
            };
            schemata.write()?;
        }
        match &self.group.monitoring {
            Some(monitoring) => mkdir(root, monitoring),
            None => Ok(()),
        }
    }
}

impl Group {
    /// Puts a process into the group.
    ///
    /// # Errors
    /// The kernel's, with what it says in `info/last_cmd_status`.
    pub fn join(&self, pid: i32) -> Result<()> {
        for directory in std::iter::once(&self.path).chain(&self.monitoring) {
            let tasks = directory.join("tasks");
            fs::write(&tasks, pid.to_string()).map_err(|error| {
                let text = format!("unable to add pid {pid}: write {}", tasks.display());
                failed(&self.root, &text, &error)
            })?;
        }
        Ok(())
    }

    /// Whether it is there: an administrator may unmount resctrl at any time.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Removes what is the container's own: the group, or its part of a shared
    /// one. What has gone is no error.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove(&self) -> Result<()> {
        // The kernel removes a group's monitoring groups with it.
        let directory = match &self.monitoring {
            _ if self.own => &self.path,
            Some(monitoring) => monitoring,
            None => return Ok(()),
        };
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", directory, error))
            }
            _ => Ok(()),
        }
    }
}

fn mkdir(root: &Path, path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed(root, &format!("mkdir {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// The kernel's number for a refusal says little; its words are in a file.
fn failed(root: &Path, what: &str, error: &io::Error) -> Error {
    let status = fs::read_to_string(root.join("info/last_cmd_status"));
    let status = status.map_or_else(
        |_| String::new(),
        |s| format!(", last_cmd_status: {}", s.trim_end()),
    );
    Error::Usage(format!("intelrdt: {what}: {}{status}", reason(error)))
}

/// Whether the processor has a feature, as in `L3` or `MB`.
fn has(root: &Path, feature: &str) -> bool {
    root.join("info").join(feature).exists()
}

/// Lines to be written to a group's `schemata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemata {
    root: PathBuf,
    path: PathBuf,
    lines: String,
}

impl Schemata {
    /// Writes the lines; the kernel takes all or none.
    ///
    /// # Errors
    /// The kernel refuses, and says why in `info/last_cmd_status`.
    pub fn write(&self) -> Result<()> {
        let result = fs::OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(self.lines.as_bytes()));
        result.map_err(|error| {
            let (lines, path) = (&self.lines, self.path.display());
            let text = format!("unable to write {lines:?}: write {path}");
            failed(&self.root, &text, &error)
        })
    }
}

/// Where resctrl is mounted, if it is.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    let file = fs::File::open("/proc/self/mountinfo").ok()?;
    let mounts = MountInfos::from_buf_read(io::BufReader::new(file)).ok()?;
    let mount = mounts.0.into_iter().find(|m| m.fs_type == "resctrl")?;
    Some(mount.mount_point)
}

/// What an `update` writes where, if it asks for anything.
///
/// # Errors
/// In runc's words: the processor lacks the feature, or the container was
/// created without a group.
pub fn schemata(
    resctrl: Option<&Path>,
    group: Option<&Group>,
    l3_cache: Option<&str>,
    memory_bandwidth: Option<&str>,
) -> Result<Option<Schemata>> {
    let mut asked = false;
    for (schema, feature, refusal) in [
        (
            l3_cache,
            "L3",
            "Intel RDT/CAT: l3 cache schema is not enabled",
        ),
        (
            memory_bandwidth,
            "MB",
            "Intel RDT/MBA: memory bandwidth schema is not enabled",
        ),
    ] {
        if schema.is_some() && !resctrl.is_some_and(|root| has(root, feature)) {
            return Err(Error::Usage(refusal.to_owned()));
        }
        asked |= schema.is_some();
    }
    if !asked {
        return Ok(None);
    }
    let group = group.ok_or_else(|| {
        let text = "updating a non-existent Intel RDT configuration is not supported";
        Error::Usage(text.to_owned())
    })?;
    let lines = [l3_cache, memory_bandwidth].into_iter().flatten();
    Ok(Some(Schemata {
        root: group.root.clone(),
        path: group.path.join("schemata"),
        lines: lines.map(|line| format!("{line}\n")).collect(),
    }))
}

#[cfg(test)]
mod tests;
