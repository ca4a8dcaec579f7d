//! JSON text to a tree that can be written back without loss.
//!
//! `serde_json` alone cannot do it: it writes `1E5` as `1e+5`, keeps the last of
//! two equal keys in silence, and takes an object with a certain private key for
//! a number. So the structure is read here, with positions; strings and numbers
//! are still decoded by `serde_json`. `tests/properties.rs` compares the two.

use serde_json::{Map, Number, Value};

use super::field::{json_type, key_segment};
use super::{Document, DocumentError};

/// Keys that `serde_json` gives a meaning of its own when it reads a tree back.
const RESERVED_PREFIX: &str = "$serde_json::private::";

pub(super) fn parse(bytes: &[u8]) -> Result<Value, DocumentError> {
    if bytes.len() > Document::MAX_BYTES {
        return Err(DocumentError::Parse(format!(
            "{} bytes are more than the limit of {} MiB",
            bytes.len(),
            Document::MAX_BYTES >> 20
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        DocumentError::Parse(format!("not UTF-8 at line {line} column {column}"))
    })?;
    let mut parser = Parser {
        text,
        at: 0,
        trail: Vec::new(),
    };
    parser.skip_whitespace();
    let value = parser.value()?;
    parser.skip_whitespace();
    if parser.at < text.len() {
        return Err(parser.error("something follows the document"));
    }
    match value {
        Value::Object(_) => Ok(value),
        other => Err(DocumentError::Parse(format!(
            "expected object, found {}",
            json_type(&other)
        ))),
    }
}

/// One step from the root to where the parser is. Keys are as written, quotes
/// and escapes included, so that the usual case costs no allocation.
#[derive(Clone, Copy)]
enum Step<'t> {
    Key(&'t str),
    Index(usize),
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    trail: Vec<Step<'t>>,
}

impl<'t> Parser<'t> {
    fn value(&mut self) -> Result<Value, DocumentError> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Value::String(self.string()?.1)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the document ends where a value should be")),
        }
    }

    fn object(&mut self) -> Result<Value, DocumentError> {
        self.enter()?;
        let mut map = Map::new();
        if self.closes(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let (raw, key) = self.string()?;
            self.trail.push(Step::Key(raw));
            if map.contains_key(&key) {
                let (line, column) = position(self.text.as_bytes(), start);
                return Err(DocumentError::DuplicateKey {
                    field: self.path(),
                    line,
                    column,
                });
            }
            if key.starts_with(RESERVED_PREFIX) {
                return Err(DocumentError::Value {
                    field: self.path(),
                    reason: "this key is reserved".to_owned(),
                });
            }
            self.skip_whitespace();
            self.expect(b':', "expected ':' after the key")?;
            self.skip_whitespace();
            let value = self.value()?;
            map.insert(key, value);
            self.trail.pop();
            if self.ends(b'}', "expected ',' or '}'")? {
                return Ok(Value::Object(map));
            }
        }
    }

    fn array(&mut self) -> Result<Value, DocumentError> {
        self.enter()?;
        let mut items = Vec::new();
        if self.closes(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.trail.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.trail.pop();
            if self.ends(b']', "expected ',' or ']'")? {
                return Ok(Value::Array(items));
            }
        }
    }

    /// Steps over an opening bracket. The trail has one step per open bracket.
    fn enter(&mut self) -> Result<(), DocumentError> {
        if self.trail.len() >= Document::MAX_DEPTH {
            return Err(self.error("nested too deep"));
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        if closes {
            self.at += 1;
        }
        closes
    }

    /// After an element: true where the bracket closes, false after a comma.
    fn ends(&mut self, bracket: u8, expected: &str) -> Result<bool, DocumentError> {
        self.skip_whitespace();
        if self.closes(bracket) {
            return Ok(true);
        }
        self.expect(b',', expected)?;
        self.skip_whitespace();
        Ok(false)
    }

    /// A string as written, with its quotes, and decoded.
    fn string(&mut self) -> Result<(&'t str, String), DocumentError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        let mut plain = true;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    end += 2;
                }
                Some(0..0x20) => {
                    self.at = end;
                    return Err(self.error("control character in a string"));
                }
                Some(_) => end += 1,
                None => return Err(self.error("a string has no end")),
            }
        }
        // Quotes are ASCII, so the slice is at character boundaries.
        let raw = &self.text[start..=end];
        let decoded = if plain {
            raw[1..raw.len() - 1].to_owned()
        } else {
            serde_json::from_str(raw).map_err(|_| self.error("invalid escape in a string"))?
        };
        self.at = end + 1;
        Ok((raw, decoded))
    }

    fn number(&mut self) -> Result<Value, DocumentError> {
        let start = self.at;
        let length = self.text.as_bytes()[start..]
            .iter()
            .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .count();
        let written = &self.text[start..start + length];
        let number: Number = written.parse().map_err(|_| self.error("invalid number"))?;
        // `parse` checks the grammar, but normalises the exponent.
        let number = if number.as_str() == written {
            number
        } else {
            Number::from_string_unchecked(written.to_owned())
        };
        self.at += length;
        Ok(Value::Number(number))
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, DocumentError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn expect(&mut self, byte: u8, expected: &str) -> Result<(), DocumentError> {
        if self.peek() != Some(byte) {
            return Err(self.error(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, what: &str) -> DocumentError {
        let (line, column) = position(self.text.as_bytes(), self.at);
        let path = self.path();
        let colon = if path.is_empty() { "" } else { ": " };
        DocumentError::Parse(format!(
            "{path}{colon}{what} at line {line} column {column}"
        ))
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.trail {
            match step {
                Step::Key(raw) => {
                    let key: String = serde_json::from_str(raw).unwrap_or_default();
                    path.push_str(&key_segment(&key, path.is_empty()));
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

/// Line and column of a byte, both from 1, the column in bytes.
fn position(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    (line, before.len() - line_start + 1)
}
