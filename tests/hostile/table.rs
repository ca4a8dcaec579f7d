//! Tables of cases: a kind of error, what is given, and the error, in columns
//! with tabs between them. `\n`, `\t`, `\r`, `\e` and `\\` are written so.
//!
//! With `KUSABI_BLESS` set, the errors are written there instead; read the
//! difference before keeping it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Output, Sandbox};

/// Every table with cases that [`each`] runs.
pub const TABLES: &[&str] = &[
    "cdi",
    "environment",
    "ids",
    "policy",
    "process",
    "requests",
    "resources",
    "resources-v1",
    "signals",
    "state",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/hostile")
        .join(name)
        .with_extension("tsv")
}

/// The lines of a table that are cases.
fn cases(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
        .collect()
}

/// How many cases a table has, and of which kinds.
pub fn count(name: &str) -> (usize, BTreeSet<String>) {
    let text = fs::read_to_string(path(name)).expect("a table");
    let cases = cases(&text);
    let kinds = cases.iter().map(|case| case[0].to_owned()).collect();
    (cases.len(), kinds)
}

/// Runs every case of a table: `run` gets what is given, and ends in an error
/// with `code`, which is the table's. Afterwards nothing is left.
pub fn each(name: &str, sandbox: &Sandbox, code: i32, mut run: impl FnMut(&[String]) -> Output) {
    let bless = std::env::var_os("KUSABI_BLESS").is_some();
    let text = fs::read_to_string(path(name)).expect("a table");
    let mut told: String = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut wrong = Vec::new();
    for case in cases(&text) {
        let [kind, given @ .., expected] = case.as_slice() else {
            panic!("{name}: no case: {case:?}");
        };
        let values: Vec<String> = given.iter().map(|text| unescaped(text, sandbox)).collect();
        let out = run(&values);
        let error = match said(&out, code) {
            Ok(error) => escaped(&plain(&error, sandbox)),
            Err(problem) => format!("NOT ONE ERROR: {problem}"),
        };
        if !bless && error != *expected {
            wrong.push(format!(
                "{given:?}\n  said     {error}\n  expected {expected}"
            ));
        }
        told.push_str(&format!("{kind}\t{}\t{error}\n", given.join("\t")));
    }
    if bless {
        fs::write(path(name), told).expect("write the table");
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

/// Without what differs from run to run.
fn plain(error: &str, sandbox: &Sandbox) -> String {
    let error = error.replace(&sandbox.dir().display().to_string(), "{dir}");
    let error = error.replace(sandbox.unique(), "{unique}");
    let mut error = error;
    for (pattern, name) in [
        ("/proc/[0-9]+/", "/proc/{pid}/"),
        // Pids and paths come before it.
        ("(state.json: .* column )[0-9]{2,}$", "${1}{column}"),
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        error = pattern.replace_all(&error, name).into_owned();
    }
    error
}

/// The one error of a call.
fn said(out: &Output, code: i32) -> Result<String, String> {
    if out.code != Some(code) {
        let text = escaped(out.stderr.trim());
        return Err(format!(
            "exit code {:?}, signal {:?}: {text}",
            out.code, out.signal
        ));
    }
    if out.stderr.lines().count() != 1 {
        return Err(format!("more than one line: {}", escaped(&out.stderr)));
    }
    let line: Value = serde_json::from_str(&out.stderr).map_err(|e| e.to_string())?;
    if line["level"] != "error" {
        return Err(format!("not an error: {line}"));
    }
    let text = line["msg"].as_str().ok_or("no message")?;
    if text.contains(char::is_control) {
        return Err(format!("control characters: {}", escaped(text)));
    }
    Ok(text.to_owned())
}

/// How a call logs.
pub const LOG: [&str; 2] = ["--log-format", "json"];

const ESCAPES: [(char, &str); 5] = [
    ('\\', "\\\\"),
    ('\n', "\\n"),
    ('\t', "\\t"),
    ('\r', "\\r"),
    ('\u{1b}', "\\e"),
];

fn escaped(text: &str) -> String {
    let mut line = text.to_owned();
    for (letter, written) in ESCAPES {
        line = line.replace(letter, written);
    }
    line
}

fn unescaped(text: &str, sandbox: &Sandbox) -> String {
    let text = text.replace("{dir}", &sandbox.dir().display().to_string());
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        let written = format!("\\{}", letters.next().expect("an escaped letter"));
        let known = ESCAPES.iter().find(|(_, text)| *text == written);
        plain.push(known.unwrap_or_else(|| panic!("unknown {written}")).0);
    }
    plain
}
