//! From bytes to a [`Spec`]: the JSON definition of the CDI specification,
//! strictly. Unknown and duplicate keys are errors; keys match regardless of
//! case, as in the reference implementation; null is the same as absent.

use super::schema::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
use crate::yaml::{self, Fields, Node, Position, Problem, Report, Trail};

/// Largest specification file, in bytes.
pub const MAX_FILE_SIZE: usize = 8 << 20;

/// A specification and the tree it was read from, which knows the places.
pub(super) fn decode(bytes: &[u8]) -> Result<(Spec, Node), Vec<Problem>> {
    if bytes.len() > MAX_FILE_SIZE {
        return Err(whole(format!(
            "{} bytes, more than the {MAX_FILE_SIZE} that a specification may have",
            bytes.len()
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    let root = yaml::parse(text)
        .map_err(|error| {
            vec![Problem {
                at: error.at,
                field: String::new(),
                reason: error.reason,
                hint: None,
            }]
        })?
        .ok_or_else(|| whole("the file is empty".into()))?;
    let report = Report::default();
    let spec = spec(&root, &report);
    let problems = report.into_problems();
    match spec {
        Some(spec) if problems.is_empty() => Ok((spec, root)),
        _ => Err(problems),
    }
}

fn whole(reason: String) -> Vec<Problem> {
    vec![Problem {
        at: Position::START,
        field: String::new(),
        reason,
        hint: None,
    }]
}

fn not_utf8(bytes: &[u8], valid: usize) -> Vec<Problem> {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    vec![Problem {
        at: Position { line, column },
        field: String::new(),
        reason: "not UTF-8".into(),
        hint: None,
    }]
}

fn spec(root: &Node, report: &Report) -> Option<Spec> {
    let mut fields = Fields::new(root, Trail::default(), report)?;
    let spec = Spec {
        version: fields.required("cdiVersion"),
        kind: fields.required("kind"),
        annotations: fields.string_map("annotations").into_iter().collect(),
        devices: fields.required_list("devices", device),
        container_edits: fields
            .node("containerEdits")
            .map(|node| edits(node, fields.trail("containerEdits"), report))
            .unwrap_or_default(),
    };
    fields.finish(&[]);
    Some(spec)
}

fn device(node: &Node, trail: Trail, report: &Report) -> Option<Device> {
    let mut fields = Fields::new(node, trail, report)?;
    let device = Device {
        name: fields.required("name"),
        annotations: fields.string_map("annotations").into_iter().collect(),
        container_edits: fields
            .required_node("containerEdits")
            .map(|node| edits(node, fields.trail("containerEdits"), report))
            .unwrap_or_default(),
    };
    fields.finish(&[]);
    Some(device)
}

fn edits(node: &Node, trail: Trail, report: &Report) -> ContainerEdits {
    let Some(mut fields) = Fields::new(node, trail, report) else {
        return ContainerEdits::default();
    };
    let edits = ContainerEdits {
        env: fields.strings("env"),
        device_nodes: fields.list("deviceNodes", device_node).unwrap_or_default(),
        net_devices: fields.list("netDevices", net_device).unwrap_or_default(),
        hooks: fields.list("hooks", hook).unwrap_or_default(),
        mounts: fields.list("mounts", mount).unwrap_or_default(),
        intel_rdt: fields
            .node("intelRdt")
            .and_then(|node| intel_rdt(node, fields.trail("intelRdt"), report)),
        additional_gids: fields
            .list("additionalGids", |node, trail, report| {
                yaml::number(node, &trail, report)
            })
            .unwrap_or_default(),
    };
    fields.finish(&[("devices", "device nodes are deviceNodes")]);
    edits
}

fn device_node(node: &Node, trail: Trail, report: &Report) -> Option<DeviceNode> {
    let mut fields = Fields::new(node, trail, report)?;
    let device = DeviceNode {
        path: fields.required("path"),
        host_path: fields.string("hostPath").unwrap_or_default(),
        kind: fields.string("type").unwrap_or_default(),
        major: fields.number("major").unwrap_or_default(),
        minor: fields.number("minor").unwrap_or_default(),
        file_mode: fields.number("fileMode"),
        permissions: fields.string("permissions").unwrap_or_default(),
        uid: fields.number("uid"),
        gid: fields.number("gid"),
    };
    fields.finish(&[("containerPath", "the path in the container is path")]);
    Some(device)
}

fn net_device(node: &Node, trail: Trail, report: &Report) -> Option<NetDevice> {
    let mut fields = Fields::new(node, trail, report)?;
    let device = NetDevice {
        host_interface_name: fields.required("hostInterfaceName"),
        name: fields.required("name"),
    };
    fields.finish(&[]);
    Some(device)
}

fn hook(node: &Node, trail: Trail, report: &Report) -> Option<Hook> {
    let mut fields = Fields::new(node, trail, report)?;
    let hook = Hook {
        hook_name: fields.required("hookName"),
        path: fields.required("path"),
        args: fields.strings("args"),
        env: fields.strings("env"),
        timeout: fields.number("timeout"),
    };
    fields.finish(&[("name", "the stage is hookName")]);
    Some(hook)
}

fn mount(node: &Node, trail: Trail, report: &Report) -> Option<Mount> {
    let mut fields = Fields::new(node, trail, report)?;
    let mount = Mount {
        host_path: fields.required("hostPath"),
        container_path: fields.required("containerPath"),
        options: fields.strings("options"),
        kind: fields.string("type").unwrap_or_default(),
    };
    fields.finish(&[
        ("source", "the source is hostPath"),
        ("destination", "the destination is containerPath"),
    ]);
    Some(mount)
}

fn intel_rdt(node: &Node, trail: Trail, report: &Report) -> Option<IntelRdt> {
    let mut fields = Fields::new(node, trail, report)?;
    let rdt = IntelRdt {
        clos_id: fields.string("closID").unwrap_or_default(),
        l3_cache_schema: fields.string("l3CacheSchema").unwrap_or_default(),
        mem_bw_schema: fields.string("memBwSchema").unwrap_or_default(),
        schemata: fields.list("schemata", |node, trail, report| {
            yaml::text(node, &trail, report)
        }),
        enable_monitoring: fields.boolean("enableMonitoring").unwrap_or_default(),
        enable_cmt: fields.boolean("enableCMT").unwrap_or_default(),
        enable_mbm: fields.boolean("enableMBM").unwrap_or_default(),
    };
    fields.finish(&[("schema", "the list of lines is schemata")]);
    Some(rdt)
}
