//! Lowering of `mounts` (OCI `config.md`, "Mounts"; see [`lower`](super::lower)).
//!
//! libcontainer resolves a source and mounts it on a stage; it ignores
//! propagation options, cannot mount without a source, and is slow with cgroup
//! file systems. Here each mount becomes one that it can do, and a [`Placement`]
//! that says where it belongs and what is changed about it there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::RuntimeError;
use super::lower::Context;
use super::support::REFUSED_MOUNT_OPTIONS;
use crate::edit::{Mount, NamespaceKind};
use crate::error::Result;
use crate::rootfs::Placement;
use crate::sys::fsmount::Attributes;

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

/// A mount for the library, and where it goes from there.
#[derive(Debug, Clone)]
pub struct LoweredMount {
    /// `type`, `source` and `options` for the library.
    pub library: Value,
    /// The rest.
    pub placement: Placement,
}

/// The result of lowering.
#[derive(Debug, Default)]
pub struct LoweredMounts {
    /// In order.
    pub mounts: Vec<LoweredMount>,
    /// Device paths that are mounts now.
    pub bound_devices: Vec<PathBuf>,
    /// Whether /dev becomes read-only in the tail.
    pub readonly_dev: bool,
}

impl LoweredMounts {
    fn push(
        &mut self,
        destination: &Path,
        kind: &str,
        source: &Path,
        options: Vec<String>,
        changes: Vec<(Attributes, bool)>,
    ) {
        // A read-only file system could not be filled; it becomes so in the end.
        let library_options: Vec<&String> = options.iter().filter(|o| *o != "tmpcopyup").collect();
        self.mounts.push(LoweredMount {
            library: json!({"type": kind, "source": source, "options": library_options}),
            placement: Placement {
                mount: Mount {
                    destination: destination.to_path_buf(),
                    kind: Some(kind.to_owned()),
                    source: Some(source.to_path_buf()),
                    options,
                },
                changes,
            },
        });
    }
}

/// Lowers every mount, in order.
///
/// # Errors
/// An option that cannot be honoured, naming mount and option.
pub fn lower_mounts(document: &Value, context: &Context<'_>) -> Result<LoweredMounts> {
    let mut lowered = LoweredMounts::default();
    for (index, mount) in document["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = format!("mounts[{index}]");
        let parsed = Parsed::new(mount, &field, context.bundle)?;
        if parsed.kind == "cgroup" || parsed.kind == "cgroup2" {
            cgroup_mount(&parsed, context, &mut lowered);
        } else {
            plain_mount(
                &parsed,
                context.preflight.inherited_mode(index),
                &mut lowered,
            );
        }
    }
    if context.bind_devices {
        bind_devices(context, &mut lowered);
    }
    Ok(lowered)
}

/// A mount entry, read.
struct Parsed {
    destination: PathBuf,
    kind: String,
    source: Option<PathBuf>,
    options: Vec<String>,
    propagation: Vec<(u64, bool)>,
    readonly: bool,
    bind: bool,
}

impl Parsed {
    fn new(mount: &Value, field: &str, bundle: &Path) -> Result<Self> {
        let text = |name: &str| mount[name].as_str().unwrap_or_default().to_owned();
        let mut parsed = Self {
            destination: PathBuf::from(text("destination")),
            kind: text("type"),
            source: Some(PathBuf::from(text("source"))).filter(|s| !s.as_os_str().is_empty()),
            options: Vec::new(),
            propagation: Vec::new(),
            readonly: false,
            bind: false,
        };
        for id_field in ["uidMappings", "gidMappings"] {
            if mount[id_field].as_array().is_some_and(|m| !m.is_empty()) {
                return Err(unsupported(
                    &format!("{field}.{id_field}"),
                    "idmapped mounts",
                ));
            }
        }
        for option in mount["options"].as_array().into_iter().flatten() {
            let option = option.as_str().unwrap_or_default();
            if REFUSED_MOUNT_OPTIONS.contains(&option) {
                return Err(unsupported(&format!("{field}.options"), option));
            }
            if let Some(change) = propagation(option) {
                parsed.propagation.push(change);
                continue;
            }
            match option {
                "bind" | "rbind" => parsed.bind = true,
                "ro" => parsed.readonly = true,
                "rw" => parsed.readonly = false,
                _ => {}
            }
            parsed.options.push(option.to_owned());
        }
        // runc knows a bind mount by its options alone, callers by its type too.
        if parsed.kind == "bind" && !parsed.bind {
            parsed.bind = true;
            parsed.options.push("bind".into());
        }
        if parsed.bind
            && let Some(source) = &parsed.source
            && source.is_relative()
        {
            parsed.source = Some(bundle.join(source));
        }
        Ok(parsed)
    }

    /// Propagation, as a change to the mount in its place.
    fn changes(&self) -> Vec<(Attributes, bool)> {
        self.propagation
            .iter()
            .map(|(propagation, recursive)| {
                (
                    Attributes {
                        propagation: *propagation,
                        ..Attributes::default()
                    },
                    *recursive,
                )
            })
            .collect()
    }
}

fn unsupported(field: &str, what: &str) -> crate::Error {
    RuntimeError::config(
        field,
        format!("{what} is not supported by this version of kusabi"),
    )
    .into()
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    Some(match option {
        "private" => (libc::MS_PRIVATE, false),
        "rprivate" => (libc::MS_PRIVATE, true),
        "shared" => (libc::MS_SHARED, false),
        "rshared" => (libc::MS_SHARED, true),
        "slave" => (libc::MS_SLAVE, false),
        "rslave" => (libc::MS_SLAVE, true),
        "unbindable" => (libc::MS_UNBINDABLE, false),
        "runbindable" => (libc::MS_UNBINDABLE, true),
        _ => return None,
    })
}

fn plain_mount(parsed: &Parsed, inherited: Option<u32>, lowered: &mut LoweredMounts) {
    let kind = if parsed.bind {
        "bind"
    } else {
        parsed.kind.as_str()
    };
    // The library wants a source for everything; the kernel shows the type where
    // none is given.
    let source = parsed.source.clone().unwrap_or_else(|| PathBuf::from(kind));
    let mut options = parsed.options.clone();
    let mut changes = parsed.changes();
    // Mounts below must find or make their places in it first.
    if parsed.readonly && !parsed.bind && kind == "tmpfs" {
        options.retain(|o| o != "ro");
        if parsed.destination == Path::new("/dev") {
            // The console is made in it after pivot.
            lowered.readonly_dev = true;
        } else {
            changes.push(read_only());
        }
    }
    if kind == "tmpfs"
        && let Some(mode) = inherited
        && !options.iter().any(|o| o.starts_with("mode="))
    {
        options.push(format!("mode={mode:04o}"));
    }
    lowered.push(&parsed.destination, kind, &source, options, changes);
}

fn read_only() -> (Attributes, bool) {
    (
        Attributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attributes::default()
        },
        false,
    )
}

/// A bind of the directory costs microseconds; a cgroup file system of its own
/// costs the library 17-31 ms and shows the same.
fn cgroup_mount(parsed: &Parsed, context: &Context<'_>, lowered: &mut LoweredMounts) {
    let private = context.namespaces.is_private(NamespaceKind::Cgroup);
    let mut options: Vec<String> = parsed
        .options
        .iter()
        .filter(|o| *o != "bind" && *o != "rbind")
        .cloned()
        .collect();
    options.push("bind".into());
    let changes = parsed.changes();
    match context.cgroups {
        CgroupView::V2 { mountpoint, own } => {
            let source = if private { own } else { mountpoint };
            lowered.push(&parsed.destination, "bind", source, options, changes);
        }
        CgroupView::V1(hierarchies) => {
            let tmpfs: Vec<String> = parsed
                .options
                .iter()
                .filter(|o| !matches!(o.as_str(), "ro" | "rbind" | "bind"))
                .cloned()
                .chain(["mode=755".to_owned()])
                .collect();
            let mut changes = changes;
            if parsed.readonly {
                changes.push(read_only());
            }
            lowered.push(
                &parsed.destination,
                "tmpfs",
                Path::new("tmpfs"),
                tmpfs,
                changes,
            );
            for (name, own) in hierarchies {
                let at = parsed.destination.join(name);
                lowered.push(&at, "bind", own, options.clone(), Vec::new());
            }
        }
        CgroupView::None => {
            let options = ["rbind", "ro", "nosuid", "noexec", "nodev"]
                .map(str::to_owned)
                .to_vec();
            let host = Path::new("/sys/fs/cgroup");
            lowered.push(&parsed.destination, "bind", host, options, changes);
        }
    }
}

/// In a user namespace no node can be made. The library binds the host's node of
/// the *container's* path; where a CDI file says that the node is elsewhere on
/// the host, the bind is ours.
fn bind_devices(context: &Context<'_>, lowered: &mut LoweredMounts) {
    for device in context.devices.iter().filter(|d| d.host_path != d.path) {
        let options = vec!["bind".to_owned()];
        lowered.push(&device.path, "bind", &device.host_path, options, Vec::new());
        lowered.bound_devices.push(device.path.clone());
    }
}
