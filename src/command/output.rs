//! Standard output, whole or not at all.

use std::io::{self, Write as _};

use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::error::{Error, Result};

/// Writes `text` to stdout.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// [`print`] of bytes.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::io("write", "stdout", source))
}

/// `value` as JSON with `indent` for each level, as Go's `MarshalIndent`.
///
/// # Errors
/// When the value has no JSON form.
pub(super) fn indented(value: &impl Serialize, indent: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .and_then(|()| String::from_utf8(bytes).map_err(serde_json::Error::custom))
        .map_err(|error| Error::io("write", "json", io::Error::other(error)))
}
