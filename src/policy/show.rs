//! A policy as a table of keys, values and where they were set.

use serde_json::{Value, json};

use super::{Backend, Kinds, NotAllowed, Policy, Resolver, Use, VendorHook};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Dotted, as `sources.mounts`.
    pub key: String,
    /// What holds; `null` where nothing does.
    pub value: Value,
    /// `file:line`, or `default`.
    pub set: String,
}

/// Every key that is always there, in the order of the documentation.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    rows(&Policy::default()).into_iter().map(|(key, _)| key)
}

fn rows(policy: &Policy) -> Vec<(&'static str, Value)> {
    let Policy {
        sources,
        request,
        devices,
        kinds,
        hooks,
        cgroup,
        runtime,
        nvidia,
        log,
        ..
    } = policy;
    let names: Vec<_> = request.devices.iter().map(ToString::to_string).collect();
    vec![
        ("sources.command-line", word(sources.command_line)),
        ("sources.cdi-annotations", word(sources.cdi_annotations)),
        ("sources.annotations", word(sources.annotations)),
        ("sources.mounts", word(sources.mounts)),
        ("sources.environment", word(sources.environment)),
        (
            "sources.cdi-annotation-prefixes",
            json!(sources.cdi_annotation_prefixes),
        ),
        ("request.devices", json!(names)),
        ("request.gpus", json!(request.gpus)),
        ("request.gpu-share", json!(request.gpu_share)),
        ("devices.default-vendor", json!(devices.default_vendor)),
        ("devices.default-kind", json!(devices.default_kind)),
        ("devices.cdi-dirs", json!(devices.cdi_dirs)),
        ("kinds.allow", allow(kinds)),
        ("kinds.deny", deny(kinds)),
        ("hooks.allow", json!(hooks.allow)),
        (
            "hooks.not-allowed",
            json!(match hooks.not_allowed {
                NotAllowed::Refuse => "refuse",
                NotAllowed::Remove => "remove",
            }),
        ),
        (
            "hooks.vendor",
            json!(match hooks.vendor {
                VendorHook::Remove => "remove",
                VendorHook::Refuse => "refuse",
                VendorHook::Keep => "keep",
            }),
        ),
        ("cgroup.parent-annotation", word(cgroup.parent_annotation)),
        ("cgroup.migrate", json!(cgroup.migrate)),
        (
            "runtime.backend",
            match &runtime.backend {
                Backend::InProcess => json!("libcontainer"),
                Backend::Delegate(programs) => json!(programs),
            },
        ),
        ("runtime.write-back", json!(runtime.write_back)),
        (
            "runtime.annotations",
            json!(match runtime.annotations {
                Resolver::Kusabi => "kusabi",
                Resolver::Engine => "engine",
            }),
        ),
        ("nvidia.disable-require", json!(nvidia.disable_require)),
        ("nvidia.swarm-resource", json!(nvidia.swarm_resource)),
        (
            "nvidia.ignore-imex-channels",
            json!(nvidia.ignore_imex_channels),
        ),
        ("log.file", json!(log.file)),
        ("log.level", json!(if log.debug { "debug" } else { "info" })),
        ("log.format", json!(if log.json { "json" } else { "text" })),
    ]
}

fn word(choice: Use) -> Value {
    json!(match choice {
        Use::Allow => "allow",
        Use::Privileged => "privileged",
        Use::Off => "off",
    })
}

fn allow(kinds: &Kinds) -> Value {
    match &kinds.allow {
        None => Value::Null,
        Some(list) => json!(list.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
}

fn deny(kinds: &Kinds) -> Value {
    json!(
        kinds
            .deny
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    )
}

impl Policy {
    /// Every key and what holds, then the users' tables.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let fixed = rows(self)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let users = self.users.iter().flat_map(|(user, kinds)| {
            [
                (format!("users.{user}.allow"), allow(kinds)),
                (format!("users.{user}.deny"), deny(kinds)),
            ]
        });
        fixed
            .chain(users)
            .map(|(key, value)| Entry {
                set: self.where_set(&key),
                key,
                value,
            })
            .collect()
    }

    /// The policy as a policy file, every key on a line of its own with where it
    /// was set. What holds nothing is commented out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let entries = self.entries();
        let lines: Vec<(String, &str)> = entries
            .iter()
            .map(|entry| {
                let key = toml_key(&entry.key);
                let line = match &entry.value {
                    Value::Null => format!("# {key} ="),
                    value => format!("{key} = {}", toml_value(value)),
                };
                (line, entry.set.as_str())
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
        lines
            .iter()
            .map(|(line, set)| format!("{line:width$}  # {}\n", set.replace(['\n', '\r'], "?")))
            .collect()
    }
}

/// Names of users need quotes where they are no bare keys.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match key
        .strip_prefix("users.")
        .and_then(|rest| rest.rsplit_once('.'))
    {
        Some((user, last)) if user.is_empty() || !user.chars().all(bare) => {
            format!("users.{}.{last}", toml_string(user))
        }
        _ => key.to_owned(),
    }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => toml_string(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A basic string: JSON's escapes are TOML's, but for DEL.
fn toml_string(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
