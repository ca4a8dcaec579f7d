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
use crate::edit::{Edit, IdMapping, Ledger, NamespaceKind, Note, Origin, Plan, Rule, Source};
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

/// Decides every edit. `ledger` gets what becomes of each request, also where one
/// of them fails.
///
/// # Errors
/// Requests that cannot be met, or that the policy forbids.
pub(crate) fn plan(
    requests: &Requests,
    situation: &Situation<'_>,
    picker: &mut Picker<'_>,
    ledger: &mut Ledger,
) -> Result<(Plan, Vec<Held>)> {
    if requests.sharing.is_some() {
        picker.share();
    }
    let mut named = Vec::new();
    ledger.clone_from(&requests.ledger);
    let decided = requests.decide().inspect_err(|error| {
        if let RequestError::Malformed { place, reason } = error {
            ledger.refuse_called(place, reason);
        }
    })?;
    *ledger = decided.ledger;
    let mut plan = Plan {
        edits: requests.read.clone(),
        notes: [requests.notes.clone(), decided.notes].concat(),
    };
    let mut wanted = decided.devices;
    let mut profiles = Plan::default();
    let mut count = 0;
    if !(wanted.is_empty() && decided.gpus.is_empty()) {
        permit(&wanted, situation, ledger)?;
        let registry = situation.registry();
        count = nvidia_devices(&wanted);
        let asks_nvidia = |wish: &GpuWish| wish.request.vendor == Some(Vendor::Nvidia);
        if count > 0 && !decided.gpus.iter().any(asks_nvidia) {
            let extras = situation.extras(requests, &wanted);
            profiles.append(judged(extras, wanted.values().flatten(), ledger)?);
        }
        for wish in &decided.gpus {
            let outcome = situation.gpus(wish, &registry, picker);
            let outcome = judged(outcome, &wish.sources, ledger)?;
            for device in &outcome.devices {
                for source in &wish.sources {
                    ledger.grant(source, device);
                }
            }
            for name in outcome.names {
                wanted.entry(name).or_default().extend(wish.sources.clone());
            }
            profiles.append(outcome.plan);
            named.extend(outcome.held);
            count += outcome.nvidia;
        }
        plan.append(situation.named(&wanted, &registry, ledger)?);
    }
    plan.append(profiles);
    plan.append(situation.sharing(requests, count, ledger)?);
    if let Some((parent, source)) = &requests.cgroup_parent {
        let done = situation.cgroup_parent(parent, source, &mut plan);
        judged(done, [source], ledger)?;
    }
    if !plan.is_empty() {
        let hooks = situation.document.hooks()?;
        situation.policy.enforce_hooks(&mut plan, &hooks)?;
    }
    ledger.close();
    for text in picker.take_notes() {
        let origin = Origin {
            rule: Rule::Builtin("leases"),
            sources: Vec::new(),
        };
        plan.note(text, origin);
    }
    Ok((plan, named))
}

fn permit(wanted: &Wanted, situation: &Situation<'_>, ledger: &mut Ledger) -> Result<()> {
    let caller = policy_file::caller();
    for (name, sources) in wanted {
        let permitted = situation
            .policy
            .permits(name.vendor(), name.class(), &caller);
        judged(permitted.map_err(Error::from), sources, ledger)?;
    }
    Ok(())
}

/// Writes down whose requests an error is about.
fn judged<'s, T>(
    result: Result<T>,
    sources: impl IntoIterator<Item = &'s Source>,
    ledger: &mut Ledger,
) -> Result<T> {
    result.inspect_err(|error| {
        for source in sources {
            ledger.refuse(source, &error.to_string());
        }
    })
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
    /// What they are called otherwise: those of a profile.
    devices: Vec<String>,
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

    /// CDI devices, and who gets which.
    fn named(&self, wanted: &Wanted, registry: &Registry, ledger: &mut Ledger) -> Result<Plan> {
        let plan = self.devices(wanted, registry);
        let Err(error) = &plan else {
            for (name, sources) in wanted {
                for source in sources {
                    ledger.grant(source, &name.to_string());
                }
            }
            return plan;
        };
        // What is wrong with one device is not the others' fault.
        let at_fault = |name: &QualifiedName, sources: &BTreeSet<Source>| {
            let alone = Wanted::from([(name.clone(), sources.clone())]);
            self.devices(&alone, registry).is_err()
        };
        for (name, sources) in wanted {
            if at_fault(name, sources) {
                for source in sources {
                    ledger.refuse(source, &error.to_string());
                }
            }
        }
        plan
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
            devices: Vec::new(),
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
                    let vendor = &routed.vendor;
                    outcome.devices.push(format!("{vendor} GPU {unit}"));
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

    fn sharing(&self, requests: &Requests, count: usize, ledger: &mut Ledger) -> Result<Plan> {
        const NONE: &str = "only GPUs of NVIDIA can be shared so, and none is asked for";
        let mut plan = Plan::default();
        match &requests.sharing {
            // The host's own wish is for containers that have such GPUs.
            Some((_, source @ Source::Policy { .. })) if count == 0 => {
                ledger.ignore(source, NONE, None);
            }
            Some((_, source)) if count == 0 => {
                ledger.refuse(source, NONE);
                return Err(RequestError::Malformed {
                    place: source.to_string(),
                    reason: NONE.to_owned(),
                }
                .into());
            }
            Some((sharing, source)) => {
                let paths = gpu::sharing_paths(Some(sharing));
                let facts = host_gpu::examine_paths(self.host, paths)?;
                let shared = self.beyond(Some(sharing), None, count, &facts, source);
                plan.append(judged(shared, [source], ledger)?);
            }
            None => {}
        }
        if let Some((wish, source)) = &requests.distributed {
            let nothing = crate::host::facts::Snapshot::default();
            let distributed = self.beyond(None, Some(wish), count, &nothing, source);
            plan.append(judged(distributed, [source], ledger)?);
        }
        Ok(plan)
    }

    fn beyond(
        &self,
        sharing: Option<&gpu::Sharing>,
        distributed: Option<&gpu::Distributed>,
        count: usize,
        facts: &crate::host::facts::Snapshot,
        source: &Source,
    ) -> Result<Plan> {
        let sources = std::slice::from_ref(source);
        let context = self.context()?;
        Ok(gpu::beyond_devices(
            sharing,
            distributed,
            count,
            facts,
            &context,
            sources,
        )?)
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
