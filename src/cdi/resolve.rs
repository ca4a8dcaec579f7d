//! From wanted names to a plan, in two stages: which files of the host matter,
//! and, once they have been probed, which edits.
//!
//! All or nothing: one name that cannot be resolved fails them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::lower::{self, Merged};
use super::registry::{FoundDevice, Lookup, Registry};
use super::schema::ContainerEdits;
use super::validate::stage;
use super::{CdiError, QualifiedName};
use crate::edit::{HookStage, Note, Origin, Plan, Rule, Source};
use crate::error::one_line;
use crate::host::facts::Snapshot;

/// Which devices are wanted, and who wants them. The order of requests and
/// their repetition do not survive, so they cannot matter.
pub type Wanted = BTreeMap<QualifiedName, BTreeSet<Source>>;

/// What resolving needs to know beyond the registry and the host's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// `process.user.uid`: owner of device nodes that name none, unless 0.
    pub uid: u32,
    /// `process.user.gid`, likewise.
    pub gid: u32,
    /// Whether bind mounts get `idmap` or `ridmap`: the container has a user
    /// namespace, and the kernel and the caller's rights allow idmapped mounts.
    pub idmap_mounts: bool,
    /// What a missing host file comes to.
    pub mode: Mode,
}

/// What the plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A container: what the host lacks is an error.
    Create,
    /// An explanation: what the host lacks is a note, as long as the
    /// specification says enough.
    Explain,
}

/// Why wanted devices cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolvable {
    /// Names that no specification defines.
    pub unknown: Vec<QualifiedName>,
    /// Names that files of equal priority define.
    pub conflicts: Vec<(QualifiedName, Vec<PathBuf>)>,
    /// Directories that were read, lowest priority first.
    pub dirs: Vec<PathBuf>,
    /// Names that can be asked for.
    pub found: Vec<QualifiedName>,
    /// Files that count for nothing, and why.
    pub broken: Vec<String>,
}

impl fmt::Display for Unresolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = |paths: &[PathBuf]| join(paths.iter().map(|p| p.display()));
        let mut parts = Vec::new();
        if !self.unknown.is_empty() {
            parts.push(format!("unresolvable CDI devices {}", join(&self.unknown)));
        }
        for (name, files) in &self.conflicts {
            parts.push(format!(
                "conflicting CDI device {name} (in {})",
                paths(files)
            ));
        }
        parts.push(match self.dirs.as_slice() {
            [] => "no directory was read".to_owned(),
            dirs => format!("read {}", paths(dirs)),
        });
        parts.push(match self.found.as_slice() {
            [] => "found no devices".to_owned(),
            found => format!("found {}", join(found)),
        });
        if !self.broken.is_empty() {
            parts.push(format!("not read: {}", self.broken.join(", ")));
        }
        f.write_str(&one_line(&parts.join("; ")))
    }
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// One wanted device.
#[derive(Debug, Clone)]
pub struct Selected<'r> {
    /// Its name.
    pub name: QualifiedName,
    /// Where it is defined.
    pub found: FoundDevice<'r>,
    /// Who wants it.
    pub sources: BTreeSet<Source>,
}

/// Wanted devices whose specifications are known; their host files are not yet.
#[derive(Debug)]
pub struct Resolution<'r> {
    parts: Vec<Part<'r>>,
    notes: Vec<Note>,
}

/// Edits of one origin.
#[derive(Debug)]
pub(super) struct Part<'r> {
    pub(super) edits: &'r ContainerEdits,
    pub(super) origin: Origin,
}

impl Registry {
    /// Finds every wanted device, sorted by name.
    ///
    /// `vendor/class=all` is a device like any other where a specification
    /// defines it; where none of its kind does, it stands for all of them.
    ///
    /// # Errors
    /// [`CdiError::Unresolvable`] if any name is unknown or in conflict.
    pub fn find(&self, wanted: &Wanted) -> Result<Vec<Selected<'_>>, CdiError> {
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        let mut conflicts = Vec::new();
        for (name, sources) in self.expand_all(wanted, &mut Vec::new()) {
            match self.look_up(&name) {
                Lookup::Found(found_device) => found.push(Selected {
                    name,
                    found: found_device,
                    sources,
                }),
                Lookup::Conflict(files) => {
                    let files = files.into_iter().map(Into::into).collect();
                    conflicts.push((name, files));
                }
                Lookup::Unknown => unknown.push(name),
            }
        }
        if unknown.is_empty() && conflicts.is_empty() {
            return Ok(found);
        }
        Err(CdiError::Unresolvable(Box::new(Unresolvable {
            unknown,
            conflicts,
            dirs: self.dirs().to_vec(),
            found: self.devices().map(|(name, _)| name.clone()).collect(),
            broken: self.broken().iter().map(ToString::to_string).collect(),
        })))
    }

    /// Finds every wanted device and puts their edits in order: a
    /// specification's own once, right before its first device's.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn resolve(&self, wanted: &Wanted) -> Result<Resolution<'_>, CdiError> {
        let found = self.find(wanted)?;
        let mut notes = Vec::new();
        self.expand_all(wanted, &mut notes);
        let mut parts = Vec::new();
        let mut seen = BTreeSet::new();
        for selected in &found {
            let FoundDevice { spec, device } = selected.found;
            let file = &spec.path;
            if seen.insert((spec.priority, file)) {
                let everyone: BTreeSet<Source> = found
                    .iter()
                    .filter(|other| std::ptr::eq(other.found.spec, spec))
                    .flat_map(|other| other.sources.iter().cloned())
                    .collect();
                parts.push(Part {
                    edits: &spec.spec.container_edits,
                    origin: Origin {
                        rule: Rule::CdiSpec { file: file.clone() },
                        sources: everyone.into_iter().collect(),
                    },
                });
            }
            parts.push(Part {
                edits: &device.container_edits,
                origin: Origin {
                    rule: Rule::CdiDevice {
                        name: selected.name.clone(),
                        file: file.clone(),
                    },
                    sources: selected.sources.iter().cloned().collect(),
                },
            });
        }
        Ok(Resolution { parts, notes })
    }

    fn expand_all(&self, wanted: &Wanted, notes: &mut Vec<Note>) -> Wanted {
        let mut expanded = Wanted::new();
        for (name, sources) in wanted {
            let names = match self.look_up(name) {
                Lookup::Unknown if name.device() == "all" => self.names_of(&name.kind()),
                _ => vec![],
            };
            if names.is_empty() {
                expanded
                    .entry(name.clone())
                    .or_default()
                    .extend(sources.iter().cloned());
                continue;
            }
            notes.push(Note {
                text: format!(
                    "no specification defines {name}, it stands for the {} devices of its kind",
                    names.len()
                ),
                origin: Origin {
                    rule: Rule::Builtin("cdi"),
                    sources: sources.iter().cloned().collect(),
                },
            });
            for name in names {
                expanded
                    .entry(name.clone())
                    .or_default()
                    .extend(sources.iter().cloned());
            }
        }
        expanded
    }
}

impl Resolution<'_> {
    /// Host paths whose facts [`plan`](Self::plan) wants: device nodes, sources
    /// of bind mounts, and hooks that run in the host's namespace.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<PathBuf> {
        let mut paths = BTreeSet::new();
        for edits in self.parts.iter().map(|part| part.edits) {
            paths.extend(edits.device_nodes.iter().map(|node| node.host().into()));
            paths.extend(
                edits
                    .mounts
                    .iter()
                    .filter_map(lower::bind_source)
                    .map(PathBuf::from),
            );
            paths.extend(
                edits
                    .hooks
                    .iter()
                    .filter(|hook| stage(&hook.hook_name) != Some(HookStage::StartContainer))
                    .map(|hook| PathBuf::from(&hook.path)),
            );
        }
        paths
    }

    /// The edits, merged over all devices, by kind: environment, device nodes
    /// with their rules, network devices, mounts, hooks, resource director,
    /// groups.
    ///
    /// # Errors
    /// [`CdiError::Host`] if the host is not as a specification needs it, or a
    /// hook could have been written by anyone.
    pub fn plan(&self, snapshot: &Snapshot, context: &Context) -> Result<Plan, CdiError> {
        let mut plan = Plan {
            edits: Vec::new(),
            notes: self.notes.clone(),
        };
        lower::lower(&Merged::new(&self.parts), snapshot, context, &mut plan)?;
        Ok(plan)
    }
}
