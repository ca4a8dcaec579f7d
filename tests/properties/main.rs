//! What holds of every document, plan and request, tried on many.
//!
//! - `document`: no loss, no duplicate keys, no panic, and the same language as
//!   `serde_json`
//! - `edits`: the promises of `edit` and of the design, each checked from outside
//! - `requests`: order and repeats do not matter, nothing panics
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod document;
mod edits;
mod generate;
mod requests;
