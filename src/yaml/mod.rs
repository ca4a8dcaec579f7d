//! YAML, JSON and TOML as trees in which every value knows its line and column.
//!
//! Files that people write (CDI specifications, service and policy files) deserve errors
//! that point at the place. `serde` loses it, so these files are read into a
//! [`Node`] first and into types with [`Fields`] second.
//!
//! Pure: text in, values out. What is hostile stays bounded: nesting depth,
//! number of values, and how much aliases may expand to. Duplicate keys are
//! errors everywhere.

mod fields;
mod from_json;
mod from_toml;
mod from_yaml;

use std::fmt;
use std::rc::Rc;

pub use fields::{Bounds, Fields, Problem, Report, Step, Trail, number, text};

/// Deepest nesting of lists and maps, aliases included.
const MAX_DEPTH: usize = 64;
/// Most values in one file.
const MAX_VALUES: usize = 500_000;
/// Most values that all aliases of a file may stand for.
const MAX_ALIASED: usize = 100_000;

/// A place in a text, as editors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text has no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct SyntaxError {
    /// Where the parser stopped.
    pub at: Position,
    /// One line, lower case.
    pub reason: String,
}

impl SyntaxError {
    fn new(at: Position, reason: impl Into<String>) -> Self {
        Self {
            at,
            reason: reason.into(),
        }
    }
}

/// One value and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Its first character.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// A string, number or boolean.
    Scalar {
        /// As written, without quotes and escapes.
        text: String,
        /// Written without quotes: may be a number or a boolean.
        plain: bool,
    },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the order of the file, without duplicate keys.
    Map(Vec<Entry>),
}

impl Value {
    /// What to call it in an error.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Scalar { plain: false, .. } => "a string",
            Self::Scalar { text, .. } => match text.as_str() {
                "true" | "false" => "a boolean",
                _ if fields::integer(text).is_some() => "a number",
                _ => "a string",
            },
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// One key of a map.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key starts.
    pub at: Position,
    /// Its value.
    pub node: Rc<Node>,
}

/// Reads a text as JSON if it is JSON, else as YAML.
///
/// The two overlap, and file names lie: the CDI reference implementation also
/// decides by content.
///
/// # Errors
/// [`SyntaxError`] where the text is neither, has a duplicate key, a second
/// document, or exceeds a limit. A text without any value gives `Ok(None)`.
pub fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('{') {
        return from_yaml::parse(text);
    }
    match from_json::parse(text) {
        Ok(node) => Ok(Some(node)),
        Err(from_json::Failure::Tree(error)) => Err(error),
        // A YAML flow map may start with the same brace. Where it is neither,
        // JSON was meant.
        Err(from_json::Failure::NotJson(error)) => from_yaml::parse(text).map_err(|_| error),
    }
}

/// Reads a text as TOML 1.0 or 1.1; the root is always a map.
///
/// # Errors
/// [`SyntaxError`] where the text is none, duplicate keys included.
pub fn parse_toml(text: &str) -> Result<Node, SyntaxError> {
    from_toml::parse(text)
}

/// Refuses the second of two equal keys.
fn check_new_key(
    seen: &mut std::collections::HashSet<String>,
    key: &str,
    at: Position,
) -> Result<(), SyntaxError> {
    if seen.insert(key.to_owned()) {
        Ok(())
    } else {
        Err(SyntaxError::new(at, format!("duplicate key {key:?}")))
    }
}

#[cfg(test)]
mod tests;
