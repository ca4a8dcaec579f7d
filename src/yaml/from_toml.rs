//! TOML into the tree.

use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Entry, Node, Position, SyntaxError, Value};

/// Reads a text as TOML. Duplicate keys are syntax errors of the language, and
/// the parser bounds the nesting.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let places = Places::new(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(Node {
            at: Position::START,
            value: map(table.get_ref(), &places),
        }),
        Err(error) => {
            let at = error
                .span()
                .map_or(Position::START, |span| places.at(span.start));
            let reason = error.message().replace('\n', ", ");
            Err(SyntaxError::new(at, lower_first(&reason)))
        }
    }
}

fn node(value: &Spanned<DeValue<'_>>, places: &Places<'_>) -> Node {
    let scalar = |text: String, plain| Value::Scalar { text, plain };
    Node {
        at: places.at(value.span().start),
        value: match value.get_ref() {
            DeValue::String(text) => scalar(text.clone().into_owned(), false),
            DeValue::Integer(number) => scalar(integer(number), true),
            DeValue::Float(number) => scalar(number.as_str().to_owned(), true),
            DeValue::Boolean(value) => scalar(value.to_string(), true),
            DeValue::Datetime(time) => scalar(time.to_string(), true),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Rc::new(node(item, places)))
                    .collect(),
            ),
            DeValue::Table(table) => map(table, places),
        },
    }
}

fn map(table: &DeTable<'_>, places: &Places<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            at: places.at(key.span().start),
            node: Rc::new(node(value, places)),
        })
        .collect();
    entries.sort_by_key(|entry| entry.at);
    Value::Map(entries)
}

fn integer(number: &DeInteger<'_>) -> String {
    let digits = number.as_str();
    let prefix = match number.radix() {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    match digits.starts_with(prefix) {
        true => digits.to_owned(),
        false => format!("{prefix}{digits}"),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Byte offsets as lines and columns.
struct Places<'t> {
    text: &'t str,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn new(text: &'t str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            lines: std::iter::once(0).chain(after).collect(),
        }
    }

    fn at(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines[line - 1];
        // Where a parser stops within a character, that character is meant.
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        let column = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
        Position { line, column }
    }
}
