//! CDI specifications against the host: broken, in conflict, or written for a
//! driver that is no longer there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::gpus::{is_version, kernel_module};
use super::{Finding, Survey};
use crate::cdi::schema::ContainerEdits;
use crate::cdi::{CdiError, LoadedSpec, Registry};
use crate::host::facts::{FileKind, Presence};

const CDI: &str = "cdi";

fn edits(loaded: &LoadedSpec) -> impl Iterator<Item = &ContainerEdits> {
    let devices = loaded
        .spec
        .devices
        .iter()
        .map(|device| &device.container_edits);
    std::iter::once(&loaded.spec.container_edits).chain(devices)
}

/// Host paths that the specifications name.
pub(super) fn paths(registry: &Registry) -> Vec<PathBuf> {
    let mut paths = BTreeSet::new();
    for edits in registry.specs().iter().flat_map(edits) {
        paths.extend(
            edits
                .device_nodes
                .iter()
                .map(|node| PathBuf::from(node.host())),
        );
        paths.extend(edits.hooks.iter().map(|hook| PathBuf::from(&hook.path)));
        let mounts = edits.mounts.iter().filter(|mount| mount.is_bind());
        paths.extend(mounts.map(|mount| PathBuf::from(&mount.host_path)));
    }
    paths
        .into_iter()
        .filter(|path| path.is_absolute())
        .collect()
}

pub(super) fn examine(survey: &Survey<'_>) -> Vec<Finding> {
    let registry = survey.registry;
    let mut findings = Vec::new();
    for broken in registry.broken() {
        let fix = match broken {
            CdiError::File { .. } => {
                "make it root's, or remove it; kusabi cdi validate shows whether it counts then"
            }
            _ => "generate it again, or remove it; kusabi cdi validate FILE names every mistake",
        };
        findings.push(Finding::problem(CDI, broken.to_string(), fix));
    }
    for (name, files) in registry.conflicts() {
        let files: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        findings.push(Finding::problem(
            CDI,
            format!(
                "{name} is defined in {}: nobody can ask for it",
                files.join(" and ")
            ),
            "remove one of the files, or move it to a directory of higher priority",
        ));
    }
    for loaded in registry.specs() {
        findings.extend(stale(loaded, survey));
    }
    if findings.is_empty() {
        let count = registry.devices().count();
        let dirs: Vec<_> = registry
            .dirs()
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        let text = match count {
            0 => format!("no devices in {}", dirs.join(", ")),
            count => format!(
                "{count} devices in {}, all as the host has them",
                dirs.join(", ")
            ),
        };
        findings.push(Finding::fine(CDI, text));
    }
    findings
}

/// How to write a specification again.
fn regenerate(loaded: &LoadedSpec) -> String {
    let file = loaded.path.display();
    match loaded.spec.vendor() {
        "nvidia.com" => format!("nvidia-ctk cdi generate --output={file}"),
        "amd.com" => format!("amd-ctk cdi generate --output={file}"),
        _ => format!("generate {file} again with the vendor's tool"),
    }
}

/// What a specification says and the host does not.
fn stale(loaded: &LoadedSpec, survey: &Survey<'_>) -> Vec<Finding> {
    let snapshot = survey.snapshot;
    let file = loaded.path.display();
    let mut wrong = Vec::new();
    let mut problem = |text: String| {
        let text = format!("{file}: {text}");
        if !wrong.iter().any(|other: &Finding| other.text == text) {
            wrong.push(Finding::problem(CDI, text, regenerate(loaded)));
        }
    };
    let mut versions = BTreeSet::new();
    for edits in edits(loaded) {
        for node in &edits.device_nodes {
            match snapshot.file(node.host()) {
                Some(Presence::Present(facts)) => {
                    let is_device = matches!(facts.kind, FileKind::Char | FileKind::Block);
                    let says = (node.major, node.minor);
                    let has = (i64::from(facts.major), i64::from(facts.minor));
                    if is_device && node.major != 0 && says != has {
                        problem(format!(
                            "{} is {}:{} there, and {}:{} on the host (create uses the host's)",
                            node.host(),
                            says.0,
                            says.1,
                            has.0,
                            has.1
                        ));
                    }
                }
                _ => problem(format!(
                    "the device node {} is not on the host",
                    node.host()
                )),
            }
        }
        for mount in edits.mounts.iter().filter(|mount| mount.is_bind()) {
            if let Some(version) = mount
                .host_path
                .rsplit_once(".so.")
                .map(|(_, version)| version)
                && is_version(version)
            {
                versions.insert(version);
            }
            if !matches!(snapshot.file(&mount.host_path), Some(Presence::Present(_))) {
                problem(format!(
                    "{} is to be mounted and is not on the host",
                    mount.host_path
                ));
            }
        }
        for hook in &edits.hooks {
            if !matches!(snapshot.file(&hook.path), Some(Presence::Present(_))) {
                problem(format!("the hook {} is not on the host", hook.path));
            }
        }
    }
    // Only NVIDIA's libraries carry the version of the driver that they need.
    if loaded.spec.vendor() == "nvidia.com"
        && let Some(module) = kernel_module(snapshot)
        && !versions.is_empty()
        && !versions.contains(module)
    {
        let versions: Vec<&str> = versions.into_iter().filter(|v| is_driver(v)).collect();
        if !versions.is_empty() {
            problem(format!(
                "written for driver {}, the kernel module is {module}",
                versions.join(" and ")
            ));
        }
    }
    wrong
}

/// Not the version of a library that others make: those of NVIDIA's driver have
/// three digits first.
fn is_driver(version: &str) -> bool {
    version
        .split('.')
        .next()
        .is_some_and(|first| first.len() == 3)
}
