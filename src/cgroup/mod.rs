//! (being written)

/// Why an operation of this module failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A system call on a named object failed.
    #[error("{0}")]
    Other(String),
}
