//! Typed reads of the fields that kusabi decides upon (OCI runtime
//! specification, `config.md` and `config-linux.md`).

use std::path::PathBuf;

use serde_json::Value;

use super::DocumentError;
use super::field::{Field, quote};
use crate::edit::{
    Access, DeviceKind, DeviceNode, DeviceRule, Hook, HookStage, IntelRdt, Mount, NamespaceKind,
};

type Result<T> = std::result::Result<T, DocumentError>;

/// `process.user` of a Linux container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUser {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary group ids inside the container.
    pub additional_gids: Vec<u32>,
}

/// An entry of `linux.namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Which namespace.
    pub kind: NamespaceKind,
    /// The namespace to join; `None` makes a new one.
    pub path: Option<PathBuf>,
}

pub(super) fn annotations(root: &Value) -> Result<Vec<(&str, &str)>> {
    let Some(annotations) = Field::root(root).get("annotations")? else {
        return Ok(Vec::new());
    };
    annotations
        .members()?
        .into_iter()
        .map(|(key, field)| Ok((key, field.string()?)))
        .collect()
}

pub(super) fn env(root: &Value) -> Result<Vec<&str>> {
    list_of_strings(root, &["process", "env"])
}

pub(super) fn bounding_capabilities(root: &Value) -> Result<Vec<&str>> {
    list_of_strings(root, &["process", "capabilities", "bounding"])
}

fn list_of_strings<'a>(root: &'a Value, keys: &[&str]) -> Result<Vec<&'a str>> {
    Field::root(root)
        .items_of(keys)?
        .iter()
        .map(Field::string)
        .collect()
}

pub(super) fn process_user(root: &Value) -> Result<ProcessUser> {
    let Some(user) = Field::root(root).find(&["process", "user"])? else {
        return Ok(ProcessUser::default());
    };
    let gids = user.items_of(&["additionalGids"])?;
    Ok(ProcessUser {
        uid: user.unsigned_of("uid")?.unwrap_or(0),
        gid: user.unsigned_of("gid")?.unwrap_or(0),
        additional_gids: gids.iter().map(Field::unsigned).collect::<Result<_>>()?,
    })
}

pub(super) fn mounts(root: &Value) -> Result<Vec<Mount>> {
    let list = Field::root(root).items_of(&["mounts"])?;
    list.iter().map(mount).collect()
}

/// One entry of `mounts`.
pub(crate) fn mount(entry: &Field<'_>) -> Result<Mount> {
    let destination = entry
        .string_of("destination")?
        .ok_or_else(|| entry.missing("destination"))?;
    Ok(Mount {
        destination: destination.into(),
        kind: entry.text_of("type")?.map(str::to_owned),
        source: entry.text_of("source")?.map(PathBuf::from),
        options: strings(entry, "options")?,
    })
}

/// A list of strings that may be absent.
pub(crate) fn strings(entry: &Field<'_>, key: &str) -> Result<Vec<String>> {
    entry
        .items_of(&[key])?
        .iter()
        .map(|item| item.string().map(str::to_owned))
        .collect()
}

/// `linux.namespaces`.
pub(crate) fn namespaces(root: &Value) -> Result<Vec<Namespace>> {
    let list = Field::root(root).items_of(&["linux", "namespaces"])?;
    list.iter()
        .map(|entry| {
            let Some(kind) = entry.get("type")? else {
                return Err(entry.missing("type"));
            };
            let name = kind.string()?;
            let known = NamespaceKind::from_key(name)
                .ok_or_else(|| kind.wrong(format!("namespace {} does not exist", quote(name))))?;
            Ok(Namespace {
                kind: known,
                path: entry.text_of("path")?.map(PathBuf::from),
            })
        })
        .collect()
}

pub(super) fn cgroups_path(root: &Value) -> Result<Option<&str>> {
    match Field::root(root).get("linux")? {
        Some(linux) => linux.text_of("cgroupsPath"),
        None => Ok(None),
    }
}

pub(super) fn root_path(root: &Value) -> Result<Option<&str>> {
    match Field::root(root).get("root")? {
        Some(root) => root.string_of("path"),
        None => Ok(None),
    }
}

/// `linux.resources.devices`.
pub(crate) fn device_rules(root: &Value) -> Result<Vec<DeviceRule>> {
    let list = Field::root(root).items_of(&["linux", "resources", "devices"])?;
    list.iter().map(device_rule).collect()
}

fn device_rule(entry: &Field<'_>) -> Result<DeviceRule> {
    let kind = match entry.get("type")? {
        None => DeviceKind::All,
        Some(field) => match field.string()? {
            "" | "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Char,
            other => {
                let other = quote(other);
                return Err(field.wrong(format!(
                    "invalid cgroup device type {other}, expected a, b or c"
                )));
            }
        },
    };
    let access = match entry.get("access")? {
        Some(field) => {
            let letters = field.string()?;
            if letters.is_empty() {
                return Err(field.wrong("cannot be empty, expected letters of rwm"));
            }
            // As runc, which passes over letters that mean nothing.
            let known: String = letters.chars().filter(|c| "rwm".contains(*c)).collect();
            Access::from_letters(&known)
                .filter(|access| !access.is_empty())
                .ok_or_else(|| field.wrong(format!("{} has none of r, w and m", quote(letters))))?
        }
        None => return Err(entry.missing("access")),
    };
    let allow = match entry.get("allow")? {
        Some(field) => field.boolean()?,
        None => false,
    };
    Ok(DeviceRule {
        allow,
        kind,
        major: device_number(entry, "major")?,
        minor: device_number(entry, "minor")?,
        access,
    })
}

/// A number of a rule; absent and `-1` mean any.
fn device_number(entry: &Field<'_>, key: &str) -> Result<Option<u32>> {
    let Some(field) = entry.get(key)? else {
        return Ok(None);
    };
    match field.integer()? {
        -1 => Ok(None),
        number => u32::try_from(number).map(Some).map_err(|_| {
            field.wrong(format!(
                "{number} is no device number, expected -1 (any) or 0 to {}",
                u32::MAX
            ))
        }),
    }
}

pub(super) fn devices(root: &Value) -> Result<Vec<DeviceNode>> {
    let list = Field::root(root).items_of(&["linux", "devices"])?;
    list.iter().map(device_node).collect()
}

/// One entry of `linux.devices`.
pub(crate) fn device_node(entry: &Field<'_>) -> Result<DeviceNode> {
    let path = entry
        .string_of("path")?
        .ok_or_else(|| entry.missing("path"))?;
    let kind = match entry.get("type")? {
        None => return Err(entry.missing("type")),
        Some(field) => match field.string()? {
            "c" | "u" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            "p" => DeviceKind::Fifo,
            other => {
                let other = quote(other);
                return Err(field.wrong(format!(
                    "invalid device type {other}, expected b, c, u or p"
                )));
            }
        },
    };
    Ok(DeviceNode {
        path: path.into(),
        host_path: path.into(),
        kind,
        major: entry.unsigned_of("major")?.unwrap_or(0),
        minor: entry.unsigned_of("minor")?.unwrap_or(0),
        file_mode: entry.unsigned_of("fileMode")?,
        uid: entry.unsigned_of("uid")?,
        gid: entry.unsigned_of("gid")?,
    })
}

pub(super) fn hooks(root: &Value) -> Result<Vec<(HookStage, Hook)>> {
    let mut all = Vec::new();
    for stage in HookStage::ALL {
        for hook in hooks_of(root, stage)? {
            all.push((stage, hook));
        }
    }
    Ok(all)
}

/// The hooks of one stage.
pub(crate) fn hooks_of(root: &Value, stage: HookStage) -> Result<Vec<Hook>> {
    let list = Field::root(root).items_of(&["hooks", stage.key()])?;
    list.iter().map(hook).collect()
}

fn hook(entry: &Field<'_>) -> Result<Hook> {
    let path = entry
        .string_of("path")?
        .ok_or_else(|| entry.missing("path"))?;
    let timeout = match entry.get("timeout")? {
        None => None,
        Some(field) => match field.unsigned()? {
            0 => {
                return Err(
                    field.wrong("0 seconds would end the hook at once, expected above zero")
                );
            }
            seconds => Some(seconds),
        },
    };
    Ok(Hook {
        path: path.into(),
        args: strings(entry, "args")?,
        env: strings(entry, "env")?,
        timeout,
    })
}

/// `linux.intelRdt`.
pub(crate) fn intel_rdt(root: &Value) -> Result<Option<IntelRdt>> {
    let Some(rdt) = Field::root(root).find(&["linux", "intelRdt"])? else {
        return Ok(None);
    };
    let monitoring = rdt.get("enableMonitoring")?;
    Ok(Some(IntelRdt {
        clos_id: rdt.string_of("closID")?.map(str::to_owned),
        l3_cache_schema: rdt.string_of("l3CacheSchema")?.map(str::to_owned),
        mem_bw_schema: rdt.string_of("memBwSchema")?.map(str::to_owned),
        schemata: strings(&rdt, "schemata")?,
        enable_monitoring: monitoring.map_or(Ok(false), |field| field.boolean())?,
    }))
}
