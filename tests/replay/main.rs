//! What the known callers of runc type, against the binary, with what each of
//! them reads, parses or matches afterwards. The parser alone is tested in
//! `src/cli/tests/callers.rs`, engines themselves in `tests/engines`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod conmon;
mod others;
mod shim;

use std::path::Path;

use serde_json::Value;

/// The objects of a log file, one a line; each line must be one.
fn log_objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// The message that containerd reports: of the last object with level error.
fn last_error(path: &Path) -> String {
    let object = log_objects(path)
        .into_iter()
        .rfind(|object| object["level"] == "error")
        .expect("an error in the log");
    assert_rfc3339(object["time"].as_str().expect("a time"));
    object["msg"].as_str().expect("a message").to_owned()
}

/// `2006-01-02T15:04:05Z07:00`, with or without a fraction.
fn assert_rfc3339(text: &str) {
    let (date, clock) = text.split_once('T').expect("a date and a time");
    assert_eq!(date.split('-').count(), 3, "{text}");
    assert_eq!(clock.len().max(9), clock.len(), "{text}");
    assert_eq!(clock[..8].split(':').count(), 3, "{text}");
    assert!(clock.ends_with('Z') || clock.contains(['+', '-']), "{text}");
}
