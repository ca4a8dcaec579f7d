//! What a builder has to find out, and the devices it asks for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::builder::{BundleBuilder, Machine};
use super::gpus;
use crate::cdi::Mode;
use crate::cgroup::nested;
use crate::cgroup::parent::{self, Migration, Wish};
use crate::document::Document;
use crate::edit::{Ledger, Plan};
use crate::error::{Error, Result};
use crate::host::caller::caller;
use crate::host::{gpu, users};
use crate::lease::Reservation;
use crate::request;
use crate::resolve::picker::{Holder, Picker};
use crate::resolve::{Situation, plan};
use crate::service::{
    Facts, ImageUser, ServiceError, StorageKind, UserDatabase, VolumeName, resolve,
};

/// Everything that [`assemble`](crate::service::assemble()) wants to know, and
/// what the choice of a cgroup asks for.
pub(super) fn find(builder: &BundleBuilder) -> Result<(Facts, Option<Migration>)> {
    let files = match host_root(&builder.machine) {
        Some(root) => Some(gpu::examine_paths(&root, paths(builder))?),
        None => None,
    };
    let (cgroup_parent, migration) = cgroup(builder)?;
    let facts = Facts {
        files,
        users: users_of(builder)?,
        bounding: match &builder.machine {
            Machine::Here | Machine::Tree(_) => {
                host_root(&builder.machine).and_then(|root| users::bounding_set(&root))
            }
            Machine::Unknown => None,
        },
        service_env: environment(builder, &builder.service.env, |key| {
            format!("services.{}.env.{key}", builder.name)
        })?,
        builder_env: environment(builder, &builder.env, |key| format!("--env {key}"))?,
        cgroup_parent,
    };
    Ok((facts, migration))
}

fn host_root(machine: &Machine) -> Option<PathBuf> {
    match machine {
        Machine::Here => Some(PathBuf::from("/")),
        Machine::Tree(root) => Some(root.clone()),
        Machine::Unknown => None,
    }
}

/// Paths of the host that the service names.
fn paths(builder: &BundleBuilder) -> BTreeSet<PathBuf> {
    let service = &builder.service;
    let overrides = &builder.overrides;
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    paths.extend(service.devices.iter().map(|device| device.path.clone()));
    for storage in &service.storage {
        if let StorageKind::Bind { source } = &storage.kind {
            paths.insert(source.clone());
        }
        let volume = VolumeName::of(storage);
        let place = volume.and_then(|name| overrides.volumes.get(&name));
        paths.extend(place.map(Path::to_owned));
    }
    paths.extend(overrides.socket.as_ref().map(|socket| socket.host.clone()));
    paths
}

/// The root file system's users, where a name has to be looked up.
fn users_of(builder: &BundleBuilder) -> Result<Option<UserDatabase>> {
    let named = builder
        .overrides
        .user
        .as_ref()
        .or(builder.image.user.as_ref());
    let rootfs = builder.rootfs.as_ref().or(builder.users.as_ref());
    let (Some(named), Some(rootfs)) = (named, rootfs) else {
        return Ok(None);
    };
    if !ImageUser::parse(named)?.needs_database() {
        return Ok(None);
    }
    users::of_rootfs(rootfs).map(Some)
}

/// A variable of the machine that the specification is for.
fn host_variable(builder: &BundleBuilder, name: &str) -> Option<String> {
    let given = builder.host_env.get(name).cloned();
    match builder.machine {
        Machine::Here => given.or_else(|| std::env::var(name).ok()),
        Machine::Tree(_) | Machine::Unknown => given,
    }
}

fn environment(
    builder: &BundleBuilder,
    layer: &[(String, String)],
    place: impl Fn(&str) -> String,
) -> Result<Vec<(String, String)>, ServiceError> {
    let variable = |place: String, name: &str| {
        host_variable(builder, name).ok_or_else(|| match builder.machine {
            Machine::Here => ServiceError::Variable {
                place,
                name: name.to_owned(),
            },
            Machine::Tree(_) | Machine::Unknown => ServiceError::ForeignVariable {
                place,
                name: name.to_owned(),
            },
        })
    };
    let secret = |place: String, name: &str| match &builder.secrets {
        Some(provider) => provider
            .secret(&builder.deployment, name)
            .map_err(|reason| ServiceError::Secret {
                place,
                name: name.to_owned(),
                reason,
            }),
        None => Err(ServiceError::NoSecrets {
            place,
            name: name.to_owned(),
        }),
    };
    resolve(layer, place, &variable, &secret)
}

/// The parent of the container's cgroup, and what has to be moved for it.
fn cgroup(builder: &BundleBuilder) -> Result<(Option<String>, Option<Migration>)> {
    let resources = &builder.service.resources;
    let needs = [
        ("cpu", resources.cpu.is_some()),
        ("memory", resources.memory.is_some()),
    ];
    let filled = |name: &str| host_variable(builder, name).filter(|value| !value.is_empty());
    let wish = Wish {
        // The flag's edit comes after the service's, and wins.
        explicit: builder
            .flags
            .cgroup_parent
            .clone()
            .or_else(|| builder.service.cgroup_parent.clone()),
        environment: filled("KUSABI_CGROUP_PARENT"),
        migrate: builder.migrate
            || builder.policy.cgroup.migrate
            || filled("KUSABI_CGROUP_MIGRATE").as_deref() == Some("1"),
        controllers: needs
            .iter()
            .filter(|(_, needed)| *needed)
            .map(|(name, _)| *name)
            .collect(),
        rootless: !geteuid().is_root(),
    };
    let said = wish.explicit.is_some() || wish.environment.is_some();
    let here = match builder.machine {
        Machine::Here if !said => nested::surroundings()?,
        _ => None,
    };
    let decision =
        parent::decide(&wish, here.as_ref()).map_err(crate::cgroup::CgroupError::from)?;
    if let Some(parent) = wish.environment.filter(|_| wish.explicit.is_none()) {
        crate::service::check_cgroup("KUSABI_CGROUP_PARENT", &parent)?;
    }
    let migration = match &decision {
        parent::Decision::Nested { migration, .. } => migration.clone(),
        _ => None,
    };
    Ok((decision.parent().map(str::to_owned), migration))
}

/// The plan for what is asked of the host's devices.
pub(super) fn requested(
    builder: &BundleBuilder,
    document: &Document,
    ledger: &mut Ledger,
) -> Result<(Plan, Option<Reservation>)> {
    let flags = &builder.flags;
    let mut requests = request::collect(document, flags, &builder.policy)?;
    if let Some(wish) = &builder.service.resources.gpu {
        gpus::ask(&builder.name, wish, flags, &mut requests)?;
    }
    if requests.is_empty() {
        return Ok((Plan::default(), None));
    }
    let root = match host_root(&builder.machine) {
        Some(root) => root,
        None if requests.devices.is_empty() && requests.sharing.is_none() => PathBuf::new(),
        None => {
            return Err(Error::Usage(
                "devices and GPUs: the host may not be looked at; leave --no-probe out or give --host-root".to_owned(),
            ));
        }
    };
    let holder = match &builder.state_root {
        Some(root) => Holder::of(&builder.id(), root, &caller()),
        // A description takes nothing from anybody.
        None => Holder::Nobody,
    };
    let mut picker = Picker::new(holder, &root);
    let (plan, named) = plan(
        &requests,
        &Situation {
            document,
            cdi_dirs: &builder.cdi_dirs,
            mode: Mode::Create,
            policy: &builder.policy,
            id: Some(&builder.id()),
            host: &root,
        },
        &mut picker,
        ledger,
    )?;
    let lease = picker.finish(&plan, &named)?;
    Ok((plan, lease))
}
