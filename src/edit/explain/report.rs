//! An explanation as plain data: what `hack/docs/explain-json.md` describes, and
//! what a container's state directory keeps of its plan.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text;

/// Goes up when a program that read the last version could misread this one.
/// New keys do not count.
pub(super) const VERSION: u32 = 1;

/// Requests, edits and notes, in words and as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the form.
    pub version: u32,
    /// Whether the effective configuration differs from the one that came.
    pub changed: bool,
    /// Everything that was asked for.
    #[serde(default)]
    pub requests: Vec<RequestRow>,
    /// Every edit, in the order in which it applies.
    pub edits: Vec<EditRow>,
    /// What is worth knowing and no edit.
    pub notes: Vec<NoteRow>,
    /// Why there is no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the edits come to, as a unified diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Who asks, in words.
    pub text: String,
    /// Who asks.
    pub source: Value,
    /// How far that place is trusted.
    pub trust: String,
    /// What became of it.
    pub decision: String,
    /// What it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Why it is not met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What in the policy would let it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
}

/// A line of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// The line.
    pub line: String,
    /// The file where it would stand.
    pub file: String,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditRow {
    /// Its name.
    pub kind: String,
    /// The field that it is about.
    pub field: String,
    /// What is set, added or removed.
    pub value: Value,
    /// The same in words.
    pub text: String,
    /// `+`, `-` or `=`.
    pub sign: char,
    /// `changed` or `unchanged`.
    pub outcome: String,
    /// Why.
    pub origin: OriginRow,
}

/// Why an edit or a note is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OriginRow {
    /// What made it, in words.
    pub text: String,
    /// What made it.
    pub rule: Value,
    /// Who asked for it.
    pub sources: Vec<SourceRow>,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRow {
    /// In words.
    pub text: String,
    /// The keys of its kind.
    #[serde(flatten)]
    pub source: serde_json::Map<String, Value>,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoteRow {
    /// One line.
    pub text: String,
    /// What it is about.
    pub origin: OriginRow,
}

impl Report {
    /// Requests, then edits with their origin, notes, and the diff; one line each,
    /// but for the diff.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// As JSON, indented, with a newline at the end.
    #[must_use]
    pub fn json(&self) -> String {
        // Plain data with text for keys cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Adds what was edited later.
    pub fn append(&mut self, later: Self) {
        self.changed |= later.changed;
        self.requests.extend(later.requests);
        self.edits.extend(later.edits);
        self.notes.extend(later.notes);
    }
}
