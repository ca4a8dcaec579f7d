//! What can be wrong with a service, beyond its file's shape.

use std::path::PathBuf;

use super::layout::LayoutError;
use super::volume::VolumeName;
use crate::document::quote;
use crate::yaml::Problem;

/// Why a service is no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The service file is not valid.
    #[error("{}", first_of(file, problems))]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// The file has no service of this name.
    #[error("no service {} in {}, there is {}", quote(name), file.display(), known.join(", "))]
    NoService {
        /// The file.
        file: PathBuf,
        /// As asked for.
        name: String,
        /// The services there are.
        known: Vec<String>,
    },
    /// The file has several services and none was named.
    #[error("{} has several services, choose one with --name: {}", file.display(), known.join(", "))]
    Which {
        /// The file.
        file: PathBuf,
        /// The services there are.
        known: Vec<String>,
    },
    /// A value that is `$E:` or `$S:` and then no name.
    #[error("{place}: {} is no reference, write $E:NAME or $S:NAME", quote(value))]
    Reference {
        /// The variable it is the value of.
        place: String,
        /// As written.
        value: String,
    },
    /// `$E:NAME`, and the host has no variable of that name.
    #[error("{place}: $E:{name}: the host's environment has no {name}")]
    Variable {
        /// The variable it is the value of.
        place: String,
        /// The host's variable.
        name: String,
    },
    /// `$E:NAME` in a specification for another machine.
    #[error(
        "{place}: $E:{name}: this is for another machine, give its value with --host-env {name}=VALUE"
    )]
    ForeignVariable {
        /// The variable it is the value of.
        place: String,
        /// The host's variable.
        name: String,
    },
    /// `$S:NAME`, and nothing that could know it.
    #[error("{place}: $S:{name}: nothing knows secrets, give their directory with --secrets")]
    NoSecrets {
        /// The variable it is the value of.
        place: String,
        /// The secret.
        name: String,
    },
    /// `$S:NAME`, and the provider does not have it, or must not give it.
    #[error("{place}: $S:{name}: {reason}")]
    Secret {
        /// The variable it is the value of.
        place: String,
        /// The secret.
        name: String,
        /// What the provider says.
        reason: String,
    },
    /// A storage whose place on the host nobody has given.
    #[error("{place}: {volume} is not prepared, give its place with --volume {volume}=PATH")]
    Volume {
        /// The storage.
        place: String,
        /// What it needs.
        volume: VolumeName,
    },
    /// A value of a flag or builder method that means nothing.
    #[error("{place}: {reason}")]
    Value {
        /// The flag or field.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The host is not as the service needs it.
    #[error("{place}: {path}: {reason}")]
    Host {
        /// The field.
        place: String,
        /// What on the host.
        path: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
    /// An image's configuration cannot be used.
    #[error("image {}: {reason}", file.display())]
    Image {
        /// Where it was read.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An OCI image layout cannot be used.
    #[error("image layout {}: {source}", directory.display())]
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// What is wrong.
        source: LayoutError,
    },
    /// The user that the container is to have is not known.
    #[error("user {}: {reason}", quote(user))]
    User {
        /// As written.
        user: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
}

/// The first problem, as `file:line:column: field: reason`.
fn first_of(file: &std::path::Path, problems: &[Problem]) -> String {
    let Some(first) = problems.first() else {
        return format!("{}: invalid", file.display());
    };
    match problems.len() - 1 {
        0 => format!("{}:{first}", file.display()),
        more => format!("{}:{first} (and {more} more)", file.display()),
    }
}
