//! The form for programs, as `hack/docs/explain-json.md` describes it.

use serde_json::{Map, Value, json};

use super::Explanation;
use crate::edit::{
    DeviceNode, DeviceRule, Edit, Hook, HookStage, IntelRdt, Mount, Origin, Outcome, Rule, Source,
};

/// Goes up when a program that read the last version could misread this one.
/// New keys do not count.
const VERSION: u32 = 1;

pub(super) fn render(explanation: &Explanation<'_>) -> Value {
    let Explanation {
        original,
        plan,
        applied,
    } = explanation;
    let edits: Vec<Value> = plan
        .edits
        .iter()
        .zip(&applied.outcomes)
        .map(|(planned, outcome)| {
            let (kind, value) = edit(&planned.edit);
            json!({
                "kind": kind,
                "field": planned.edit.field(),
                "value": value,
                "outcome": match outcome {
                    Outcome::Changed => "changed",
                    Outcome::Unchanged => "unchanged",
                },
                "origin": origin(&planned.origin),
            })
        })
        .collect();
    let notes: Vec<Value> = plan
        .notes
        .iter()
        .map(|note| json!({ "text": note.text, "origin": origin(&note.origin) }))
        .collect();
    let changed = original.as_bytes() != applied.document.as_bytes();
    json!({ "version": VERSION, "changed": changed, "edits": edits, "notes": notes })
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

fn origin(origin: &Origin) -> Value {
    let sources: Vec<Value> = origin.sources.iter().map(source).collect();
    json!({ "rule": rule_of(&origin.rule), "sources": sources })
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

fn source(source: &Source) -> Value {
    match source {
        Source::Flag { flag, value } => json!({ "kind": "flag", "flag": flag, "value": value }),
        Source::Annotation { key, value } => {
            json!({ "kind": "annotation", "key": key, "value": value })
        }
        Source::Environment { name, value } => {
            json!({ "kind": "environment", "name": name, "value": value })
        }
        Source::Mount { destination } => {
            json!({ "kind": "mount", "destination": destination.to_string_lossy() })
        }
        Source::Policy { file, key } => {
            json!({ "kind": "policy", "file": file.to_string_lossy(), "key": key })
        }
        Source::Service { field } => json!({ "kind": "service", "field": field }),
        Source::Situation { reason } => json!({ "kind": "situation", "reason": reason }),
    }
}
