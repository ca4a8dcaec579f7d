//! Giving devices to a running container, taking them back, and repairing what
//! has drifted: from its configuration as it is to another one, which differs in
//! nodes, device rules and mounts.
//!
//! What is given appears first and is allowed last; what is taken is forbidden
//! first. Each step has its undo. Whoever has a device open keeps it: a filter
//! decides about opening. A change that is killed half-way leaves the record as it
//! was, and a filter that is not the recorded one, which `exec` refuses to use and
//! [`heal`] puts back.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Reached, Report, report};
use crate::cgroup::Cgroup;
use crate::device::{DeviceFilter, Installed};
use crate::document::Document;
use crate::edit::{
    self, DeviceKind, DeviceNode, DeviceRule, Edit, Mount, Origin, Plan, Rule, Source,
};
use crate::error::{Error, Result};
use crate::lease::{self, Container, Reservation, node_key};
use crate::rootfs::live::{Place, Seen, copy_of, is_directory};
use crate::runtime::RuntimeError;
use crate::runtime::create::{filter_of, install};
use crate::runtime::fault::{Step, point};
use crate::runtime::injected::Injected;
use crate::runtime::inside::Entrance;
use crate::runtime::start::effective;
use crate::runtime::state::{CONFIG_FILE, Locked, State, write_atomically};
use crate::runtime::undo::Undo;
use crate::sys::fsmount::Attributes;

/// What a container is to be changed to.
pub struct Change<'a> {
    /// The container, locked.
    pub locked: &'a Locked,
    /// Its record.
    pub state: &'a State,
    /// Its configuration as it is.
    pub old: &'a Document,
    /// As it is to be.
    pub new: &'a Document,
    /// What it was given by name, afterwards.
    pub injected: Injected,
    /// What it holds besides.
    pub held: Held<'a>,
}

/// What becomes of a container's leases.
pub enum Held<'a> {
    /// They stay.
    Same,
    /// It holds more, which is reserved.
    More(&'a Reservation),
    /// It gives back what has one of the first keys and none of the others.
    Less(BTreeSet<String>, BTreeSet<String>),
    /// Its devices have other keys, pairs of old and new.
    Renamed(Vec<(String, String)>),
}

/// Carries a change out and puts it on record.
///
/// # Errors
/// It does not run, or a step failed; then everything is as before. That something
/// could not be taken out of the container is none: the filter has shut it off.
pub fn carry_out(change: Change<'_>) -> Result<()> {
    carry_out_over(&[], change)
}

/// The same, where other nodes stand in the place of the container's.
fn carry_out_over(impostors: &[DeviceNode], change: Change<'_>) -> Result<()> {
    let Change {
        locked,
        state,
        old,
        new,
        injected,
        held,
    } = change;
    if !nix::unistd::geteuid().is_root() {
        let text = "devices of a container that runs can only be changed by root";
        return Err(RuntimeError::Refused(text.into()).into());
    }
    let reached = Reached::new(state, old)?;
    let mut record = state.clone();
    let nodes = |document: &Document, injected: &Injected| -> Result<Vec<DeviceNode>> {
        let mut nodes = document.devices()?;
        for node in &mut nodes {
            if let Some(host) = injected.host_path(&node.path) {
                node.host_path = host.to_path_buf();
            }
        }
        Ok(nodes)
    };
    let (had, wanted) = (nodes(old, &state.injected)?, nodes(new, &injected)?);
    let same = |a: &DeviceNode, b: &DeviceNode| {
        (&a.path, a.kind, a.major, a.minor) == (&b.path, b.kind, b.major, b.minor)
    };
    let gone: Vec<_> = had
        .iter()
        .filter(|node| !wanted.iter().any(|other| same(node, other)))
        .collect();
    let (mounted, mounts) = (old.mounts()?, new.mounts()?);

    let mut undo = Undo::new();
    if let Held::More(reservation) = held {
        undo.push("lease", || Ok(reservation.release()?));
    }
    for node in impostors {
        take_node(&reached, node, &mut undo)?;
    }
    // Nodes whose numbers change make room for their successors.
    for node in &gone {
        if wanted.iter().any(|other| other.path == node.path) {
            take_node(&reached, node, &mut undo)?;
        }
    }
    for node in &wanted {
        give_node(&reached, node, &mut undo)?;
    }
    point(Step::ChangeNodes)?;
    for mount in mounts.iter().filter(|mount| !mounted.contains(mount)) {
        give_mount(&reached, mount, &mut undo)?;
    }
    point(Step::ChangeMounts)?;
    if let Some(cgroup) = &state.cgroup {
        let filter = filter_of(new)?;
        allow(locked, cgroup, state, &filter, &mut record, &mut undo)?;
    }
    point(Step::ChangeFilter)?;
    // The filter keeps it from the device by now. That must not be undone because
    // the container has put something in the way here, so it is only told.
    let left = |taken: Result<()>| {
        if let Err(error) = taken {
            tracing::warn!("left in place: {error}");
        }
    };
    for mount in mounted.iter().filter(|mount| !mounts.contains(mount)) {
        left(take_mount(&reached, mount, &mut undo));
    }
    for node in &gone {
        if !wanted.iter().any(|other| other.path == node.path) {
            left(take_node(&reached, node, &mut undo));
        }
    }
    point(Step::ChangeTaken)?;
    if let (Held::More(reservation), Some(init)) = (&held, state.init) {
        reservation.commit(init)?;
        record.leased = true;
    }
    point(Step::ChangeLease)?;
    record.injected = injected;
    let config = locked.path().join(CONFIG_FILE);
    undo.push("configuration", || {
        write_atomically(&locked.path().join(CONFIG_FILE), old.as_bytes(), 0o600)
    });
    write_atomically(&config, new.as_bytes(), 0o600)?;
    point(Step::ChangeConfig)?;
    undo.push("record", || locked.write(state));
    locked.write(&record)?;
    point(Step::ChangeRecord)?;
    // Last, and all or nothing: what somebody else has taken cannot be had back.
    let holder = || Container {
        id: state.id.clone(),
        root: locked
            .path()
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default(),
    };
    match &held {
        Held::Less(taken, kept) if state.leased => {
            lease::give_back(&lease::Store::default(), &holder(), taken, kept)?;
        }
        Held::Renamed(keys) if state.leased => {
            lease::rename(&lease::Store::default(), &holder(), keys)?;
        }
        _ => {}
    }
    undo.disarm();
    Ok(())
}

/// Puts a filter in force, in the cgroup and with who manages it.
fn allow<'u>(
    locked: &'u Locked,
    cgroup: &'u Cgroup,
    state: &'u State,
    filter: &DeviceFilter,
    record: &mut State,
    undo: &mut Undo<'u>,
) -> Result<()> {
    let Some(before) = &state.filter else {
        return Ok(());
    };
    if before.policy == *filter.policy() && super::standing(state).is_ok() {
        return Ok(());
    }
    undo.push("filter", move || {
        // After the record has been put back, which names the old program.
        locked.write(&State {
            filter: put_back(cgroup, before)?,
            ..state.clone()
        })
    });
    cgroup.announce_devices(filter.policy())?;
    record.filter = install(cgroup, filter)?;
    Ok(())
}

/// The old filter, by another program: one that is detached is gone.
fn put_back(cgroup: &Cgroup, before: &Installed) -> Result<Option<Installed>> {
    cgroup.announce_devices(&before.policy)?;
    install(cgroup, &DeviceFilter::of_policy(before.policy.clone()))
}

fn failed(what: &Path, reason: impl std::fmt::Display) -> Error {
    RuntimeError::Refused(format!("{} in the container: {reason}", what.display())).into()
}

fn give_node<'u>(reached: &'u Reached, node: &DeviceNode, undo: &mut Undo<'u>) -> Result<()> {
    let path = node.path.clone();
    let error = |reason: String| failed(&path, reason);
    if !reached.binds {
        if reached.root.make_node(node).map_err(error)? {
            let path = node.path.clone();
            undo.push("node", move || {
                reached
                    .root
                    .remove_node(&path)
                    .map_err(|e| failed(&path, e))
            });
        }
        return Ok(());
    }
    if reached.root.look(&node.path).is(node) {
        return Ok(());
    }
    let tree = copy_of(&node.host_path, false, &Attributes::default())
        .map_err(|e| failed(&node.host_path, e))?;
    attach(reached, &node.path, false, &tree, undo)
}

fn take_node<'u>(reached: &'u Reached, node: &DeviceNode, undo: &mut Undo<'u>) -> Result<()> {
    let error = |reason: String| failed(&node.path, reason);
    let again = node.clone();
    if reached.root.look(&node.path) == Seen::Absent {
        // Nothing to take, nor to put back.
        return Ok(());
    }
    if reached.binds {
        let place = reached.root.place(&node.path, false).map_err(error)?;
        inside(reached, || place.detach())?;
        reached
            .as_root_user(|| reached.root.remove(&node.path, false))
            .map_err(error)?;
    } else {
        reached.root.remove_node(&node.path).map_err(error)?;
    }
    undo.push("node", move || {
        let mut nothing = Undo::new();
        let result = give_node(reached, &again, &mut nothing);
        nothing.disarm();
        result
    });
    Ok(())
}

fn give_mount<'u>(reached: &'u Reached, mount: &Mount, undo: &mut Undo<'u>) -> Result<()> {
    let Options {
        recursive,
        attributes,
        map_ids,
    } = options(mount)?;
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    let directory = is_directory(source).map_err(|e| failed(source, e))?;
    let tree = copy_of(source, recursive, &attributes).map_err(|e| failed(source, e))?;
    if let Some(recursive) = map_ids {
        reached
            .map_ids(&tree, recursive)
            .map_err(|reason| failed(&mount.destination, reason))?;
    }
    attach(reached, &mount.destination, directory, &tree, undo)
}

fn attach<'u>(
    reached: &'u Reached,
    path: &Path,
    directory: bool,
    tree: &OwnedFd,
    undo: &mut Undo<'u>,
) -> Result<()> {
    let place = reached
        .as_root_user(|| reached.root.place(path, directory))
        .map_err(|e| failed(path, e))?;
    inside(reached, || place.attach(tree)).map_err(|e| {
        if place.is_made() {
            let _ = reached.as_root_user(|| reached.root.remove(path, directory));
        }
        failed(path, e)
    })?;
    let path: PathBuf = path.to_path_buf();
    undo.push("mount", move || {
        detach(reached, &place)?;
        if place.is_made() {
            reached
                .as_root_user(|| reached.root.remove(&path, directory))
                .map_err(|e| failed(&path, e))?;
        }
        Ok(())
    });
    Ok(())
}

fn detach(reached: &Reached, place: &Place) -> Result<()> {
    inside(reached, || place.detach())
}

fn take_mount<'u>(reached: &'u Reached, mount: &Mount, undo: &mut Undo<'u>) -> Result<()> {
    let place = reached
        .root
        .find_place(&mount.destination)
        .map_err(|e| failed(&mount.destination, e))?;
    let Some(place) = place else {
        // Nothing to take, nor to put back.
        return Ok(());
    };
    detach(reached, &place)?;
    let again = mount.clone();
    undo.push("mount", move || {
        let mut nothing = Undo::new();
        let result = give_mount(reached, &again, &mut nothing);
        nothing.disarm();
        result
    });
    Ok(())
}

fn inside(
    reached: &Reached,
    action: impl FnOnce() -> std::result::Result<(), String>,
) -> Result<()> {
    // Not in its user namespace: what is attached is the host's to give.
    Entrance::of_mounts(reached.pidfd.as_fd()).run(None, action)
}

/// What a bind mount's options come to.
struct Options {
    /// Whether what is mounted below comes along.
    recursive: bool,
    attributes: Attributes,
    /// Whether ids are mapped as in the container's user namespace, and if so,
    /// whether in what is mounted below too.
    map_ids: Option<bool>,
}

/// Reads the options of a mount; in a running container it is always a bind, and
/// private.
fn options(mount: &Mount) -> Result<Options> {
    let mut attributes = Attributes::default();
    let mut recursive = false;
    let mut map_ids = None;
    let mut bind = mount.kind.as_deref() == Some("bind");
    for option in &mount.options {
        let (set, clear) = match option.as_str() {
            "bind" => {
                bind = true;
                continue;
            }
            "rbind" => {
                bind = true;
                recursive = true;
                continue;
            }
            "private" | "rprivate" | "rw" => continue,
            "idmap" => {
                map_ids.get_or_insert(false);
                continue;
            }
            "ridmap" => {
                map_ids = Some(true);
                continue;
            }
            "ro" => (libc::MOUNT_ATTR_RDONLY, 0),
            "nosuid" => (libc::MOUNT_ATTR_NOSUID, 0),
            "nodev" => (libc::MOUNT_ATTR_NODEV, 0),
            "noexec" => (libc::MOUNT_ATTR_NOEXEC, 0),
            "noatime" => (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
            other => {
                return Err(failed(
                    &mount.destination,
                    format!("mount option {other:?} cannot be had in a container that runs"),
                ));
            }
        };
        attributes.set |= set;
        attributes.clear |= clear;
    }
    if !bind || mount.source.is_none() {
        let kind = mount.kind.as_deref().unwrap_or("no type");
        return Err(failed(
            &mount.destination,
            format!("a mount of type {kind} cannot be had in a container that runs, a bind can"),
        ));
    }
    Ok(Options {
        recursive,
        attributes,
        map_ids,
    })
}

/// Repairs what has drifted: nodes get the host's numbers and so do their rules,
/// what is missing or replaced inside is made again, and the recorded filter is
/// put in force. Returns what was repaired, one line each.
///
/// # Errors
/// It does not run; a repair failed, and everything is as before; or something
/// cannot be repaired, which is said after the rest has been.
pub fn heal(locked: &Locked) -> Result<Vec<String>> {
    let state = locked.read()?;
    let old = effective(locked)?;
    let found = report(&state, &old)?;
    if !found.has_drifted() {
        return Ok(Vec::new());
    }
    let plan = renumbering(&found, &old)?;
    let new = edit::apply(&old, &plan)?;
    // What stands in a node's place is not the container's to keep there.
    let recorded = old.devices()?;
    let mut impostors = Vec::new();
    for node in found.devices.iter().filter(|node| !node.lost) {
        let own = recorded.iter().find(|d| d.path == node.wanted.path);
        if let Some(own) = own
            && let Seen::Node(kind, major, minor) = node.inside
            && !node.inside.is(own)
            && !Reached::new(&state, &old)?.binds
        {
            impostors.push(DeviceNode {
                kind,
                major,
                minor,
                ..own.clone()
            });
        }
    }
    let renamed = found.devices.iter().filter(|node| node.renumbered);
    let renamed = renamed.filter_map(|node| {
        let now = &node.wanted;
        let was = recorded.iter().find(|d| d.path == now.path)?;
        let key = |node: &DeviceNode| node_key(node.kind, node.major, node.minor);
        Some((key(was), key(now)))
    });
    let change = Change {
        locked,
        state: &state,
        old: &old,
        new: &new,
        injected: state.injected.clone(),
        held: Held::Renamed(renamed.collect()),
    };
    carry_out_over(&impostors, change)?;
    let mut done: Vec<String> = found
        .devices
        .iter()
        .filter(|node| !node.lost)
        .flat_map(|node| {
            node.drift
                .iter()
                .map(move |d| format!("{}: {d}", node.path))
        })
        .collect();
    if let Some(filter) = found.filter.filter(|filter| !filter.in_force) {
        done.push(filter.remark.unwrap_or_default());
    }
    let lost: Vec<&str> = found
        .devices
        .iter()
        .filter(|node| node.lost)
        .map(|node| node.path.as_str())
        .collect();
    if !lost.is_empty() {
        return Err(RuntimeError::Refused(format!(
            "the host lacks what the container should have: {}; load the driver, or take the device back",
            lost.join(", ")
        ))
        .into());
    }
    Ok(done)
}

/// The edits that give renumbered nodes, and the rules about exactly them, their
/// new numbers.
fn renumbering(found: &Report, old: &Document) -> Result<Plan> {
    let rules = old.device_rules()?;
    let mut plan = Plan::default();
    for node in found.devices.iter().filter(|node| node.renumbered) {
        let origin = Origin {
            rule: Rule::Builtin("heal"),
            sources: vec![Source::Situation {
                reason: node.drift.join("; "),
            }],
        };
        let Some(before) = old
            .devices()?
            .into_iter()
            .find(|d| d.path == node.wanted.path)
        else {
            continue;
        };
        plan.push(Edit::AddDevice(node.wanted.clone()), origin.clone());
        let exact = |rule: &&DeviceRule| {
            rule.allow
                && (rule.kind, rule.major, rule.minor)
                    == (before.kind, Some(before.major), Some(before.minor))
        };
        // Two nodes may trade places: nothing is revoked that one still has.
        let kept = found.devices.iter().any(|other| {
            let w = &other.wanted;
            (w.kind, w.major, w.minor) == (before.kind, before.major, before.minor)
        });
        for rule in rules.iter().filter(exact) {
            if !kept {
                plan.push(Edit::RevokeDevice(rule.clone()), origin.clone());
            }
            let new = DeviceRule {
                major: Some(node.wanted.major),
                minor: Some(node.wanted.minor),
                ..rule.clone()
            };
            plan.push(Edit::AllowDevice(new), origin.clone());
        }
        debug_assert!(before.kind != DeviceKind::All);
    }
    Ok(plan)
}
