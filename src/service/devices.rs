//! Device rules that every container has, and the nodes that a service names.

use std::path::Path;

use serde_json::{Value, json};

use super::error::ServiceError;
use super::file::Service;
use crate::edit::{DeviceKind, DeviceNode, DeviceRule, Edit, Origin, Plan, Rule, Source};
use crate::host::facts::{FileKind, Presence, Snapshot};

/// null, zero, full, random, urandom, tty, console, ptmx and the terminals of
/// the container's own devpts: fixed numbers (Linux, `devices.txt`).
const ALWAYS: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// `linux.resources.devices` before the service's own.
pub(super) fn rules(privileged: bool) -> Value {
    if privileged {
        return json!([{ "allow": true, "access": "rwm" }]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(ALWAYS.iter().map(|(major, minor)| {
        let mut rule = json!({ "allow": true, "type": "c", "major": major });
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule["access"] = json!("rwm");
        rule
    }));
    Value::Array(rules)
}

/// The nodes of `devices`, with the host's numbers, and a rule for each.
pub(super) fn plan(
    service: &Service,
    place: &str,
    files: Option<&Snapshot>,
) -> Result<Plan, ServiceError> {
    let mut plan = Plan::default();
    for (index, device) in service.devices.iter().enumerate() {
        let field = format!("{place}.devices[{index}]");
        let node = node(&device.path, &field, files)?;
        let origin = Origin {
            rule: Rule::Builtin("service device"),
            sources: vec![Source::Service { field }],
        };
        let rule = DeviceRule {
            allow: true,
            kind: node.kind,
            major: Some(node.major),
            minor: Some(node.minor),
            access: device.access,
        };
        plan.push(Edit::AddDevice(node), origin.clone());
        plan.push(Edit::AllowDevice(rule), origin);
    }
    Ok(plan)
}

fn node(path: &Path, place: &str, files: Option<&Snapshot>) -> Result<DeviceNode, ServiceError> {
    let wrong = |reason: String| ServiceError::Host {
        place: place.to_owned(),
        path: path.display().to_string(),
        reason,
    };
    let Some(files) = files else {
        let reason = "its numbers are the host's, which nobody may look at; leave --no-probe out or give --host-root";
        return Err(wrong(reason.to_owned()));
    };
    let facts = match files.file(path).map(Presence::followed) {
        Some(Presence::Present(facts)) => facts,
        Some(Presence::Unknown { reason }) => return Err(wrong(reason.clone())),
        Some(Presence::Absent) => return Err(wrong("the host has no such device".to_owned())),
        None => return Err(wrong("was not looked at".to_owned())),
    };
    let kind = match facts.kind {
        FileKind::Char => DeviceKind::Char,
        FileKind::Block => DeviceKind::Block,
        other => {
            return Err(wrong(format!("is {}, not a device", other.noun())));
        }
    };
    Ok(DeviceNode {
        path: path.to_owned(),
        host_path: path.to_owned(),
        kind,
        major: facts.major,
        minor: facts.minor,
        file_mode: Some(facts.mode),
        uid: Some(facts.uid),
        gid: Some(facts.gid),
    })
}
