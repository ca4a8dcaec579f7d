//! `doctor`: what is wrong with a host, and what would mend it.

use std::path::Path;

use serde_json::{Value, json};

use super::context::Loaded;
use super::output;
use crate::cli::{CdiFormat, Doctor};
use crate::doctor::{self, Finding, Level, Machine, Survey};
use crate::error::{Error, Result};
use crate::host::{caller::in_user_namespace, cdi_dirs, gpu, policy_file, survey};
use crate::lease;
use crate::policy::Use;

/// Goes up when a program that read the last version could misread this one.
const VERSION: u32 = 1;

/// Prints what was found, or records the host.
///
/// # Errors
/// Problems, once they have been printed; a host that cannot be read.
pub(super) fn run(arguments: &Doctor, policy: &Loaded) -> Result<()> {
    let root = arguments.host_root.as_deref();
    if let Some(dir) = &arguments.record {
        return record(root.unwrap_or(Path::new("/")), dir);
    }
    let dirs = &arguments.cdi_dirs;
    let (registry, machine) = match root {
        Some(root) => (cdi_dirs::registry(dirs, &[], root), Machine::default()),
        None => {
            let configured = policy
                .as_ref()
                .map_or(&[][..], |policy| &policy.devices.cdi_dirs);
            (
                cdi_dirs::registry(dirs, configured, Path::new("/")),
                machine(policy),
            )
        }
    };
    let snapshot = survey::collect(root.unwrap_or(Path::new("/")), &registry)?;
    let findings = doctor::examine(&Survey {
        snapshot: &snapshot,
        registry: &registry,
        machine: &machine,
    });
    match arguments.format {
        CdiFormat::Text => output::print(&text(&findings))?,
        CdiFormat::Json => {
            let mut text = output::indented(&json(&findings), "  ")?;
            text.push('\n');
            output::print(&text)?;
        }
    }
    match findings
        .iter()
        .filter(|finding| finding.level == Level::Problem)
        .count()
    {
        0 => Ok(()),
        1 => Err(Error::Usage("1 problem on this host".to_owned())),
        problems => Err(Error::Usage(format!("{problems} problems on this host"))),
    }
}

/// What only this machine can tell.
fn machine(policy: &Loaded) -> Machine {
    let caller = policy_file::caller();
    let is_root = caller.uid == 0 && !in_user_namespace();
    let leases = lease::Store::default().leases().map(|leases| {
        let words = leases.iter().map(|lease| {
            let how = match lease.mode {
                lease::Mode::Exclusive => "alone",
                lease::Mode::Shared => "in shares",
            };
            format!("{} {how} by {}", lease.device, lease.container.id)
        });
        words.collect()
    });
    Machine {
        policy: Some(match policy {
            Ok(policy) => Ok(policy.file.clone().unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }),
        images_may_ask: policy
            .as_ref()
            .is_ok_and(|policy| policy.sources.environment == Use::Allow),
        leases: Some(leases.map_err(|error| error.to_string())),
        systemd_driver: Some(true),
        caller: Some((
            caller.name.unwrap_or_else(|| caller.uid.to_string()),
            is_root,
        )),
    }
}

fn record(root: &Path, dir: &Path) -> Result<()> {
    let written = gpu::record(root, dir)?;
    output::print(&format!(
        "{} files in {}; look through them before you pass them on: serial numbers and UUIDs are among them\n",
        written.len(),
        dir.display()
    ))
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            if !area.is_empty() {
                text.push('\n');
            }
            area = finding.area;
            text += &format!("{area}\n");
        }
        let sign = match finding.level {
            Level::Fine => '=',
            Level::Note => '~',
            Level::Problem => '!',
        };
        text += &format!("  {sign} {}\n", one_line(&finding.text));
        if let Some(fix) = &finding.fix {
            text += &format!("    fix: {}\n", one_line(fix));
        }
    }
    text
}

/// Names in files of others must not write to the terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn json(findings: &[Finding]) -> Value {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "area": finding.area,
                "level": finding.level.word(),
                "text": finding.text,
                "fix": finding.fix,
            })
        })
        .collect();
    let problems = findings
        .iter()
        .filter(|finding| finding.level == Level::Problem)
        .count();
    json!({"version": VERSION, "problems": problems, "findings": list})
}
