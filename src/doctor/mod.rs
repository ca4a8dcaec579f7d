//! What is wrong with a host, and what would mend it.
//!
//! Pure: `host::survey` collects the facts of [`needs`], from a live machine or
//! from a recorded one, and [`examine`] judges them. Every problem names its fix.
//!
//! | file | looks at |
//! |---|---|
//! | `gpus` | drivers, libraries, device nodes, the multi-process service |
//! | `cdi` | specifications against the host |
//! | `system` | cgroups, user namespaces, the policy, leases |
//! | `engines` | configuration of containerd, docker, CRI-O and podman |

mod cdi;
mod engines;
mod gpus;
mod system;

use std::path::PathBuf;

use crate::cdi::Registry;
use crate::gpu::{self, Needs};
use crate::host::facts::Snapshot;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// Containers will miss something.
    Problem,
}

impl Level {
    /// The word in the output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub area: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found: one line, lower case.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    fn fine(area: &'static str, text: impl Into<String>) -> Self {
        Self {
            area,
            level: Level::Fine,
            text: text.into(),
            fix: None,
        }
    }

    fn note(area: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Note,
            fix: Some(fix.into()),
            ..Self::fine(area, text)
        }
    }

    fn problem(area: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            ..Self::note(area, text, fix)
        }
    }
}

/// What only the machine itself can tell, and no recorded one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The policy's file, if there is one, or what is wrong with it.
    pub policy: Option<Result<PathBuf, String>>,
    /// Whether the policy lets images ask for GPUs as NVIDIA's default does.
    pub images_may_ask: bool,
    /// Leases as device, mode and container; or what is wrong with the store.
    pub leases: Option<Result<Vec<String>, String>>,
    /// Whether kusabi has the systemd cgroup driver.
    pub systemd_driver: Option<bool>,
    /// The caller: name or number, and whether it is the host's root.
    pub caller: Option<(String, bool)>,
}

/// Everything that is judged.
#[derive(Debug)]
pub struct Survey<'s> {
    /// Files, texts and names of the host.
    pub snapshot: &'s Snapshot,
    /// CDI specifications of the host.
    pub registry: &'s Registry,
    /// What only a live machine tells.
    pub machine: &'s Machine,
}

/// The patterns that a survey follows.
#[must_use]
pub fn needs() -> Needs {
    let mut needs = gpu::needs(None);
    for (texts, names, nodes) in [gpus::NEEDS, system::NEEDS, engines::NEEDS] {
        needs.texts.extend(texts);
        needs.names.extend(names);
        needs.nodes.extend(nodes);
    }
    needs
}

/// Texts, directories and nodes, as [`Needs`] has them.
type Patterns = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

/// Host paths that the specifications name.
#[must_use]
pub fn paths(registry: &Registry) -> Vec<PathBuf> {
    cdi::paths(registry)
}

/// Programs that engines are to call, which may not be there.
#[must_use]
pub fn programs(snapshot: &Snapshot) -> Vec<PathBuf> {
    engines::programs(snapshot)
}

/// Judges everything; problems first within each area.
#[must_use]
pub fn examine(survey: &Survey<'_>) -> Vec<Finding> {
    let mut findings = gpus::examine(survey);
    findings.extend(cdi::examine(survey));
    findings.extend(system::examine(survey));
    findings.extend(engines::examine(survey));
    let mut areas: Vec<&str> = Vec::new();
    for finding in &findings {
        if !areas.contains(&finding.area) {
            areas.push(finding.area);
        }
    }
    let place = |area: &str| areas.iter().position(|other| *other == area);
    findings.sort_by_key(|finding| (place(finding.area), std::cmp::Reverse(finding.level)));
    findings
}
