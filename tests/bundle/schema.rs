//! The JSON Schema of the service file: up to date, and of one mind with the
//! reader.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bad;
use super::golden;
use super::json_schema::Schema;
use super::support::{Workspace, json};

const FILE: &str = "hack/docs/service.schema.json";

#[test]
fn the_shipped_schema_is_the_one_that_is_printed() {
    let printed = Workspace::new().call(&["bundle", "schema"]).quiet();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("KUSABI_BLESS").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap();
    assert!(
        shipped == printed,
        "{FILE} is not up to date: kusabi bundle schema > {FILE}"
    );
}

fn schema() -> Schema {
    let printed = Workspace::new().call(&["bundle", "schema"]).quiet();
    Schema::of(json(&printed))
}

/// As a YAML reader of the core schema has it.
fn tree(node: &kusabi::yaml::Node) -> Value {
    use kusabi::yaml::Value as Yaml;
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Scalar { text, plain: false } => Value::String(text.clone()),
        Yaml::Scalar { text, .. } => match serde_json::from_str(text) {
            Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
            _ => Value::String(text.clone()),
        },
        Yaml::List(items) => items.iter().map(|item| tree(item)).collect(),
        Yaml::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), tree(&entry.node)))
            .collect(),
    }
}

fn parsed(text: &str) -> Value {
    tree(&kusabi::yaml::parse(text).unwrap().unwrap())
}

#[test]
fn what_is_read_is_valid() {
    let schema = schema();
    for name in golden::cases() {
        let path = format!("tests/bundle/golden/{name}.yaml");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let value = parsed(&fs::read_to_string(path).unwrap());
        assert_eq!(schema.problems(&value), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_is_refused_for_its_shape_is_not_valid() {
    let schema = schema();
    let mut refused = 0;
    for (text, message) in bad::cases() {
        let Ok(Some(node)) = kusabi::yaml::parse(&text) else {
            continue;
        };
        let valid = schema.problems(&tree(&node)).is_empty();
        // What a schema cannot say.
        let beyond = [
            " too",
            "is mounted for every container",
            "is below /",
            "nothing may be done",
            "is not below world_size",
            "without backend",
            "unknown capability",
            "has a \"",
            ". or .. in it",
            "is more than",
            "no mode",
            "is the root itself",
            "is there twice",
        ];
        if beyond.iter().any(|words| message.contains(words)) {
            continue;
        }
        assert!(!valid, "the schema takes what is refused as: {message}");
        refused += 1;
    }
    assert!(refused > 40, "{refused}");
}
