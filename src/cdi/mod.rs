//! The Container Device Interface: names, specifications, registry, resolving.
//!
//! Pure: bytes in, values out. Reading directories lives in `host::cdi_dirs`.

mod name;
pub use name::QualifiedName;

/// Anything wrong with CDI names, specifications or devices.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CdiError {
    /// A name is not `vendor/class=device`.
    #[error("invalid CDI device name {name:?}: {reason}")]
    Name {
        /// As typed.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
