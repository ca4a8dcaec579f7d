//! The file of leases and its lock.
//!
//! One JSON file, replaced by rename while a flock on its directory is held.
//! Every change first drops the leases whose owner is gone.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Candidate, Container, Lease, LeaseError, Mode, Shortage, Stage, Wanted, pick};
use crate::runtime::RuntimeError;
use crate::runtime::identity::Identity;
use crate::runtime::state::write_atomically;

/// Where leases are.
pub const DIRECTORY: &str = "/run/kusabi-leases";

/// The file's name.
const FILE: &str = "leases.json";

/// Goes up when an older kusabi could misread what this one writes.
const VERSION: u32 = 1;

type Result<T> = std::result::Result<T, LeaseError>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    leases: Vec<Lease>,
}

/// The store, as a place.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self::at(DIRECTORY)
    }
}

/// The open store: nobody else changes it until this is dropped.
#[derive(Debug)]
struct Open {
    store: Store,
    leases: Vec<Lease>,
    _lock: Flock<File>,
}

impl Store {
    /// Refers to a directory; nothing is touched.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Every lease whose owner lives, without a lock and for every user.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        let mut leases = self.read()?;
        let here = pid_namespace();
        leases.retain(|lease| lives(lease, here));
        Ok(leases)
    }

    /// Holds devices for a container that is about to be made: all of them, or
    /// none.
    ///
    /// # Errors
    /// [`LeaseError::Held`] where somebody else has one, and not in shares.
    pub fn reserve(&self, container: &Container, wanted: &[Wanted]) -> Result<Reservation> {
        let mut choosing = self.choose(container)?;
        for device in wanted {
            choosing.take(device)?;
        }
        choosing.finish()
    }

    /// Opens the store to choose among free devices: what is free stays so until
    /// the choice is made.
    ///
    /// # Errors
    /// A store that is not usable.
    pub fn choose(&self, container: &Container) -> Result<Choosing> {
        let owner = myself()?;
        Ok(Choosing {
            open: self.open()?,
            container: container.clone(),
            owner,
            mine: Vec::new(),
        })
    }

    /// Which devices a count would take now; nothing is held.
    ///
    /// # Errors
    /// [`LeaseError::Shortage`].
    pub fn look(&self, candidates: &[Candidate], count: usize, mode: Mode) -> Result<Vec<usize>> {
        choose_free(&self.leases()?, &[], candidates, count, mode)
    }

    /// Whether somebody else has one of the devices alone; nothing is held.
    ///
    /// # Errors
    /// [`LeaseError::Held`].
    pub fn check(&self, wanted: &[Wanted]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let leases = self.leases()?;
        for device in wanted {
            if let Some(holder) = obstacle(&leases, &device.keys, device.mode) {
                return Err(LeaseError::Held {
                    device: device.device.clone(),
                    holder: Box::new(holder.clone()),
                });
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Open> {
        match fs::DirBuilder::new().mode(0o755).create(&self.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(self.unusable(&error)),
        }
        let dir = File::open(&self.dir).map_err(|error| self.unusable(&error))?;
        let meta = dir.metadata().map_err(|error| self.unusable(&error))?;
        let me = nix::unistd::geteuid().as_raw();
        if !meta.is_dir() || meta.uid() != me || meta.mode() & 0o022 != 0 {
            return Err(LeaseError::Store {
                path: self.dir.clone(),
                reason: format!(
                    "must be a directory of uid {me} that nobody else may write; remove it"
                ),
            });
        }
        let lock = Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, errno)| self.unusable(&errno.into()))?;
        Ok(Open {
            store: self.clone(),
            leases: self.leases()?,
            _lock: lock,
        })
    }

    fn read(&self) -> Result<Vec<Lease>> {
        let path = self.dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.unusable(&error)),
        };
        let wrong = |reason: String| LeaseError::Store {
            path: path.clone(),
            reason,
        };
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| {
            wrong(format!(
                "{error}; remove it while no container with a GPU runs"
            ))
        })?;
        if content.version != VERSION {
            return Err(wrong(format!(
                "version {} of another kusabi, this one reads {VERSION}",
                content.version
            )));
        }
        Ok(content.leases)
    }

    fn unusable(&self, error: &std::io::Error) -> LeaseError {
        LeaseError::Store {
            path: self.dir.clone(),
            reason: crate::error::reason(error),
        }
    }
}

impl Open {
    fn write(&mut self) -> Result<()> {
        let content = Content {
            version: VERSION,
            leases: std::mem::take(&mut self.leases),
        };
        let path = self.store.dir.join(FILE);
        let unusable = |reason: String| LeaseError::Store {
            path: path.clone(),
            reason,
        };
        let bytes = serde_json::to_vec(&content).map_err(|error| unusable(error.to_string()))?;
        // Everybody may see what is free.
        write_atomically(&path, &bytes, 0o644).map_err(|error| unusable(error.to_string()))?;
        self.leases = content.leases;
        Ok(())
    }
}

/// Who keeps others from having a device so.
fn obstacle<'l>(leases: &'l [Lease], keys: &BTreeSet<String>, mode: Mode) -> Option<&'l Lease> {
    leases.iter().find(|lease| {
        lease.is_of(keys) && (mode == Mode::Exclusive || lease.mode == Mode::Exclusive)
    })
}

/// By how many each candidate is held; `None` where it cannot be had.
fn holders(
    leases: &[Lease],
    mine: &[Lease],
    candidates: &[Candidate],
    mode: Mode,
) -> Vec<Option<usize>> {
    let count = |candidate: &Candidate| {
        let taken = mine.iter().any(|own| own.is_of(&candidate.keys));
        if taken || obstacle(leases, &candidate.keys, mode).is_some() {
            return None;
        }
        let all = leases.iter();
        Some(all.filter(|lease| lease.is_of(&candidate.keys)).count())
    };
    candidates.iter().map(count).collect()
}

fn choose_free(
    leases: &[Lease],
    mine: &[Lease],
    candidates: &[Candidate],
    count: usize,
    mode: Mode,
) -> Result<Vec<usize>> {
    let holders = holders(leases, mine, candidates, mode);
    if let Some(places) = pick(candidates, &holders, count, mode) {
        return Ok(places);
    }
    let held = candidates
        .iter()
        .zip(&holders)
        .filter(|(_, holder)| holder.is_none())
        .map(|(candidate, _)| {
            let all = leases.iter().filter(|l| l.is_of(&candidate.keys));
            let names: Vec<&str> = all.map(|lease| lease.container.id.as_str()).collect();
            let who = match names.as_slice() {
                [] => "this container".to_owned(),
                names => format!("container {}", names.join(" and ")),
            };
            (candidate.device.clone(), who)
        })
        .collect();
    Err(Shortage {
        wanted: count,
        free: holders.iter().flatten().count(),
        held,
    }
    .into())
}

/// A choice among free devices, with the store locked.
#[derive(Debug)]
pub struct Choosing {
    open: Open,
    container: Container,
    owner: Identity,
    mine: Vec<Lease>,
}

impl Choosing {
    /// Takes one device.
    ///
    /// # Errors
    /// [`LeaseError::Held`].
    pub fn take(&mut self, wanted: &Wanted) -> Result<()> {
        // What this container has already chosen is no obstacle for itself.
        if let Some(own) = self.mine.iter_mut().find(|own| own.is_of(&wanted.keys)) {
            own.mode = own.mode.max(wanted.mode);
            own.keys.extend(wanted.keys.iter().cloned());
            return Ok(());
        }
        // Nor what it already holds, where it runs and is given more.
        let holds = |lease: &Lease| {
            lease.container == self.container
                && lease.stage == Stage::Committed
                && lease.mode >= wanted.mode
                && wanted.keys.is_subset(&lease.keys)
        };
        if self.open.leases.iter().any(holds) {
            return Ok(());
        }
        if let Some(holder) = obstacle(&self.open.leases, &wanted.keys, wanted.mode) {
            return Err(LeaseError::Held {
                device: wanted.device.clone(),
                holder: Box::new(holder.clone()),
            });
        }
        self.mine.push(Lease {
            device: wanted.device.clone(),
            keys: wanted.keys.clone(),
            mode: wanted.mode,
            container: self.container.clone(),
            owner: self.owner,
            pid_namespace: pid_namespace(),
            stage: Stage::Reserved,
        });
        Ok(())
    }

    /// Takes `count` free devices; returns their places among the candidates.
    ///
    /// # Errors
    /// [`LeaseError::Shortage`], naming the holders of the others.
    pub fn pick(
        &mut self,
        candidates: &[Candidate],
        count: usize,
        mode: Mode,
    ) -> Result<Vec<usize>> {
        let places = choose_free(&self.open.leases, &self.mine, candidates, count, mode)?;
        for &place in &places {
            let candidate = &candidates[place];
            self.take(&Wanted {
                device: candidate.device.clone(),
                keys: candidate.keys.clone(),
                mode,
            })?;
        }
        Ok(places)
    }

    /// Writes down what was chosen.
    ///
    /// # Errors
    /// A store that cannot be written; nothing is held then.
    pub fn finish(mut self) -> Result<Reservation> {
        let reservation = Reservation {
            dir: self.open.store.dir.clone(),
            container: self.container,
            owner: self.owner,
            init: Cell::new(None),
            mine: self.mine.clone(),
        };
        if !reservation.is_empty() {
            self.open.leases.append(&mut self.mine);
            self.open.write()?;
        }
        Ok(reservation)
    }
}

/// Devices that are held for a container while it is made. Dropping it keeps
/// them until this process ends; see [`Reservation::release`].
#[derive(Debug)]
pub struct Reservation {
    dir: PathBuf,
    container: Container,
    owner: Identity,
    /// Who owns them since [`Reservation::commit`].
    init: Cell<Option<Identity>>,
    mine: Vec<Lease>,
}

impl Reservation {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mine.is_empty()
    }

    /// Hands the devices to the container's init: the lease lives as long as it.
    ///
    /// # Errors
    /// A store that cannot be written, or from which the lease has gone.
    pub fn commit(&self, init: Identity) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let store = Store::at(&self.dir);
        let mut open = store.open()?;
        self.init.set(Some(init));
        let mut any = false;
        for lease in &mut open.leases {
            if lease.owner == self.owner && lease.container == self.container {
                lease.owner = init;
                lease.stage = Stage::Committed;
                any = true;
            }
        }
        if !any {
            return Err(LeaseError::Store {
                path: self.dir.join(FILE),
                reason: "the lease was removed while its container was made".to_owned(),
            });
        }
        open.write()
    }

    /// Gives the devices back, whoever owns them by now: the container was not
    /// made, or did not get them. What it has held before stays.
    ///
    /// # Errors
    /// A store that cannot be written; the lease then ends with this process.
    pub fn release(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let store = Store::at(&self.dir);
        let mut open = store.open()?;
        for mine in &self.mine {
            let is_it = |lease: &Lease| {
                lease.container == self.container
                    && (lease.owner == self.owner || Some(lease.owner) == self.init.get())
                    && (&lease.keys, lease.mode) == (&mine.keys, mine.mode)
            };
            if let Some(place) = open.leases.iter().position(is_it) {
                open.leases.remove(place);
            }
        }
        open.write()
    }
}

/// Gives back some of what a running container holds: what has a key in `taken`,
/// and none in `kept`.
///
/// # Errors
/// A store that cannot be written; nothing is given back then.
pub fn give_back(
    store: &Store,
    container: &Container,
    taken: &BTreeSet<String>,
    kept: &BTreeSet<String>,
) -> Result<()> {
    let is_given =
        |lease: &Lease| lease.container == *container && lease.is_of(taken) && !lease.is_of(kept);
    change(store, |leases| {
        let before = leases.len();
        leases.retain(|lease| !is_given(lease));
        leases.len() != before
    })
}

/// Gives devices of a running container the keys that they have now, pairs of old
/// and new: their driver was loaded again.
///
/// # Errors
/// A store that cannot be written; nothing is changed then.
pub fn rename(store: &Store, container: &Container, keys: &[(String, String)]) -> Result<()> {
    change(store, |leases| {
        let mut changed = false;
        for lease in leases.iter_mut().filter(|l| l.container == *container) {
            // Two devices may have traded numbers: all at once.
            let now: BTreeSet<String> = lease
                .keys
                .iter()
                .map(|key| {
                    let pair = keys.iter().find(|(old, _)| old == key);
                    pair.map_or(key, |(_, new)| new).clone()
                })
                .collect();
            changed |= now != lease.keys;
            lease.keys = now;
        }
        changed
    })
}

/// Changes what is held, if anything is; `edit` says whether it did.
fn change(store: &Store, edit: impl FnOnce(&mut Vec<Lease>) -> bool) -> Result<()> {
    if !store.dir.join(FILE).exists() {
        return Ok(());
    }
    let mut open = store.open()?;
    if edit(&mut open.leases) {
        open.write()?;
    }
    Ok(())
}

/// Gives back what a container holds that is being deleted. `init` was its first
/// process: one of the same name that is being made keeps its own.
///
/// # Errors
/// A store that cannot be written.
pub fn release(
    store: &Store,
    container: &Container,
    init: Option<Identity>,
) -> std::result::Result<(), LeaseError> {
    change(store, |leases| {
        let before = leases.len();
        leases.retain(|lease| lease.container != *container || Some(lease.owner) != init);
        // Those whose owner is gone have been dropped already, and need no write.
        leases.len() != before
    })
}

fn myself() -> Result<Identity> {
    i32::try_from(std::process::id())
        .ok()
        .and_then(Identity::of)
        .ok_or_else(|| LeaseError::Store {
            path: "/proc".into(),
            reason: RuntimeError::Refused("does not show this process; is it mounted?".into())
                .to_string(),
        })
}

/// Whether a lease's owner is there. Of another pid namespace this cannot be
/// told, and the lease holds: a device in two hands is worse than one in none.
fn lives(lease: &Lease, here: u64) -> bool {
    lease.pid_namespace != here || lease.owner.is_alive()
}

/// The inode that identifies this process's pid namespace, 0 where unknown.
fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

impl Store {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests;
