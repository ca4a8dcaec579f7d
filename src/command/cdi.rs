//! `cdi list`, `cdi show`, `cdi validate`: what CDI specifications there are,
//! what they change, and what is wrong with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{cdi_text, output};
use crate::cdi::{CdiError, QualifiedName, Registry, Spec, Wanted};
use crate::cli::{Cdi, CdiFormat, CdiList, CdiShow, CdiValidate};
use crate::edit::Source;
use crate::error::Result;
use crate::host::cdi_dirs::{self, registry};
use crate::policy::Policy;

/// Does what was asked.
///
/// # Errors
/// A name that cannot be resolved, an invalid specification, or a stdout that
/// cannot be written.
pub(super) fn run(arguments: &Cdi, policy: &Policy) -> Result<()> {
    let configured = &policy.devices.cdi_dirs;
    match arguments {
        Cdi::List(arguments) => list(arguments, configured),
        Cdi::Show(arguments) => show(arguments, configured),
        Cdi::Validate(arguments) => validate(arguments, configured),
    }
}

/// Lists the devices. What is broken or in conflict does not make listing the
/// rest a failure.
fn list(arguments: &CdiList, configured: &[PathBuf]) -> Result<()> {
    let registry = registry(&arguments.cdi_dirs, configured, Path::new("/"));
    for complaint in complaints(&registry) {
        tracing::warn!("{complaint}");
    }
    match arguments.format {
        CdiFormat::Text => output::print(&cdi_text::list(&registry)),
        CdiFormat::Json => print_json(&list_json(&registry)),
    }
}

fn list_json(registry: &Registry) -> Value {
    let devices: Vec<_> = registry
        .devices()
        .map(|(name, found)| {
            json!({
                "name": name.to_string(),
                "file": found.spec.path,
                "priority": found.spec.priority,
                "cdiVersion": found.spec.spec.version,
                "annotations": found.device.annotations,
            })
        })
        .collect();
    let conflicts: Vec<_> = registry
        .conflicts()
        .map(|(name, files)| json!({"name": name.to_string(), "files": files}))
        .collect();
    let broken: Vec<_> = registry.broken().iter().map(ToString::to_string).collect();
    json!({
        "directories": registry.dirs(),
        "devices": devices,
        "conflicts": conflicts,
        "broken": broken,
    })
}

/// Shows what each device changes, the specification's own part included.
fn show(arguments: &CdiShow, configured: &[PathBuf]) -> Result<()> {
    let mut wanted = Wanted::new();
    for device in &arguments.devices {
        let source = Source::Flag {
            flag: "cdi show",
            value: device.clone(),
        };
        let name = QualifiedName::parse(device)?;
        wanted.insert(name, BTreeSet::from([source]));
    }
    let registry = registry(&arguments.cdi_dirs, configured, Path::new("/"));
    let found = registry.find(&wanted)?;
    match arguments.format {
        CdiFormat::Text => output::print(&cdi_text::show(&found)),
        CdiFormat::Json => {
            let devices = found.iter().map(|selected| {
                json!({
                    "name": selected.name.to_string(),
                    "file": selected.found.spec.path,
                    "priority": selected.found.spec.priority,
                    "cdiVersion": selected.found.spec.spec.version,
                    "specification": {
                        "annotations": selected.found.spec.spec.annotations,
                        "containerEdits": selected.found.spec.spec.container_edits,
                    },
                    "device": selected.found.device,
                })
            });
            print_json(&devices.collect())
        }
    }
}

/// Checks files by name or, without any, all of the directories. Prints one line
/// a problem, `file:line:column: field: reason`, or that a file is fine.
fn validate(arguments: &CdiValidate, configured: &[PathBuf]) -> Result<()> {
    let (lines, problems) = if arguments.files.is_empty() {
        let registry = registry(&arguments.cdi_dirs, configured, Path::new("/"));
        check_registry(&registry)
    } else {
        check_files(&arguments.files)
    };
    output::print(&lines)?;
    match problems {
        0 => Ok(()),
        problems => Err(CdiError::Invalid { problems }.into()),
    }
}

fn check_files(files: &[PathBuf]) -> (String, usize) {
    let mut lines = String::new();
    let mut count = 0;
    for file in files {
        let problems = match cdi_dirs::read_file(file).map(|bytes| Spec::parse(&bytes)) {
            Ok(Ok(spec)) => {
                lines += &fine(file, &spec);
                continue;
            }
            Ok(Err(problems)) => located(file, &problems),
            Err(reason) => vec![format!("{}: {reason}", file.display())],
        };
        count += problems.len();
        lines.extend(problems.into_iter().map(|line| line + "\n"));
    }
    (lines, count)
}

fn check_registry(registry: &Registry) -> (String, usize) {
    let mut lines = String::new();
    for loaded in registry.specs() {
        lines += &fine(&loaded.path, &loaded.spec);
    }
    let mut problems = Vec::new();
    for broken in registry.broken() {
        match broken {
            CdiError::Spec {
                file,
                problems: all,
            } => problems.extend(located(file, all)),
            other => problems.push(other.to_string()),
        }
    }
    problems.extend(conflicts(registry));
    let count = problems.len();
    lines.extend(problems.into_iter().map(|line| line + "\n"));
    (lines, count)
}

fn fine(file: &Path, spec: &Spec) -> String {
    let devices = match spec.devices.len() {
        1 => "1 device".to_owned(),
        n => format!("{n} devices"),
    };
    format!(
        "{}: valid, CDI {}, {devices} of {}\n",
        file.display(),
        spec.version,
        spec.kind
    )
}

fn located(file: &Path, problems: &[crate::yaml::Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| format!("{}:{problem}", file.display()))
        .collect()
}

/// What is wrong with a registry, one line each.
fn complaints(registry: &Registry) -> Vec<String> {
    let mut all: Vec<_> = registry.broken().iter().map(ToString::to_string).collect();
    all.extend(conflicts(registry));
    all
}

fn conflicts(registry: &Registry) -> Vec<String> {
    registry
        .conflicts()
        .map(|(name, files)| {
            let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            format!(
                "conflicting CDI device {name}, nobody can ask for it (in {})",
                files.join(", ")
            )
        })
        .collect()
}

fn print_json(value: &Value) -> Result<()> {
    let mut text = output::indented(value, "  ")?;
    text.push('\n');
    output::print(&text)
}
