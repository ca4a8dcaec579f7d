//! `config show`, `config check`: the policy that holds, and what is wrong with
//! a policy file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::output;
use crate::cli::{CdiFormat, Config, ConfigFile};
use crate::error::Result;
use crate::host::policy_file::{self, Surroundings};
use crate::policy::{Policy, PolicyError, SYSTEM_FILE};

/// Goes up when a program that read the last version could misread this one.
const VERSION: u32 = 1;

/// Does what was asked.
///
/// # Errors
/// A policy that cannot be used, or a stdout that cannot be written.
pub(super) fn run(arguments: &Config) -> Result<()> {
    match arguments {
        Config::Show(arguments) => show(arguments),
        Config::Check(arguments) => check(arguments),
    }
}

fn load(file: Option<&Path>) -> std::result::Result<Policy, PolicyError> {
    match file {
        Some(file) => policy_file::load_named(&absolute(file)),
        None => policy_file::load(&Surroundings::here()),
    }
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// Prints every key, what holds, and where it was set.
fn show(arguments: &ConfigFile) -> Result<()> {
    let policy = load(arguments.file.as_deref())?;
    match arguments.format {
        CdiFormat::Text => {
            let mut text = heading(&policy);
            text += &policy.to_toml();
            if let Some(site) = &policy.site {
                text += &format!(
                    "# {} forbids kinds, too: kusabi config show {}\n",
                    site.file().display(),
                    site.file().display()
                );
            }
            output::print(&text)
        }
        CdiFormat::Json => print_json(&json!({
            "version": VERSION,
            "file": policy.file,
            "keys": keys(&policy),
            "below": policy.site.as_deref().map(|site| json!({
                "file": site.file,
                "keys": keys(site),
            })),
        })),
    }
}

fn heading(policy: &Policy) -> String {
    match &policy.file {
        Some(file) => format!("# {}\n", file.display()),
        None => format!("# no policy file, these are the defaults; one may be {SYSTEM_FILE}\n"),
    }
}

fn keys(policy: &Policy) -> Value {
    let keys: Map<_, _> = policy
        .entries()
        .into_iter()
        .map(|entry| (entry.key, json!({ "value": entry.value, "set": entry.set })))
        .collect();
    Value::Object(keys)
}

/// Prints one line a problem, `file:line:column: field: reason`, or that the file
/// is fine.
fn check(arguments: &ConfigFile) -> Result<()> {
    let checked = load(arguments.file.as_deref());
    let report = match &checked {
        Ok(policy) => Report {
            file: policy.file.clone(),
            problems: Vec::new(),
        },
        Err(PolicyError::Invalid { file, problems }) => Report {
            file: Some(file.clone()),
            problems: problems
                .iter()
                .map(|problem| {
                    let hint = problem.hint.as_ref();
                    json!({
                        "line": problem.at.line,
                        "column": problem.at.column,
                        "field": problem.field,
                        "reason": problem.reason,
                        "hint": hint,
                        "text": format!("{}:{problem}", file.display()),
                    })
                })
                .collect(),
        },
        Err(PolicyError::Unusable { file, reason }) => Report {
            file: Some(file.clone()),
            problems: vec![json!({
                "reason": reason,
                "text": format!("{}: {reason}", file.display()),
            })],
        },
        Err(other) => return Err(other.clone().into()),
    };
    match arguments.format {
        CdiFormat::Text => output::print(&report.text())?,
        CdiFormat::Json => print_json(&json!({
            "version": VERSION,
            "file": report.file,
            "valid": report.problems.is_empty(),
            "problems": report.problems,
        }))?,
    }
    checked.map(drop).map_err(Into::into)
}

/// What `check` found.
struct Report {
    file: Option<PathBuf>,
    problems: Vec<Value>,
}

impl Report {
    fn text(&self) -> String {
        match (&self.file, self.problems.as_slice()) {
            (Some(file), []) => format!("{}: valid\n", file.display()),
            (None, []) => format!("no policy file, the defaults hold; one may be {SYSTEM_FILE}\n"),
            (_, problems) => problems
                .iter()
                .map(|problem| format!("{}\n", problem["text"].as_str().unwrap_or_default()))
                .collect(),
        }
    }
}

fn print_json(value: &Value) -> Result<()> {
    let mut text = output::indented(value, "  ")?;
    text.push('\n');
    output::print(&text)
}
