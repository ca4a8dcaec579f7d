//! Who wins where several places want different things.
//!
//! CDI devices by name add up. GPUs by count or by a vendor's names do not: of
//! one vendor, the place that comes first has its way, and the others are told so.
//! Flags and annotations come before mounts, these before the policy's standing
//! request, and all before the environment, which the image makes and which
//! counts only where nobody else asks for the same vendor's devices at all.

use super::{Request, RequestError, Requests, What, lost, malformed};
use crate::cdi::Wanted;
use crate::edit::{Ledger, Note, Source};
use crate::gpu::{Extras, GpuRequest, Selection, Vendor};

/// GPUs that are wanted, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuWish {
    /// What is wanted, with how it is shared.
    pub request: GpuRequest,
    /// Sorted, without repeats.
    pub sources: Vec<Source>,
}

/// What counts in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// CDI devices.
    pub devices: Wanted,
    /// GPUs, each vendor's once.
    pub gpus: Vec<GpuWish>,
    /// What lost, and to whom.
    pub notes: Vec<Note>,
    /// All requests, with what has become of those that lost.
    pub ledger: Ledger,
}

/// The order in which places are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Flag,
    Annotation,
    Mount,
    Policy,
    Environment,
}

fn rank(source: &Source) -> Rank {
    match source {
        Source::Flag { .. } | Source::Service { .. } => Rank::Flag,
        Source::Annotation { .. } => Rank::Annotation,
        Source::Mount { .. } => Rank::Mount,
        Source::Policy { .. } | Source::Situation { .. } => Rank::Policy,
        Source::Environment { .. } => Rank::Environment,
    }
}

/// Whose devices; `None` is anybody's.
fn vendor(what: &What) -> Option<Vendor> {
    match what {
        What::Cdi(name) => Some(Vendor::of_kind(name.vendor(), name.class())),
        What::Gpus { vendor, .. } => vendor.clone(),
    }
}

fn meet(one: Option<&Vendor>, other: Option<&Vendor>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

impl Requests {
    /// Whether NVIDIA's devices may come out of it.
    pub(super) fn may_ask_nvidia(&self) -> bool {
        self.devices
            .iter()
            .any(|request| meet(vendor(&request.what).as_ref(), Some(&Vendor::Nvidia)))
    }

    /// Decides.
    ///
    /// # Errors
    /// Two requests from one place that exclude each other.
    pub fn decide(&self) -> Result<Decided, RequestError> {
        let mut decided = Decided {
            ledger: self.ledger.clone(),
            ..Decided::default()
        };
        let mut wishes: Vec<(Rank, GpuWish)> = Vec::new();
        let mut requests: Vec<&Request> = self.devices.iter().collect();
        requests.sort_by_key(|request| rank(&request.source));
        for request in requests {
            if let Some(winner) = self.heard_before(request) {
                decided.lost(request, &winner);
                continue;
            }
            match &request.what {
                What::Cdi(name) => {
                    let sources = decided.devices.entry(name.clone()).or_default();
                    sources.insert(request.source.clone());
                }
                What::Gpus { vendor, which } => {
                    self.wish(&mut wishes, &mut decided, request, vendor, which)?;
                }
            }
        }
        decided.gpus = wishes.into_iter().map(|(_, wish)| wish).collect();
        decided
            .gpus
            .sort_by(|one, other| one.request.vendor.cmp(&other.request.vendor));
        Ok(decided)
    }

    /// Who asked for the same vendor's devices in a place that makes this one
    /// silent.
    fn heard_before(&self, request: &Request) -> Option<Source> {
        let own = rank(&request.source);
        if own != Rank::Environment && own != Rank::Mount {
            return None;
        }
        let vendor_of = vendor(&request.what);
        let mut others: Vec<&Request> = self
            .devices
            .iter()
            .filter(|other| {
                let rank = rank(&other.source);
                rank < own && meet(vendor(&other.what).as_ref(), vendor_of.as_ref())
            })
            .collect();
        others.sort_by_key(|other| rank(&other.source));
        others.first().map(|other| other.source.clone())
    }

    fn wish(
        &self,
        wishes: &mut Vec<(Rank, GpuWish)>,
        decided: &mut Decided,
        request: &Request,
        vendor: &Option<Vendor>,
        which: &Selection,
    ) -> Result<(), RequestError> {
        let own = rank(&request.source);
        let rival = wishes
            .iter_mut()
            .find(|(_, wish)| meet(wish.request.vendor.as_ref(), vendor.as_ref()));
        let Some((rank, wish)) = rival else {
            let mut new = GpuRequest::new(vendor.clone(), which.clone());
            new.sharing = self.sharing.as_ref().map(|(sharing, _)| sharing.clone());
            new.distributed = self.distributed.as_ref().map(|(wish, _)| wish.clone());
            if meet(vendor.as_ref(), Some(&Vendor::Nvidia)) {
                new.extras = self.extras.clone();
            } else {
                new.extras = Extras::default();
            }
            let sources = vec![request.source.clone()];
            let wish = GpuWish {
                request: new,
                sources,
            };
            wishes.push((own, wish));
            return Ok(());
        };
        let same = wish.request.vendor == *vendor && wish.request.what == *which;
        if !same && *rank == own {
            match (&mut wish.request.what, which) {
                (Selection::Ids(ids), Selection::Ids(more)) if wish.request.vendor == *vendor => {
                    ids.extend(more.iter().cloned());
                }
                // Each mount is a request of its own.
                (Selection::Ids(_), Selection::All | Selection::None) if own == Rank::Mount => {
                    wish.request.what = which.clone();
                }
                (Selection::All, _) if own == Rank::Mount => {}
                _ => {
                    let first = wish.sources.first().map(ToString::to_string);
                    return Err(malformed(
                        &request.source.to_string(),
                        format!("excludes {}, ask for GPUs once", first.unwrap_or_default()),
                    ));
                }
            }
        } else if !same {
            let winner = wish.sources.first().cloned();
            if let Some(winner) = winner {
                decided.lost(request, &winner);
            }
            return Ok(());
        }
        if let Err(place) = wish.sources.binary_search(&request.source) {
            wish.sources.insert(place, request.source.clone());
        }
        Ok(())
    }
}

impl Decided {
    fn lost(&mut self, request: &Request, winner: &Source) {
        let note = lost(&request.source, winner, &mut self.ledger);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
