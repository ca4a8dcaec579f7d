//! Edits in words: which field, and what becomes of it. One line each.

use std::fmt;

use super::{DeviceKind, DeviceRule, Edit};

impl Edit {
    /// The dotted path of the field that the edit is about.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::SetEnv { .. } | Self::DefaultEnv { .. } => "process.env",
            Self::AddDevice(_) | Self::RemoveDevice { .. } => "linux.devices",
            Self::AllowDevice(_) | Self::RevokeDevice(_) | Self::DropDeviceRules => {
                "linux.resources.devices"
            }
            Self::AddMount(_) | Self::RemoveMount { .. } | Self::RemoveMountOption { .. } => {
                "mounts"
            }
            Self::AddHook(..) | Self::RemoveHook { .. } => "hooks",
            Self::AddGid(_) => "process.user.additionalGids",
            Self::AddNetDevice { .. } => "linux.netDevices",
            Self::SetRdt(_) => "linux.intelRdt",
            Self::MapIds { .. } => "linux.uidMappings",
            Self::AddNamespace(_) => "linux.namespaces",
            Self::SetCgroupsPath(_) => "linux.cgroupsPath",
            Self::RemoveAnnotation { .. } => "annotations",
        }
    }

    /// Whether the edit takes something away.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Self::DropDeviceRules
                | Self::RevokeDevice(_)
                | Self::RemoveDevice { .. }
                | Self::RemoveMount { .. }
                | Self::RemoveMountOption { .. }
                | Self::RemoveHook { .. }
                | Self::RemoveAnnotation { .. }
        )
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.words()))
    }
}

impl Edit {
    fn words(&self) -> String {
        match self {
            Self::SetEnv { name, value } => format!("{name}={value}"),
            Self::DefaultEnv { name, value } => format!("{name}={value} unless set"),
            Self::AddDevice(node) => {
                let mut words = format!("{} {}", node.path.display(), node.kind.letter());
                if node.kind != DeviceKind::Fifo {
                    words.push_str(&format!(" {}:{}", node.major, node.minor));
                }
                if let Some(mode) = node.file_mode {
                    words.push_str(&format!(" mode {mode:04o}"));
                }
                for (name, id) in [("uid", node.uid), ("gid", node.gid)] {
                    if let Some(id) = id {
                        words.push_str(&format!(" {name} {id}"));
                    }
                }
                if node.host_path != node.path {
                    words.push_str(&format!(" from {}", node.host_path.display()));
                }
                words
            }
            Self::AllowDevice(rule) => format!("allow {}", rule_words(rule)),
            Self::RemoveDevice { path } => path.display().to_string(),
            Self::RevokeDevice(rule) => format!("allow {}", rule_words(rule)),
            Self::DropDeviceRules => "every rule".to_owned(),
            Self::AddMount(mount) => {
                let mut words = mount.destination.display().to_string();
                if let Some(source) = &mount.source {
                    words.push_str(&format!(" from {}", source.display()));
                }
                if let Some(kind) = &mount.kind {
                    words.push_str(&format!(" type {kind}"));
                }
                if !mount.options.is_empty() {
                    words.push_str(&format!(" ({})", mount.options.join(",")));
                }
                words
            }
            Self::RemoveMount { destination } => destination.display().to_string(),
            Self::RemoveMountOption {
                destination,
                option,
            } => format!("option {option} of {}", destination.display()),
            Self::AddHook(stage, hook) => {
                let mut words = format!("{} {}", stage.key(), hook.path.display());
                if hook.args.len() > 1 {
                    words.push_str(&format!(" [{}]", hook.args[1..].join(" ")));
                }
                if !hook.env.is_empty() {
                    words.push_str(&format!(" env {}", hook.env.join(" ")));
                }
                if let Some(seconds) = hook.timeout {
                    words.push_str(&format!(" timeout {seconds}s"));
                }
                words
            }
            Self::RemoveHook { stage, path } => format!("{} {}", stage.key(), path.display()),
            Self::AddGid(gid) => gid.to_string(),
            Self::AddNetDevice { host, name } if name.is_empty() => host.clone(),
            Self::AddNetDevice { host, name } => format!("{host} as {name}"),
            Self::SetRdt(rdt) => {
                let texts = [
                    ("class", &rdt.clos_id),
                    ("l3", &rdt.l3_cache_schema),
                    ("bandwidth", &rdt.mem_bw_schema),
                ];
                let mut words: Vec<String> = texts
                    .into_iter()
                    .filter_map(|(name, text)| text.as_ref().map(|text| format!("{name} {text}")))
                    .collect();
                if !rdt.schemata.is_empty() {
                    words.push(format!("schemata {}", rdt.schemata.join(";")));
                }
                if rdt.enable_monitoring {
                    words.push("monitoring".to_owned());
                }
                words.join(" ")
            }
            Self::MapIds { uid, gid } => {
                let lines = |lines: &[super::IdMapping]| -> String {
                    let lines: Vec<String> = lines
                        .iter()
                        .map(|line| format!("{}:{}:{}", line.container_id, line.host_id, line.size))
                        .collect();
                    lines.join(",")
                };
                format!("uid {} gid {} unless mapped", lines(uid), lines(gid))
            }
            Self::AddNamespace(kind) => kind.key().to_owned(),
            Self::SetCgroupsPath(path) => path.clone(),
            Self::RemoveAnnotation { key } => key.clone(),
        }
    }
}

/// As the v1 device controller writes it: `c 195:* rwm`.
fn rule_words(rule: &DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    format!(
        "{} {}:{} {}",
        rule.kind.letter(),
        number(rule.major),
        number(rule.minor),
        rule.access.letters()
    )
}

/// Text from elsewhere on one line, and without escape codes for a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_direction_mark(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Marks that reorder what a terminal shows ("Trojan Source"), and separators
/// that some of them break lines at.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
