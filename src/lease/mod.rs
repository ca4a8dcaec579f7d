//! Who holds which GPU: one store for the whole host, whatever `--root` is.
//!
//! A lease names a device by keys (`keys`), a container, and the process that
//! owns it: kusabi itself from [`Store::reserve`] until the container exists,
//! then, from [`Reservation::commit`] on, the container's init. It ends with
//! `delete`, and also when its owner is gone, by pid and start time: whatever is
//! killed when, nothing stays taken.
//!
//! An exclusive lease has its device alone; shared ones only keep others from
//! that. Counts (`--gpus 2`) take free devices for themselves, names and shared
//! devices are shared.
//!
//! The store lives beside the state roots and not in one: ids of containers are
//! names there, and a root is its owner's alone, while everybody may see what is
//! free. Only root can hold leases.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | from a plan's device nodes to keys (pure) |
//! | `pick` | which devices a count takes (pure) |
//! | `store` | the file and its lock |

mod keys;
mod pick;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use keys::{keys_of_nodes, node_key, of_plan};
pub use pick::{Candidate, Shortage, pick};
pub use store::{Choosing, DIRECTORY, Reservation, Store, give_back, release, rename};

use crate::runtime::identity::Identity;

/// Whether a device is had alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Others may hold it, too.
    Shared,
    /// Nobody else holds it.
    Exclusive,
}

/// A device that somebody wants to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to call it.
    pub device: String,
    /// Two devices with a key in common are the same one.
    pub keys: BTreeSet<String>,
    /// How.
    pub mode: Mode,
}

/// A container that may hold devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The state root that the id belongs to.
    pub root: PathBuf,
}

/// How far the owner has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// kusabi is making the container.
    Reserved,
    /// The container exists.
    Committed,
}

/// One device held by one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// What it is called.
    pub device: String,
    /// By what it is recognised.
    pub keys: BTreeSet<String>,
    /// How it is held.
    pub mode: Mode,
    /// By whom.
    pub container: Container,
    /// The process whose end ends the lease.
    pub owner: Identity,
    /// The pid namespace in which [`Lease::owner`] has its number.
    pub pid_namespace: u64,
    /// What that process is.
    pub stage: Stage,
}

impl Lease {
    /// Whether this is the same device.
    #[must_use]
    pub fn is_of(&self, keys: &BTreeSet<String>) -> bool {
        !self.keys.is_disjoint(keys)
    }
}

/// Why devices cannot be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody else has it.
    #[error(
        "{device} is held {} by container {} (pid {})",
        match holder.mode { Mode::Exclusive => "exclusively", Mode::Shared => "in shares" },
        holder.container.id,
        holder.owner.pid
    )]
    Held {
        /// What was wanted.
        device: String,
        /// By whom.
        holder: Box<Lease>,
    },
    /// Who asks cannot hold any.
    #[error(
        "{wanted} GPUs by count are had alone, which only the host's root can for a container: \
         name them, as in --gpus device=0, or share them (--gpu-share)"
    )]
    Unprivileged {
        /// How many were asked for.
        wanted: usize,
    },
    /// Not so many are free.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// The store is not usable.
    #[error("{}: {reason}", path.display())]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what would fix it.
        reason: String,
    },
}
