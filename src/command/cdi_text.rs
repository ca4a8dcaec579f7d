//! CDI devices as lines for people.

use std::fmt::Write as _;

use crate::cdi::schema::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount};
use crate::cdi::{Registry, Selected};

/// One device a line: its name, then its file.
pub(super) fn list(registry: &Registry) -> String {
    let devices: Vec<_> = registry
        .devices()
        .map(|(name, found)| (name.to_string(), found.spec.path.display()))
        .collect();
    let width = devices
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    devices
        .iter()
        .map(|(name, file)| format!("{name:width$}  {file}\n"))
        .collect()
}

/// What each device changes.
pub(super) fn show(devices: &[Selected<'_>]) -> String {
    devices.iter().map(device).collect::<Vec<_>>().join("\n")
}

fn device(selected: &Selected<'_>) -> String {
    let loaded = selected.found.spec;
    let mut text = format!(
        "{}\n  from {} (CDI {}, priority {})\n",
        selected.name,
        loaded.path.display(),
        loaded.spec.version,
        loaded.priority
    );
    section(
        &mut text,
        "for any of its devices",
        &loaded.spec.annotations,
        &loaded.spec.container_edits,
    );
    let device = selected.found.device;
    section(
        &mut text,
        "for this device",
        &device.annotations,
        &device.container_edits,
    );
    text
}

fn section(
    text: &mut String,
    title: &str,
    annotations: &std::collections::BTreeMap<String, String>,
    edits: &ContainerEdits,
) {
    let mut lines: Vec<_> = annotations
        .iter()
        .map(|(key, value)| ("annotation", format!("{key}={value}")))
        .collect();
    lines.extend(edits.env.iter().map(|variable| ("env", variable.clone())));
    lines.extend(edits.device_nodes.iter().map(|n| ("device", node(n))));
    lines.extend(edits.net_devices.iter().map(|d| {
        let moved = format!("{} as {}", d.host_interface_name, d.name);
        ("interface", moved)
    }));
    lines.extend(edits.mounts.iter().map(|m| ("mount", mount(m))));
    lines.extend(edits.hooks.iter().map(|h| ("hook", hook(h))));
    lines.extend(edits.intel_rdt.iter().map(|r| ("intelRdt", rdt(r))));
    lines.extend(
        edits
            .additional_gids
            .iter()
            .map(|gid| ("group", gid.to_string())),
    );
    if lines.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {title}");
    for (word, what) in lines {
        let _ = writeln!(text, "    {word:<10} {what}");
    }
}

/// `a as b (c, d)`, without what says nothing.
fn detailed(what: &str, renamed: Option<&str>, details: &[String]) -> String {
    let renamed = renamed.map_or_else(String::new, |name| format!(" as {name}"));
    let details = match details {
        [] => String::new(),
        details => format!(" ({})", details.join(", ")),
    };
    format!("{what}{renamed}{details}")
}

fn node(node: &DeviceNode) -> String {
    let mut details = Vec::new();
    if !node.kind.is_empty() {
        details.push(format!("type {}", node.kind));
    }
    if node.major != 0 || node.minor != 0 {
        details.push(format!("{}:{} when written", node.major, node.minor));
    }
    if !node.permissions.is_empty() {
        details.push(format!("permissions {}", node.permissions));
    }
    details.extend(node.file_mode.map(|mode| format!("mode {mode:04o}")));
    details.extend(node.uid.map(|uid| format!("uid {uid}")));
    details.extend(node.gid.map(|gid| format!("gid {gid}")));
    let renamed = (node.host() != node.path).then_some(node.path.as_str());
    detailed(node.host(), renamed, &details)
}

fn mount(mount: &Mount) -> String {
    let mut details = Vec::new();
    if !mount.kind.is_empty() {
        details.push(format!("type {}", mount.kind));
    }
    if !mount.options.is_empty() {
        details.push(mount.options.join(","));
    }
    let renamed =
        (mount.host_path != mount.container_path).then_some(mount.container_path.as_str());
    detailed(&mount.host_path, renamed, &details)
}

fn hook(hook: &Hook) -> String {
    let mut details = Vec::new();
    if !hook.args.is_empty() {
        details.push(format!("args {:?}", hook.args));
    }
    if !hook.env.is_empty() {
        details.push(format!("env {:?}", hook.env));
    }
    details.extend(hook.timeout.map(|seconds| format!("timeout {seconds} s")));
    detailed(&format!("{} {}", hook.hook_name, hook.path), None, &details)
}

fn rdt(rdt: &IntelRdt) -> String {
    let mut parts = Vec::new();
    for (key, value) in [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ] {
        if !value.is_empty() {
            parts.push(format!("{key} {value}"));
        }
    }
    if let Some(lines) = &rdt.schemata {
        parts.push(format!("schemata {lines:?}"));
    }
    for (key, set) in [
        ("enableMonitoring", rdt.enable_monitoring),
        ("enableCMT", rdt.enable_cmt),
        ("enableMBM", rdt.enable_mbm),
    ] {
        if set {
            parts.push(key.to_owned());
        }
    }
    parts.join(", ")
}
