//! From what is asked for to the plan: CDI devices by name, GPUs from CDI files
//! or a built-in profile, sharing, the cgroup's parent. The host is looked at
//! only as far as something asks for it.
//!
//! Commands and [`bundle`](crate::bundle) stand above this module, and it knows
//! neither: what a plan is made for comes as a [`Situation`]. It decides and
//! looks things up, and it changes nothing but the store of leases.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) mod picker;
pub(crate) mod rootless;

use self::picker::Picker;
use crate::cdi::{Context, Mode, QualifiedName, Registry, Wanted};
use crate::document::Document;
use crate::edit::{Edit, IdMapping, NamespaceKind, Note, Origin, Plan, Rule, Source};
use crate::error::{Error, Result};
use crate::gpu::{self, Defaults, GpuRequest, Inventory, Route, Vendor};
use crate::host::{cdi_dirs, gpu as host_gpu, policy_file};
use crate::lease::Wanted as Held;
use crate::policy::Policy;
use crate::request::{GpuWish, RequestError, Requests};
use crate::runtime::root;

/// What plans are made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'s> {
    /// The container's configuration as it came.
    pub document: &'s Document,
    /// CDI directories that the caller named; then no others count.
    pub cdi_dirs: &'s [PathBuf],
    /// What a missing file comes to.
    pub mode: Mode,
    /// What the operator allows.
    pub policy: &'s Policy,
    /// The container's id, where there is one.
    pub id: Option<&'s str>,
    /// The host: `/`, or where one was recorded.
    pub host: &'s Path,
}

/// Decides every edit.
///
/// # Errors
/// Requests that cannot be met, or that the policy forbids.
pub(crate) fn plan(
    requests: &Requests,
    situation: &Situation<'_>,
    picker: &mut Picker<'_>,
) -> Result<(Plan, Vec<Held>)> {
    if requests.sharing.is_some() {
        picker.share();
    }
    let mut named = Vec::new();
    let decided = requests.decide()?;
    let mut plan = Plan {
        edits: requests.read.clone(),
        notes: [requests.notes.clone(), decided.notes].concat(),
    };
    let mut wanted = decided.devices;
    let mut profiles = Plan::default();
    let mut count = 0;
    if !(wanted.is_empty() && decided.gpus.is_empty()) {
        permit(&wanted, situation)?;
        let registry = situation.registry();
        count = nvidia_devices(&wanted);
        let asks_nvidia = |wish: &GpuWish| wish.request.vendor == Some(Vendor::Nvidia);
        if count > 0 && !decided.gpus.iter().any(asks_nvidia) {
            profiles.append(situation.extras(requests, &wanted)?);
        }
        for wish in &decided.gpus {
            let outcome = situation.gpus(wish, &registry, picker)?;
            for name in outcome.names {
                wanted.entry(name).or_default().extend(wish.sources.clone());
            }
            profiles.append(outcome.plan);
            named.extend(outcome.held);
            count += outcome.nvidia;
        }
        plan.append(situation.devices(&wanted, &registry)?);
    }
    plan.append(profiles);
    plan.append(situation.sharing(requests, count)?);
    if let Some((parent, source)) = &requests.cgroup_parent {
        situation.cgroup_parent(parent, source, &mut plan)?;
    }
    if !plan.is_empty() {
        let hooks = situation.document.hooks()?;
        situation.policy.enforce_hooks(&mut plan, &hooks)?;
    }
    for text in picker.take_notes() {
        let origin = Origin {
            rule: Rule::Builtin("leases"),
            sources: Vec::new(),
        };
        plan.note(text, origin);
    }
    Ok((plan, named))
}

fn permit(wanted: &Wanted, situation: &Situation<'_>) -> Result<()> {
    let caller = policy_file::caller();
    for name in wanted.keys() {
        situation
            .policy
            .permits(name.vendor(), name.class(), &caller)?;
    }
    Ok(())
}

fn nvidia_devices(wanted: &Wanted) -> usize {
    let is_nvidias =
        |name: &&QualifiedName| Vendor::of_kind(name.vendor(), name.class()) == Vendor::Nvidia;
    wanted.keys().filter(is_nvidias).count()
}

/// What one wish comes to.
struct Outcome {
    /// CDI devices.
    names: BTreeSet<QualifiedName>,
    /// What a profile adds.
    plan: Plan,
    /// The devices of a profile, to be held at least in shares.
    held: Vec<Held>,
    /// How many of NVIDIA's devices that is.
    nvidia: usize,
}

impl Situation<'_> {
    fn registry(&self) -> Registry {
        cdi_dirs::registry(self.cdi_dirs, &self.policy.devices.cdi_dirs, self.host)
    }

    /// Resolves CDI devices against the host's files.
    fn devices(&self, wanted: &Wanted, registry: &Registry) -> Result<Plan> {
        if wanted.is_empty() {
            return Ok(Plan::default());
        }
        let resolution = registry.resolve(wanted)?;
        let facts = host_gpu::examine_paths(self.host, resolution.needs())?;
        let process = self.document.process_user()?;
        let context = Context {
            uid: process.uid,
            gid: process.gid,
            idmap_mounts: self.can_map_ids()?,
            mode: self.mode,
        };
        Ok(resolution.plan(&facts, &context)?)
    }

    /// Whether what devices bring along can show the container's own ids. Nobody
    /// can try that on a recorded host.
    fn can_map_ids(&self) -> Result<bool> {
        let live = Path::new("/");
        let namespaces = self.document.namespaces()?;
        let own_ids = namespaces.iter().any(|n| n.kind == NamespaceKind::User);
        Ok(own_ids && self.host == live && root::can_map_ids(live))
    }

    fn gpus(
        &self,
        wish: &GpuWish,
        registry: &Registry,
        picker: &mut Picker<'_>,
    ) -> Result<Outcome> {
        let defaults = Defaults {
            vendor: self.policy.devices.default_vendor.as_deref(),
            kind: self.policy.devices.default_kind.as_deref(),
            strict: !self.cdi_dirs.is_empty(),
        };
        let vendor = wish.request.vendor.as_ref();
        let mut snapshot = host_gpu::probe(self.host, &gpu::needs(vendor))?;
        if matches!(wish.request.what, gpu::Selection::Count(_)) {
            let links = host_gpu::probe(self.host, &gpu::link_needs(vendor))?;
            snapshot.merge_names(links);
        }
        let inventory = Inventory::read(&snapshot);
        let routed: Result<_> = gpu::route(&wish.request, &inventory, registry, &defaults, picker);
        let routed = routed?;
        if let Some((vendor, class)) = routed.kind.split_once('/') {
            self.policy.permits(vendor, class, &policy_file::caller())?;
        }
        let context = self.context()?;
        let request = GpuRequest {
            vendor: Some(routed.vendor.clone()),
            ..wish.request.clone()
        };
        let is_nvidia = routed.vendor == Vendor::Nvidia;
        let mut outcome = Outcome {
            names: BTreeSet::new(),
            plan: Plan::default(),
            held: Vec::new(),
            nvidia: if is_nvidia { routed.count } else { 0 },
        };
        match routed.route {
            Route::Cdi(names) => {
                outcome.names = names;
                if is_nvidia {
                    outcome.plan = gpu::extras_plan(&request, &inventory, &context, &wish.sources)?;
                }
            }
            Route::Profile { picked, .. } => {
                for unit in &picked {
                    outcome.held.push(picker.wanted(unit)?);
                }
                outcome.plan = gpu::devices_plan(
                    &request,
                    &routed.vendor,
                    &picked,
                    &inventory,
                    &context,
                    &wish.sources,
                )?;
            }
        }
        if let Some(text) = routed.note {
            let origin = Origin {
                rule: Rule::Profile {
                    vendor: routed.vendor.word(),
                },
                sources: wish.sources.clone(),
            };
            outcome.plan.notes.insert(0, Note { text, origin });
        }
        Ok(outcome)
    }

    /// What NVIDIA's variables ask for besides devices that were named.
    fn extras(&self, requests: &Requests, wanted: &Wanted) -> Result<Plan> {
        let extras = &requests.extras;
        if extras.require.is_empty() && extras.features.is_empty() && extras.imex.is_none() {
            return Ok(Plan::default());
        }
        let mut request = GpuRequest::new(Some(Vendor::Nvidia), gpu::Selection::None);
        request.extras = extras.clone();
        let snapshot = host_gpu::probe(self.host, &gpu::needs(Some(&Vendor::Nvidia)))?;
        let sources: BTreeSet<Source> = wanted.values().flatten().cloned().collect();
        let sources: Vec<Source> = sources.into_iter().collect();
        Ok(gpu::extras_plan(
            &request,
            &Inventory::read(&snapshot),
            &self.context()?,
            &sources,
        )?)
    }

    fn sharing(&self, requests: &Requests, count: usize) -> Result<Plan> {
        let mut plan = Plan::default();
        if let Some((_, source)) = &requests.sharing
            && count == 0
        {
            // The host's own wish is for containers that have such GPUs.
            if !matches!(source, Source::Policy { .. }) {
                return Err(RequestError::Malformed {
                    place: source.to_string(),
                    reason: "only GPUs of NVIDIA can be shared so, and none is asked for".into(),
                }
                .into());
            }
        } else if let Some((sharing, source)) = &requests.sharing {
            let paths = gpu::sharing_paths(Some(sharing));
            let facts = host_gpu::examine_paths(self.host, paths)?;
            let sources = std::slice::from_ref(source);
            let context = self.context()?;
            plan.append(gpu::beyond_devices(
                Some(sharing),
                None,
                count,
                &facts,
                &context,
                sources,
            )?);
        }
        if let Some((wish, source)) = &requests.distributed {
            let sources = std::slice::from_ref(source);
            let context = self.context()?;
            plan.append(gpu::beyond_devices(
                None,
                Some(wish),
                count,
                &crate::host::facts::Snapshot::default(),
                &context,
                sources,
            )?);
        }
        Ok(plan)
    }

    fn context(&self) -> Result<gpu::Context> {
        let process = self.document.process_user()?;
        let has_own_users = self
            .document
            .namespaces()?
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::User && namespace.path.is_none());
        let on_host = |id: u32, field: &str| match has_own_users {
            true => mapped(id, &self.mappings(field)),
            false => id,
        };
        let groups = process.additional_gids.iter().copied();
        Ok(gpu::Context {
            uid: process.uid,
            gid: process.gid,
            host_uid: on_host(process.uid, "uidMappings"),
            host_gids: groups
                .chain([process.gid])
                .map(|gid| on_host(gid, "gidMappings"))
                .collect(),
            mode: self.mode,
        })
    }

    fn mappings(&self, field: &str) -> Vec<IdMapping> {
        let list = &self.document.value()["linux"][field];
        serde_json::from_value(list.clone()).unwrap_or_default()
    }

    /// Puts the container's cgroup below another, under its own name.
    fn cgroup_parent(&self, parent: &str, source: &Source, plan: &mut Plan) -> Result<()> {
        let origin = Origin {
            rule: Rule::Builtin("cgroup parent"),
            sources: vec![source.clone()],
        };
        let path = self.document.cgroups_path()?.unwrap_or_default();
        let path = match path.split(':').collect::<Vec<_>>().as_slice() {
            [_, prefix, name] => {
                if !parent.ends_with(".slice") {
                    return Err(Error::Usage(format!(
                        "cgroup parent {parent}: linux.cgroupsPath is one of systemd's, expected a \
                         slice as in machine.slice"
                    )));
                }
                format!("{parent}:{prefix}:{name}")
            }
            _ => {
                let own = path.rsplit('/').find(|part| !part.is_empty());
                let Some(name) = own.or(self.id) else {
                    plan.note(
                        format!("the cgroup will be below {parent}, named as the container"),
                        origin,
                    );
                    return Ok(());
                };
                format!("{}/{name}", parent.trim_end_matches('/'))
            }
        };
        plan.push(Edit::SetCgroupsPath(path), origin);
        Ok(())
    }
}

/// The host's number of an id; the overflow id where it has none.
fn mapped(id: u32, mappings: &[IdMapping]) -> u32 {
    mappings
        .iter()
        .find_map(|line| {
            let offset = id.checked_sub(line.container_id)?;
            (offset < line.size).then(|| line.host_id.checked_add(offset))?
        })
        .unwrap_or(65_534)
}

#[cfg(test)]
mod tests {
    use super::{IdMapping, mapped};

    #[test]
    fn ids_go_through_the_map() {
        let line = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        let map = [line(0, 1000, 1), line(1, 100_000, 65_536)];
        assert_eq!(mapped(0, &map), 1000);
        assert_eq!(mapped(33, &map), 100_032);
        assert_eq!(mapped(65_537, &map), 65_534);
        assert_eq!(mapped(u32::MAX, &[line(0, 1, u32::MAX)]), 65_534);
        assert_eq!(mapped(5, &[]), 65_534);
    }
}
