//! A plan for people and for programs: what is edited, why, and what comes out.
//!
//! Pure: text out, nothing is printed here. The JSON form is described in
//! `hack/docs/explain-json.md`, and its `version` changes with its meaning.

mod json;
mod report;
mod text;

use similar::TextDiff;

pub use report::{Allow, EditRow, NoteRow, OriginRow, Report, RequestRow, SourceRow};

use super::describe::one_line;
use super::{Applied, Decision, Plan};
use crate::document::{Document, DocumentError};

/// A plan, the document it was made for, and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// Before the plan.
    pub original: &'a Document,
    /// The edits and notes.
    pub plan: &'a Plan,
    /// What [`apply_traced`](super::apply_traced) returned for the two.
    pub applied: &'a Applied,
    /// What was asked for, and what became of it.
    pub decisions: &'a [Decision],
}

impl Explanation<'_> {
    /// Everything but the diff, which takes longer.
    #[must_use]
    pub fn report(&self) -> Report {
        json::report(self)
    }

    /// Everything.
    ///
    /// # Errors
    /// As [`diff`].
    pub fn whole(&self) -> Result<Report, DocumentError> {
        let mut report = self.report();
        report.diff = Some(self.diff()?);
        Ok(report)
    }

    /// What changes; see [`diff`].
    ///
    /// # Errors
    /// As [`diff`].
    pub fn diff(&self) -> Result<String, DocumentError> {
        diff(self.original, &self.applied.document)
    }
}

/// What is to be said where requests were refused, and there is no plan.
#[must_use]
pub fn refusal(decisions: &[Decision], error: &crate::error::Error) -> Report {
    json::refused(decisions, error.to_string())
}

/// A unified diff of `config.json` before and after, both indented in the same
/// way; empty where nothing changes.
///
/// # Errors
/// As [`Document::pretty`].
pub fn diff(before: &Document, after: &Document) -> Result<String, DocumentError> {
    // JSON that was read from UTF-8 is written as UTF-8.
    let (before, after) = (before.pretty()?, after.pretty()?);
    let (before, after) = (
        String::from_utf8_lossy(&before),
        String::from_utf8_lossy(&after),
    );
    let diff = TextDiff::from_lines(before.as_ref(), after.as_ref());
    Ok(diff
        .unified_diff()
        .context_radius(3)
        .header("config.json", "config.json (effective)")
        .to_string())
}

#[cfg(test)]
mod tests;
