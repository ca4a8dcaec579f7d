//! What a container asks for, from whichever place, before anyone decides.
//!
//! Pure. A request carries its [`Source`](crate::edit::Source) and its
//! [`Trust`]; it is a wish and never authority.

use crate::cdi::QualifiedName;
use crate::edit::Source;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// One CDI device.
    Cdi(QualifiedName),
}

/// How far the place a request came from is under the operator's control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Command line, host policy.
    Operator,
    /// Annotations: the engine's user.
    Engine,
    /// The image: environment.
    Image,
}

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub what: What,
    /// Who wants it.
    pub source: Source,
    /// How far that place is trusted.
    pub trust: Trust,
}

/// A request that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{source_text}: {reason}")]
pub struct RequestError {
    /// The place, as `annotation KEY` or `flag --device`.
    pub source_text: String,
    /// What is wrong and what would fix it.
    pub reason: String,
}
