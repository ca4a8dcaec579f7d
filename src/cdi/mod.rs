//! The Container Device Interface: names, specifications, registry, resolving.
//!
//! Pure: bytes in, values out. Reading directories lives in `host::cdi_dirs`.
//!
//! `name` → `decode` (bytes to [`schema`]) → `versions`, `validate`.

mod decode;
mod name;
pub mod schema;
mod validate;
mod versions;

use std::path::PathBuf;

pub use decode::MAX_FILE_SIZE;
pub use name::QualifiedName;
pub use schema::Spec;
pub use validate::{Finding, MAX_MAJOR, MAX_MINOR};
pub use versions::{Version, minimum_version};

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
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The first problem, as `file:line:column: field: reason`.
fn first_of(file: &std::path::Path, problems: &[Problem]) -> String {
    let Some(first) = problems.first() else {
        return format!("{}: invalid", file.display());
    };
    match problems.len() - 1 {
        0 => format!("{}:{first}", file.display()),
        more => format!("{}:{first} (and {more} more)", file.display()),
    }
}

impl Spec {
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
