//! The container's record before there is a container.

use std::fs;
use std::path::{Path, PathBuf};

use super::judge::Judged;
use super::{CreateRequest, place};
use crate::cgroup::{Cgroup, Layout, Planned};
use crate::edit::NamespaceKind;
use crate::error::{Error, Result};
use crate::runtime::RuntimeError;
use crate::runtime::fault::{Step, point};
use crate::runtime::identity::Identity;
use crate::runtime::notify;
use crate::runtime::state::{
    CONFIG_FILE, Locked, ORIGINAL_FILE, PLAN_FILE, State, Status, Store, write_atomically,
};
use crate::runtime::undo::Undo;

/// A container that is on record, and nowhere else.
pub(super) struct Begun {
    /// Its locked directory.
    pub locked: Locked,
    /// The same, as a path.
    pub dir: PathBuf,
    /// What its configuration comes to.
    pub judged: Judged,
    /// The cgroup that it will have.
    pub planned: (Layout, Planned),
    /// Its record.
    pub state: State,
}

/// Claims the id, judges the configuration and puts both on record; what undoes
/// that goes to `undo`. `steps` are the caller's names for the record and for the
/// configuration beside it.
pub(super) fn begin<'a>(
    store: &Store,
    request: &CreateRequest<'a>,
    undo: &mut Undo<'a>,
    steps: [Step; 2],
) -> Result<Begun> {
    if let Some(lease) = request.lease {
        undo.push("lease", move || Ok(lease.release()?));
    }
    let locked = store.claim(request.id)?;
    let dir = locked.path().to_path_buf();
    {
        let dir = dir.clone();
        undo.push("state directory", move || {
            fs::remove_dir_all(&dir).map_err(|e| Error::io("remove", &dir, e))
        });
    }
    if request.notify {
        notify::make_directory(&dir)?;
    }
    let judged = Judged::new(store, request)?;
    let planned = place::plan(request, &judged)?;
    let state = initial(request, &judged, planned.1.cgroup())?;
    locked.write(&state)?;
    point(steps[0])?;
    write_atomically(&dir.join(CONFIG_FILE), request.document.as_bytes(), 0o600)?;
    plan(request, &dir)?;
    point(steps[1])?;
    Ok(Begun {
        locked,
        dir,
        judged,
        planned,
        state,
    })
}

/// Keeps the plan, and what it was made for, for those who ask for reasons later.
fn plan(request: &CreateRequest<'_>, dir: &Path) -> Result<()> {
    write_atomically(&dir.join(PLAN_FILE), request.plan, 0o600)?;
    match request.original {
        Some(original) => write_atomically(&dir.join(ORIGINAL_FILE), original, 0o600),
        None => Ok(()),
    }
}

/// Status creating, by this process, now. `cgroup` is not made yet: whatever
/// kills us, delete knows what to remove.
fn initial(request: &CreateRequest<'_>, judged: &Judged, cgroup: &Cgroup) -> Result<State> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let creator = Identity::of(me).ok_or_else(|| {
        RuntimeError::Refused("/proc does not show this process; is it mounted?".into())
    })?;
    let created = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .map_err(|e| RuntimeError::Refused(format!("format the time: {e}")))?;
    Ok(State {
        oci_version: request.document.value()["ociVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        id: request.id.to_owned(),
        recorded: Status::Creating,
        started: false,
        init: None,
        restorer: None,
        creator,
        bundle: request.bundle.to_path_buf(),
        rootfs: judged.rootfs.clone(),
        created,
        owner: nix::unistd::geteuid().as_raw(),
        annotations: request
            .document
            .annotations()?
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        cgroup: Some(cgroup.clone()),
        filter: None,
        resctrl: None,
        descriptors: descriptors(judged.process.terminal),
        leased: request.lease.is_some_and(|lease| !lease.is_empty()),
        injected: request.injected.clone(),
        systemd: request.systemd,
        shared_keyring: request.no_new_keyring,
        late_hooks: judged.has_late_hooks(),
        private_pid: judged.namespaces.is_new(NamespaceKind::Pid),
    })
}

/// Init has ours, unless it has a terminal.
fn descriptors(terminal: bool) -> Vec<String> {
    let name = |fd: u8| {
        let link = fs::read_link(format!("/proc/self/fd/{fd}"));
        link.map_or_else(|_| String::new(), |l| l.to_string_lossy().into_owned())
    };
    if terminal {
        return vec!["/dev/null".to_owned(); 3];
    }
    (0..3).map(name).collect()
}
