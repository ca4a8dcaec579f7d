//! A place in the document that knows its name: what typed views and edits read
//! through, so that every error says exactly which field is wrong.

use std::borrow::Cow;

use serde_json::Value;

use super::DocumentError;

/// The JSON type of a value, in the words of error messages.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A key as a part of a dotted path: `.key`, or `["odd key"]`. One line, and of
/// a bounded length, whatever the key is.
pub(crate) fn key_segment(key: &str, first: bool) -> String {
    let plain = !key.is_empty()
        && key.len() <= QUOTE_LIMIT
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (plain, first) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[{}]", quote(key)),
    }
}

const QUOTE_LIMIT: usize = 80;

/// Text in quotes for an error message: escaped, so that it stays on one line,
/// and cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    let short: Cow<'_, str> = match text.char_indices().nth(QUOTE_LIMIT) {
        Some((cut, _)) => format!("{}…", &text[..cut]).into(),
        None => text.into(),
    };
    format!("{short:?}")
}

/// A value and its dotted path.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    /// A value whose path is already known.
    pub(crate) fn at(value: &'a Value, path: String) -> Self {
        Self { value, path }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The member of an object; absent and `null` are the same.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Self>, DocumentError> {
        let Value::Object(map) = self.value else {
            return Err(self.expected("object"));
        };
        Ok(map
            .get(key)
            .filter(|value| !value.is_null())
            .map(|value| Self {
                value,
                path: format!("{}{}", self.path, key_segment(key, self.path.is_empty())),
            }))
    }

    /// The member at the end of a chain of objects, any of which may be absent.
    pub(crate) fn find(&self, keys: &[&str]) -> Result<Option<Self>, DocumentError> {
        let mut field = self.clone();
        for key in keys {
            match field.get(key)? {
                Some(next) => field = next,
                None => return Ok(None),
            }
        }
        Ok(Some(field))
    }

    /// The members of an array.
    pub(crate) fn items(&self) -> Result<Vec<Self>, DocumentError> {
        let Value::Array(items) = self.value else {
            return Err(self.expected("array"));
        };
        Ok(items
            .iter()
            .enumerate()
            .map(|(index, value)| Self {
                value,
                path: format!("{}[{index}]", self.path),
            })
            .collect())
    }

    /// The members of an array that may be absent.
    pub(crate) fn items_of(&self, keys: &[&str]) -> Result<Vec<Self>, DocumentError> {
        self.find(keys)?.map_or(Ok(Vec::new()), |list| list.items())
    }

    /// The members of an object, in order; `null` ones are left out.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, Self)>, DocumentError> {
        let Value::Object(map) = self.value else {
            return Err(self.expected("object"));
        };
        Ok(map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| {
                let path = format!("{}{}", self.path, key_segment(key, self.path.is_empty()));
                (key.as_str(), Self { value, path })
            })
            .collect())
    }

    pub(crate) fn string(&self) -> Result<&'a str, DocumentError> {
        self.value.as_str().ok_or_else(|| self.expected("string"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, DocumentError> {
        self.value.as_bool().ok_or_else(|| self.expected("boolean"))
    }

    /// A whole number; `1.0` and `1e3` are none, as in Go.
    pub(crate) fn integer(&self) -> Result<i64, DocumentError> {
        let Value::Number(number) = self.value else {
            return Err(self.expected("number"));
        };
        number.as_i64().ok_or_else(|| {
            let text = quote(number.as_str());
            self.wrong(format!("{text} is not a whole number of 64 bits"))
        })
    }

    pub(crate) fn unsigned(&self) -> Result<u32, DocumentError> {
        let integer = self.integer()?;
        u32::try_from(integer)
            .map_err(|_| self.wrong(format!("{integer} is not between 0 and {}", u32::MAX)))
    }

    pub(crate) fn string_of(&self, key: &str) -> Result<Option<&'a str>, DocumentError> {
        self.get(key)?.map(|field| field.string()).transpose()
    }

    /// A string member; empty means absent, as Go's `omitempty` writes it.
    pub(crate) fn text_of(&self, key: &str) -> Result<Option<&'a str>, DocumentError> {
        Ok(self.string_of(key)?.filter(|text| !text.is_empty()))
    }

    pub(crate) fn unsigned_of(&self, key: &str) -> Result<Option<u32>, DocumentError> {
        self.get(key)?.map(|field| field.unsigned()).transpose()
    }

    /// The value is of another JSON type than the one expected.
    pub(crate) fn expected(&self, expected: &'static str) -> DocumentError {
        DocumentError::Type {
            field: self.name(),
            expected,
            found: json_type(self.value),
        }
    }

    /// The value is of the right type and means nothing.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> DocumentError {
        DocumentError::Value {
            field: self.name(),
            reason: reason.into(),
        }
    }

    /// A member that must be there is not.
    pub(crate) fn missing(&self, key: &str) -> DocumentError {
        DocumentError::Value {
            field: format!("{}{}", self.path, key_segment(key, self.path.is_empty())),
            reason: "missing".to_owned(),
        }
    }

    fn name(&self) -> String {
        if self.path.is_empty() {
            "document".to_owned()
        } else {
            self.path.clone()
        }
    }
}
