//! Lowering of `mounts` (OCI `config.md`, "Mounts"; see [`lower`](super::lower)).
//!
//! The library makes none of them: it mounts everything before anything is in its
//! place, keeps the flags of a bind mount's source, and knows neither idmapped
//! mounts nor half of the options. Here each entry becomes a [`Placement`] for the
//! assembly, a `cgroup` one several.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::RuntimeError;
use super::lower::Context;
use crate::edit::{IdMapping, Mount, NamespaceKind};
use crate::error::Result;
use crate::rootfs::Placement;

/// Where the container's cgroup can be seen on the host.
#[derive(Debug, Clone)]
pub enum CgroupView {
    /// cgroup v2: the mount point and the container's directory below it.
    V2 {
        /// As in `/sys/fs/cgroup`.
        mountpoint: PathBuf,
        /// The container's own directory.
        own: PathBuf,
    },
    /// cgroup v1: for each hierarchy the name of its mount point and the
    /// container's own directory.
    V1(Vec<(String, PathBuf)>),
    /// No cgroup was made (rootless without delegation).
    None,
}

/// Whose mappings an idmapped mount gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountIds {
    /// Those of the container's user namespace.
    Container,
    /// Its own.
    Own {
        /// `uidMappings`.
        uids: Vec<IdMapping>,
        /// `gidMappings`.
        gids: Vec<IdMapping>,
    },
}

/// The result of lowering.
#[derive(Debug, Default)]
pub struct LoweredMounts {
    /// In order.
    pub placements: Vec<Placement>,
    /// Of the idmapped ones, by index.
    pub id_maps: Vec<(usize, MountIds)>,
    /// Whether /dev becomes read-only in the tail.
    pub readonly_dev: bool,
}

/// Lowers every mount, in order.
///
/// # Errors
/// What cannot be mounted so, naming the mount, in runc's words.
pub fn lower_mounts(document: &Value, context: &Context<'_>) -> Result<LoweredMounts> {
    let mut lowered = LoweredMounts::default();
    let mounts = document["mounts"].as_array().into_iter().flatten();
    for (index, mount) in mounts.enumerate() {
        let field = format!("mounts[{index}]");
        let entry = placement(mount, context.bundle);
        let kind = entry.mount.kind.as_deref().unwrap_or_default();
        let ids = mapped_ids(mount, &entry, &field, context)?;
        if entry.options.has(libc::MS_BIND) {
            if !entry.options.data.is_empty() {
                return refuse(
                    &format!("{field}.options"),
                    "bind mounts cannot have any filesystem-specific options applied",
                );
            }
        } else if kind == "cgroup" || kind == "cgroup2" {
            cgroup_mount(&entry, context, &mut lowered);
            continue;
        }
        if let Some(ids) = ids {
            lowered.id_maps.push((lowered.placements.len(), ids));
        }
        lowered.placements.push(entry);
    }
    // The console is made in it after pivot.
    let console = document["process"]["terminal"].as_bool() == Some(true);
    for placement in &mut lowered.placements {
        let readonly = placement.options.has(libc::MS_RDONLY);
        let bound = placement.options.has(libc::MS_BIND);
        if console && readonly && !bound && placement.mount.destination == Path::new("/dev") {
            placement.stays_writable = true;
            lowered.readonly_dev = true;
        }
    }
    Ok(lowered)
}

fn placement(mount: &Value, bundle: &Path) -> Placement {
    let text = |name: &str| {
        let text = mount[name].as_str();
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let options = mount["options"].as_array().into_iter().flatten();
    let mut placement = Placement::new(Mount {
        destination: PathBuf::from(text("destination").unwrap_or_default()),
        kind: text("type"),
        source: text("source").map(PathBuf::from),
        options: options
            .map(|option| option.as_str().unwrap_or_default().to_owned())
            .collect(),
    });
    if placement.options.has(libc::MS_BIND)
        && let Some(source) = &mut placement.mount.source
        && source.is_relative()
    {
        *source = bundle.join(&*source);
    }
    let has = |field: &str| !mount[field].is_null();
    if has("uidMappings") || has("gidMappings") {
        placement.options.map_ids.get_or_insert(false);
    }
    placement
}

/// The mappings of an idmapped mount.
fn mapped_ids(
    mount: &Value,
    entry: &Placement,
    field: &str,
    context: &Context<'_>,
) -> Result<Option<MountIds>> {
    if entry.options.map_ids.is_none() {
        return Ok(None);
    }
    if !entry.options.has(libc::MS_BIND) {
        return refuse(field, "id-mapped mounts are only supported for bind-mounts");
    }
    if context.rootless {
        return refuse(
            field,
            "id-mapped mounts are not supported for rootless containers",
        );
    }
    let has = |field: &str| !mount[field].is_null();
    if !has("uidMappings")
        && !has("gidMappings")
        && context.namespaces.is_private(NamespaceKind::User)
    {
        return Ok(Some(MountIds::Container));
    }
    let read = |name: &str| -> Result<Vec<IdMapping>> {
        if mount[name].is_null() {
            return Ok(Vec::new());
        }
        // Through text: numbers kept as written do not read as integers otherwise.
        serde_json::from_str(&mount[name].to_string())
            .map_err(|e| RuntimeError::config(format!("{field}.{name}"), e.to_string()).into())
    };
    let (uids, gids) = (read("uidMappings")?, read("gidMappings")?);
    if uids.is_empty() || gids.is_empty() {
        return refuse(
            field,
            "id-mapped mounts must have both uid and gid mappings specified",
        );
    }
    Ok(Some(MountIds::Own { uids, gids }))
}

fn refuse<T>(field: &str, reason: &str) -> Result<T> {
    Err(RuntimeError::config(field, reason).into())
}

/// A bind of the container's own directory costs microseconds; a cgroup file
/// system of its own costs 17-31 ms and shows the same.
fn cgroup_mount(entry: &Placement, context: &Context<'_>, lowered: &mut LoweredMounts) {
    let private = context.namespaces.is_private(NamespaceKind::Cgroup);
    let binding = |destination: &Path, source: &Path| {
        let mut bound = entry.clone();
        bound.mount.destination = destination.to_path_buf();
        bound.mount.kind = Some("bind".into());
        bound.mount.source = Some(source.to_path_buf());
        bound.options.flags |= libc::MS_BIND;
        // Words for a cgroup file system, such as `nsdelegate`.
        bound.options.data.clear();
        bound.is_runtimes = true;
        bound
    };
    let destination = &entry.mount.destination;
    match context.cgroups {
        CgroupView::V2 { mountpoint, own } => {
            let source = if private { own } else { mountpoint };
            lowered.placements.push(binding(destination, source));
        }
        CgroupView::V1(hierarchies) => {
            let mut directory = entry.clone();
            directory.mount.kind = Some("tmpfs".into());
            directory.mount.source = Some("tmpfs".into());
            directory.options.data = vec!["mode=755".into()];
            directory.options.flags &= !libc::MS_REC;
            directory.links = controller_links(hierarchies);
            lowered.placements.push(directory);
            for (name, own) in hierarchies {
                let bound = binding(&destination.join(name), own);
                lowered.placements.push(bound);
            }
        }
        CgroupView::None => {
            let words = ["rbind", "rro", "nosuid", "noexec", "nodev"];
            let mut bound = Placement::new(Mount {
                destination: destination.clone(),
                kind: Some("bind".into()),
                source: Some("/sys/fs/cgroup".into()),
                options: words.map(str::to_owned).to_vec(),
            });
            bound.options.propagation = entry.options.propagation.clone();
            bound.is_runtimes = true;
            lowered.placements.push(bound);
        }
    }
}

/// Controllers that are mounted together are also found by their own names.
fn controller_links(hierarchies: &[(String, PathBuf)]) -> Vec<(String, PathBuf)> {
    let joined = hierarchies.iter().filter(|(name, _)| name.contains(','));
    joined
        .flat_map(|(name, _)| {
            name.split(',')
                .map(move |one| (one.to_owned(), PathBuf::from(name)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_relative_bind_source_starts_at_the_bundle() {
        let read = |mount: Value| placement(&mount, Path::new("/bundle"));
        let bound = read(json!({"destination": "/x", "source": "data", "options": ["bind"]}));
        assert_eq!(bound.mount.source, Some("/bundle/data".into()));
        let typed = read(json!({"destination": "/x", "source": "data", "type": "bind"}));
        assert!(typed.options.has(libc::MS_BIND));
        let tmpfs = read(json!({"destination": "/x", "source": "tmpfs", "type": "tmpfs"}));
        assert_eq!(tmpfs.mount.source, Some("tmpfs".into()));
    }

    #[test]
    fn mappings_alone_ask_for_an_idmapped_mount() {
        let read = |mount: Value| placement(&mount, Path::new("/")).options.map_ids;
        assert_eq!(read(json!({"destination": "/x"})), None);
        assert_eq!(
            read(json!({"destination": "/x", "uidMappings": []})),
            Some(false)
        );
        assert_eq!(
            read(json!({"destination": "/x", "options": ["ridmap"], "gidMappings": []})),
            Some(true)
        );
    }

    #[test]
    fn joined_controllers_get_links() {
        let hierarchies = [
            ("cpu,cpuacct".to_owned(), PathBuf::from("/a")),
            ("pids".to_owned(), PathBuf::from("/b")),
        ];
        let joined = PathBuf::from("cpu,cpuacct");
        assert_eq!(
            controller_links(&hierarchies),
            [("cpu".into(), joined.clone()), ("cpuacct".into(), joined)]
        );
    }
}
