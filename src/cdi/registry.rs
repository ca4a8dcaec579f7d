//! Which devices there are: specification files of several directories, with
//! priorities, conflicts, and broken files that hide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::schema::{Device, Spec};
use super::{CdiError, QualifiedName};

/// A file that may be a specification, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecFile {
    /// Where it was read from; the directory where that could not be read.
    pub path: PathBuf,
    /// Position of its directory in the list; later wins.
    pub priority: usize,
    /// Its bytes, or why there are none: one line, lower case.
    pub content: Result<Vec<u8>, String>,
}

/// A valid specification and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedSpec {
    /// The file.
    pub path: PathBuf,
    /// Position of its directory in the list; later wins.
    pub priority: usize,
    /// What it says.
    pub spec: Spec,
}

/// One device of a registry.
#[derive(Debug, Clone, Copy)]
pub struct FoundDevice<'r> {
    /// The specification it belongs to.
    pub spec: &'r LoadedSpec,
    /// The device in it.
    pub device: &'r Device,
}

/// All devices of some directories. Nothing is ever written back into it.
#[derive(Debug, Default)]
pub struct Registry {
    dirs: Vec<PathBuf>,
    specs: Vec<LoadedSpec>,
    devices: BTreeMap<QualifiedName, Slot>,
    broken: Vec<CdiError>,
}

/// Who defines a name at the highest priority that has it.
#[derive(Debug)]
struct Slot {
    priority: usize,
    /// Index of the specification, index of the device in it. More than one is
    /// a conflict.
    definitions: Vec<(usize, usize)>,
}

/// What asking for a name comes to.
pub(super) enum Lookup<'r> {
    Found(FoundDevice<'r>),
    /// Files of equal priority that all define it.
    Conflict(Vec<&'r Path>),
    Unknown,
}

impl Registry {
    /// Builds the registry of `dirs` from the files found in them.
    #[must_use]
    pub fn load(dirs: Vec<PathBuf>, files: Vec<SpecFile>) -> Self {
        let mut registry = Self {
            dirs,
            ..Self::default()
        };
        for file in files {
            registry.add(file);
        }
        registry
    }

    fn add(&mut self, file: SpecFile) {
        let SpecFile {
            path,
            priority,
            content,
        } = file;
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.broken.push(CdiError::File { path, reason });
                return;
            }
        };
        let spec = match Spec::parse(&bytes) {
            Ok(spec) => spec,
            Err(problems) => {
                let file = path;
                self.broken.push(CdiError::Spec { file, problems });
                return;
            }
        };
        let names: Vec<_> = spec.names().collect();
        let index = self.specs.len();
        self.specs.push(LoadedSpec {
            path,
            priority,
            spec,
        });
        for (i, name) in names.into_iter().enumerate() {
            // A valid specification has only valid names.
            let Ok(name) = name else { continue };
            let slot = self.devices.entry(name).or_insert(Slot {
                priority,
                definitions: Vec::new(),
            });
            if priority > slot.priority {
                // What it shadows does not matter any more, conflict or not.
                slot.priority = priority;
                slot.definitions.clear();
            }
            if priority == slot.priority {
                slot.definitions.push((index, i));
            }
        }
    }

    /// The directories that were read, lowest priority first.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Valid specifications, in the order in which they were read.
    #[must_use]
    pub fn specs(&self) -> &[LoadedSpec] {
        &self.specs
    }

    /// Files and directories that count for nothing, and why.
    #[must_use]
    pub fn broken(&self) -> &[CdiError] {
        &self.broken
    }

    /// Devices that can be asked for, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&QualifiedName, FoundDevice<'_>)> {
        self.devices
            .keys()
            .filter_map(|name| match self.look_up(name) {
                Lookup::Found(device) => Some((name, device)),
                _ => None,
            })
    }

    /// Names that files of equal priority define, and these files.
    pub fn conflicts(&self) -> impl Iterator<Item = (&QualifiedName, Vec<&Path>)> {
        self.devices
            .keys()
            .filter_map(|name| match self.look_up(name) {
                Lookup::Conflict(files) => Some((name, files)),
                _ => None,
            })
    }

    /// One device, unless it is unknown or in conflict.
    #[must_use]
    pub fn device(&self, name: &QualifiedName) -> Option<FoundDevice<'_>> {
        match self.look_up(name) {
            Lookup::Found(device) => Some(device),
            _ => None,
        }
    }

    /// Whether any specification defines this name, in conflict or not.
    #[must_use]
    pub fn defines(&self, name: &QualifiedName) -> bool {
        self.devices.contains_key(name)
    }

    /// Whether any specification defines a device of this `vendor/class`.
    #[must_use]
    pub fn has_kind(&self, kind: &str) -> bool {
        self.devices.keys().any(|name| name.kind() == kind)
    }

    /// Vendors of all valid specifications, sorted.
    #[must_use]
    pub fn vendors(&self) -> BTreeSet<&str> {
        self.specs.iter().map(|s| s.spec.vendor()).collect()
    }

    /// Classes of all valid specifications, sorted.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<&str> {
        self.specs.iter().map(|s| s.spec.class()).collect()
    }

    /// Every name of a kind, in conflict or not.
    pub(super) fn names_of(&self, kind: &str) -> Vec<&QualifiedName> {
        self.devices
            .keys()
            .filter(|name| name.kind() == kind)
            .collect()
    }

    pub(super) fn look_up(&self, name: &QualifiedName) -> Lookup<'_> {
        let found: Vec<FoundDevice<'_>> = self
            .devices
            .get(name)
            .into_iter()
            .flat_map(|slot| &slot.definitions)
            .filter_map(|&(spec, device)| {
                let spec = self.specs.get(spec)?;
                let device = spec.spec.devices.get(device)?;
                Some(FoundDevice { spec, device })
            })
            .collect();
        match found.as_slice() {
            [] => Lookup::Unknown,
            [one] => Lookup::Found(*one),
            several => Lookup::Conflict(several.iter().map(|d| d.spec.path.as_path()).collect()),
        }
    }
}
