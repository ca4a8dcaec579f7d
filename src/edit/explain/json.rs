//! From plans and decisions to rows, as `hack/docs/explain-json.md` describes them.

use serde_json::{Map, Value, json};

use super::report::{Allow, EditRow, NoteRow, OriginRow, Report, RequestRow, SourceRow, VERSION};
use super::{Explanation, one_line};
use crate::edit::{
    Decision, DeviceNode, DeviceRule, Edit, Hook, HookStage, IntelRdt, Mount, Origin, Outcome,
    Rule, Source, Trust, Verdict,
};

pub(super) fn report(explanation: &Explanation<'_>) -> Report {
    let Explanation {
        original,
        plan,
        applied,
        decisions,
    } = explanation;
    let edits = plan
        .edits
        .iter()
        .zip(&applied.outcomes)
        .map(|(planned, outcome)| {
            let (kind, value) = edit(&planned.edit);
            let (sign, outcome) = match outcome {
                Outcome::Unchanged => ('=', "unchanged"),
                Outcome::Changed if planned.edit.removes() => ('-', "changed"),
                Outcome::Changed => ('+', "changed"),
            };
            EditRow {
                kind: kind.to_owned(),
                field: planned.edit.field().to_owned(),
                value,
                text: planned.edit.to_string(),
                sign,
                outcome: outcome.to_owned(),
                origin: origin(&planned.origin),
            }
        })
        .collect();
    let note = |note: &crate::edit::Note| NoteRow {
        text: note.text.clone(),
        origin: origin(&note.origin),
    };
    Report {
        version: VERSION,
        changed: original.as_bytes() != applied.document.as_bytes(),
        requests: decisions.iter().map(request).collect(),
        edits,
        notes: plan.notes.iter().map(note).collect(),
        error: None,
        diff: None,
    }
}

/// Of a request that failed there is no plan.
pub(super) fn refused(decisions: &[Decision], error: String) -> Report {
    Report {
        version: VERSION,
        changed: false,
        requests: decisions.iter().map(request).collect(),
        edits: Vec::new(),
        notes: Vec::new(),
        error: Some(error),
        diff: None,
    }
}

fn request(decision: &Decision) -> RequestRow {
    let (devices, reason, allow) = match &decision.verdict {
        Verdict::Open => (Vec::new(), None, None),
        Verdict::Granted { devices } => (devices.clone(), None, None),
        Verdict::Ignored { reason, allow } => (Vec::new(), Some(reason.clone()), allow.clone()),
        Verdict::Refused { reason } => (Vec::new(), Some(reason.clone()), None),
    };
    RequestRow {
        text: one_line(&decision.source.to_string()),
        source: Value::Object(source(&decision.source)),
        trust: Trust::of(&decision.source).word().to_owned(),
        decision: decision.verdict.word().to_owned(),
        devices,
        reason,
        allow: allow.map(|allow| Allow {
            line: allow.line,
            file: allow.file,
        }),
    }
}

fn edit(edit: &Edit) -> (&'static str, Value) {
    match edit {
        Edit::SetEnv { name, value } => ("setEnv", json!({ "name": name, "value": value })),
        Edit::DefaultEnv { name, value } => ("defaultEnv", json!({ "name": name, "value": value })),
        Edit::AddDevice(node) => ("addDevice", device(node)),
        Edit::RemoveDevice { path } => ("removeDevice", json!({ "path": path.to_string_lossy() })),
        Edit::AllowDevice(device) => ("allowDevice", rule(device)),
        Edit::RevokeDevice(device) => ("revokeDevice", rule(device)),
        Edit::DropDeviceRules => ("dropDeviceRules", json!({})),
        Edit::AddMount(new) => ("addMount", mount(new)),
        Edit::RemoveMount { destination } => (
            "removeMount",
            json!({ "destination": destination.to_string_lossy() }),
        ),
        Edit::RemoveMountOption {
            destination,
            option,
        } => (
            "removeMountOption",
            json!({ "destination": destination.to_string_lossy(), "option": option }),
        ),
        Edit::AddHook(stage, new) => ("addHook", hook(*stage, new)),
        Edit::RemoveHook { stage, path } => (
            "removeHook",
            json!({ "stage": stage.key(), "path": path.to_string_lossy() }),
        ),
        Edit::AddGid(gid) => ("addGid", json!({ "gid": gid })),
        Edit::AddNetDevice { host, name } => {
            ("addNetDevice", json!({ "host": host, "name": name }))
        }
        Edit::SetRdt(new) => ("setRdt", rdt(new)),
        Edit::MapIds { uid, gid } => ("mapIds", json!({ "uid": uid, "gid": gid })),
        Edit::AddNamespace(kind) => ("addNamespace", json!({ "type": kind.key() })),
        Edit::SetCgroupsPath(path) => ("setCgroupsPath", json!({ "path": path })),
        Edit::RemoveAnnotation { key } => ("removeAnnotation", json!({ "key": key })),
    }
}

/// An object without the members that are `null`.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let present = members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_owned(), value));
    Value::Object(present.collect::<Map<_, _>>())
}

fn device(node: &DeviceNode) -> Value {
    object([
        ("path", json!(node.path.to_string_lossy())),
        ("hostPath", json!(node.host_path.to_string_lossy())),
        ("type", json!(node.kind.letter())),
        ("major", json!(node.major)),
        ("minor", json!(node.minor)),
        ("fileMode", json!(node.file_mode)),
        ("uid", json!(node.uid)),
        ("gid", json!(node.gid)),
    ])
}

fn rule(rule: &DeviceRule) -> Value {
    object([
        ("type", json!(rule.kind.letter())),
        ("major", json!(rule.major)),
        ("minor", json!(rule.minor)),
        ("access", json!(rule.access.letters())),
    ])
}

fn mount(mount: &Mount) -> Value {
    let source = mount.source.as_ref().map(|path| path.to_string_lossy());
    object([
        ("destination", json!(mount.destination.to_string_lossy())),
        ("type", json!(mount.kind)),
        ("source", json!(source)),
        ("options", json!(mount.options)),
    ])
}

fn hook(stage: HookStage, hook: &Hook) -> Value {
    object([
        ("stage", json!(stage.key())),
        ("path", json!(hook.path.to_string_lossy())),
        ("args", json!(hook.args)),
        ("env", json!(hook.env)),
        ("timeout", json!(hook.timeout)),
    ])
}

fn rdt(rdt: &IntelRdt) -> Value {
    object([
        ("closID", json!(rdt.clos_id)),
        ("l3CacheSchema", json!(rdt.l3_cache_schema)),
        ("memBwSchema", json!(rdt.mem_bw_schema)),
        ("schemata", json!(rdt.schemata)),
        ("enableMonitoring", json!(rdt.enable_monitoring)),
    ])
}

fn origin(origin: &Origin) -> OriginRow {
    let row = |asked: &Source| SourceRow {
        text: one_line(&asked.to_string()),
        source: source(asked),
    };
    OriginRow {
        text: one_line(&origin.rule.to_string()),
        rule: rule_of(&origin.rule),
        sources: origin.sources.iter().map(row).collect(),
    }
}

fn rule_of(rule: &Rule) -> Value {
    match rule {
        Rule::CdiSpec { file } => json!({ "kind": "cdiSpec", "file": file.to_string_lossy() }),
        Rule::CdiDevice { name, file } => json!({
            "kind": "cdiDevice",
            "device": name.to_string(),
            "file": file.to_string_lossy(),
        }),
        Rule::Profile { vendor } => json!({ "kind": "profile", "vendor": vendor }),
        Rule::Rootless => json!({ "kind": "rootless" }),
        Rule::Builtin(name) => json!({ "kind": "builtin", "name": name }),
    }
}

fn source(source: &Source) -> Map<String, Value> {
    let members = match source {
        Source::Flag { flag, value } => {
            vec![
                ("kind", json!("flag")),
                ("flag", json!(flag)),
                ("value", json!(value)),
            ]
        }
        Source::Annotation { key, value } => {
            vec![
                ("kind", json!("annotation")),
                ("key", json!(key)),
                ("value", json!(value)),
            ]
        }
        Source::Environment { name, value } => {
            vec![
                ("kind", json!("environment")),
                ("name", json!(name)),
                ("value", json!(value)),
            ]
        }
        Source::Mount { destination } => {
            let destination = json!(destination.to_string_lossy());
            vec![("kind", json!("mount")), ("destination", destination)]
        }
        Source::Policy { file, key } => {
            let file = json!(file.to_string_lossy());
            vec![
                ("kind", json!("policy")),
                ("file", file),
                ("key", json!(key)),
            ]
        }
        Source::Service { field } => vec![("kind", json!("service")), ("field", json!(field))],
        Source::Situation { reason } => {
            vec![("kind", json!("situation")), ("reason", json!(reason))]
        }
    };
    members
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
