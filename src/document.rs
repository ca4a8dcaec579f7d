//! Lossless `config.json`.
//!
//! Pure: bytes in, bytes out. Key order and number text survive, duplicate keys
//! are errors, and a document nobody edited gives back its input's bytes.

/// Why bytes are not a document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not JSON, or a duplicate key.
    #[error("config.json: {0}")]
    Parse(String),
}
