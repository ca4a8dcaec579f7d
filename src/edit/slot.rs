//! A place in the tree that an edit writes to. Missing parents are made, `null`
//! counts as missing, any other type is an error that names the place.

use serde_json::{Map, Value};

use super::EditError;
use crate::document::{json_type, key_segment};

/// A mutable value and its dotted path.
pub(super) struct Slot<'v> {
    value: &'v mut Value,
    path: String,
}

impl<'v> Slot<'v> {
    pub(super) fn root(value: &'v mut Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    /// The place at the end of a chain of objects. Made, as `null`, where the
    /// document does not have it: the caller must write to it.
    pub(super) fn at(root: &'v mut Value, keys: &[&str]) -> Result<Self, EditError> {
        keys.iter()
            .try_fold(Self::root(root), |slot, key| slot.child(key))
    }

    fn child(self, key: &str) -> Result<Self, EditError> {
        let path = format!("{}{}", self.path, key_segment(key, self.path.is_empty()));
        let map = self.object()?;
        let value = map.entry(key).or_insert(Value::Null);
        Ok(Self { value, path })
    }

    pub(super) fn object(self) -> Result<&'v mut Map<String, Value>, EditError> {
        if self.value.is_null() {
            *self.value = Value::Object(Map::new());
        }
        match self.value {
            Value::Object(map) => Ok(map),
            other => Err(EditError::Type {
                field: self.path,
                expected: "object",
                found: json_type(other),
            }),
        }
    }

    pub(super) fn array(self) -> Result<&'v mut Vec<Value>, EditError> {
        if self.value.is_null() {
            *self.value = Value::Array(Vec::new());
        }
        match self.value {
            Value::Array(items) => Ok(items),
            other => Err(EditError::Type {
                field: self.path,
                expected: "array",
                found: json_type(other),
            }),
        }
    }

    pub(super) fn set(self, value: Value) {
        *self.value = value;
    }
}
