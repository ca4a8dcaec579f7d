//! `edit`: what holds of every plan's result, checked without the code that
//! makes it.

use std::collections::BTreeMap;

use kusabi::device::policy::{NodeKind, Policy};
use kusabi::document::Document;
use kusabi::edit::{
    Access, Applied, DeviceKind, DeviceRule, Edit, EditError, Explanation, Outcome, Plan, apply,
    apply_traced,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use crate::generate::{broken_config, config, node, plan, plan_of, rule, space};

fn parse(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap()
}

/// The plan's result. A good plan on a good document has none only where the
/// list of device rules cannot be honoured, which an edit of it says.
fn traced(before: &Document, plan: &Plan) -> Result<Applied, TestCaseError> {
    let edits_rules = |edit: &Edit| matches!(edit, Edit::AllowDevice(_));
    match apply_traced(before, plan) {
        Err(EditError::Rule(_)) if plan.edits.iter().any(|edit| edits_rules(&edit.edit)) => {
            Err(TestCaseError::reject("no policy"))
        }
        result => result.map_err(|error| TestCaseError::fail(error.to_string())),
    }
}

fn edited(before: &Document, plan: &Plan) -> Result<Document, TestCaseError> {
    traced(before, plan).map(|applied| applied.document)
}

/// Every leaf with its path, in document order; numbers as written. Empty
/// objects and arrays are leaves.
fn leaves(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{path}/{index}"), out);
            }
        }
        leaf => out.push((path.to_owned(), leaf.to_string())),
    }
}

/// The leaves that no edit of the plan is about. Left out too: the empty objects
/// and nulls on the way to such a field, which a new member fills.
fn others(document: &Document, plan: &Plan) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for planned in &plan.edits {
        let field = planned.edit.field().replace('.', "/");
        fields.push(match &planned.edit {
            Edit::RemoveAnnotation { key } => format!("/{field}/{key}"),
            Edit::AddNetDevice { host, .. } => format!("/{field}/{host}"),
            Edit::AddHook(stage, _) => format!("/{field}/{}", stage.key()),
            _ => format!("/{field}"),
        });
        if matches!(planned.edit, Edit::MapIds { .. }) {
            fields.push("/linux/gidMappings".to_owned());
        }
    }
    let mut all = Vec::new();
    leaves(document.value(), "", &mut all);
    let below = |path: &str, field: &str| path == field || path.starts_with(&format!("{field}/"));
    all.retain(|(path, _)| {
        !fields
            .iter()
            .any(|field| below(path, field) || below(field, path))
    });
    all
}

fn strings<'a>(document: &'a Document, pointer: &str) -> Vec<&'a Value> {
    let list = document.value().pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().collect()
}

fn counts<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_insert(0) += 1;
    }
    counts
}

/// How many rules allow exactly this device.
fn exact(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32) -> usize {
    let (major, minor) = (Some(major), Some(minor));
    rules
        .iter()
        .filter(|rule| rule.allow && (rule.kind, rule.major, rule.minor) == (kind, major, minor))
        .count()
}

fn kinds(kind: DeviceKind) -> Option<NodeKind> {
    match kind {
        DeviceKind::Char => Some(NodeKind::Char),
        DeviceKind::Block => Some(NodeKind::Block),
        DeviceKind::All | DeviceKind::Fifo => None,
    }
}

proptest! {
    #[test]
    fn no_plan_gives_the_inputs_bytes(object in config(), space in space()) {
        let text = object.write(space);
        let document = parse(&text);
        let same = apply(&document, &Plan::default()).unwrap();
        prop_assert_eq!(same.as_bytes(), text.as_bytes());
    }

    #[test]
    fn what_no_edit_names_is_unchanged(object in config(), space in space(), plan in plan()) {
        let before = parse(&object.write(space));
        let after = edited(&before, &plan)?;
        // Values, number text and key order.
        prop_assert_eq!(others(&before, &plan), others(&after, &plan));
        // And the file says what the tree says.
        let read = Document::parse(after.as_bytes()).unwrap();
        prop_assert_eq!(read.value().to_string(), after.value().to_string());
    }

    #[test]
    fn twice_is_once(object in config(), plan in plan()) {
        let once = edited(&parse(&object.write("")), &plan)?;
        let twice = apply(&once, &plan).unwrap();
        prop_assert_eq!(
            String::from_utf8_lossy(once.as_bytes()),
            String::from_utf8_lossy(twice.as_bytes())
        );
        // Also when the result went through a file.
        let read = Document::parse(once.as_bytes()).unwrap();
        let again = apply(&read, &plan).unwrap();
        prop_assert_eq!(again.as_bytes(), once.as_bytes());
    }

    #[test]
    fn an_unchanged_outcome_is_true(object in config(), plan in plan()) {
        let before = parse(&object.write(""));
        for planned in &plan.edits {
            let one = plan_of(vec![planned.edit.clone()]);
            let applied = traced(&before, &one)?;
            if applied.outcomes == [Outcome::Unchanged] && !matches!(planned.edit, Edit::AddMount(_)) {
                prop_assert_eq!(applied.document.as_bytes(), before.as_bytes());
            }
            if applied.document.as_bytes() != before.as_bytes()
                && !matches!(planned.edit, Edit::AddMount(_))
            {
                prop_assert_eq!(applied.outcomes, [Outcome::Changed]);
            }
        }
    }

    #[test]
    fn isolation_is_never_loosened(object in config(), plan in plan()) {
        let before = parse(&object.write(""));
        let after = edited(&before, &plan)?;
        for pointer in [
            "/root", "/process/capabilities", "/process/noNewPrivileges", "/process/user/uid",
            "/linux/seccomp", "/linux/maskedPaths", "/linux/resources/pids",
        ] {
            prop_assert_eq!(before.value().pointer(pointer), after.value().pointer(pointer));
        }
        let (old, new) = (before.namespaces().unwrap(), after.namespaces().unwrap());
        prop_assert!(new.starts_with(&old));
        for added in new.iter().skip(old.len()) {
            prop_assert_eq!(&added.path, &None);
            let asked = |edit: &Edit| matches!(edit, Edit::AddNamespace(kind) if *kind == added.kind);
            prop_assert!(plan.edits.iter().any(|planned| asked(&planned.edit)));
        }
    }

    #[test]
    fn no_variable_is_there_twice(object in config(), plan in plan()) {
        let before = parse(&object.write(""));
        let after = edited(&before, &plan)?;
        let name = |entry: &Value| entry.as_str().unwrap().split('=').next().unwrap().to_owned();
        let old = counts(strings(&before, "/process/env").into_iter().map(name));
        let new = counts(strings(&after, "/process/env").into_iter().map(name));
        for (name, count) in &new {
            let set = |edit: &Edit| matches!(edit, Edit::SetEnv { name: set, .. } if set == name);
            let most = if plan.edits.iter().any(|planned| set(&planned.edit)) {
                1
            } else {
                old.get(name).copied().unwrap_or(1)
            };
            prop_assert!(*count <= most, "{} is there {} times", name, count);
        }
        for planned in &plan.edits {
            if let Edit::SetEnv { name, .. } | Edit::DefaultEnv { name, .. } = &planned.edit {
                prop_assert!(new.contains_key(name));
            }
        }
    }

    #[test]
    fn a_device_has_one_node_and_at_most_one_rule(
        object in config(), devices in vec((node(), 0_u8..8), 1..4),
    ) {
        let before = parse(&object.write(""));
        let mut edits = Vec::new();
        for (node, access) in &devices {
            edits.push(Edit::AddDevice(node.clone()));
            if node.kind != DeviceKind::Fifo {
                edits.push(Edit::AllowDevice(DeviceRule {
                    allow: true,
                    kind: node.kind,
                    major: Some(node.major),
                    minor: Some(node.minor),
                    access: Access::from_bits_truncate(*access),
                }));
            }
        }
        let after = edited(&before, &plan_of(edits))?;
        let (old, new) = (before.device_rules().unwrap(), after.device_rules().unwrap());
        for (index, (node, access)) in devices.iter().enumerate() {
            let nodes = after.devices().unwrap();
            let same_path = |path: &std::path::Path| path.to_string_lossy().replace("//", "/");
            let wanted = same_path(&node.path);
            let here: Vec<_> = nodes.iter().filter(|other| same_path(&other.path) == wanted).collect();
            prop_assert_eq!(here.len(), 1);
            let later = devices.iter().skip(index + 1).any(|(other, _)| other.path == node.path);
            prop_assert!(later || (here[0].kind == node.kind && here[0].uid == node.uid));

            let Some(kind) = kinds(node.kind) else { continue };
            let had = exact(&old, node.kind, node.major, node.minor);
            let has = exact(&new, node.kind, node.major, node.minor);
            prop_assert!(has <= had.max(1));
            let same_device = |(other, _): &&(_, u8)| {
                let other: &kusabi::edit::DeviceNode = other;
                (other.kind, other.major, other.minor) == (node.kind, node.major, node.minor)
            };
            if devices.iter().filter(same_device).all(|(_, access)| *access == 0) {
                prop_assert!(has == had, "permissions `none` made a rule");
            }
            if let Ok(policy) = Policy::from_rules(&new) {
                let access = Access::from_bits_truncate(*access);
                prop_assert!(access.is_empty() || policy.allows(kind, node.major, node.minor, access));
            }
        }
    }

    #[test]
    fn a_list_that_allows_all_gets_no_rule(object in config(), rules in vec(rule(), 1..4)) {
        let mut value: Value = serde_json::from_str(&object.write("")).unwrap();
        let all = serde_json::json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]);
        if !value["linux"].is_object() {
            value["linux"] = serde_json::json!({});
        }
        if !value["linux"]["resources"].is_object() {
            value["linux"]["resources"] = serde_json::json!({});
        }
        value["linux"]["resources"]["devices"] = all;
        let before = parse(&value.to_string());
        let edits = rules.into_iter().map(Edit::AllowDevice).collect();
        let after = edited(&before, &plan_of(edits))?;
        prop_assert_eq!(after.as_bytes(), before.as_bytes());
    }

    #[test]
    fn a_rule_opens_its_device_and_no_other(object in config(), wanted in rule()) {
        let before = parse(&object.write(""));
        let old_rules = before.device_rules().unwrap();
        let edit = Edit::AllowDevice(wanted.clone());
        let after = edited(&before, &plan_of(vec![edit]))?;
        let new_rules = after.device_rules().unwrap();
        let exact = wanted.major.is_some() && wanted.minor.is_some();
        let (Ok(old), Ok(new)) = (Policy::from_rules(&old_rules), Policy::from_rules(&new_rules)) else {
            return Ok(());
        };
        for kind in [NodeKind::Char, NodeKind::Block] {
            for (major, minor) in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
                let named = kinds(wanted.kind) == Some(kind)
                    && wanted.major.is_none_or(|number| number == major)
                    && wanted.minor.is_none_or(|number| number == minor);
                for bits in 1_u8..8 {
                    let access = Access::from_bits_truncate(bits);
                    let had = old.allows(kind, major, minor, access);
                    let has = new.allows(kind, major, minor, access);
                    // The kernel keeps a denial for one device when a wildcard is
                    // allowed after it; what names the device ends it.
                    let decides = exact || !old.allows_by_default();
                    if named && decides && wanted.access.contains(access) {
                        prop_assert!(has);
                    } else if !named {
                        prop_assert_eq!(has, had, "{:?} {}:{} {:?}", kind, major, minor, access);
                    } else {
                        prop_assert!(has || !had, "an access was lost");
                    }
                }
            }
        }
    }

    #[test]
    fn mounts_come_after_what_they_lie_in(object in config(), plan in plan()) {
        let after = edited(&parse(&object.write("")), &plan)?;
        if plan.edits.iter().any(|planned| matches!(planned.edit, Edit::AddMount(_))) {
            let depths: Vec<usize> = after
                .mounts()
                .unwrap()
                .iter()
                .map(|mount| mount.destination.components().count())
                .collect();
            prop_assert!(depths.is_sorted(), "{:?}", depths);
        }
    }

    #[test]
    fn a_broken_document_is_an_error_or_edited_but_never_a_panic(
        object in broken_config(), plan in plan(),
    ) {
        let text = object.write("");
        let Ok(before) = Document::parse(text.as_bytes()) else { return Ok(()) };
        match apply_traced(&before, &plan) {
            Ok(applied) => {
                let again = apply(&applied.document, &plan).unwrap();
                prop_assert_eq!(again.as_bytes(), applied.document.as_bytes());
                let explanation = Explanation { original: &before, plan: &plan, applied: &applied, decisions: &[] };
                let text = explanation.report().text();
                prop_assert!(text.lines().count() > plan.edits.len());
                let json: Value = serde_json::from_str(&explanation.report().json()).unwrap();
                prop_assert_eq!(json["edits"].as_array().unwrap().len(), plan.edits.len());
                let same = before.pretty().unwrap() == applied.document.pretty().unwrap();
                prop_assert_eq!(explanation.diff().unwrap().is_empty(), same);
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("config.json: ") && !error.contains('\n'), "{}", error);
            }
        }
    }
}
