//! The JSON Schema (draft 2020-12) of the service file, made from the table.

use serde_json::{Map, Value, json};

use super::form::{Form, Unquoted};
use super::table::{FILE, Kinds, Object, Shape};

/// The schema, with one definition for each kind of map.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = object(&FILE, &mut definitions);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kusabi service file",
    });
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, &mut root) {
        schema.append(root);
        definitions.sort_keys();
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn object(object: &'static Object, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        let mut value = shape(&field.shape, definitions);
        if let Value::Object(map) = &mut value {
            map.insert("description".to_owned(), json!(field.about));
        }
        properties.insert(field.key.to_owned(), value);
    }
    let required: Vec<&str> = object
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.key)
        .collect();
    let mut schema = json!({
        "description": object.about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some(kinds) = &object.kinds {
        schema["allOf"] = Value::Array(conditions(kinds));
    }
    schema
}

/// For each word: what must be there, and what of the other words must not.
fn conditions(kinds: &Kinds) -> Vec<Value> {
    let owned = |row: &(
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    )| { [row.1, row.2].concat() };
    let every: Vec<&str> = {
        let mut all: Vec<&str> = kinds.rows.iter().flat_map(owned).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let without = |kept: &[&str]| -> Map<String, Value> {
        let gone = every.iter().filter(|key| !kept.contains(key));
        gone.map(|key| ((*key).to_owned(), json!(false))).collect()
    };
    let mut all: Vec<Value> = kinds
        .rows
        .iter()
        .map(|row| {
            let mut then = json!({ "properties": without(&owned(row)) });
            if !row.1.is_empty() {
                then["required"] = json!(row.1);
            }
            json!({
                "if": { "properties": { kinds.key: { "const": row.0 } }, "required": [kinds.key] },
                "then": then,
            })
        })
        .collect();
    all.push(json!({
        "if": { "not": { "required": [kinds.key] } },
        "then": { "properties": without(&[]) },
    }));
    all
}

fn shape(of: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    match of {
        Shape::Object(inner) => {
            if !definitions.contains_key(inner.name) {
                let schema = object(inner, definitions);
                definitions.insert(inner.name.to_owned(), schema);
            }
            json!({ "$ref": format!("#/$defs/{}", inner.name) })
        }
        Shape::Map(keys, values) => {
            let values = shape(values, definitions);
            let mut schema = json!({
                "type": "object",
                "propertyNames": { "pattern": keys.pattern },
                "additionalProperties": values,
            });
            if keys.name == "name" {
                schema["minProperties"] = json!(1);
            }
            schema
        }
        Shape::List(items) => json!({ "type": "array", "items": shape(items, definitions) }),
        Shape::Text(form) => text(form),
        Shape::Word([one]) => json!({ "const": one }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Anything => json!({}),
    }
}

fn text(form: &Form) -> Value {
    match form.unquoted {
        Unquoted::Nothing => json!({ "type": "string", "pattern": form.pattern }),
        Unquoted::Scalar => json!({
            "type": ["string", "number", "boolean"],
            "pattern": form.pattern,
        }),
        Unquoted::Integer(min, max) => json!({ "anyOf": [
            { "type": "string", "pattern": form.pattern },
            { "type": "integer", "minimum": min, "maximum": max },
        ]}),
    }
}
