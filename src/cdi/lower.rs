//! Merged container edits become [`Edit`]s, with the host's own numbers.

use std::collections::BTreeMap;

use super::CdiError;
use super::resolve::{Context, Mode, Part};
use super::schema::{DeviceNode, Hook, IntelRdt, Mount, NetDevice};
use super::validate::stage;
use crate::edit::path::clean;
use crate::edit::{self, Access, DeviceKind, DeviceRule, Edit, HookStage, Origin, Plan};
use crate::host::facts::{FileFacts, FileKind, Presence, Snapshot};

/// An item of some edits, and where it comes from.
type Sourced<'p, T> = (T, &'p Origin);

/// The edits of all parts, each effective one once.
pub(super) struct Merged<'p> {
    env: Vec<Sourced<'p, (&'p str, &'p str)>>,
    nodes: Vec<Sourced<'p, &'p DeviceNode>>,
    net_devices: Vec<Sourced<'p, &'p NetDevice>>,
    mounts: Vec<Sourced<'p, &'p Mount>>,
    hooks: Vec<Sourced<'p, &'p Hook>>,
    rdt: Option<Sourced<'p, &'p IntelRdt>>,
    gids: Vec<Sourced<'p, u32>>,
}

impl<'p> Merged<'p> {
    pub(super) fn new(parts: &'p [Part<'p>]) -> Self {
        let mut merged = Self {
            env: Vec::new(),
            nodes: Vec::new(),
            net_devices: Vec::new(),
            mounts: Vec::new(),
            hooks: Vec::new(),
            rdt: None,
            gids: Vec::new(),
        };
        for Part { edits, origin } in parts {
            for variable in &edits.env {
                if let Some((name, value)) = variable.split_once('=') {
                    replace_in_place(&mut merged.env, (name, value), origin, |v| v.0);
                }
            }
            // Replaced only once their devices are known: rights add up.
            merged
                .nodes
                .extend(edits.device_nodes.iter().map(|node| (node, origin)));
            for device in &edits.net_devices {
                replace_in_place(&mut merged.net_devices, device, origin, |d| {
                    d.host_interface_name.as_str()
                });
            }
            for mount in &edits.mounts {
                replace_at_end(&mut merged.mounts, mount, origin, |m| {
                    clean(&m.container_path)
                });
            }
            for hook in &edits.hooks {
                if !merged.hooks.iter().any(|(other, _)| *other == hook) {
                    merged.hooks.push((hook, origin));
                }
            }
            if let Some(rdt) = &edits.intel_rdt {
                merged.rdt = Some((rdt, origin));
            }
            for &gid in &edits.additional_gids {
                if gid != 0 && !merged.gids.iter().any(|&(other, _)| other == gid) {
                    merged.gids.push((gid, origin));
                }
            }
        }
        merged
    }
}

/// The later of two items with the same key takes the earlier one's place.
fn replace_in_place<'p, T, K: PartialEq>(
    items: &mut Vec<Sourced<'p, T>>,
    item: T,
    origin: &'p Origin,
    key: impl Fn(&T) -> K,
) {
    let wanted = key(&item);
    match items.iter_mut().find(|(other, _)| key(other) == wanted) {
        Some(slot) => *slot = (item, origin),
        None => items.push((item, origin)),
    }
}

/// The later of two items with the same key stays, where it stands.
fn replace_at_end<'p, T, K: PartialEq>(
    items: &mut Vec<Sourced<'p, T>>,
    item: T,
    origin: &'p Origin,
    key: impl Fn(&T) -> K,
) {
    let wanted = key(&item);
    items.retain(|(other, _)| key(other) != wanted);
    items.push((item, origin));
}

pub(super) fn lower(
    merged: &Merged<'_>,
    snapshot: &Snapshot,
    context: &Context,
    plan: &mut Plan,
) -> Result<(), CdiError> {
    for ((name, value), origin) in &merged.env {
        let (name, value) = ((*name).to_owned(), (*value).to_owned());
        plan.push(Edit::SetEnv { name, value }, (*origin).clone());
    }
    nodes(merged, snapshot, context, plan)?;
    net_devices(merged, plan)?;
    for (mount, origin) in &merged.mounts {
        let mount = lower_mount(mount, origin, snapshot, context, plan)?;
        plan.push(Edit::AddMount(mount), (*origin).clone());
    }
    for (hook, origin) in &merged.hooks {
        if let Some((stage, hook)) = lower_hook(hook, origin, snapshot, plan)? {
            plan.push(Edit::AddHook(stage, hook), (*origin).clone());
        }
    }
    if let Some((rdt, origin)) = merged.rdt {
        plan.push(Edit::SetRdt(lower_rdt(rdt)), origin.clone());
    }
    for (gid, origin) in &merged.gids {
        plan.push(Edit::AddGid(*gid), (*origin).clone());
    }
    Ok(())
}

fn nodes(
    merged: &Merged<'_>,
    snapshot: &Snapshot,
    context: &Context,
    plan: &mut Plan,
) -> Result<(), CdiError> {
    let mut kept: Vec<Sourced<'_, edit::DeviceNode>> = Vec::new();
    // One rule for one device, however many nodes name it.
    let mut rules: BTreeMap<(DeviceKind, u32, u32), Access> = BTreeMap::new();
    for (node, origin) in &merged.nodes {
        let device = lower_node(node, origin, snapshot, context, plan)?;
        if matches!(device.kind, DeviceKind::Block | DeviceKind::Char) {
            let key = (device.kind, device.major, device.minor);
            *rules.entry(key).or_insert(Access::empty()) |= access(&node.permissions);
        }
        replace_at_end(&mut kept, device, origin, |device| {
            clean(&device.path.to_string_lossy())
        });
    }
    // A device whose every node has been replaced gets none.
    for (device, origin) in kept {
        let key = (device.kind, device.major, device.minor);
        plan.push(Edit::AddDevice(device), origin.clone());
        let access = rules.remove(&key).unwrap_or(Access::empty());
        if !access.is_empty() {
            let rule = DeviceRule {
                allow: true,
                kind: key.0,
                major: Some(key.1),
                minor: Some(key.2),
                access,
            };
            plan.push(Edit::AllowDevice(rule), origin.clone());
        }
    }
    Ok(())
}

fn access(permissions: &str) -> Access {
    match permissions {
        "" => Access::all(),
        "none" => Access::empty(),
        letters => Access::from_letters(letters).unwrap_or(Access::empty()),
    }
}

fn lower_node(
    node: &DeviceNode,
    origin: &Origin,
    snapshot: &Snapshot,
    context: &Context,
    plan: &mut Plan,
) -> Result<edit::DeviceNode, CdiError> {
    let declared = match node.kind.as_str() {
        "b" => Some(DeviceKind::Block),
        "c" | "u" => Some(DeviceKind::Char),
        "p" => Some(DeviceKind::Fifo),
        _ => None,
    };
    let refuse = |reason: String| host_error(origin, node.host(), reason);
    let (kind, major, minor, mode) = match snapshot.file(node.host()) {
        Some(Presence::Present(facts)) => {
            let kind = device_kind(facts)
                .ok_or_else(|| refuse(format!("is {}, not a device node", facts.kind.noun())))?;
            if declared.is_some_and(|declared| declared != kind) {
                return Err(refuse(format!(
                    "is {}, the file says type {}",
                    facts.kind.noun(),
                    node.kind
                )));
            }
            note_stale(node, facts, kind, origin, plan);
            (kind, facts.major, facts.minor, Some(facts.mode))
        }
        missing => {
            let why = match missing {
                Some(Presence::Unknown { reason }) => format!("cannot be examined: {reason}"),
                None => "was not probed".to_owned(),
                _ => "is not on the host".to_owned(),
            };
            match (declared, numbers(node)) {
                // A FIFO has no numbers; the container gets its own.
                (Some(DeviceKind::Fifo), _) => (DeviceKind::Fifo, 0, 0, None),
                (Some(kind), Some((major, minor))) if context.mode == Mode::Explain => {
                    note_once(
                        plan,
                        origin,
                        format!(
                            "device node {} {why}, the file says {major}:{minor}; create would fail",
                            node.host()
                        ),
                    );
                    (kind, major, minor, None)
                }
                (Some(_), Some((major, minor))) => {
                    return Err(refuse(format!(
                        "{why}; the file says {major}:{minor}, but numbers change with every \
                         boot, so load the driver or generate the file again"
                    )));
                }
                _ => return Err(refuse(why)),
            }
        }
    };
    Ok(edit::DeviceNode {
        path: (&node.path).into(),
        host_path: node.host().into(),
        kind,
        major,
        minor,
        file_mode: node.file_mode.map(|mode| mode & 0o7777).or(mode),
        uid: node.uid.or((context.uid > 0).then_some(context.uid)),
        gid: node.gid.or((context.gid > 0).then_some(context.gid)),
    })
}

fn device_kind(facts: &FileFacts) -> Option<DeviceKind> {
    match facts.kind {
        FileKind::Block => Some(DeviceKind::Block),
        FileKind::Char => Some(DeviceKind::Char),
        FileKind::Fifo => Some(DeviceKind::Fifo),
        _ => None,
    }
}

/// The numbers that the file itself gives; major 0 stands for none.
fn numbers(node: &DeviceNode) -> Option<(u32, u32)> {
    match (u32::try_from(node.major), u32::try_from(node.minor)) {
        (Ok(major @ 1..), Ok(minor)) => Some((major, minor)),
        _ => None,
    }
}

fn note_stale(
    node: &DeviceNode,
    facts: &FileFacts,
    kind: DeviceKind,
    origin: &Origin,
    plan: &mut Plan,
) {
    if let Some((major, minor)) = numbers(node)
        && kind != DeviceKind::Fifo
        && (major, minor) != (facts.major, facts.minor)
    {
        note_once(
            plan,
            origin,
            format!(
                "device node {} is {}:{} on the host, not {major}:{minor} as the file says; \
                 the host's numbers are used",
                node.host(),
                facts.major,
                facts.minor
            ),
        );
    }
}

/// Several devices may name one node; what is odd about it is said once.
fn note_once(plan: &mut Plan, origin: &Origin, text: String) {
    if !plan.notes.iter().any(|note| note.text == text) {
        plan.note(text, origin.clone());
    }
}

fn net_devices(merged: &Merged<'_>, plan: &mut Plan) -> Result<(), CdiError> {
    let mut names = BTreeMap::new();
    for (device, origin) in &merged.net_devices {
        let host = device.host_interface_name.as_str();
        if let Some(other) = names.insert(device.name.as_str(), host) {
            return Err(CdiError::Host {
                rule: origin.rule.to_string(),
                path: format!("network interface {:?}", device.name),
                reason: format!("would be both {other:?} and {host:?} of the host"),
            });
        }
        plan.push(
            Edit::AddNetDevice {
                host: host.to_owned(),
                name: device.name.clone(),
            },
            (*origin).clone(),
        );
    }
    Ok(())
}

/// The host path that a bind mount shows.
pub(super) fn bind_source(mount: &Mount) -> Option<&str> {
    (mount.is_bind() && mount.host_path.starts_with('/')).then_some(mount.host_path.as_str())
}

fn lower_mount(
    mount: &Mount,
    origin: &Origin,
    snapshot: &Snapshot,
    context: &Context,
    plan: &mut Plan,
) -> Result<edit::Mount, CdiError> {
    if let Some(source) = bind_source(mount)
        && snapshot.file(source).map(Presence::followed) == Some(&Presence::Absent)
    {
        const STALE: &str = "is not on the host; after a driver update, generate the file again";
        match context.mode {
            Mode::Create => return Err(host_error(origin, source, STALE.into())),
            Mode::Explain => plan.note(
                format!("mount source {source} {STALE}; create would fail"),
                origin.clone(),
            ),
        }
    }
    let mut options = mount.options.clone();
    if context.idmap_mounts
        && let Some(option) = idmap_option(mount)
    {
        options.push(option.to_owned());
    }
    Ok(edit::Mount {
        destination: (&mount.container_path).into(),
        kind: (!mount.kind.is_empty()).then(|| mount.kind.clone()),
        source: Some((&mount.host_path).into()),
        options,
    })
}

/// Which option makes a bind mount an idmapped one, as containerd and the
/// reference implementation choose it.
fn idmap_option(mount: &Mount) -> Option<&'static str> {
    let mut option = (mount.kind == "bind").then_some("idmap");
    for o in &mount.options {
        match o.as_str() {
            "idmap" | "ridmap" => return None,
            "bind" => option = Some("idmap"),
            "rbind" => option = Some("ridmap"),
            _ => {}
        }
    }
    option
}

fn lower_hook(
    hook: &Hook,
    origin: &Origin,
    snapshot: &Snapshot,
    plan: &mut Plan,
) -> Result<Option<(HookStage, edit::Hook)>, CdiError> {
    // A valid specification has only known stages.
    let Some(stage) = stage(&hook.hook_name) else {
        return Ok(None);
    };
    match snapshot.file(&hook.path).map(Presence::followed) {
        Some(Presence::Present(facts)) if facts.mode & 0o002 != 0 => {
            return Err(host_error(
                origin,
                &hook.path,
                format!(
                    "anyone may write this hook (mode {:04o}), take it away with chmod o-w",
                    facts.mode
                ),
            ));
        }
        Some(Presence::Absent) => plan.note(
            format!("{} hook {} is not on the host", stage.key(), hook.path),
            origin.clone(),
        ),
        _ => {}
    }
    Ok(Some((
        stage,
        edit::Hook {
            path: (&hook.path).into(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout.and_then(|seconds| u32::try_from(seconds).ok()),
        },
    )))
}

fn lower_rdt(rdt: &IntelRdt) -> edit::IntelRdt {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    edit::IntelRdt {
        clos_id: text(&rdt.clos_id),
        l3_cache_schema: text(&rdt.l3_cache_schema),
        mem_bw_schema: text(&rdt.mem_bw_schema),
        schemata: rdt.schemata.clone().unwrap_or_default(),
        // What monitored cache or bandwidth before 1.1.0 needs a group as well.
        enable_monitoring: rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm,
    }
}

fn host_error(origin: &Origin, path: &str, reason: String) -> CdiError {
    CdiError::Host {
        rule: origin.rule.to_string(),
        path: path.to_owned(),
        reason,
    }
}
