//! GPU requests without a CDI file: what the host has, which of it a request
//! means, and the edits that bring it into a container.
//!
//! Pure. `host::gpu` probes the files that [`needs`] names; from them comes an
//! [`Inventory`], [`choose`] finds the devices that a [`GpuRequest`] means, and
//! [`plan`] makes the edits. Numbers and modes of device nodes are the host's,
//! and exactly the nodes that are injected get an allow rule.
//!
//! | file | holds |
//! |---|---|
//! | `request` | what can be asked for, and its text form |
//! | `inventory` | devices by vendor, with all the names they go by |
//! | `nvidia`, `amd`, `intel`, `habana`, `dri` | one vendor's devices and environment |
//! | `links` | how well two devices are connected |
//! | `choice` | from names and counts to devices |
//! | `nodes` | device nodes with their rules |
//! | `mps`, `time_slice`, `distributed` | sharing, and several processes |
//! | `require` | `NVIDIA_REQUIRE_*` |
//! | `route` | CDI file or profile |
//!
//! Driver libraries are not injected by a profile: they must come from a CDI
//! file or the image, which the plan's notes say.

mod amd;
mod choice;
mod distributed;
mod dri;
mod habana;
mod intel;
pub mod inventory;
pub mod links;
mod mps;
mod nodes;
mod nvidia;
mod objection;
mod probe;
pub mod request;
mod require;
mod route;
mod time_slice;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use choice::{Choice, LowestFirst, Pick, choose, lowest_first};
pub use inventory::{Device, Inventory, Part};
pub use probe::{Needs, link_needs, needs};
pub use request::{
    Backend, Capabilities, Capability, Distributed, Extras, Feature, GpuRequest, ImexChannels, Mps,
    PinnedMemory, Selection, Sharing, TimeSlice, Vendor,
};
pub use require::{Properties, Requirement, check as check_requirements};
pub use route::{Defaults, Route, Routed, route};

use crate::cdi::Mode;
use crate::edit::{Note, Origin, Plan, Rule, Source};
use crate::host::facts::Snapshot;

/// What the edits depend on besides request and host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// `process.user.uid`: owner of device nodes, unless 0.
    pub uid: u32,
    /// `process.user.gid`, likewise.
    pub gid: u32,
    /// Who the container's process is on the host: [`Context::uid`] through the
    /// mapping of its user namespace.
    pub host_uid: u32,
    /// The host's numbers of the process's groups, its own included.
    pub host_gids: Vec<u32>,
    /// What a missing node comes to.
    pub mode: Mode,
}

impl Context {
    /// For a container that runs as root without a user namespace.
    #[must_use]
    pub fn root(mode: Mode) -> Self {
        Self {
            uid: 0,
            gid: 0,
            host_uid: 0,
            host_gids: vec![0],
            mode,
        }
    }
}

/// Why a GPU request cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The host has nothing of the kind.
    #[error("no {vendor} GPU on this host: {looked}")]
    None {
        /// Whose devices were wanted, or `known`.
        vendor: String,
        /// Where they were looked for, and what would fix it.
        looked: String,
    },
    /// A name that no device goes by.
    #[error("no {vendor} GPU {id:?}: {reason}; the host has {have}")]
    Unknown {
        /// Whose devices were searched.
        vendor: String,
        /// As asked for.
        id: String,
        /// Why not.
        reason: String,
        /// What could be asked for.
        have: String,
    },
    /// More than there are.
    #[error("{wanted} {vendor} GPUs asked for, the host has {count}: {have}")]
    TooMany {
        /// Whose.
        vendor: String,
        /// How many were asked for.
        wanted: u32,
        /// How many there are.
        count: usize,
        /// Their names.
        have: String,
    },
    /// Several vendors could be meant.
    #[error(
        "the host has GPUs of {}: say whose, as in --gpus {first}:{what}, or set devices.default-vendor in the policy",
        vendors.join(" and ")
    )]
    Ambiguous {
        /// The vendors' words.
        vendors: Vec<String>,
        /// One of them.
        first: String,
        /// What was asked for.
        what: String,
    },
    /// A node that is needed is not there.
    #[error("{what}: {reason}")]
    Node {
        /// What needs it.
        what: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
    /// The devices cannot be shared as asked.
    #[error("GPU sharing unavailable ({kind}): {reason}")]
    Sharing {
        /// `mps` or `time-slice`.
        kind: &'static str,
        /// What is wrong, and what would fix it.
        reason: String,
    },
    /// An image's requirement is not met, or cannot be read.
    #[error("{variable}: {reason}")]
    Requirement {
        /// The variable.
        variable: String,
        /// What is wrong.
        reason: String,
    },
}

/// The edits for a request, for the devices that [`lowest_first`] picks.
///
/// # Errors
/// A request that the host cannot meet.
pub fn plan(
    request: &GpuRequest,
    snapshot: &Snapshot,
    context: &Context,
    sources: &[Source],
) -> Result<Plan, GpuError> {
    let inventory = Inventory::read(snapshot);
    let choice = choose(request, &inventory)?;
    let picked = lowest_first(&choice);
    let mut plan = devices_plan(
        request,
        &choice.vendor,
        &picked,
        &inventory,
        context,
        sources,
    )?;
    plan.append(beyond_devices(
        request.sharing.as_ref(),
        request.distributed.as_ref(),
        picked.len(),
        snapshot,
        context,
        sources,
    )?);
    Ok(plan)
}

/// The edits for devices that have been picked, in order: environment, then nodes
/// with their rules, then mounts.
///
/// # Errors
/// Nodes that are not there; requirements that are not met.
pub fn devices_plan(
    request: &GpuRequest,
    vendor: &Vendor,
    picked: &[inventory::Unit<'_>],
    inventory: &Inventory<'_>,
    context: &Context,
    sources: &[Source],
) -> Result<Plan, GpuError> {
    let mut plan = Plan::default();
    let origin = Origin {
        rule: Rule::Profile {
            vendor: vendor.word(),
        },
        sources: sources.to_vec(),
    };
    let mut profile = Profile {
        request,
        picked,
        inventory,
        context,
        origin,
        plan: &mut plan,
    };
    match vendor {
        Vendor::Nvidia => nvidia::plan(&mut profile)?,
        Vendor::Amd => amd::plan(&mut profile)?,
        Vendor::Intel => intel::plan(&mut profile)?,
        Vendor::Habana => habana::plan(&mut profile)?,
        Vendor::Other(_) => dri::plan(&mut profile, vendor)?,
    }
    Ok(plan)
}

/// What NVIDIA's variables ask for besides devices, where those come from a CDI
/// file: requirements are checked, features and IMEX channels added.
///
/// # Errors
/// Requirements that are not met; channels that are not there.
pub fn extras_plan(
    request: &GpuRequest,
    inventory: &Inventory<'_>,
    context: &Context,
    sources: &[Source],
) -> Result<Plan, GpuError> {
    let mut plan = Plan::default();
    nvidia::extras(&mut Profile {
        request,
        picked: &[],
        inventory,
        context,
        origin: Origin {
            rule: Rule::Profile { vendor: "nvidia" },
            sources: sources.to_vec(),
        },
        plan: &mut plan,
    })?;
    Ok(plan)
}

/// The edits that name no device: sharing and distribution. They
/// are the same whether the devices come from a CDI file or from a profile, and
/// apply after those.
///
/// `devices` is how many GPUs the container sees.
///
/// # Errors
/// Sharing that the host is not set up for.
pub fn beyond_devices(
    sharing: Option<&Sharing>,
    distribution: Option<&Distributed>,
    devices: usize,
    snapshot: &Snapshot,
    context: &Context,
    sources: &[Source],
) -> Result<Plan, GpuError> {
    let mut plan = Plan::default();
    match sharing {
        Some(Sharing::Mps(wish)) => {
            mps::plan(wish, devices, snapshot, context, sources, &mut plan)?;
        }
        Some(Sharing::TimeSlice(wish)) => {
            time_slice::plan(wish, snapshot, context, sources, &mut plan)?;
        }
        None => {}
    }
    if let Some(wish) = distribution {
        distributed::plan(wish, sources, &mut plan);
    }
    Ok(plan)
}

/// Host paths whose facts sharing needs, beyond [`needs`].
#[must_use]
pub fn sharing_paths(sharing: Option<&Sharing>) -> BTreeSet<PathBuf> {
    match sharing {
        Some(Sharing::Mps(wish)) => mps::paths(wish),
        Some(Sharing::TimeSlice(wish)) => wish.config.iter().cloned().collect(),
        None => BTreeSet::new(),
    }
}

/// What a vendor's module works on.
struct Profile<'p, 's> {
    request: &'p GpuRequest,
    picked: &'p [inventory::Unit<'p>],
    inventory: &'p Inventory<'s>,
    context: &'p Context,
    origin: Origin,
    plan: &'p mut Plan,
}

impl Profile<'_, '_> {
    fn set_env(&mut self, name: &str, value: String) {
        let name = name.to_owned();
        let edit = crate::edit::Edit::SetEnv { name, value };
        self.plan.push(edit, self.origin.clone());
    }

    fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.plan.notes.iter().any(|note| note.text == text) {
            let origin = self.origin.clone();
            self.plan.notes.push(Note { text, origin });
        }
    }

    /// Numbers from 0, one for each picked device: how a vendor's library counts
    /// what it finds inside.
    fn ordinals(&self) -> String {
        let numbers: Vec<String> = (0..self.picked.len()).map(|n| n.to_string()).collect();
        numbers.join(",")
    }
}
