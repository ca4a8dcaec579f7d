//! From a wish for GPUs to where they come from: a CDI file that defines them,
//! or else a built-in profile.
//!
//! A file knows more than a profile (libraries above all), so it comes first. A
//! profile knows more names: an index that a file does not have is looked up
//! among the host's devices, whose other names the file may have.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::choice::{Choice, Pick, choose};
use super::inventory::{Inventory, Unit};
use super::{GpuError, GpuRequest, Selection, Vendor};
use crate::cdi::{CdiError, QualifiedName, Registry, Wanted};

/// What the policy says of requests that do not say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defaults<'d> {
    /// Whose GPUs, as in `nvidia`.
    pub vendor: Option<&'d str>,
    /// The CDI kind in which names are looked up, as in `nvidia.com/gpu`.
    pub kind: Option<&'d str>,
    /// Whether the CDI files that were named are all there is: no profile then.
    pub strict: bool,
}

/// Where a wish's devices come from.
#[derive(Debug)]
pub enum Route<'i> {
    /// CDI files define them.
    Cdi(BTreeSet<QualifiedName>),
    /// They have been picked for a profile.
    Profile {
        /// What could have been picked.
        choice: Choice<'i>,
        /// What was.
        picked: Vec<Unit<'i>>,
    },
}

/// A wish, with what it comes to.
#[derive(Debug)]
pub struct Routed<'i> {
    /// Whose devices they are.
    pub vendor: Vendor,
    /// The CDI kind that says who may have them.
    pub kind: String,
    /// Where they come from.
    pub route: Route<'i>,
    /// How many the container sees, as far as that is known.
    pub count: usize,
    /// What the user should know.
    pub note: Option<String>,
}

/// Finds out.
///
/// `pick` is asked where a count leaves a choice.
///
/// # Errors
/// A name that neither files nor the host know, more than there are, several
/// vendors that could be meant, and whatever `pick` says.
pub fn route<'i, E: From<GpuError> + From<CdiError>>(
    request: &GpuRequest,
    inventory: &'i Inventory<'_>,
    registry: &Registry,
    defaults: &Defaults<'_>,
    pick: &mut impl Pick<E>,
) -> Result<Routed<'i>, E> {
    let vendor = match vendor(request, inventory, registry, defaults) {
        Some(vendor) => vendor,
        // Says what there is.
        None => choose(request, inventory)?.vendor,
    };
    let kinds = kinds(&vendor, request, defaults);
    let request = GpuRequest {
        vendor: Some(vendor.clone()),
        ..request.clone()
    };
    let fallback = kinds
        .first()
        .cloned()
        .unwrap_or_else(|| "dri/gpu".to_owned());
    let defined = kinds.into_iter().find(|kind| registry.has_kind(kind));
    let kind = defined.clone().unwrap_or(fallback);
    let missing = match &defined {
        Some(kind) => {
            let names = Names {
                kind,
                inventory,
                registry,
                vendor: &vendor,
            };
            match names.find(&request, pick)? {
                Ok((names, count)) => {
                    return Ok(Routed {
                        vendor,
                        kind: kind.clone(),
                        route: Route::Cdi(names),
                        count,
                        note: None,
                    });
                }
                Err(missing) => Some(missing),
            }
        }
        None => None,
    };
    let has_none = inventory.of(&vendor).next().is_none();
    if defaults.strict || (has_none && defined.is_some()) {
        unresolvable(&kind, &request.what, registry)?;
    }
    let choice = choose(&request, inventory)?;
    // Also where there is no choice: who takes them may have them alone.
    let picked = if matches!(request.what, Selection::Count(_)) {
        pick.pick(&choice)?
    } else {
        choice.among.clone()
    };
    // Who is not known has no kind, and the profile says so itself.
    let known = !matches!(&vendor, Vendor::Other(word) if !word.contains('.'));
    let note = known.then(|| {
        let what = missing.unwrap_or(kind.clone());
        let word = vendor.word();
        format!("no CDI specification defines {what}: the built-in profile {word} is used")
    });
    Ok(Routed {
        vendor,
        kind,
        count: picked.len(),
        route: Route::Profile { choice, picked },
        note,
    })
}

/// Whose devices are meant; `None` if that cannot be told.
fn vendor(
    request: &GpuRequest,
    inventory: &Inventory<'_>,
    registry: &Registry,
    defaults: &Defaults<'_>,
) -> Option<Vendor> {
    if let Some(vendor) = &request.vendor {
        return Some(vendor.clone());
    }
    if let Some(word) = defaults.vendor {
        return Some(Vendor::from_word(word));
    }
    if let Some((vendor, class)) = defaults.kind.and_then(|kind| kind.split_once('/')) {
        return Some(Vendor::of_kind(vendor, class));
    }
    let here = inventory.vendors();
    if let [only] = here.as_slice() {
        return Some(only.clone());
    }
    let is_defined = |vendor: &Vendor| {
        let mut kinds = own_kinds(vendor).into_iter();
        kinds.any(|kind| registry.has_kind(&kind))
    };
    let mut defined = Vendor::KNOWN.into_iter().filter(is_defined);
    match (here.is_empty(), defined.next(), defined.next()) {
        (true, Some(only), None) => Some(only),
        _ => None,
    }
}

/// The kinds in which a vendor's devices are looked up, the best first.
fn kinds(vendor: &Vendor, request: &GpuRequest, defaults: &Defaults<'_>) -> Vec<String> {
    if let Some(kind) = defaults.kind {
        let same = kind
            .split_once('/')
            .is_some_and(|(own, class)| Vendor::of_kind(own, class) == *vendor);
        if same || request.vendor.is_none() {
            return vec![kind.to_owned()];
        }
    }
    own_kinds(vendor)
}

fn own_kinds(vendor: &Vendor) -> Vec<String> {
    let mut kinds: Vec<String> = vendor.cdi_kind().map(str::to_owned).into_iter().collect();
    match vendor {
        Vendor::Habana => kinds.push("habana.ai/gaudi".to_owned()),
        Vendor::Other(word) if word.contains('.') => kinds.push(format!("{word}/gpu")),
        _ => {}
    }
    kinds
}

/// The registry's own complaint about names that it does not have.
fn unresolvable(kind: &str, what: &Selection, registry: &Registry) -> Result<(), CdiError> {
    let ids = match what {
        Selection::Ids(ids) => ids.clone(),
        Selection::None => BTreeSet::from(["none".to_owned()]),
        Selection::All | Selection::Count(_) => BTreeSet::from(["all".to_owned()]),
    };
    let mut wanted = Wanted::new();
    for id in ids {
        wanted.insert(
            QualifiedName::parse(&format!("{kind}={id}"))?,
            BTreeSet::new(),
        );
    }
    registry.find(&wanted).map(drop)
}

/// One kind, and the host's devices that it may define.
struct Names<'n, 'i, 's> {
    kind: &'n str,
    inventory: &'i Inventory<'s>,
    registry: &'n Registry,
    vendor: &'n Vendor,
}

/// CDI names and how many devices they are, or what has none.
type Found = Result<(BTreeSet<QualifiedName>, usize), String>;

impl<'i> Names<'_, 'i, '_> {
    fn find<E: From<GpuError> + From<CdiError>>(
        &self,
        request: &GpuRequest,
        pick: &mut impl Pick<E>,
    ) -> Result<Found, E> {
        match &request.what {
            Selection::All => {
                let name = QualifiedName::parse(&format!("{}=all", self.kind))?;
                let here = self.inventory.units(self.vendor).count();
                Ok(Ok((BTreeSet::from([name]), here.max(1))))
            }
            Selection::None => Ok(self
                .defined("none")
                .map(|name| (BTreeSet::from([name]), 0))
                .ok_or_else(|| format!("{}=none", self.kind))),
            Selection::Ids(ids) => Ok(self.ids(ids)),
            Selection::Count(count) => {
                let wanted = usize::try_from(*count).unwrap_or(usize::MAX);
                if self.inventory.of(self.vendor).next().is_none() {
                    return self.indexed(wanted, pick);
                }
                let choice = choose(request, self.inventory)?;
                // Only what the files have can be picked.
                let among = choice.among.iter().filter(|unit| self.of(unit).is_some());
                let choice = Choice {
                    among: among.copied().collect(),
                    ..choice
                };
                if choice.among.len() < choice.count {
                    return Ok(Err(format!("{wanted} devices of {}", self.kind)));
                }
                let picked = pick.pick(&choice)?;
                let names: BTreeSet<_> = picked.iter().filter_map(|unit| self.of(unit)).collect();
                Ok(Ok((names, picked.len())))
            }
        }
    }

    fn defined(&self, device: &str) -> Option<QualifiedName> {
        let name = QualifiedName::parse(&format!("{}={device}", self.kind)).ok()?;
        self.registry.defines(&name).then_some(name)
    }

    /// The name that the files have for a device of this host.
    fn of(&self, unit: &Unit<'i>) -> Option<QualifiedName> {
        aliases(unit).iter().find_map(|alias| self.defined(alias))
    }

    fn ids(&self, ids: &BTreeSet<String>) -> Found {
        let mut names = BTreeSet::new();
        for id in ids {
            if let Some(name) = self.defined(id) {
                names.insert(name);
                continue;
            }
            let alone = GpuRequest::new(
                Some(self.vendor.clone()),
                Selection::Ids([id.clone()].into()),
            );
            let missing = || format!("{}={id}", self.kind);
            let choice = choose(&alone, self.inventory).map_err(|_| missing())?;
            for unit in &choice.among {
                names.insert(self.of(unit).ok_or_else(missing)?);
            }
        }
        let count = names.len();
        Ok((names, count))
    }

    /// Names of a kind that stand for one device each, of a host that tells
    /// nothing itself.
    fn indexed<E>(&self, count: usize, pick: &mut impl Pick<E>) -> Result<Found, E> {
        let mut indices: Vec<(u32, QualifiedName, Vec<PathBuf>)> = self
            .registry
            .devices()
            .filter(|(name, _)| name.kind() == self.kind)
            .filter_map(|(name, found)| {
                let nodes = found.device.container_edits.device_nodes.iter();
                let nodes = nodes.map(|node| node.host().into()).collect();
                Some((name.device().parse().ok()?, name.clone(), nodes))
            })
            .collect();
        indices.sort();
        if indices.len() < count {
            return Ok(Err(format!("{count} devices of {}", self.kind)));
        }
        let among: Vec<_> = indices
            .into_iter()
            .map(|(_, name, nodes)| (name, nodes))
            .collect();
        let places = pick.pick_named(&among, count)?;
        let names = places.into_iter().map(|place| among[place].0.clone());
        Ok(Ok((names.collect(), count)))
    }
}

/// What generators of CDI files call a device.
fn aliases(unit: &Unit<'_>) -> Vec<String> {
    let index = unit.index();
    let (word, uuid) = match unit.part {
        Some(_) => (
            "mig",
            unit.device
                .uuid
                .as_ref()
                .map(|_| format!("MIG-{}", unit.stable_name())),
        ),
        None => ("gpu", unit.device.uuid.clone()),
    };
    let mut aliases = vec![index.clone(), format!("{word}{index}")];
    if let Some(uuid) = uuid {
        if unit.device.vendor == Vendor::Amd {
            aliases.push(format!("0x{}", uuid.to_uppercase()));
            aliases.push(format!("0x{uuid}"));
        }
        aliases.push(uuid);
    }
    aliases.extend(unit.device.bus.clone());
    aliases
}

#[cfg(test)]
mod tests;
