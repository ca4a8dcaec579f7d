//! Provenance as a type: `explain`, errors and debug logs share it.

use std::fmt;
use std::path::PathBuf;

use crate::cdi::QualifiedName;

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A command line flag, as in `--device`.
    Flag {
        /// With its dashes.
        flag: &'static str,
        /// As typed.
        value: String,
    },
    /// An annotation of the container.
    Annotation {
        /// The whole key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A variable of the container's environment: made by the image, untrusted.
    Environment {
        /// Variable name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A mount that stands for a request.
    Mount {
        /// Its destination.
        destination: PathBuf,
    },
    /// The host's policy file.
    Policy {
        /// The file.
        file: PathBuf,
        /// The dotted key.
        key: String,
    },
    /// The service file of the bundle builder.
    Service {
        /// Dotted path of the field.
        field: String,
    },
    /// Nobody asked: the situation itself needs it (rootless conversion).
    Situation {
        /// What the situation is, as in `the caller is not root`.
        reason: String,
    },
}

/// Which rule turned requests into an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `containerEdits` of a whole CDI specification.
    CdiSpec {
        /// The specification file.
        file: PathBuf,
    },
    /// `containerEdits` of one CDI device.
    CdiDevice {
        /// The device.
        name: QualifiedName,
        /// The specification file.
        file: PathBuf,
    },
    /// A built-in vendor profile, as in `nvidia`.
    Profile {
        /// Vendor word.
        vendor: &'static str,
    },
    /// The conversion for callers without privilege.
    Rootless,
    /// A part of kusabi named by its word, as in `mps` or `cgroup parent`.
    Builtin(&'static str),
}

/// A rule and the requests that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What made the edit.
    pub rule: Rule,
    /// Who asked; sorted, without repeats.
    pub sources: Vec<Source>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag, value } => write!(f, "flag {flag} {value}"),
            Self::Annotation { key, value } => write!(f, "annotation {key}={value}"),
            Self::Environment { name, value } => write!(f, "environment {name}={value}"),
            Self::Mount { destination } => write!(f, "mount {}", destination.display()),
            Self::Policy { file, key } => write!(f, "policy {} {key}", file.display()),
            Self::Service { field } => write!(f, "service file {field}"),
            Self::Situation { reason } => f.write_str(reason),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CdiSpec { file } => write!(f, "cdi {}", file.display()),
            Self::CdiDevice { name, file } => write!(f, "cdi {name} ({})", file.display()),
            Self::Profile { vendor } => write!(f, "built-in profile {vendor}"),
            Self::Rootless => f.write_str("rootless"),
            Self::Builtin(word) => f.write_str(word),
        }
    }
}
