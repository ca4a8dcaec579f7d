//! What the values of a specification may be.
//!
//! Everything that the reference implementation refuses, what the CDI
//! specification says MUST hold, and what no kernel or runtime could carry out
//! anyway. Also what would let a specification reach where it has no business:
//! `..` in a container path, a target under /proc, a relative hook.

use std::collections::{HashMap, HashSet};

use super::name::{Part, parse_kind};
use super::schema::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
use super::versions;
use crate::edit::HookStage;
use crate::yaml::Trail;

/// The kernel's largest major number: 12 bits (`MAJOR`, include/linux/kdev_t.h).
pub const MAX_MAJOR: i64 = (1 << 12) - 1;
/// The kernel's largest minor number: 20 bits.
pub const MAX_MINOR: i64 = (1 << 20) - 1;

/// Something wrong with a specification, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which field.
    pub trail: Trail,
    /// What is wrong: one line, lower case.
    pub reason: String,
    /// What would fix it, if that is not obvious.
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn new(trail: Trail, reason: impl Into<String>) -> Self {
        Self {
            trail,
            reason: reason.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }
}

impl Spec {
    /// Everything wrong with this specification; empty for a valid one.
    #[must_use]
    pub fn validate(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let root = Trail::default();
        versions::check(self, &mut found);
        if let Err(reason) = parse_kind(&self.kind) {
            found.push(Finding::new(root.key("kind"), reason));
        }
        edits(
            &self.container_edits,
            &root.key("containerEdits"),
            &mut found,
        );
        annotations(&self.annotations, &root.key("annotations"), &mut found);
        let devices = root.key("devices");
        if self.devices.is_empty() {
            found.push(Finding::new(
                devices,
                "no devices, at least one is required",
            ));
            return found;
        }
        let mut names = HashSet::new();
        for (i, device) in self.devices.iter().enumerate() {
            let trail = devices.index(i);
            let name = trail.key("name");
            if let Err(reason) = Part::Device.check(&device.name) {
                found.push(Finding::new(name, reason));
            } else if !names.insert(device.name.as_str()) {
                let reason = format!("multiple devices {:?}", device.name);
                found.push(Finding::new(name, reason));
            }
            annotations(&device.annotations, &trail.key("annotations"), &mut found);
            let trail = trail.key("containerEdits");
            if device.container_edits.is_empty() {
                found.push(Finding::new(
                    trail,
                    "empty device edits, a device must change something",
                ));
            } else {
                edits(&device.container_edits, &trail, &mut found);
            }
        }
        found
    }
}

impl ContainerEdits {
    /// Everything wrong with these edits by themselves.
    #[must_use]
    pub fn validate(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        edits(self, &Trail::default(), &mut found);
        found
    }
}

/// The most bytes that keys and values may have together: 256 KiB.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Keys are qualified names in Kubernetes' sense, in any case of letters.
fn annotations<'a>(
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    trail: &Trail,
    found: &mut Vec<Finding>,
) {
    let mut size = 0;
    for (key, value) in annotations {
        size += key.len() + value.len();
        if let Err(reason) = annotation_key(key) {
            found.push(Finding::new(trail.key(key), reason));
        }
    }
    if size > MAX_ANNOTATIONS {
        found.push(Finding::new(
            trail.clone(),
            format!("{size} bytes, more than the {MAX_ANNOTATIONS} that annotations may have"),
        ));
    }
}

fn annotation_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let ends = |part: &str, ends: fn(char) -> bool| part.starts_with(ends) && part.ends_with(ends);
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    if name.len() > 63 || !name.chars().all(letters) || !ends(name, alphanumeric) {
        return Err(format!(
            "no annotation's name: {name:?} must have 1 to 63 letters, digits, '-', '_' or '.', \
             with a letter or digit at both ends"
        ));
    }
    let label = |part: &str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && ends(part, alphanumeric)
    };
    match prefix {
        Some(prefix) if prefix.len() > 253 || !prefix.split('.').all(label) => Err(format!(
            "no annotation's prefix: {prefix:?} must be a DNS name"
        )),
        _ => Ok(()),
    }
}

fn edits(edits: &ContainerEdits, trail: &Trail, found: &mut Vec<Finding>) {
    check_env(&edits.env, &trail.key("env"), found);
    for (i, node) in edits.device_nodes.iter().enumerate() {
        device_node(node, &trail.key("deviceNodes").index(i), found);
    }
    net_devices(&edits.net_devices, &trail.key("netDevices"), found);
    for (i, hook) in edits.hooks.iter().enumerate() {
        check_hook(hook, &trail.key("hooks").index(i), found);
    }
    for (i, mount) in edits.mounts.iter().enumerate() {
        check_mount(mount, &trail.key("mounts").index(i), found);
    }
    if let Some(rdt) = &edits.intel_rdt {
        intel_rdt(rdt, &trail.key("intelRdt"), found);
    }
}

fn check_env(env: &[String], trail: &Trail, found: &mut Vec<Finding>) {
    for (i, variable) in env.iter().enumerate() {
        match variable.find('=') {
            Some(1..) => no_nul(variable, trail.index(i), found),
            _ => found.push(Finding::new(
                trail.index(i),
                format!("invalid environment variable {variable:?}, expected NAME=value"),
            )),
        }
    }
}

fn device_node(node: &DeviceNode, trail: &Trail, found: &mut Vec<Finding>) {
    container_path(&node.path, trail.key("path"), found);
    if !node.host_path.is_empty() {
        let trail = trail.key("hostPath");
        if node.host_path.starts_with('/') {
            no_nul(&node.host_path, trail, found);
        } else {
            found.push(relative(&node.host_path, trail));
        }
    }
    if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
        found.push(Finding::new(
            trail.key("type"),
            format!("invalid type {:?}, expected b, c, u or p", node.kind),
        ));
    }
    if node.permissions != "none" && node.permissions.contains(|c| !matches!(c, 'r' | 'w' | 'm')) {
        found.push(Finding::new(
            trail.key("permissions"),
            format!(
                "invalid permissions {:?}, expected some of rwm, or none",
                node.permissions
            ),
        ));
    }
    for (key, value, max) in [
        ("major", node.major, MAX_MAJOR),
        ("minor", node.minor, MAX_MINOR),
    ] {
        if !(0..=max).contains(&value) {
            found.push(Finding::new(
                trail.key(key),
                format!("{value} is not a {key} number, the kernel knows 0 to {max}"),
            ));
        }
    }
}

/// `dev_valid_name()` of the kernel, net/core/dev.c.
fn interface_name(name: &str, trail: Trail, found: &mut Vec<Finding>) {
    const MAX: usize = 15;
    let reason = if name.is_empty() {
        "empty interface name".into()
    } else if name.len() > MAX {
        format!("interface name {name:?} is longer than {MAX} bytes")
    } else if matches!(name, "." | "..")
        || name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace())
    {
        format!("{name:?} cannot be an interface name")
    } else {
        return;
    };
    found.push(Finding::new(trail, reason));
}

fn net_devices(devices: &[NetDevice], trail: &Trail, found: &mut Vec<Finding>) {
    let mut hosts = HashMap::new();
    let mut names = HashMap::new();
    for (i, device) in devices.iter().enumerate() {
        let trail = trail.index(i);
        let NetDevice {
            host_interface_name: host,
            name,
        } = device;
        interface_name(host, trail.key("hostInterfaceName"), found);
        interface_name(name, trail.key("name"), found);
        if let Some(other) = hosts.insert(host, name) {
            found.push(Finding::new(
                trail.key("hostInterfaceName"),
                format!("duplicate {host:?}, moved to both {other:?} and {name:?}"),
            ));
        }
        if let Some(other) = names.insert(name, host) {
            found.push(Finding::new(
                trail.key("name"),
                format!("duplicate {name:?}, for both {other:?} and {host:?}"),
            ));
        }
    }
}

fn check_hook(hook: &Hook, trail: &Trail, found: &mut Vec<Finding>) {
    if stage(&hook.hook_name).is_none() {
        let known = HookStage::ALL.map(HookStage::key).join(", ");
        found.push(Finding::new(
            trail.key("hookName"),
            format!(
                "invalid hook name {:?}, expected one of {known}",
                hook.hook_name
            ),
        ));
    }
    let path = trail.key("path");
    if hook.path.is_empty() {
        found.push(Finding::new(path, "empty path"));
    } else if !hook.path.starts_with('/') {
        found.push(relative(&hook.path, path));
    } else {
        no_nul(&hook.path, path, found);
    }
    for (i, arg) in hook.args.iter().enumerate() {
        no_nul(arg, trail.key("args").index(i), found);
    }
    check_env(&hook.env, &trail.key("env"), found);
    if let Some(seconds) = hook.timeout
        && !(1..=i64::from(u32::MAX)).contains(&seconds)
    {
        found.push(Finding::new(
            trail.key("timeout"),
            format!("{seconds} seconds, must be greater than zero and fit 32 bits"),
        ));
    }
}

/// The OCI stage of a `hookName`.
pub(super) fn stage(name: &str) -> Option<HookStage> {
    HookStage::ALL.into_iter().find(|stage| stage.key() == name)
}

fn check_mount(mount: &Mount, trail: &Trail, found: &mut Vec<Finding>) {
    if mount.host_path.is_empty() {
        found.push(Finding::new(trail.key("hostPath"), "empty path"));
    }
    no_nul(&mount.host_path, trail.key("hostPath"), found);
    container_path(&mount.container_path, trail.key("containerPath"), found);
    no_nul(&mount.kind, trail.key("type"), found);
    for (i, option) in mount.options.iter().enumerate() {
        no_nul(option, trail.key("options").index(i), found);
    }
}

/// A class of service is a directory below the resctrl file system; `/` is its
/// root.
fn intel_rdt(rdt: &IntelRdt, trail: &Trail, found: &mut Vec<Finding>) {
    let id = rdt.clos_id.as_str();
    if id != "/" && (id.len() >= 4096 || matches!(id, "." | "..") || id.contains(['/', '\n', '\0']))
    {
        let shown: String = id.chars().take(64).collect();
        found.push(Finding::new(
            trail.key("closID"),
            format!("invalid closID {shown:?}, expected a file name or /"),
        ));
    }
}

fn container_path(path: &str, trail: Trail, found: &mut Vec<Finding>) {
    if path.is_empty() {
        found.push(Finding::new(trail, "empty path"));
        return;
    }
    if !path.starts_with('/') {
        found.push(relative(path, trail));
        return;
    }
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    if parts.clone().any(|part| part == "..") {
        found.push(Finding::new(
            trail,
            format!("{path:?} contains \"..\", name the place itself"),
        ));
    } else if parts.next() == Some("proc") {
        found.push(Finding::new(
            trail,
            format!("{path:?} is in /proc, which no device may cover"),
        ));
    } else {
        no_nul(path, trail, found);
    }
}

fn relative(path: &str, trail: Trail) -> Finding {
    Finding::new(trail, format!("{path:?} is relative, it must be absolute"))
}

fn no_nul(text: &str, trail: Trail, found: &mut Vec<Finding>) {
    if text.contains('\0') {
        found.push(Finding::new(trail, "contains a NUL byte"));
    }
}
