//! The Container Device Interface: names, specifications, registry, resolving.
//!
//! Pure: bytes in, values out. Reading directories lives in `host::cdi_dirs`.
//!
//! Bytes become a [`Spec`] (`decode`, checked by `versions` and `validate`), the
//! files of several directories a [`Registry`], wanted names a [`Resolution`],
//! and that, with facts about the host, a plan (`lower`).

mod decode;
mod lower;
mod name;
mod registry;
mod resolve;
pub mod schema;
mod search;
mod validate;
mod versions;

use std::path::PathBuf;

pub use decode::MAX_FILE_SIZE;
pub use name::QualifiedName;
pub use registry::{FoundDevice, LoadedSpec, Registry, SpecFile};
pub use resolve::{Context, Mode, Resolution, Selected, Unresolvable, Wanted};
pub use schema::Spec;
pub use search::{DEFAULT_DIRS, search_path};
pub use validate::{Finding, MAX_MAJOR, MAX_MINOR};
pub use versions::{Version, minimum_version};

use crate::error::one_line;
use crate::yaml::{Problem, Report};

/// Anything wrong with CDI names, specifications or devices.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CdiError {
    /// A name is not `vendor/class=device`.
    #[error("invalid CDI device name {name:?}: {reason}")]
    Name {
        /// As typed.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A specification file is not valid.
    #[error("{}", first_of(file, problems))]
    Spec {
        /// The file.
        file: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// A specification file or directory cannot be read, or must not be.
    #[error("{}: {reason}", one_line(&path.to_string_lossy()))]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Wanted devices are unknown or in conflict.
    #[error("{0}")]
    Unresolvable(Box<Unresolvable>),
    /// Specifications that were to be checked are not all valid.
    #[error("{problems} problems in CDI specifications")]
    Invalid {
        /// How many were reported.
        problems: usize,
    },
    /// The host is not as a specification needs it.
    #[error("{}: {}: {}", one_line(rule), one_line(path), one_line(reason))]
    Host {
        /// Which edits, and of which file.
        rule: String,
        /// What on the host.
        path: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
}

/// The first problem, as `file:line:column: field: reason`.
fn first_of(file: &std::path::Path, problems: &[Problem]) -> String {
    let file = file.to_string_lossy();
    let file = one_line(&file);
    let Some(first) = problems.first() else {
        return format!("{file}: invalid");
    };
    match problems.len() - 1 {
        0 => format!("{file}:{first}"),
        more => format!("{file}:{first} (and {more} more)"),
    }
}

impl Spec {
    /// The vendor of [`kind`](Self::kind).
    #[must_use]
    pub fn vendor(&self) -> &str {
        self.kind.split_once('/').map_or("", |(vendor, _)| vendor)
    }

    /// The class of [`kind`](Self::kind).
    #[must_use]
    pub fn class(&self) -> &str {
        self.kind.split_once('/').map_or("", |(_, class)| class)
    }

    /// The full name of each device; all are valid if the specification is.
    pub fn names(&self) -> impl Iterator<Item = Result<QualifiedName, CdiError>> {
        self.devices
            .iter()
            .map(|device| QualifiedName::new(self.vendor(), self.class(), &device.name))
    }

    /// Reads and validates a specification, JSON or YAML.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file; at least one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let (spec, root) = decode::decode(bytes)?;
        let report = Report::default();
        for finding in spec.validate() {
            let at = finding.trail.locate(&root);
            report.add(at, &finding.trail, finding.reason, finding.hint);
        }
        let problems = report.into_problems();
        if problems.is_empty() {
            Ok(spec)
        } else {
            Err(problems)
        }
    }
}
