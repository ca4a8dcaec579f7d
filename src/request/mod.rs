//! What a container asks for, from whichever place, before anyone decides.
//!
//! Pure. A request carries its [`Source`](crate::edit::Source) and its
//! [`Trust`]; it is a wish and never authority. [`collect`] is the only way in:
//! what it returns does not depend on the order of flags or annotations, and
//! asking twice is asking once. The policy says which places count; what is asked
//! for in one that does not is a note. [`Requests::decide`] then says who wins
//! where several places want different things.
//!
//! | place | file |
//! |---|---|
//! | `--device`, `--gpus`, `--gpu-share`, `--distributed`, `--cgroup-parent` | `flag` |
//! | `cdi.k8s.io/…`, `kusabi.dev/…` | `annotation` |
//! | `/dev/null` below `/var/run/nvidia-container-devices` | `mount` |
//! | `NVIDIA_…`, `AMD_…`, `HABANA_VISIBLE_DEVICES` | `environment` |
//! | `[request]` of the policy file | `standing` |

mod annotation;
mod decide;
mod environment;
mod flag;
mod mount;
mod standing;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::cdi::QualifiedName;
use crate::document::{Document, DocumentError};
use crate::edit::{Ledger, Note, Origin, PlannedEdit, PolicyLine, Rule, Source};
use crate::error::one_line;
use crate::gpu::{Distributed, Extras, GpuRequest, Selection, Sharing, Vendor};
use crate::policy::{Decision, Place, Policy};

pub use crate::edit::Trust;
pub use decide::{Decided, GpuWish};
pub use mount::ROOT as MOUNT_ROOT;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// One CDI device.
    Cdi(QualifiedName),
    /// GPUs, by count or by the names that the vendor's tools use.
    Gpus {
        /// Whose; `None` is whoever's the host has.
        vendor: Option<Vendor>,
        /// Which.
        which: Selection,
    },
}

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// What is wanted.
    pub what: What,
    /// Who wants it.
    pub source: Source,
    /// How far that place is trusted.
    pub trust: Trust,
}

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The place says something that is no request.
    #[error("{}: {}", one_line(place), one_line(reason))]
    Malformed {
        /// The place, as `annotation KEY` or `flag --device`.
        place: String,
        /// What is wrong and what would fix it.
        reason: String,
    },
    /// The document cannot be asked.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What the command line asks for, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Values of `--device`: each `vendor/class=name`, or several with commas.
    pub devices: Vec<String>,
    /// Values of `--gpus`.
    pub gpus: Vec<String>,
    /// `--gpu-share`
    pub gpu_share: Option<String>,
    /// `--distributed`
    pub distributed: Option<String>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
}

/// Something that can be asked for once, and who does: the first of several
/// places that count.
pub type Sourced<T> = Option<(T, Source)>;

/// Everything that counts, and what does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// Devices: sorted by what, then by who, without repeats.
    pub devices: Vec<Request>,
    /// How GPUs are shared.
    pub sharing: Sourced<Sharing>,
    /// Who the container works together with.
    pub distributed: Sourced<Distributed>,
    /// Below which cgroup the container's is.
    pub cgroup_parent: Sourced<String>,
    /// What NVIDIA's variables say besides.
    pub extras: Extras,
    /// Who asks, and what is known by now of what becomes of it.
    pub ledger: Ledger,
    /// What was ignored, and which line of the policy would allow it.
    pub notes: Vec<Note>,
    /// What is taken out of the document, since it was a request and is read.
    pub read: Vec<PlannedEdit>,
}

/// Everything that is asked for.
///
/// # Errors
/// A place that counts and cannot be read, which it names; `annotations`,
/// `mounts` or `process.env` of the wrong type.
pub fn collect(
    document: &Document,
    flags: &Flags,
    policy: &Policy,
) -> Result<Requests, RequestError> {
    let mut requests = Requests::default();
    gather(document, flags, policy, &mut requests)?;
    Ok(requests)
}

/// As [`collect`]; after an error `requests` has what was read until then.
///
/// # Errors
/// As [`collect`].
pub fn gather(
    document: &Document,
    flags: &Flags,
    policy: &Policy,
    requests: &mut Requests,
) -> Result<(), RequestError> {
    let has_sys_admin = document
        .bounding_capabilities()?
        .iter()
        .any(|name| matches!(*name, "CAP_SYS_ADMIN"));
    let mut into = Collector {
        requests,
        policy,
        has_sys_admin,
    };
    let read = into.read(document, flags);
    if let Err(error @ RequestError::Malformed { .. }) = &read {
        requests.ledger.refuse_last(&error.to_string());
    }
    read?;
    requests.devices.sort();
    requests.devices.dedup();
    Ok(())
}

/// What a place hands its requests to.
struct Collector<'c> {
    requests: &'c mut Requests,
    policy: &'c Policy,
    has_sys_admin: bool,
}

impl Collector<'_> {
    /// In the order of precedence: of what can be asked for once, the first stays.
    fn read(&mut self, document: &Document, flags: &Flags) -> Result<(), RequestError> {
        flag::read(flags, self)?;
        annotation::read(document, self)?;
        mount::read(document, self)?;
        standing::read(self)?;
        environment::read(document, self)
    }

    /// Whether a place counts; says so if it does not.
    fn counts(&mut self, place: Place, source: &Source) -> bool {
        match self.policy.judge(place, self.has_sys_admin) {
            Decision::Count => {
                self.requests.ledger.ask(source);
                true
            }
            Decision::Ignore { reason, allow } => {
                self.ignore(source, &reason, allow);
                false
            }
        }
    }

    /// Says that a request does not count, and what would let it.
    fn ignore(&mut self, source: &Source, reason: &str, allow: PolicyLine) {
        self.note(format!("ignored {source}: {reason}, {allow}"), source);
        self.requests.ledger.ignore(source, reason, Some(allow));
    }

    /// Whether requests for IMEX channels count; says so if they do not.
    fn imex_counts(&mut self, source: &Source) -> bool {
        if self.policy.nvidia.ignore_imex_channels {
            let key = "nvidia.ignore-imex-channels";
            let reason = format!("channels are not given ({})", self.policy.where_set(key));
            let allow = self.policy.line(&format!("{key} = false"));
            self.ignore(source, &reason, allow);
        }
        !self.policy.nvidia.ignore_imex_channels
    }

    /// Keeps what is asked for first, and tells the others so.
    fn keep_first<T>(
        &mut self,
        slot: impl FnOnce(&mut Requests) -> &mut Sourced<T>,
        value: T,
        source: &Source,
    ) {
        let slot = slot(self.requests);
        let Some((_, winner)) = slot else {
            *slot = Some((value, source.clone()));
            return;
        };
        let winner = winner.clone();
        self.lost(source, &winner);
    }

    /// Says that somebody else decides.
    fn lost(&mut self, source: &Source, winner: &Source) {
        let note = lost(source, winner, &mut self.requests.ledger);
        self.requests.notes.push(note);
    }

    fn note(&mut self, text: String, source: &Source) {
        self.requests.notes.push(note(text, vec![source.clone()]));
    }

    fn device(&mut self, what: What, source: &Source, trust: Trust) {
        self.requests.devices.push(Request {
            what,
            source: source.clone(),
            trust,
        });
    }

    /// Devices by their CDI names, of which NVIDIA's own runtime resolves one
    /// kind by itself, whatever files there are.
    fn cdi(&mut self, name: QualifiedName, source: &Source, trust: Trust) {
        let what = match (name.vendor(), name.class()) {
            ("runtime.nvidia.com", "gpu") => What::Gpus {
                vendor: Some(Vendor::Nvidia),
                which: match name.device() {
                    "all" => Selection::All,
                    "none" => Selection::None,
                    id => Selection::Ids([id.to_owned()].into()),
                },
            },
            _ => What::Cdi(name),
        };
        self.device(what, source, trust);
    }

    /// A list in which bare names are those of the policy's default kind, as
    /// NVIDIA's runtime reads annotations.
    fn qualified<'l>(&self, list: &'l str) -> Cow<'l, str> {
        let Some(kind) = &self.policy.devices.default_kind else {
            return Cow::Borrowed(list);
        };
        let is_bare = |name: &str| !name.is_empty() && !name.contains(['=', '/']);
        if !list.split(',').any(is_bare) {
            return Cow::Borrowed(list);
        }
        let names = list.split(',').map(|name| match is_bare(name) {
            true => format!("{kind}={name}"),
            false => name.to_owned(),
        });
        Cow::Owned(names.collect::<Vec<_>>().join(","))
    }

    /// GPUs in the text form that flags, annotations and the policy share.
    fn gpus(
        &mut self,
        place: &str,
        text: &str,
        source: &Source,
        trust: Trust,
    ) -> Result<(), RequestError> {
        let request = GpuRequest::parse(text).map_err(|reason| malformed(place, reason))?;
        let what = What::Gpus {
            vendor: request.vendor,
            which: request.what,
        };
        self.device(what, source, trust);
        Ok(())
    }
}

/// Writes down that somebody else decides.
fn lost(source: &Source, winner: &Source, ledger: &mut Ledger) -> Note {
    ledger.ignore(source, &format!("{winner} decides"), None);
    let sources: BTreeSet<Source> = [source.clone(), winner.clone()].into();
    note(
        format!("{source} is not used: {winner} decides"),
        sources.into_iter().collect(),
    )
}

fn note(text: String, sources: Vec<Source>) -> Note {
    Note {
        text,
        origin: Origin {
            rule: Rule::Builtin("requests"),
            sources,
        },
    }
}

fn malformed(place: &str, reason: String) -> RequestError {
    RequestError::Malformed {
        place: place.to_owned(),
        reason,
    }
}

impl Requests {
    /// Whether nothing is asked for. There may still be notes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.sharing.is_none()
            && self.distributed.is_none()
            && self.cgroup_parent.is_none()
            && self.read.is_empty()
    }
}

/// All who want the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Sorted, without repeats.
    pub sources: Vec<Source>,
    /// The most trusted of them.
    pub trust: Trust,
}

/// The requests by what they ask for, each thing once.
#[must_use]
pub fn merge(requests: &[Request]) -> BTreeMap<What, Asked> {
    let mut asked = BTreeMap::new();
    for request in requests {
        let entry = asked.entry(request.what.clone()).or_insert(Asked {
            sources: Vec::new(),
            trust: request.trust,
        });
        entry.trust = entry.trust.min(request.trust);
        if let Err(place) = entry.sources.binary_search(&request.source) {
            entry.sources.insert(place, request.source.clone());
        }
    }
    asked
}

/// Far above any real name, and what keeps errors about one readable.
const MAX_NAME_BYTES: usize = 1024;

/// A list of qualified names with commas and nothing else, as CDI's reference
/// implementation reads it: no spaces, no empty entries.
fn names(place: &str, list: &str) -> Result<Vec<QualifiedName>, RequestError> {
    if list.is_empty() {
        let reason = "the value is empty, expected vendor/class=device[,vendor/class=device]";
        return Err(malformed(place, reason.to_owned()));
    }
    list.split(',').map(|text| name(place, text)).collect()
}

fn name(place: &str, text: &str) -> Result<QualifiedName, RequestError> {
    if text.len() > MAX_NAME_BYTES {
        let bytes = text.len();
        let reason = format!("a device name of {bytes} bytes, at most {MAX_NAME_BYTES} are read");
        return Err(malformed(place, reason));
    }
    QualifiedName::parse(text).map_err(|error| malformed(place, error.to_string()))
}

#[cfg(test)]
mod tests;
