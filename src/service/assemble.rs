//! Everything together: a `config.json`, and the edits that belong to it.

use serde_json::{Value, json};

use super::capability::{Capability, DEFAULT_CAPABILITIES};
use super::devices;
use super::env::layers;
use super::error::ServiceError;
use super::file::Service;
use super::image::ImageConfig;
use super::mounts::{self, Socket};
use super::user::{ImageUser, UserDatabase};
use super::volume::{VolumeName, Volumes};
use super::{command, form};
use crate::edit::{Mount, Plan};
use crate::host::facts::Snapshot;

/// The version of the runtime specification that a built bundle needs.
const OCI_VERSION: &str = "1.1.0";

/// One core's share of a period: all of it. Microseconds.
const PERIOD: i64 = 100_000;

/// What whoever builds the bundle says over the service's and image's heads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The program and its arguments; empty is no override.
    pub args: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// `USER[:GROUP]`.
    pub user: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Where the volumes are.
    pub volumes: Volumes,
    /// The API socket.
    pub socket: Option<Socket>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// `root.path`; `rootfs` in a bundle of ours.
    pub root_path: Option<String>,
}

/// What was found out for a service. Nothing here is looked up later.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Files of the host; `None` where nobody may look.
    pub files: Option<Snapshot>,
    /// The root file system's users; `None` where there is none to read.
    pub users: Option<UserDatabase>,
    /// The builder's own bounding set; `None` where it says nothing about the
    /// machine the container will be on.
    pub bounding: Option<Vec<Capability>>,
    /// The service's `env`, with references resolved.
    pub service_env: Vec<(String, String)>,
    /// The builder's variables, with references resolved.
    pub builder_env: Vec<(String, String)>,
    /// The cgroup below which the container's is made; `None` leaves it to the
    /// runtime.
    pub cgroup_parent: Option<String>,
}

/// A service as a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// `config.json` before the edits.
    pub config: Value,
    /// The service's devices.
    pub plan: Plan,
    /// What the user should know; one line each.
    pub warnings: Vec<String>,
}

/// `SERVICE-rep-N`
#[must_use]
pub fn container_id(service: &str, replica: u32) -> String {
    format!("{service}-rep-{replica}")
}

/// Puts a container together.
///
/// # Errors
/// A storage without a place, a host or image that is not as the service needs
/// it, an override that means nothing.
pub fn assemble(
    name: &str,
    id: &str,
    service: &Service,
    image: &ImageConfig,
    overrides: &Overrides,
    facts: &Facts,
) -> Result<Assembled, ServiceError> {
    let place = format!("services.{name}");
    check_overrides(overrides)?;
    let files = facts.files.as_ref();
    let (mounts, mut warnings) = mounts::all(
        service,
        &place,
        &overrides.volumes,
        overrides.socket.as_ref(),
        files,
    )?;
    warnings.extend(unused(service, &overrides.volumes));
    let (capabilities, lost) = capabilities(service, facts.bounding.as_deref());
    if !lost.is_empty() {
        let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
        let lost = lost.join(" ");
        warnings.push(format!(
            "{place}: this process may not pass on {lost}: not in its bounding set"
        ));
    }
    let mut config = json!({
        "ociVersion": OCI_VERSION,
        "process": process(service, image, overrides, facts, &capabilities)?,
        "root": {
            "path": overrides.root_path.as_deref().unwrap_or("rootfs"),
            "readonly": false,
        },
        "hostname": hostname(id, service, overrides)?,
        "mounts": mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    config["linux"] = linux(id, service, facts);
    Ok(Assembled {
        config,
        plan: devices::plan(service, &place, files)?,
        warnings,
    })
}

fn check_overrides(overrides: &Overrides) -> Result<(), ServiceError> {
    let check = |place: &str, text: Option<&str>, form: &form::Form| match text {
        Some(text) => (form.check)(text).map_err(|reason| ServiceError::Value {
            place: place.to_owned(),
            reason,
        }),
        None => Ok(()),
    };
    check("--cwd", overrides.cwd.as_deref(), &form::DIRECTORY)?;
    check("--hostname", overrides.hostname.as_deref(), &form::HOSTNAME)?;
    for word in &overrides.args {
        check("--arg", Some(word), &form::TEXT)?;
    }
    if let Some(socket) = &overrides.socket {
        let inside = socket.container.to_str();
        check("--socket", inside.or(Some("")), &form::PATH)?;
    }
    Ok(())
}

/// Whether a parent cgroup from outside the service file is one.
pub(crate) fn check_cgroup(place: &str, parent: &str) -> Result<(), ServiceError> {
    (form::CGROUP.check)(parent).map_err(|reason| ServiceError::Value {
        place: place.to_owned(),
        reason,
    })
}

fn unused<'a>(service: &'a Service, volumes: &'a Volumes) -> impl Iterator<Item = String> + 'a {
    let used: Vec<VolumeName> = service.storage.iter().filter_map(VolumeName::of).collect();
    volumes
        .names()
        .filter(move |name| !used.contains(name))
        .map(|name| format!("--volume {name}: no storage of the service is called so"))
}

fn process(
    service: &Service,
    image: &ImageConfig,
    overrides: &Overrides,
    facts: &Facts,
    capabilities: &[Capability],
) -> Result<Value, ServiceError> {
    let named = overrides.user.as_deref().or(image.user.as_deref());
    let user = match named {
        Some(user) => ImageUser::parse(user)?.resolve(facts.users.as_ref())?,
        None => Default::default(),
    };
    let mut user_value = json!({ "uid": user.uid, "gid": user.gid });
    if !user.additional_gids.is_empty() {
        user_value["additionalGids"] = json!(user.additional_gids);
    }
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    let listed = service
        .capabilities
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    Ok(json!({
        "terminal": overrides.terminal,
        "user": user_value,
        "args": command::arguments(&overrides.args, service, image),
        "env": layers(&image.env, &facts.service_env, &facts.builder_env),
        "cwd": command::directory(overrides.cwd.as_deref(), service, image),
        "capabilities": { "bounding": names, "effective": names, "permitted": names },
        "noNewPrivileges": !(service.privileged || listed),
    }))
}

/// What the container gets, and what it should have got but cannot.
fn capabilities(
    service: &Service,
    bounding: Option<&[Capability]>,
) -> (Vec<Capability>, Vec<Capability>) {
    let held = |capability: &Capability| bounding.is_none_or(|set| set.contains(capability));
    if service.privileged {
        return Capability::all().partition(held);
    }
    let wanted = match &service.capabilities {
        Some(listed) => listed.clone(),
        None => DEFAULT_CAPABILITIES.to_vec(),
    };
    let lost = wanted.iter().copied().filter(|one| !held(one)).collect();
    (wanted, lost)
}

fn hostname(id: &str, service: &Service, overrides: &Overrides) -> Result<String, ServiceError> {
    let chosen = overrides
        .hostname
        .as_deref()
        .or(service.hostname.as_deref());
    if let Some(name) = chosen {
        return Ok(name.to_owned());
    }
    (form::HOSTNAME.check)(id).map_err(|_| ServiceError::Value {
        place: "hostname".to_owned(),
        reason: format!("the container's id {id} is no host name, give one with --hostname"),
    })?;
    Ok(id.to_owned())
}

fn mount(mount: &Mount) -> Value {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut value = json!({ "destination": path(&mount.destination) });
    if let Some(kind) = &mount.kind {
        value["type"] = json!(kind);
    }
    if let Some(source) = &mount.source {
        value["source"] = json!(path(source));
    }
    value["options"] = json!(mount.options);
    value
}

fn linux(id: &str, service: &Service, facts: &Facts) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    if !service.host_network {
        kinds.push("network");
    }
    // With the read-only mount of it: nothing of the host's cgroups shows.
    kinds.push("cgroup");
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut resources = json!({ "devices": devices::rules(service.privileged) });
    if let Some(memory) = service.resources.memory {
        resources["memory"] = json!({ "limit": memory });
    }
    if let Some(cores) = service.resources.cpu {
        resources["cpu"] = json!({ "quota": cores.saturating_mul(PERIOD), "period": PERIOD });
    }
    let mut linux = json!({
        "resources": resources,
        "namespaces": namespaces,
        "rootfsPropagation": "private",
    });
    if let Some(parent) = &facts.cgroup_parent {
        linux["cgroupsPath"] = json!(cgroups_path(parent, id));
    }
    if !service.privileged {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    linux
}

/// A slice is systemd's to make, with a scope of ours; anything else is a
/// directory.
fn cgroups_path(parent: &str, id: &str) -> String {
    if parent.ends_with(".slice") && !parent.contains('/') {
        return format!("{parent}:kusabi:{id}");
    }
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// What says too much about the host, or does too much to it: the list of
/// Docker 28.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
