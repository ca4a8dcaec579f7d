//! The devices of a container that runs: what its filter allows, what it sees,
//! and what has drifted; and [`change`], which gives and takes them.
//!
//! Drift is whatever the record and reality disagree on: a driver that was loaded
//! again has other numbers on the host, a node was removed or replaced inside, a
//! filter was detached. The record is the effective `config.json`, which names
//! nodes and rules, and `state.json`, which names the filter.

pub mod change;

use std::os::fd::OwnedFd;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use serde::Serialize;

use super::RuntimeError;
use super::create::standing;
use super::lower::Namespaces;
use super::root::user_namespace_of;
use super::state::State;
use crate::device::Standing;
use crate::device::policy::NodeKind;
use crate::document::Document;
use crate::edit::{Access, DeviceKind, DeviceNode, NamespaceKind};
use crate::error::Result;
use crate::rootfs::live::{LiveRoot, Seen, look_on_host, map_ids};
use crate::sys::process::pidfd_open;

/// A running container, and the way into it.
pub(super) struct Reached {
    pub root: LiveRoot,
    pub pidfd: OwnedFd,
    /// Nodes are bound from the host instead of made.
    pub binds: bool,
    /// The container's root user on the host, where it is another than ours.
    root_user: Option<(Uid, Gid)>,
    /// Its user namespace, where that is its own.
    user_namespace: Option<OwnedFd>,
}

impl Reached {
    pub(super) fn new(state: &State, document: &Document) -> Result<Self> {
        let init = state.init.ok_or(RuntimeError::NotRunning)?;
        let pidfd = pidfd_open(init.pid).map_err(|_| RuntimeError::NotRunning)?;
        let root = LiveRoot::of(init.pid)
            .map_err(|e| RuntimeError::syscall("open the container's root", e));
        let binds = Namespaces::new(document.namespaces()?)?.is_private(NamespaceKind::User);
        let namespace = match binds {
            true => Some(user_namespace_of(init.pid)),
            false => None,
        };
        // Only now is it known that all of that was this process's.
        if !init.is_alive() {
            return Err(RuntimeError::NotRunning.into());
        }
        let root_of = |field: &str| {
            let lines = document.value()["linux"][field].as_array();
            lines.into_iter().flatten().find_map(|line| {
                let is_root = line["containerID"].as_u64().unwrap_or(0) == 0;
                u32::try_from(line["hostID"].as_u64()?)
                    .ok()
                    .filter(|_| is_root)
            })
        };
        let ids = root_of("uidMappings").zip(root_of("gidMappings"));
        Ok(Self {
            root: root?,
            pidfd,
            binds,
            root_user: ids
                .filter(|_| binds)
                .map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid))),
            user_namespace: namespace.transpose()?,
        })
    }

    /// Gives a mount that is not attached yet the ids of the container's user
    /// namespace.
    pub(super) fn map_ids(
        &self,
        tree: &OwnedFd,
        recursive: bool,
    ) -> std::result::Result<(), String> {
        let Some(namespace) = &self.user_namespace else {
            return Err(
                "id-mapped mounts must have both uid and gid mappings specified, or a container with a user namespace of its own".into(),
            );
        };
        map_ids(tree, namespace, recursive)
    }

    /// Does something with files as the container's root user: what we make as
    /// ourselves would have no owner in there, which the kernel refuses.
    pub(super) fn as_root_user<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some((uid, gid)) = self.root_user else {
            return act();
        };
        // No error can be told from these; what fails is then what is done.
        let before = (setfsgid(gid), setfsuid(uid));
        let done = act();
        setfsuid(before.1);
        setfsgid(before.0);
        done
    }
}

/// What a container may use and sees.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The container.
    pub id: String,
    /// CDI devices that it was given by name.
    pub requested: Vec<String>,
    /// Its filter; absent where it has none.
    pub filter: Option<FilterReport>,
    /// Its nodes, in the order of `linux.devices`.
    pub devices: Vec<NodeReport>,
}

/// A filter, and whether it is in force.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterReport {
    /// One line a rule, the default first.
    pub rules: Vec<String>,
    /// Whether nothing beyond the rules is allowed.
    pub in_force: bool,
    /// What is in the way, taken away or missing; absent when all is exact.
    pub remark: Option<String>,
}

/// A node, by the record, on the host and in the container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// In the container.
    pub path: String,
    /// On the host; absent for a node of the engine's.
    pub host_path: Option<String>,
    /// As in `c 226:128`.
    pub recorded: String,
    /// The same on the host now, or a word; `-` for a node of the engine's.
    pub host: String,
    /// The same in the container now, or a word.
    pub container: String,
    /// What the filter allows of it, letters of `rwm`.
    pub allowed: String,
    /// What has drifted, one line each.
    pub drift: Vec<String>,
    /// The node, as it should be now.
    #[serde(skip)]
    pub(super) wanted: DeviceNode,
    #[serde(skip)]
    pub(super) inside: Seen,
    #[serde(skip)]
    pub(super) renumbered: bool,
    #[serde(skip)]
    pub(super) lost: bool,
}

impl Report {
    /// Whether anything has drifted.
    #[must_use]
    pub fn has_drifted(&self) -> bool {
        self.devices.iter().any(|node| !node.drift.is_empty())
            || self.filter.as_ref().is_some_and(|filter| !filter.in_force)
    }
}

/// Looks at a container.
///
/// # Errors
/// It does not run, or its record cannot be read.
pub fn report(state: &State, document: &Document) -> Result<Report> {
    let reached = Reached::new(state, document)?;
    let devices = document
        .devices()?
        .into_iter()
        .map(|device| node_report(state, device, &reached))
        .collect();
    let filter = state.filter.as_ref().map(|filter| {
        let (in_force, remark) = match standing(state) {
            Ok(Standing::Exact | Standing::ModeOnly) => (true, None),
            Ok(Standing::Narrower(what)) => (true, Some(what)),
            Err(error) => (false, Some(error.to_string())),
        };
        FilterReport {
            rules: filter
                .policy
                .to_string()
                .lines()
                .map(str::to_owned)
                .collect(),
            in_force,
            remark,
        }
    });
    Ok(Report {
        id: state.id.clone(),
        requested: state.injected.names.clone(),
        filter,
        devices,
    })
}

fn node_report(state: &State, mut device: DeviceNode, reached: &Reached) -> NodeReport {
    let injected = state.injected.host_path(&device.path);
    if let Some(host) = injected {
        device.host_path = host.to_path_buf();
    }
    let recorded = words(device.kind, device.major, device.minor);
    let host = injected.map(look_on_host);
    let inside = reached.root.look(&device.path);
    let mut drift = Vec::new();
    let mut wanted = device.clone();
    let mut renumbered = false;
    let mut lost = false;
    match &host {
        // The engine's: what it is on the host is not ours to guess.
        None => {}
        Some(seen) if seen.is(&device) => {}
        Some(Seen::Node(kind, major, minor)) if *kind == device.kind => {
            drift.push(format!(
                "the host's {} is {} now: the driver was loaded again",
                device.host_path.display(),
                words(*kind, *major, *minor)
            ));
            (wanted.major, wanted.minor) = (*major, *minor);
            renumbered = true;
        }
        Some(other) => {
            drift.push(format!(
                "the host has {} at {}: is its driver loaded?",
                seen_words(other),
                device.host_path.display()
            ));
            lost = true;
        }
    }
    if !inside.is(&device) {
        drift.push(format!("the container has {} there", seen_words(&inside)));
    }
    let allowed = allowed(state, &device);
    if state.filter.is_some() && allowed.is_empty() && device.kind != DeviceKind::Fifo {
        // Said, but nothing to repair: the configuration has it so.
        tracing::debug!("{}: no rule allows it", device.path.display());
    }
    NodeReport {
        path: device.path.display().to_string(),
        host_path: injected.map(|path| path.display().to_string()),
        recorded,
        host: host.as_ref().map_or_else(|| "-".to_owned(), seen_words),
        container: seen_words(&inside),
        allowed,
        drift,
        wanted,
        inside,
        renumbered,
        lost,
    }
}

fn allowed(state: &State, device: &DeviceNode) -> String {
    let kind = match device.kind {
        DeviceKind::Block => NodeKind::Block,
        DeviceKind::Char => NodeKind::Char,
        DeviceKind::Fifo | DeviceKind::All => return "rw".to_owned(),
    };
    let Some(filter) = &state.filter else {
        return "rwm".to_owned();
    };
    let access: Access = Access::all()
        .iter()
        .filter(|one| filter.policy.allows(kind, device.major, device.minor, *one))
        .collect();
    access.letters().to_owned()
}

fn words(kind: DeviceKind, major: u32, minor: u32) -> String {
    match kind {
        DeviceKind::Fifo => "p".to_owned(),
        kind => format!("{} {major}:{minor}", kind.letter()),
    }
}

fn seen_words(seen: &Seen) -> String {
    match seen {
        Seen::Absent => "nothing".to_owned(),
        Seen::Node(kind, major, minor) => words(*kind, *major, *minor),
        Seen::Other => "another file".to_owned(),
        Seen::Unknown(reason) => format!("unknown ({reason})"),
    }
}
