//! A policy file's bytes become a [`Policy`]; every mistake is reported, with
//! line and column.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Backend, Hooks, Kinds, NotAllowed, Pattern, Policy, Resolver, Use, VendorHook};
use crate::cdi::QualifiedName;
use crate::yaml::{self, Entry, Fields, Node, Position, Problem, Report, Trail, Value};

/// Largest file that is read, in bytes.
pub const MAX_FILE_SIZE: usize = 1 << 20;

/// Keys of nvidia-container-runtime's `config.toml`, which somebody may move
/// here, and what they are called now.
const NVIDIA_KEYS: &[(&str, &str)] = &[
    (
        "accept-nvidia-visible-devices-envvar-when-unprivileged",
        "here it is sources.environment = \"allow\"",
    ),
    (
        "accept-nvidia-visible-devices-as-volume-mounts",
        "here it is sources.mounts = \"allow\"",
    ),
    ("disable-require", "here it is nvidia.disable-require"),
    ("swarm-resource", "here it is nvidia.swarm-resource"),
    (
        "nvidia-container-runtime",
        "here its keys are in runtime, devices and log",
    ),
    ("nvidia-container-cli", "there is no such program here"),
    ("nvidia-ctk", "there is no such program here"),
    ("features", "there are no feature flags here"),
];

pub(super) fn policy(file: &Path, bytes: &[u8]) -> Result<Policy, Vec<Problem>> {
    let whole = |reason: String| {
        vec![Problem {
            at: Position::START,
            field: String::new(),
            reason,
            hint: None,
        }]
    };
    if bytes.len() > MAX_FILE_SIZE {
        return Err(whole(format!(
            "larger than the {MAX_FILE_SIZE} bytes that a policy may have"
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        whole(format!("not UTF-8 (line {line})"))
    })?;
    let root = yaml::parse_toml(text).map_err(|error| {
        vec![Problem {
            at: error.at,
            field: String::new(),
            reason: error.reason,
            hint: None,
        }]
    })?;
    let report = Report::default();
    let mut policy = Policy {
        file: Some(file.to_owned()),
        ..Policy::default()
    };
    if let Some(fields) = Fields::new(&root, Trail::default(), &report) {
        Reader {
            report: &report,
            set: BTreeMap::new(),
        }
        .root(fields, &mut policy);
    }
    let problems = report.into_problems();
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(problems)
    }
}

/// Reads tables, and remembers which keys it has met.
struct Reader<'r> {
    report: &'r Report,
    set: BTreeMap<String, Position>,
}

/// The fields of one table.
type Table<'n, 'r> = Fields<'n, 'r>;

impl<'r> Reader<'r> {
    fn root(mut self, mut root: Table<'_, 'r>, policy: &mut Policy) {
        self.table(&mut root, "sources", |reader, table| {
            let sources = &mut policy.sources;
            reader.choice(table, "command-line", USES, &mut sources.command_line);
            reader.choice(table, "cdi-annotations", USES, &mut sources.cdi_annotations);
            reader.choice(table, "annotations", USES, &mut sources.annotations);
            reader.choice(table, "mounts", USES, &mut sources.mounts);
            reader.choice(table, "environment", USES, &mut sources.environment);
            reader.list(
                table,
                "cdi-annotation-prefixes",
                prefix,
                &mut sources.cdi_annotation_prefixes,
            );
        });
        self.table(&mut root, "request", |reader, table| {
            let request = &mut policy.request;
            reader.list(table, "devices", device, &mut request.devices);
            reader.optional(table, "gpus", filled, &mut request.gpus);
            reader.optional(table, "gpu-share", filled, &mut request.gpu_share);
        });
        self.table(&mut root, "devices", |reader, table| {
            let devices = &mut policy.devices;
            reader.optional(table, "default-vendor", vendor, &mut devices.default_vendor);
            reader.optional(table, "default-kind", kind, &mut devices.default_kind);
            reader.list(table, "cdi-dirs", absolute, &mut devices.cdi_dirs);
        });
        self.table(&mut root, "kinds", |reader, table| {
            reader.kinds(table, &mut policy.kinds);
        });
        self.users(&mut root, &mut policy.users);
        self.table(&mut root, "hooks", |reader, table| {
            reader.hooks(table, &mut policy.hooks);
        });
        self.table(&mut root, "cgroup", |reader, table| {
            let cgroup = &mut policy.cgroup;
            reader.choice(
                table,
                "parent-annotation",
                USES,
                &mut cgroup.parent_annotation,
            );
            reader.flag(table, "migrate", &mut cgroup.migrate);
        });
        self.table(&mut root, "runtime", |reader, table| {
            let runtime = &mut policy.runtime;
            reader.backend(table, &mut runtime.backend);
            reader.flag(table, "write-back", &mut runtime.write_back);
            let resolvers = &[("kusabi", Resolver::Kusabi), ("engine", Resolver::Engine)];
            reader.choice(table, "annotations", resolvers, &mut runtime.annotations);
        });
        self.table(&mut root, "nvidia", |reader, table| {
            let nvidia = &mut policy.nvidia;
            reader.flag(table, "disable-require", &mut nvidia.disable_require);
            reader.list(
                table,
                "swarm-resource",
                variable,
                &mut nvidia.swarm_resource,
            );
            reader.flag(
                table,
                "ignore-imex-channels",
                &mut nvidia.ignore_imex_channels,
            );
        });
        self.table(&mut root, "log", |reader, table| {
            let log = &mut policy.log;
            let mut file = None;
            reader.optional(table, "file", absolute, &mut file);
            log.file = file;
            let levels = &[("info", false), ("debug", true)];
            reader.choice(table, "level", levels, &mut log.debug);
            let formats = &[("text", false), ("json", true)];
            reader.choice(table, "format", formats, &mut log.json);
        });
        policy.set = std::mem::take(&mut self.set);
        let elsewhere: Vec<(&str, String)> = super::show::keys()
            .filter_map(|dotted| {
                let (_, last) = dotted.rsplit_once('.')?;
                Some((last, format!("did you mean {dotted}?")))
            })
            .collect();
        let gone: Vec<(&str, &str)> = NVIDIA_KEYS
            .iter()
            .copied()
            .chain(elsewhere.iter().map(|(key, hint)| (*key, hint.as_str())))
            .collect();
        root.finish(&gone);
    }

    /// One table of the root, whose unknown keys are then reported.
    fn table(
        &mut self,
        root: &mut Table<'_, 'r>,
        name: &'static str,
        read: impl FnOnce(&mut Self, &mut Table<'_, 'r>),
    ) {
        if let Some(node) = root.node(name)
            && let Some(mut fields) = Fields::new(node, root.trail(name), self.report)
        {
            read(self, &mut fields);
            fields.finish(&[]);
        }
    }

    fn users(&mut self, root: &mut Table<'_, 'r>, users: &mut BTreeMap<String, Kinds>) {
        let Some(node) = root.node("users") else {
            return;
        };
        let trail = root.trail("users");
        let Value::Map(entries) = &node.value else {
            self.wrong(node, &trail, "a table for each user, as [users.alice]");
            return;
        };
        for Entry { key, node, .. } in entries {
            if let Some(mut fields) = Fields::new(node, trail.key(key), self.report) {
                let mut kinds = Kinds::default();
                self.kinds(&mut fields, &mut kinds);
                fields.finish(&[]);
                users.insert(key.clone(), kinds);
            }
        }
    }

    fn kinds(&mut self, table: &mut Table<'_, 'r>, kinds: &mut Kinds) {
        let mut allow = Vec::new();
        if self.list(table, "allow", pattern, &mut allow) {
            kinds.allow = Some(allow);
        }
        self.list(table, "deny", pattern, &mut kinds.deny);
    }

    fn hooks(&mut self, table: &mut Table<'_, 'r>, hooks: &mut Hooks) {
        let mut allow = Vec::new();
        if self.list(table, "allow", absolute, &mut allow) {
            hooks.allow = Some(allow);
        }
        let choices = &[
            ("refuse", NotAllowed::Refuse),
            ("remove", NotAllowed::Remove),
        ];
        self.choice(table, "not-allowed", choices, &mut hooks.not_allowed);
        let choices = &[
            ("remove", VendorHook::Remove),
            ("refuse", VendorHook::Refuse),
            ("keep", VendorHook::Keep),
        ];
        self.choice(table, "vendor", choices, &mut hooks.vendor);
    }

    /// `"libcontainer"`, or a list of programs.
    fn backend(&mut self, table: &mut Table<'_, 'r>, backend: &mut Backend) {
        let Some((node, trail)) = self.node(table, "backend") else {
            return;
        };
        match &node.value {
            Value::Scalar { text, plain: false } if text == "libcontainer" => {
                *backend = Backend::InProcess;
            }
            Value::List(items) if !items.is_empty() => {
                let programs = self.items(items, &trail, program);
                *backend = Backend::Delegate(programs);
            }
            _ => self.wrong(
                node,
                &trail,
                "\"libcontainer\" or a list of programs, as [\"runc\", \"crun\"]",
            ),
        }
    }

    /// A key's value, noted as set.
    fn node<'n>(
        &mut self,
        table: &mut Table<'n, 'r>,
        key: &'static str,
    ) -> Option<(&'n Node, Trail)> {
        let node = table.node(key)?;
        let trail = table.trail(key);
        self.set.insert(trail.to_string(), node.at);
        Some((node, trail))
    }

    fn choice<T: Copy>(
        &mut self,
        table: &mut Table<'_, 'r>,
        key: &'static str,
        choices: &[(&str, T)],
        target: &mut T,
    ) {
        let Some((node, trail)) = self.node(table, key) else {
            return;
        };
        let written = string(node);
        match choices.iter().find(|(word, _)| Some(*word) == written) {
            Some((_, value)) => *target = *value,
            None => {
                let words: Vec<_> = choices
                    .iter()
                    .map(|(word, _)| format!("{word:?}"))
                    .collect();
                self.wrong(node, &trail, &words.join(" or "));
            }
        }
    }

    fn flag(&mut self, table: &mut Table<'_, 'r>, key: &'static str, target: &mut bool) {
        if let Some((node, trail)) = self.node(table, key) {
            match &node.value {
                Value::Scalar { text, plain: true } if text == "true" => *target = true,
                Value::Scalar { text, plain: true } if text == "false" => *target = false,
                _ => self.wrong(node, &trail, "true or false"),
            }
        }
    }

    fn optional<T>(
        &mut self,
        table: &mut Table<'_, 'r>,
        key: &'static str,
        read: fn(&str) -> Result<T, String>,
        target: &mut Option<T>,
    ) {
        if let Some((node, trail)) = self.node(table, key) {
            *target = self.item(node, &trail, read);
        }
    }

    /// Whether the key is there.
    fn list<T>(
        &mut self,
        table: &mut Table<'_, 'r>,
        key: &'static str,
        read: fn(&str) -> Result<T, String>,
        target: &mut Vec<T>,
    ) -> bool {
        let Some((node, trail)) = self.node(table, key) else {
            return false;
        };
        match &node.value {
            Value::List(items) => *target = self.items(items, &trail, read),
            _ => self.wrong(node, &trail, "a list of strings"),
        }
        true
    }

    fn items<T>(
        &self,
        items: &[std::rc::Rc<Node>],
        trail: &Trail,
        read: fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let read = |(i, node): (usize, &std::rc::Rc<Node>)| self.item(node, &trail.index(i), read);
        items.iter().enumerate().filter_map(read).collect()
    }

    fn item<T>(
        &self,
        node: &Node,
        trail: &Trail,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(text) = string(node) else {
            self.wrong(node, trail, "a string");
            return None;
        };
        read(text)
            .map_err(|reason| self.report.add(node.at, trail, reason, None))
            .ok()
    }

    fn wrong(&self, node: &Node, trail: &Trail, expected: &str) {
        let found = match &node.value {
            Value::Scalar { text, plain: false } => format!("{text:?}"),
            Value::Scalar { text, plain: true } => text.clone(),
            other => other.kind().to_owned(),
        };
        let reason = format!("expected {expected}, found {found}");
        self.report.add(node.at, trail, reason, None);
    }
}

const USES: &[(&str, Use)] = &[
    ("allow", Use::Allow),
    ("privileged", Use::Privileged),
    ("off", Use::Off),
];

/// TOML's strings have quotes.
fn string(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, plain: false } => Some(text),
        _ => None,
    }
}

fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty, leave the key out".to_owned());
    }
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    // An empty one would take every annotation for a request.
    if text.len() < 2 || !text.ends_with('/') {
        return Err(format!(
            "{text:?} is no prefix, expected one as \"cdi.k8s.io/\""
        ));
    }
    Ok(text.to_owned())
}

fn device(text: &str) -> Result<QualifiedName, String> {
    QualifiedName::parse(text).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text)
}

fn vendor(text: &str) -> Result<String, String> {
    const VENDORS: [&str; 4] = ["nvidia", "amd", "intel", "habana"];
    if VENDORS.contains(&text) {
        return Ok(text.to_owned());
    }
    let all = VENDORS.join(", ");
    Err(format!("{text:?} is no vendor that is known here: {all}"))
}

fn kind(text: &str) -> Result<String, String> {
    let (vendor, class) = text
        .split_once('/')
        .ok_or_else(|| format!("{text:?} is no kind, expected vendor/class"))?;
    QualifiedName::new(vendor, class, "device").map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("{text:?} is no absolute path without .."));
    }
    if text.contains('\0') {
        return Err(format!("{text:?} contains a NUL byte"));
    }
    Ok(path)
}

fn program(text: &str) -> Result<PathBuf, String> {
    match text {
        "" | "." | ".." => Err(format!("{text:?} is no program")),
        "libcontainer" => {
            Err("\"libcontainer\" stands alone: it is no program to run in its place".to_owned())
        }
        _ if text.contains('/') => absolute(text),
        _ => Ok(text.into()),
    }
}

fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(format!("{text:?} is no name of a variable"));
    }
    Ok(text.to_owned())
}
