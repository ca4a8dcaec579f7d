//! Each row of a service file, and exactly what it changes in the `config.json`.
//!
//! `golden/NAME.yaml` is a service file; its first line says with which arguments
//! `bundle spec` is called. `golden/NAME.json` says, by JSON pointer, how the
//! result differs from `golden/base.json`, which is the whole result for a
//! service that says nothing; `null` is for what is not there. The workspace's
//! own path is written `$DIR`; its `gpus` is a recorded host with four of NVIDIA's. `KUSABI_BLESS=1` writes the JSON files anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::json_schema::Schema;
use super::support::{Workspace, json};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle/golden")
}

/// The names of all cases, sorted.
pub fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".yaml").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

/// The specification of a case, and what was warned of.
fn result(workspace: &Workspace, name: &str) -> (Value, Vec<String>) {
    let text = fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
    let first = text.lines().next().unwrap();
    let args = first
        .strip_prefix("# bundle spec ")
        .unwrap_or_else(|| panic!("{name}.yaml: the first line must be `# bundle spec ARGUMENTS`"));
    let args = args.replace("$DIR", workspace.path().to_str().unwrap());
    let args: Vec<&str> = args.split(' ').collect();
    let done = workspace.spec(&text, &args);
    assert_eq!(done.code, 0, "{name}: {}", done.stderr);
    let hidden = done
        .stdout
        .replace(workspace.path().to_str().unwrap(), "$DIR");
    let warnings = done.warnings();
    (json(&hidden), warnings)
}

/// Where two values differ: what the second has there.
fn difference(old: &Value, new: &Value, at: &str, out: &mut BTreeMap<String, Value>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key), b.get(key));
                let at = format!("{at}/{key}");
                match (a, b) {
                    (Some(a), Some(b)) => difference(a, b, &at, out),
                    (_, b) => drop(out.insert(at, b.cloned().unwrap_or_default())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(index), b.get(index));
                let at = format!("{at}/{index}");
                match (a, b) {
                    (Some(a), Some(b)) if a.is_array() || a == b => difference(a, b, &at, out),
                    (_, b) => drop(out.insert(at, b.cloned().unwrap_or_default())),
                }
            }
        }
        (a, b) if a != b => drop(out.insert(at.to_owned(), b.clone())),
        _ => {}
    }
}

fn compare(name: &str, found: &Value) {
    let path = directory().join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(found).unwrap();
    text.push('\n');
    if std::env::var_os("KUSABI_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(json(&wanted), *found, "{name}: now\n{text}");
}

#[test]
fn each_row_changes_what_it_says_and_nothing_else() {
    let workspace = Workspace::with_gpus();
    let (base, _) = result(&workspace, "base");
    compare("base", &base);
    let cases = cases();
    assert!(cases.len() > 30, "{cases:?}");
    for name in cases.iter().filter(|name| *name != "base") {
        let (spec, warnings) = result(&workspace, name);
        let mut changes = BTreeMap::new();
        difference(&base, &spec, "", &mut changes);
        let mut found = json!({ "changes": changes });
        if !warnings.is_empty() {
            found["warnings"] = json!(warnings);
        }
        compare(name, &found);
    }
}

/// Where the schema files of the runtime specification are: `KUSABI_OCI_SCHEMA`,
/// or where Debian's golang-github-opencontainers-specs-dev puts them.
pub fn oci_schema() -> Option<Schema> {
    let debian = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";
    let directory =
        std::env::var_os("KUSABI_OCI_SCHEMA").map_or_else(|| debian.into(), PathBuf::from);
    directory
        .is_dir()
        .then(|| Schema::read(&directory, "config-schema.json"))
}

#[test]
fn each_specification_is_valid_for_the_oci_schema() {
    let Some(schema) = oci_schema() else {
        super::common::skip!("no OCI schema files: set KUSABI_OCI_SCHEMA");
    };
    let workspace = Workspace::with_gpus();
    for name in cases() {
        let (spec, _) = result(&workspace, &name);
        assert_eq!(schema.problems(&spec), Vec::<String>::new(), "{name}");
    }
    // The check can fail.
    let (base, _) = result(&workspace, "base");
    for (pointer, wrong) in [
        ("/process/user/uid", json!("root")),
        ("/process/args", json!([1])),
        ("/mounts/0/destination", Value::Null),
        ("/linux/namespaces/0/type", json!("pids")),
        ("/linux/resources/devices/1/allow", json!("yes")),
        ("/ociVersion", Value::Null),
    ] {
        let mut spec = base.clone();
        *spec.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.problems(&spec).is_empty(), "{pointer}");
    }
}

#[test]
fn each_specification_is_valid_for_the_library() {
    let workspace = Workspace::with_gpus();
    for name in cases() {
        let (spec, _) = result(&workspace, &name);
        serde_json::from_value::<oci_spec::runtime::Spec>(spec)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
