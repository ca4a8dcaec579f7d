//! The closed list of changes kusabi makes to a container's configuration.
//!
//! A [`Plan`] is an ordered list of [`Edit`]s, each with its [`Origin`]. Nobody
//! else changes a [`Document`](crate::document::Document): [`apply()`] makes the
//! effective one, after which `invariants` checks that nothing moved which no
//! edit names. This module is pure.

mod apply;
mod decision;
mod describe;
mod device_list;
mod explain;
mod invariants;
mod origin;
pub(crate) mod path;
mod slot;
mod types;

use crate::device::policy::RuleError;
use crate::document::DocumentError;

pub use apply::{Applied, Outcome, apply, apply_traced};
pub use decision::{Decision, Ledger, PolicyLine, Trust, Verdict};
pub use explain::{
    Allow, EditRow, Explanation, NoteRow, OriginRow, Report, RequestRow, SourceRow, diff, refusal,
};
pub use origin::{Origin, Rule, Source};
pub use types::{
    Access, DeviceKind, DeviceNode, DeviceRule, Edit, Hook, HookStage, IdMapping, IntelRdt, Mount,
    NamespaceKind,
};

/// One edit and why it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEdit {
    /// The change itself.
    pub edit: Edit,
    /// Which rule made it, and which requests led to the rule.
    pub origin: Origin,
}

/// Something the user should know that is not an edit: a request that was
/// ignored, a stale number that was repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One line, lower case.
    pub text: String,
    /// What it is about.
    pub origin: Origin,
}

/// All edits of one container, in the order in which they apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The edits, in order.
    pub edits: Vec<PlannedEdit>,
    /// Warnings and decisions, in order.
    pub notes: Vec<Note>,
}

impl Plan {
    /// Adds an edit after all others.
    pub fn push(&mut self, edit: Edit, origin: Origin) {
        self.edits.push(PlannedEdit { edit, origin });
    }

    /// Adds a note after all others.
    pub fn note(&mut self, text: impl Into<String>, origin: Origin) {
        let text = text.into();
        self.notes.push(Note { text, origin });
    }

    /// Adds another plan's edits and notes after this one's.
    pub fn append(&mut self, mut other: Self) {
        self.edits.append(&mut other.edits);
        self.notes.append(&mut other.notes);
    }

    /// Whether nothing would be edited. There may still be notes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

/// Why an edit cannot be applied to a document.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// The document has a value of the wrong JSON type where the edit must write.
    #[error("config.json: {field}: expected {expected}, found {found}")]
    Type {
        /// Dotted path of the field, as in `linux.devices`.
        field: String,
        /// The JSON type the OCI specification asks for.
        expected: &'static str,
        /// The JSON type found.
        found: &'static str,
    },
    /// The list of device rules cannot be honoured, before or after an edit of it.
    #[error("config.json: {0}")]
    Rule(#[from] RuleError),
    /// The edit would break an invariant (see `invariants`).
    #[error("config.json: {field}: {reason}")]
    Invariant {
        /// Dotted path of the field.
        field: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
}

impl From<DocumentError> for EditError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Type {
                field,
                expected,
                found,
            } => Self::Type {
                field,
                expected,
                found,
            },
            DocumentError::Value { field, reason } => Self::Invariant { field, reason },
            DocumentError::DuplicateKey { field, .. } => Self::Invariant {
                field,
                reason: "duplicate key".to_owned(),
            },
            DocumentError::Parse(reason) => Self::Invariant {
                field: "document".to_owned(),
                reason,
            },
        }
    }
}
