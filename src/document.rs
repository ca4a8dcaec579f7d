//! Lossless `config.json`.
//!
//! Pure: bytes in, bytes out. Key order and number text survive, duplicate keys
//! are errors, and a document nobody edited gives back its input's bytes. Only
//! [`edit::apply`](crate::edit::apply) makes a changed document.
//!
//! The typed views read single fields on demand. They follow Go's
//! `encoding/json`, which engines write with: `null` means absent. A field of
//! the wrong type is an error that names it; fields nobody asks for are not
//! looked at, and never lost.

mod field;
mod parse;
mod views;

use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use crate::edit::{DeviceNode, DeviceRule, Hook, HookStage, Mount};

pub(crate) use field::{Field, json_type, key_segment, quote};
pub use views::{Namespace, ProcessUser};
pub(crate) use views::{
    device_node, device_rules, hooks_of, intel_rdt, mount, namespaces, strings,
};

/// Why bytes are not a document, or a field is not what was expected of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The bytes are not JSON, or not a JSON object.
    #[error("config.json: {0}")]
    Parse(String),
    /// A key stands twice in one object.
    #[error("config.json: {field}: duplicate key at line {line} column {column}")]
    DuplicateKey {
        /// Dotted path of the key.
        field: String,
        /// Line of the second one, from 1.
        line: usize,
        /// Column of the second one, in bytes from 1.
        column: usize,
    },
    /// A field has the wrong JSON type.
    #[error("config.json: {field}: expected {expected}, found {found}")]
    Type {
        /// Dotted path of the field, as in `linux.devices[0].major`.
        field: String,
        /// The JSON type the OCI specification asks for.
        expected: &'static str,
        /// The JSON type found.
        found: &'static str,
    },
    /// A field has the right type and a value that means nothing.
    #[error("config.json: {field}: {reason}")]
    Value {
        /// Dotted path of the field.
        field: String,
        /// What is wrong with the value, and what would be right.
        reason: String,
    },
}

/// A container's configuration, byte for byte.
#[derive(Debug, Clone)]
pub struct Document {
    bytes: Vec<u8>,
    value: Value,
}

impl Document {
    /// The most bytes a document may have: 64 MiB.
    pub const MAX_BYTES: usize = 64 << 20;

    /// How deep objects and arrays may nest. `serde_json` reads no deeper, so a
    /// deeper document could not be handed on.
    pub const MAX_DEPTH: usize = 127;

    /// Reads a document.
    ///
    /// # Errors
    /// More than [`Self::MAX_BYTES`], not JSON (RFC 8259), not an object, nested
    /// deeper than [`Self::MAX_DEPTH`], or a key that stands twice in an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let value = parse::parse(bytes)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            value,
        })
    }

    /// The document as a tree.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The document as a file: the input's bytes where no edit changed
    /// anything, else JSON indented with tabs, as `runc spec` writes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What [`Self::as_bytes`] returns for an edited document, for comparing a
    /// document that is still in its input's format with an edited one.
    ///
    /// # Errors
    /// None in practice: a tree that was read can be written.
    pub fn pretty(&self) -> Result<Vec<u8>, DocumentError> {
        pretty(&self.value)
    }

    /// The document with another tree. Equal trees keep the bytes.
    ///
    /// For `edit::apply` alone; `tests/purity.rs` holds everyone else off.
    pub(crate) fn with_edited_value(&self, value: Value) -> Result<Self, DocumentError> {
        if value == self.value {
            return Ok(self.clone());
        }
        Ok(Self {
            bytes: pretty(&value)?,
            value,
        })
    }

    /// `annotations`, in the document's order.
    ///
    /// # Errors
    /// A value that is not a string.
    pub fn annotations(&self) -> Result<Vec<(&str, &str)>, DocumentError> {
        views::annotations(&self.value)
    }

    /// `process.env`, in the document's order, each entry as it stands.
    ///
    /// # Errors
    /// An entry that is not a string.
    pub fn env(&self) -> Result<Vec<&str>, DocumentError> {
        views::env(&self.value)
    }

    /// The value of a variable of `process.env`. Of several the last counts, as
    /// in runc.
    ///
    /// # Errors
    /// An entry of `process.env` that is not a string.
    pub fn env_value(&self, name: &str) -> Result<Option<&str>, DocumentError> {
        let found = self.env()?.into_iter().rev().find_map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then_some(value)
        });
        Ok(found)
    }

    /// `process.user`; absent means root.
    ///
    /// # Errors
    /// Ids that are not numbers of 32 bits.
    pub fn process_user(&self) -> Result<ProcessUser, DocumentError> {
        views::process_user(&self.value)
    }

    /// `process.capabilities.bounding`, as written.
    ///
    /// # Errors
    /// Not a list of strings.
    pub fn bounding_capabilities(&self) -> Result<Vec<&str>, DocumentError> {
        views::bounding_capabilities(&self.value)
    }

    /// `mounts`, in the document's order.
    ///
    /// # Errors
    /// A field of the wrong type, or a mount without a destination.
    pub fn mounts(&self) -> Result<Vec<Mount>, DocumentError> {
        views::mounts(&self.value)
    }

    /// `linux.namespaces`, in the document's order.
    ///
    /// # Errors
    /// A namespace type that the OCI specification does not know.
    pub fn namespaces(&self) -> Result<Vec<Namespace>, DocumentError> {
        namespaces(&self.value)
    }

    /// `linux.cgroupsPath`; empty means absent.
    ///
    /// # Errors
    /// Not a string.
    pub fn cgroups_path(&self) -> Result<Option<&str>, DocumentError> {
        views::cgroups_path(&self.value)
    }

    /// `linux.resources.devices`, read as runc does: an absent type is `a`, an
    /// absent or `-1` number is any number, an empty access is an error.
    ///
    /// # Errors
    /// Names the field, as in `linux.resources.devices[2].access`.
    pub fn device_rules(&self) -> Result<Vec<DeviceRule>, DocumentError> {
        device_rules(&self.value)
    }

    /// `linux.devices`; `host_path` is the node's own path, since the OCI
    /// specification knows no other.
    ///
    /// # Errors
    /// A field of the wrong type, an unknown device type, a negative number.
    pub fn devices(&self) -> Result<Vec<DeviceNode>, DocumentError> {
        views::devices(&self.value)
    }

    /// `hooks`, by stage in the order in which they run.
    ///
    /// # Errors
    /// A field of the wrong type, or a timeout that is not above zero.
    pub fn hooks(&self) -> Result<Vec<(HookStage, Hook)>, DocumentError> {
        views::hooks(&self.value)
    }

    /// `root.path`.
    ///
    /// # Errors
    /// Not a string.
    pub fn root_path(&self) -> Result<Option<&str>, DocumentError> {
        views::root_path(&self.value)
    }
}

fn pretty(value: &Value) -> Result<Vec<u8>, DocumentError> {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| DocumentError::Parse(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests;
