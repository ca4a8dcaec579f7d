//! A plan for people and for programs: what is edited, why, and what comes out.
//!
//! Pure: text out, nothing is printed here. The JSON form is described in
//! `hack/docs/explain-json.md`, and its `version` changes with its meaning.

mod json;
mod text;

use similar::TextDiff;

use super::{Applied, Plan};
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
}

impl Explanation<'_> {
    /// One line an edit, grouped by origin: the rule that made it and who asked
    /// for that. `+` adds or sets, `-` removes, `=` was already so. Notes last.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// The plan as JSON, indented, with a newline at the end.
    #[must_use]
    pub fn json(&self) -> String {
        format!("{:#}\n", json::render(self))
    }

    /// A unified diff of `config.json` before and after, both indented in the
    /// same way; empty where nothing changes.
    ///
    /// # Errors
    /// As [`Document::pretty`].
    pub fn diff(&self) -> Result<String, DocumentError> {
        let before = self.original.pretty()?;
        let after = self.applied.document.pretty()?;
        // JSON that was read from UTF-8 is written as UTF-8.
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
}

#[cfg(test)]
mod tests;
