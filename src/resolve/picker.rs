//! Which GPUs a container holds: picks for counts, and leases for the rest, while
//! its plan is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cdi::QualifiedName;
use crate::edit::Plan;
use crate::error::{Error, Result};
use crate::gpu::inventory::Unit;
use crate::gpu::links::between;
use crate::gpu::{Choice, Pick};
use crate::host::caller::caller;
use crate::host::gpu::examine_paths;
use crate::lease::{
    Candidate, Choosing, Container, LeaseError, Mode, Reservation, Store, Wanted, keys_of_nodes,
    of_plan,
};
use crate::rootless::Caller;

/// For whom devices are picked.
#[derive(Debug)]
pub enum Holder {
    /// A container that is about to be made, by somebody who may hold devices.
    Container(Container),
    /// A container after which nobody can look: it gets nothing that somebody
    /// else has alone.
    Guest,
    /// A container whose maker may hold nothing: it gets nothing that somebody else
    /// has alone, and nothing by count, which it would have alone.
    Unprivileged,
    /// Nobody: what would be picked now is only shown.
    Nobody,
}

impl Holder {
    /// Who holds what a container gets that this process makes, whose state is
    /// below `root`.
    #[must_use]
    pub fn of(id: &str, root: &Path, caller: &Caller) -> Self {
        // Root of a user namespace cannot write where everybody looks.
        if !caller.is_host_root() {
            return Self::Unprivileged;
        }
        Self::Container(Container {
            id: id.to_owned(),
            root: root.to_owned(),
        })
    }
}

/// Picks devices, and remembers what is to be held. With a container the store is
/// locked from the first pick on.
#[derive(Debug)]
pub struct Picker<'p> {
    holder: Holder,
    host: &'p Path,
    store: Store,
    choosing: Option<Choosing>,
    /// How devices that are picked by count are held.
    mode: Mode,
    /// What there is to say.
    notes: Vec<String>,
}

impl<'p> Picker<'p> {
    /// For devices of the host below `host`.
    pub fn new(holder: Holder, host: &'p Path) -> Self {
        Self {
            holder,
            host,
            // A recorded host has none of this machine's.
            store: match host == Path::new("/") {
                true => Store::default(),
                false => Store::at(host.join("run/kusabi-leases")),
            },
            choosing: None,
            mode: Mode::Exclusive,
            notes: Vec::new(),
        }
    }

    /// Devices that are picked from now on are shared with others.
    pub fn share(&mut self) {
        self.mode = Mode::Shared;
    }

    /// What there is to say, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Holds what the plan has beyond what was picked. `units` are devices of
    /// profiles that were asked for by name.
    ///
    /// # Errors
    /// Somebody else has one alone.
    pub fn finish(mut self, plan: &Plan, units: &[Wanted]) -> Result<Option<Reservation>> {
        let mut wanted = of_plan(plan);
        wanted.extend_from_slice(units);
        match &self.holder {
            Holder::Nobody => Ok(None),
            Holder::Guest | Holder::Unprivileged => {
                self.store.check(&wanted)?;
                Ok(None)
            }
            Holder::Container(_) if wanted.is_empty() && self.choosing.is_none() => Ok(None),
            Holder::Container(container) => {
                let mut choosing = match self.choosing.take() {
                    Some(choosing) => choosing,
                    None => self.store.choose(container)?,
                };
                for device in &wanted {
                    choosing.take(device)?;
                }
                Ok(Some(choosing.finish()?))
            }
        }
    }

    /// The device as something to hold in shares.
    ///
    /// # Errors
    /// A host that cannot be examined.
    pub fn wanted(&self, unit: &Unit<'_>) -> Result<Wanted> {
        let candidate = self.candidate(unit)?;
        Ok(Wanted {
            device: candidate.device,
            keys: candidate.keys,
            mode: Mode::Shared,
        })
    }

    fn candidate(&self, unit: &Unit<'_>) -> Result<Candidate> {
        let device = unit.device;
        let paths: Vec<PathBuf> = match unit.part {
            Some(part) => part.nodes.clone(),
            None => device.nodes.iter().chain(&device.dri).cloned().collect(),
        };
        let mut keys = self.keys(&paths)?;
        keys.insert(unit.stable_name());
        Ok(Candidate {
            device: format!("{} GPU {}", device.vendor, unit.index()),
            keys,
            numa: device.numa,
            ..Candidate::default()
        })
    }

    fn keys(&self, paths: &[PathBuf]) -> Result<BTreeSet<String>> {
        let facts = examine_paths(self.host, paths.iter().cloned())?;
        Ok(keys_of_nodes(&facts, paths))
    }

    fn places(&mut self, candidates: &[Candidate], count: usize) -> Result<Vec<usize>> {
        let alone = self.mode == Mode::Exclusive && count > 0;
        let places = match &self.holder {
            Holder::Unprivileged if alone => {
                return Err(LeaseError::Unprivileged { wanted: count }.into());
            }
            Holder::Unprivileged => self.store.look(candidates, count, Mode::Shared)?,
            Holder::Container(container) => {
                if self.choosing.is_none() {
                    self.choosing = Some(self.store.choose(container)?);
                }
                match &mut self.choosing {
                    Some(choosing) => choosing.pick(candidates, count, self.mode)?,
                    None => Vec::new(),
                }
            }
            Holder::Guest => {
                if alone {
                    self.notes.push(
                        "the GPUs are not held for this container, which another runtime keeps: \
                         others may get the same"
                            .to_owned(),
                    );
                }
                self.store.look(candidates, count, Mode::Shared)?
            }
            Holder::Nobody => {
                // On a recorded host it is not known who will ask.
                if alone && self.host == Path::new("/") && !caller().is_host_root() {
                    let refusal = LeaseError::Unprivileged { wanted: count };
                    self.notes.push(format!("{refusal}; create would fail"));
                }
                match self.store.look(candidates, count, self.mode) {
                    // An explanation needs no free device.
                    Err(LeaseError::Shortage(shortage)) => {
                        self.notes.push(format!("{shortage}; create would fail"));
                        (0..count).collect()
                    }
                    other => other?,
                }
            }
        };
        Ok(places)
    }
}

impl Pick<Error> for Picker<'_> {
    fn pick<'i>(&mut self, choice: &Choice<'i>) -> Result<Vec<Unit<'i>>> {
        let candidates: Result<Vec<_>> = choice.among.iter().map(|u| self.candidate(u)).collect();
        let mut candidates = candidates?;
        let names: Vec<String> = candidates.iter().map(|c| c.device.clone()).collect();
        for (unit, candidate) in choice.among.iter().zip(&mut candidates) {
            let others = choice.among.iter().zip(&names);
            candidate.links = others
                .filter(|(other, _)| *other != unit)
                .filter_map(|(other, name)| {
                    let link = between(unit.device, other.device)?;
                    Some((name.clone(), link.strength()))
                })
                .collect();
        }
        let places = self.places(&candidates, choice.count)?;
        Ok(places
            .into_iter()
            .map(|place| choice.among[place])
            .collect())
    }

    fn pick_named(
        &mut self,
        among: &[(QualifiedName, Vec<PathBuf>)],
        count: usize,
    ) -> Result<Vec<usize>> {
        let candidate = |(name, nodes): &(QualifiedName, Vec<PathBuf>)| {
            let mut keys = self.keys(nodes)?;
            if keys.is_empty() {
                keys.insert(name.to_string());
            }
            Ok(Candidate {
                device: name.to_string(),
                keys,
                ..Candidate::default()
            })
        };
        let candidates: Result<Vec<_>> = among.iter().map(candidate).collect();
        self.places(&candidates?, count)
    }
}
