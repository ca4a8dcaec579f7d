//! What a container asks for, from whichever place, before anyone decides.
//!
//! Pure. A request carries its [`Source`](crate::edit::Source) and its
//! [`Trust`]; it is a wish and never authority. [`collect`] is the only way in:
//! what it returns does not depend on the order of flags or annotations, and
//! asking twice is asking once.

mod annotation;
mod flag;

use std::collections::BTreeMap;

use crate::cdi::QualifiedName;
use crate::document::{Document, DocumentError};
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// What is wanted.
    pub what: What,
    /// Who wants it.
    pub source: Source,
    /// How far that place is trusted.
    pub trust: Trust,
}

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The place says something that is no request.
    #[error("{place}: {reason}")]
    Malformed {
        /// The place, as `annotation KEY` or `flag --device`.
        place: String,
        /// What is wrong and what would fix it.
        reason: String,
    },
    /// The document cannot be asked.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What the command line asks for, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Values of `--device`: each `vendor/class=name`, or several with commas.
    pub devices: Vec<String>,
}

/// Everything that is asked for: sorted by what, then by who, without repeats.
///
/// # Errors
/// A flag or annotation that cannot be read, which it names; `annotations` of
/// the wrong type.
pub fn collect(document: &Document, flags: &Flags) -> Result<Vec<Request>, RequestError> {
    let mut requests = flag::devices(&flags.devices)?;
    requests.extend(annotation::devices(&document.annotations()?)?);
    requests.sort();
    requests.dedup();
    Ok(requests)
}

/// All who want the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Sorted, without repeats.
    pub sources: Vec<Source>,
    /// The most trusted of them.
    pub trust: Trust,
}

/// The requests by what they ask for, each thing once.
#[must_use]
pub fn merge(requests: &[Request]) -> BTreeMap<What, Asked> {
    let mut asked = BTreeMap::new();
    for request in requests {
        let entry = asked.entry(request.what.clone()).or_insert(Asked {
            sources: Vec::new(),
            trust: request.trust,
        });
        entry.trust = entry.trust.min(request.trust);
        if let Err(place) = entry.sources.binary_search(&request.source) {
            entry.sources.insert(place, request.source.clone());
        }
    }
    asked
}

/// Far above any real name, and what keeps errors about one readable.
const MAX_NAME_BYTES: usize = 1024;

/// A list of qualified names with commas and nothing else, as CDI's reference
/// implementation reads it: no spaces, no empty entries.
fn names(place: &str, list: &str) -> Result<Vec<What>, RequestError> {
    let malformed = |reason: String| RequestError::Malformed {
        place: place.to_owned(),
        reason,
    };
    if list.is_empty() {
        let reason = "the value is empty, expected vendor/class=device[,vendor/class=device]";
        return Err(malformed(reason.to_owned()));
    }
    list.split(',')
        .map(|name| {
            if name.len() > MAX_NAME_BYTES {
                let bytes = name.len();
                return Err(malformed(format!(
                    "a device name of {bytes} bytes, at most {MAX_NAME_BYTES} are read"
                )));
            }
            QualifiedName::parse(name)
                .map(What::Cdi)
                .map_err(|error| malformed(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
