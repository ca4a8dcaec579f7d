//! The container's record before there is a container.

use std::path::Path;

use super::CreateRequest;
use super::judge::Judged;
use crate::cgroup::Cgroup;
use crate::edit::NamespaceKind;
use crate::error::Result;
use crate::runtime::RuntimeError;
use crate::runtime::identity::Identity;
use crate::runtime::state::{ORIGINAL_FILE, PLAN_FILE, State, Status, write_atomically};

/// Keeps the plan, and what it was made for, for those who ask for reasons later.
pub(super) fn plan(request: &CreateRequest<'_>, dir: &Path) -> Result<()> {
    write_atomically(&dir.join(PLAN_FILE), request.plan, 0o600)?;
    match request.original {
        Some(original) => write_atomically(&dir.join(ORIGINAL_FILE), original, 0o600),
        None => Ok(()),
    }
}

/// Status creating, by this process, now. `cgroup` is not made yet: whatever
/// kills us, delete knows what to remove.
pub(super) fn initial(
    request: &CreateRequest<'_>,
    judged: &Judged,
    cgroup: &Cgroup,
) -> Result<State> {
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
        private_pid: judged.namespaces.is_new(NamespaceKind::Pid),
    })
}

/// Init has ours, unless it has a terminal.
fn descriptors(terminal: bool) -> Vec<String> {
    let name = |fd: u8| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        link.map_or_else(|_| String::new(), |l| l.to_string_lossy().into_owned())
    };
    if terminal {
        return vec!["/dev/null".to_owned(); 3];
    }
    (0..3).map(name).collect()
}
