//! A container described as a service: the service file, and what becomes of it.
//!
//! Pure: text in, values out. A [`ServiceFile`] is decoded from a tree in which
//! every value knows its line and column; its fields stand in one [`table`],
//! which the decoder, the suggestions for misspelt keys and the JSON Schema
//! ([`schema()`]) all read. An [`ImageConfig`] is what an OCI image says of its
//! process. [`assemble`](fn@assemble) joins the two, the caller's
//! [`Overrides`] and the [`Facts`] about a host into a `config.json`.
//!
//! Nothing is looked up here: device numbers, users of the root file system,
//! variables and secrets come as facts. Finding them is
//! [`BundleBuilder`](crate::bundle::BundleBuilder)'s part. The image's
//! configuration and its `passwd` are hostile; the service file is the
//! operator's.

mod assemble;
mod capability;
mod check;
mod command;
mod decode;
mod devices;
mod env;
mod error;
mod file;
mod form;
mod image;
mod layout;
mod mounts;
mod quantity;
mod rules;
mod schema;
mod secret;
mod suggest;
pub mod table;
mod user;
mod volume;

pub(crate) use assemble::check_cgroup;
pub use assemble::{Assembled, Facts, Overrides, assemble, container_id};
pub use capability::{Capability, DEFAULT_CAPABILITIES};
pub(crate) use env::resolve;
pub use env::{Reference, reference};
pub use error::ServiceError;
pub use file::{
    Command, Count, Device, Distributed, Gpu, PinnedMemory, Resources, Service, ServiceFile,
    Sharing, Storage, StorageKind,
};
pub use image::ImageConfig;
pub(crate) use layout::MAX_BLOB;
pub use layout::{Descriptor, Index, LayoutError, Manifest, Platform, choose};
pub use mounts::{API_SOCKET, Socket};
pub use schema::schema;
pub use secret::SecretProvider;
pub use user::{ImageUser, UserDatabase, UserId};
pub use volume::{VolumeName, Volumes};

#[cfg(test)]
mod tests;
