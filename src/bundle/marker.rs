//! The marker: what kusabi made in a directory, and how to know it again.
//!
//! A marker alone proves nothing, since a directory can be copied, and its
//! content moved: so it names what it accounts for by inode, content or target,
//! and each is compared before anything is replaced or removed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The marker's file name.
pub const MARKER: &str = ".kusabi-bundle.json";

/// The only version there is.
const VERSION: u32 = 1;

/// The content of the marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Marker {
    /// Of this format.
    version: u32,
    /// The container's id.
    pub id: String,
    /// The directory itself: device and inode.
    pub directory: Identity,
    /// Whether the directory was made, too.
    pub made: bool,
    /// SHA-256 of `config.json`.
    config: String,
    /// SHA-256 of the one that it replaces, where that was ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// What `rootfs` is.
    pub rootfs: Rootfs,
}

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// `rootfs` in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rootfs {
    /// A symbolic link with this target.
    Link(String),
    /// A directory.
    Directory(Identity),
    /// A directory that was going to be made in the place of a link: any that is
    /// empty.
    Pending,
}

impl Marker {
    pub(super) fn new(
        id: &str,
        directory: Identity,
        made: bool,
        config: &[u8],
        rootfs: Rootfs,
    ) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            directory,
            made,
            config: digest(config),
            replaces: None,
            rootfs,
        }
    }

    /// The same, in place of an earlier one. Until the new `config.json` is there,
    /// the old one counts as ours, too.
    pub(super) fn replacing(self, old: &Self) -> Self {
        Self {
            replaces: Some(old.config.clone()),
            ..self
        }
    }

    /// The same while a directory is made in the place of the link.
    pub(super) fn pending(&self) -> Self {
        Self {
            rootfs: Rootfs::Pending,
            ..self.clone()
        }
    }

    /// Whether this is the `config.json` that was made.
    pub(super) fn accounts_for(&self, config: &[u8]) -> bool {
        let found = digest(config);
        found == self.config || Some(found) == self.replaces
    }

    /// Reads a marker; `None` for anything that we would not have written.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let marker: Self = serde_json::from_slice(bytes).ok()?;
        (marker.version == VERSION).then_some(marker)
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
