//! The record of a container, and the store it lives in.
//!
//! One directory a container below `--root`, mode 0700, claimed by `mkdir`.
//! `state.json` is replaced by rename and read without a lock; whoever changes a
//! container holds a flock on its directory. Only that a created container has been
//! started is not in it: its [gate](super::fifo) tells. libcontainer's own state is never
//! written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::RuntimeError;
use super::identity::Identity;
use super::injected::Injected;
use super::resctrl::Group;
use crate::cgroup::{Cgroup, FreezerState};
use crate::device::Installed;
use crate::error::{Error, Result};
use crate::host::bounded;

/// Where a container is in its life, as OCI names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not returned.
    Creating,
    /// Waiting for `start`.
    Created,
    /// The user's program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl Status {
    /// The word of `state` and `list`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Everything that follow-up commands need, so that they need no flags.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container id.
    pub id: String,
    /// What the last command recorded; see [`State::status`] for what is so now.
    pub recorded: Status,
    /// Whether a container that was created has been started since.
    #[serde(skip)]
    pub started: bool,
    /// The container's init, once it exists.
    pub init: Option<Identity>,
    /// The process of CRIU's that makes init in the cgroup: whatever is in there from
    /// then on is the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorer: Option<Identity>,
    /// The process that is creating the container.
    pub creator: Identity,
    /// Absolute bundle directory.
    pub bundle: PathBuf,
    /// Absolute root file system.
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    /// Numeric owner, named only when printed.
    pub owner: u32,
    /// Annotations of the effective configuration.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup, as made.
    pub cgroup: Option<Cgroup>,
    /// The device filter, as installed.
    pub filter: Option<Installed>,
    /// What descriptors 0, 1 and 2 of init were, as in `pipe:[1234]`: a restore
    /// puts its own in the place of pipes.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// The resctrl group, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Group>,
    /// What it was given beyond its engine's configuration.
    #[serde(default)]
    pub injected: Injected,
    /// Whether the systemd driver manages the cgroup.
    pub systemd: bool,
    /// Whether it may hold leases of devices.
    #[serde(default)]
    pub leased: bool,
    /// Whether its configuration has hooks for what comes after `create`: without,
    /// `start` and `delete` need not read it.
    #[serde(default = "yes")]
    pub late_hooks: bool,
    /// Whether init is in a pid namespace of its own.
    pub private_pid: bool,
    /// Whether the container shares its creator's session keyring.
    #[serde(default)]
    pub shared_keyring: bool,
}

/// Of a record that does not tell.
fn yes() -> bool {
    true
}

impl State {
    /// What the container is now: the record, corrected by the kernel.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.recorded {
            Status::Creating if self.creator.is_alive() => Status::Creating,
            Status::Creating => Status::Stopped,
            recorded => {
                if !self.init.is_some_and(|init| init.is_alive()) {
                    return Status::Stopped;
                }
                let frozen = self
                    .cgroup
                    .as_ref()
                    .is_some_and(|c| matches!(c.freezer_state(), Ok(FreezerState::Frozen)));
                match recorded {
                    _ if frozen => Status::Paused,
                    Status::Created if self.started => Status::Running,
                    recorded => recorded,
                }
            }
        }
    }

    /// The pid to show: 0 once the container has stopped.
    #[must_use]
    pub fn visible_pid(&self, status: Status) -> i32 {
        match (status, self.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        }
    }

    /// The OCI state (`runtime.md`, "State"), as hooks get it on stdin.
    #[must_use]
    pub fn to_oci(&self, status: Status) -> serde_json::Value {
        let mut value = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.word(),
        });
        let pid = self.visible_pid(status);
        if pid != 0 {
            value["pid"] = pid.into();
        }
        value["bundle"] = self.bundle.to_string_lossy().into();
        if !self.annotations.is_empty() {
            value["annotations"] = serde_json::json!(self.annotations);
        }
        value
    }
}

/// The directory of all containers: `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A container's directory, locked against other commands until dropped.
#[derive(Debug)]
pub struct Locked {
    path: PathBuf,
    lock: Flock<File>,
}

impl Store {
    /// Refers to `root`; nothing is touched.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of one container.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidId`] for an id that is not a plain file name.
    pub fn path(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// The directory of bundles that nobody else has named a place for. It stands
    /// among the containers' own; it has no record, so it is none of them.
    ///
    /// # Errors
    /// A container has its name, or the root is not to be trusted.
    pub fn bundles(&self) -> Result<PathBuf> {
        let path = self.root.join(BUNDLES);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root)
            .map_err(|e| Error::io("mkdir", &self.root, e))?;
        refuse_foreign(&self.root)?;
        if path.join(STATE_FILE).exists() {
            return Err(RuntimeError::Refused(format!(
                "{}: belongs to a container of that name; name a directory for the bundle",
                path.display()
            ))
            .into());
        }
        Ok(path)
    }

    /// Claims an id: makes its directory, 0700, and locks it.
    ///
    /// # Errors
    /// [`RuntimeError::Exists`] when the id is taken, I/O errors.
    pub fn claim(&self, id: &str) -> Result<Locked> {
        let path = self.path(id)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|e| Error::io("mkdir", &self.root, e))?;
        refuse_foreign(&self.root)?;
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RuntimeError::Exists.into());
            }
            Err(e) => return Err(Error::io("mkdir", &path, e)),
        }
        lock(path)
    }

    /// Locks a container that exists.
    ///
    /// # Errors
    /// [`RuntimeError::NotExist`], I/O errors.
    pub fn lock(&self, id: &str) -> Result<Locked> {
        let path = self.path(id)?;
        let record = path.join(STATE_FILE).exists();
        if !record && (id == BUNDLES || !path.is_dir()) {
            return Err(RuntimeError::NotExist.into());
        }
        lock(path)
    }

    /// Reads a container's record without locking it.
    ///
    /// # Errors
    /// [`RuntimeError::NotExist`] when there is none, [`RuntimeError::State`]
    /// when it is not ours to read.
    pub fn load(&self, id: &str) -> Result<State> {
        read_state(&self.path(id)?)
    }

    /// All ids that have a record of ours, sorted. Foreign directories are
    /// passed over: dockerd shares one root among all runtimes.
    ///
    /// # Errors
    /// I/O errors other than a root that does not exist.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("open", &self.root, e)),
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join(STATE_FILE).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|id| check_id(id).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// The name of the directory of bundles; see [`Store::bundles`].
const BUNDLES: &str = "bundles";
/// The record's file name.
pub const STATE_FILE: &str = "state.json";
/// The effective configuration's file name.
pub const CONFIG_FILE: &str = "config.json";
/// The plan with its provenance, as `explain --format json` prints it.
pub const PLAN_FILE: &str = "plan.json";
/// The configuration as it came, where the plan changes it.
pub const ORIGINAL_FILE: &str = "original.json";

impl Locked {
    /// The container's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the lock in a process that was cloned while it was held, and
    /// only there. With a copy of its own such a process would keep everybody
    /// out after the holder has been killed. `self` is unusable afterwards, and
    /// must never be dropped: dropping unlocks.
    pub fn close_inherited(&self) {
        // Never dropped: the process ends with exec or exit.
        let _ = nix::unistd::close(self.lock.as_raw_fd());
    }

    /// Reads the record.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn read(&self) -> Result<State> {
        read_state(&self.path)
    }

    /// Replaces the record: temporary file, fsync, rename.
    ///
    /// # Errors
    /// I/O errors; the old record is then still whole.
    pub fn write(&self, state: &State) -> Result<()> {
        let bytes = serde_json::to_vec(state).map_err(|e| RuntimeError::State {
            path: self.path.join(STATE_FILE),
            reason: e.to_string(),
        })?;
        write_atomically(&self.path.join(STATE_FILE), &bytes, 0o600)
    }

    /// Removes the directory and what kusabi keeps in it.
    ///
    /// # Errors
    /// I/O errors other than that it is already gone.
    pub fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.path, e))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a file so that a reader sees the old content or all of the new one,
/// whatever happens in between.
///
/// # Errors
/// I/O errors; no temporary file stays behind.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let result = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    result.map_err(|e| {
        // The write's own failure is the one worth reporting.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, e)
    })
}

/// Whether an id may name a directory of ours; runc's rule (no length limit of
/// its own, but what a file name can hold).
///
/// # Errors
/// [`RuntimeError::InvalidId`].
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    let plain = !id.is_empty() && id.len() <= 255 && id.chars().all(allowed);
    if plain && id != "." && id != ".." {
        Ok(())
    } else {
        Err(RuntimeError::InvalidId.into())
    }
}

fn lock(path: PathBuf) -> Result<Locked> {
    loop {
        let dir = match File::open(&path) {
            Ok(dir) => dir,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::NotExist.into());
            }
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let locked = Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, e)| Error::io("lock", &path, e.into()))?;
        // Another command may have removed the container, or removed and
        // recreated it, while this one waited.
        let ours = locked.metadata().map_err(|e| Error::io("stat", &path, e))?;
        match fs::symlink_metadata(&path) {
            Ok(now) if now.ino() == ours.ino() && now.dev() == ours.dev() => {
                return Ok(Locked { path, lock: locked });
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::NotExist.into());
            }
            Err(e) => return Err(Error::io("stat", &path, e)),
        }
    }
}

fn read_state(dir: &Path) -> Result<State> {
    let path = dir.join(STATE_FILE);
    let bytes = bounded::read(&path, bounded::MAX_STATE).map_err(|error| {
        if error.is_absence() {
            RuntimeError::NotExist.into()
        } else {
            error
        }
    })?;
    let wrong = |reason| RuntimeError::State {
        path: path.clone(),
        reason,
    };
    let mut state: State = serde_json::from_slice(&bytes)
        .map_err(|e| wrong(format!("not a container of this runtime: {e}")))?;
    if dir.file_name().is_none_or(|name| name != state.id.as_str()) {
        return Err(wrong(format!("is of the container {:?}", state.id)).into());
    }
    // `start` has nothing else to record, so it does not write.
    state.started = state.recorded == Status::Created && super::fifo::is_passed(dir)?;
    Ok(state)
}

/// A root that another user owns or may write to could swap a container's
/// record under us.
fn refuse_foreign(root: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(root).map_err(|e| Error::io("stat", root, e))?;
    let me = nix::unistd::geteuid().as_raw();
    if meta.file_type().is_symlink() {
        return Err(RuntimeError::Refused(format!(
            "{}: the state root is a symbolic link; pass the directory itself",
            root.display()
        ))
        .into());
    }
    if (meta.uid() != me && meta.uid() != 0)
        || (meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0)
    {
        return Err(RuntimeError::Refused(format!(
            "{}: the state root may be changed by other users; chown it to uid {me} and chmod it 0700",
            root.display()
        ))
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_no_plain_names_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a b",
            "é",
            &"x".repeat(1 << 20),
            "a\0b",
        ] {
            assert!(check_id(id).is_err(), "{id:.20}");
        }
        for id in ["a", "A-1_2.3+4", "..a", &"x".repeat(255)] {
            check_id(id).unwrap();
        }
    }

    #[test]
    fn a_claimed_id_is_taken_until_removed_and_the_directory_is_private() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path().join("root"));
        let locked = store.claim("c").unwrap();
        assert_eq!(fs::metadata(locked.path()).unwrap().mode() & 0o7777, 0o700);
        assert!(matches!(
            store.claim("c"),
            Err(Error::Runtime(RuntimeError::Exists))
        ));
        locked.remove().unwrap();
        store.claim("c").unwrap();
    }

    #[test]
    fn a_waiter_for_a_removed_container_learns_that_it_is_gone() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path().to_path_buf());
        let locked = store.claim("c").unwrap();
        let other = store.clone();
        let waiter = std::thread::spawn(move || other.lock("c").map(drop));
        locked.remove().unwrap();
        assert!(matches!(
            waiter.join().unwrap(),
            Err(Error::Runtime(RuntimeError::NotExist))
        ));
    }

    #[test]
    fn a_failed_write_leaves_neither_a_torn_nor_a_temporary_file() {
        let tmp = tempfile::tempdir().unwrap();
        let target = tmp.path().join("dir");
        fs::create_dir(&target).unwrap();
        assert!(write_atomically(&target, b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_linked_or_open_root_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let real = tmp.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(
            Store::new(link)
                .claim("c")
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(
            Store::new(real)
                .claim("c")
                .unwrap_err()
                .to_string()
                .contains("other users")
        );
    }
}
