//! JSON Schema, as much as the OCI runtime specification's (draft 4) and our own
//! (2020-12) use. A keyword that is not known here fails the test.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

/// A schema with the files that it refers to.
pub struct Schema {
    main: String,
    files: BTreeMap<String, Value>,
}

/// Keywords that constrain nothing.
const WORDS: &[&str] = &[
    "$schema",
    "id",
    "title",
    "description",
    "definitions",
    "$defs",
    // Read together with their neighbours.
    "then",
    // The runtime specification's file for Linux has its schema below this key.
    "linux",
];

impl Schema {
    /// All schema files of a directory; `main` is where to start.
    pub fn read(directory: &Path, main: &str) -> Self {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(name, serde_json::from_str(&text).unwrap());
            }
        }
        assert!(files.contains_key(main), "no {main}");
        Self {
            main: main.to_owned(),
            files,
        }
    }

    /// One schema that refers to itself alone.
    pub fn of(value: Value) -> Self {
        Self {
            main: String::new(),
            files: BTreeMap::from([(String::new(), value)]),
        }
    }

    /// Everything that keeps `value` from being valid.
    pub fn problems(&self, value: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        let root = &self.files[&self.main];
        self.check(&self.main, root, value, "", &mut problems);
        problems
    }

    fn check(&self, file: &str, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
        let keywords = match schema {
            Value::Bool(true) => return,
            Value::Bool(false) => return out.push(format!("{at}: must not be there")),
            Value::Object(keywords) => keywords,
            other => panic!("{file}: {other} is no schema"),
        };
        for (keyword, wanted) in keywords {
            self.keyword(file, keywords, (keyword, wanted), value, at, out);
        }
    }

    fn valid(&self, file: &str, schema: &Value, value: &Value) -> bool {
        let mut problems = Vec::new();
        self.check(file, schema, value, "", &mut problems);
        problems.is_empty()
    }

    fn keyword(
        &self,
        file: &str,
        all: &serde_json::Map<String, Value>,
        (keyword, wanted): (&str, &Value),
        value: &Value,
        at: &str,
        out: &mut Vec<String>,
    ) {
        let mut wrong = |what: String| out.push(format!("{at}: {what}"));
        match keyword {
            "$ref" => {
                let (file, schema) = self.resolve(file, wanted.as_str().unwrap());
                self.check(file, schema, value, at, out);
            }
            "type" => {
                let types = match wanted {
                    Value::Array(types) => types.clone(),
                    one => vec![one.clone()],
                };
                if !types.iter().any(|name| is(value, name.as_str().unwrap())) {
                    wrong(format!("{value} is not of type {wanted}"));
                }
            }
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                wrong(format!("{value} is none of {wanted}"));
            }
            "const" if wanted != value => wrong(format!("{value} is not {wanted}")),
            "minimum" | "maximum" => {
                let bounds = (value.as_f64(), wanted.as_f64().unwrap());
                let (Some(number), bound) = bounds else {
                    return;
                };
                if (keyword == "minimum" && number < bound)
                    || (keyword == "maximum" && number > bound)
                {
                    wrong(format!("{number} is outside of {keyword} {bound}"));
                }
            }
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    wrong(format!("{value} does not match {pattern}"));
                }
            }
            "minItems" if value.as_array().is_some_and(|l| l.len() < number(wanted)) => {
                wrong(format!("fewer than {wanted} items"));
            }
            "minProperties" if value.as_object().is_some_and(|o| o.len() < number(wanted)) => {
                wrong(format!("fewer than {wanted} keys"));
            }
            "required" => {
                for key in wanted.as_array().unwrap() {
                    let key = key.as_str().unwrap();
                    if value.as_object().is_some_and(|map| !map.contains_key(key)) {
                        wrong(format!("{key} is missing"));
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(file, wanted, item, &format!("{at}/{index}"), out);
                }
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(member) = value.get(key) {
                        self.check(file, schema, member, &format!("{at}/{key}"), out);
                    }
                }
            }
            "patternProperties" => {
                for (pattern, schema) in wanted.as_object().unwrap() {
                    let pattern = Regex::new(pattern).unwrap();
                    for (key, member) in value.as_object().into_iter().flatten() {
                        if pattern.is_match(key) {
                            self.check(file, schema, member, &format!("{at}/{key}"), out);
                        }
                    }
                }
            }
            "additionalProperties" => {
                for (key, member) in value.as_object().into_iter().flatten() {
                    let named = all.get("properties").is_some_and(|p| p.get(key).is_some());
                    if !named {
                        self.check(file, wanted, member, &format!("{at}/{key}"), out);
                    }
                }
            }
            "propertyNames" => {
                for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                    let at = format!("{at}/{key}");
                    self.check(file, wanted, &Value::String(key.clone()), &at, out);
                }
            }
            "allOf" => {
                for schema in wanted.as_array().unwrap() {
                    self.check(file, schema, value, at, out);
                }
            }
            "anyOf" => {
                let mut schemas = wanted.as_array().unwrap().iter();
                if !schemas.any(|schema| self.valid(file, schema, value)) {
                    wrong(format!("{value} is none of {wanted}"));
                }
            }
            "not" if self.valid(file, wanted, value) => wrong(format!("is {wanted}")),
            "if" if self.valid(file, wanted, value) => {
                self.check(file, &all["then"], value, at, out);
            }
            "enum" | "const" | "minItems" | "minProperties" | "not" | "if" => {}
            word => assert!(WORDS.contains(&word), "{file}: unknown keyword {word}"),
        }
    }

    fn resolve<'s>(&'s self, file: &'s str, reference: &'s str) -> (&'s str, &'s Value) {
        let (name, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let name = if name.is_empty() { file } else { name };
        let name = name.strip_prefix("./").unwrap_or(name);
        let schema = &self.files.get(name).unwrap_or_else(|| panic!("no {name}"));
        let found = schema.pointer(pointer);
        (name, found.unwrap_or_else(|| panic!("no {reference}")))
    }
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    }
}
