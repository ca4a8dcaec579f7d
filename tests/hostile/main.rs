//! Input that somebody got wrong, or meant to: each case has its exact error, of
//! one line, and exit code 1 (255 of an exec, as runc), and leaves nothing.
//!
//! - `types.tsv`: configurations with a value of the wrong type: every field of
//!   `base.json`, each with several
//! - the other tables (see `table`): CDI files, requests, the policy, the
//!   environment, ids, signals, limits, processes, state files
//! - `sizes`: files without an end
//!
//! With `KUSABI_BLESS` set, the errors are written there instead; read the
//! difference before keeping it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod containers;
mod requests;
mod sizes;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use common::{Config, Sandbox, View, in_sandbox};

const BASE: &str = include_str!("base.json");
const CASES: &str = include_str!("types.tsv");

#[test]
fn values_of_the_wrong_type_are_refused_by_name() {
    let test = concat!(
        module_path!(),
        "::values_of_the_wrong_type_are_refused_by_name"
    );
    in_sandbox(test, View::Host, wrong_types);
}

#[test]
fn there_are_as_many_kinds_and_cases_as_promised() {
    let types = CASES.lines().filter(|line| !line.starts_with('#')).count();
    let mut kinds = BTreeSet::from(["config-type".to_owned()]);
    let mut sum = 0;
    for name in table::TABLES {
        let (cases, of) = table::count(name);
        println!("{name}: {cases} cases, {} kinds of error", of.len());
        sum += cases;
        kinds.extend(of);
    }
    println!(
        "config.json: {types} cases; all: {} cases, {} kinds",
        sum + types,
        kinds.len()
    );
    assert!(sum >= 300 && kinds.len() >= 40, "{sum} {}", kinds.len());
}

fn wrong_types(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let base: Value = serde_json::from_str(BASE).unwrap();
    let mut told =
        String::from("# A place in base.json, what stands there instead, and the error.\n");
    let mut count = 0;
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.splitn(3, '\t');
        let mut column = || columns.next().expect("three columns");
        let (place, value, expected) = (column(), column(), column());
        let config = with(&base, place, value, &bundle.cgroups_path());
        fs::write(bundle.config_path(), config.to_string()).unwrap();
        let out = sandbox
            .call(["--log-format", "json", "create", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output();
        assert_eq!(out.code, Some(1), "{place} = {value}: {out}");
        assert_eq!(out.stderr.lines().count(), 1, "{place} = {value}: {out}");
        let error: Value = serde_json::from_str(&out.stderr).unwrap();
        let error = error["msg"].as_str().unwrap();
        if std::env::var_os("KUSABI_BLESS").is_none() {
            assert_eq!(error, expected, "{place} = {value}");
        }
        told.push_str(&format!("{place}\t{value}\t{error}\n"));
        count += 1;
    }
    assert!(count > 300, "{count}");
    assert_eq!(sandbox.left(), Vec::<String>::new());
    if std::env::var_os("KUSABI_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/types.tsv");
        fs::write(path, told).unwrap();
    }
}

/// `base` with a cgroup of its own and `value` at `place`.
fn with(base: &Value, place: &str, value: &str, cgroups_path: &str) -> Value {
    let value: Value = serde_json::from_str(value).expect("a JSON value");
    if place == "/" {
        return value;
    }
    let mut config = base.clone();
    config["linux"]["cgroupsPath"] = cgroups_path.into();
    *config.pointer_mut(place).expect("a place in the base") = value;
    config
}
