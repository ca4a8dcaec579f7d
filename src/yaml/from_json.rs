//! JSON by `serde_json`, which tells positions only in errors: values are
//! borrowed raw, and their place follows from where they sit in the text.

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Entry, MAX_DEPTH, MAX_VALUES, Node, Position, SyntaxError, Value, check_new_key};

/// Why there is no tree.
pub(super) enum Failure {
    /// The text is not JSON at all.
    NotJson(SyntaxError),
    /// It is JSON, but not acceptable.
    Tree(SyntaxError),
}

pub(super) fn parse(text: &str) -> Result<Node, Failure> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        Failure::NotJson(SyntaxError::new(
            Position {
                line: error.line().max(1),
                column: error.column().max(1),
            },
            plain_reason(&error),
        ))
    })?;
    let mut builder = Builder {
        lines: Lines::new(text),
        values: 0,
    };
    builder.node(raw, 0).map_err(Failure::Tree)
}

/// `serde_json` appends ` at line L column C`, which we say ourselves.
fn plain_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

struct Builder<'t> {
    lines: Lines<'t>,
    values: usize,
}

impl Builder<'_> {
    fn node(&mut self, raw: &RawValue, depth: usize) -> Result<Node, SyntaxError> {
        let text = raw.get();
        let at = self.lines.position(text);
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(SyntaxError::new(
                at,
                format!("more than {MAX_VALUES} values"),
            ));
        }
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(
                at,
                format!("nested deeper than {MAX_DEPTH}"),
            ));
        }
        let value = match text.as_bytes().first() {
            Some(b'{') => self.map(text, at, depth)?,
            Some(b'[') => {
                let mut items = Vec::new();
                for item in read(text, at, |d| d.deserialize_seq(Items))? {
                    items.push(Rc::new(self.node(item, depth + 1)?));
                }
                Value::List(items)
            }
            Some(b'"') => Value::Scalar {
                text: string(text, at)?,
                plain: false,
            },
            _ if text == "null" => Value::Null,
            _ => Value::Scalar {
                text: text.to_owned(),
                plain: true,
            },
        };
        Ok(Node { at, value })
    }

    fn map(&mut self, text: &str, at: Position, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        for (key, item) in read(text, at, |d| d.deserialize_map(Pairs))? {
            let key_at = self.lines.position(key.get());
            let key = string(key.get(), key_at)?;
            check_new_key(&mut seen, &key, key_at)?;
            entries.push(Entry {
                key,
                at: key_at,
                node: Rc::new(self.node(item, depth + 1)?),
            });
        }
        Ok(Value::Map(entries))
    }
}

/// One container's direct children. The whole text is known to be JSON, so an
/// error can only be a string that has no Unicode meaning.
fn read<'t, T>(
    text: &'t str,
    at: Position,
    visit: impl FnOnce(
        &mut serde_json::Deserializer<serde_json::de::StrRead<'t>>,
    ) -> Result<T, serde_json::Error>,
) -> Result<T, SyntaxError> {
    visit(&mut serde_json::Deserializer::from_str(text))
        .map_err(|error| SyntaxError::new(at, plain_reason(&error)))
}

fn string(text: &str, at: Position) -> Result<String, SyntaxError> {
    serde_json::from_str(text).map_err(|error| SyntaxError::new(at, plain_reason(&error)))
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// Where a slice of the text lies. Slices come in order, so counting resumes
/// from the last one instead of from the start.
struct Lines<'t> {
    text: &'t str,
    offset: usize,
    at: Position,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            offset: 0,
            at: Position::START,
        }
    }

    fn position(&mut self, slice: &str) -> Position {
        // Both point into the same text; `saturating_sub` only guards a future
        // where they would not.
        let offset = (slice.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .min(self.text.len());
        if offset < self.offset {
            (self.offset, self.at) = (0, Position::START);
        }
        for c in self.text.get(self.offset..offset).unwrap_or("").chars() {
            if c == '\n' {
                self.at.line += 1;
                self.at.column = 1;
            } else {
                self.at.column += 1;
            }
        }
        self.offset = offset;
        self.at
    }
}
