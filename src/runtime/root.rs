//! The container's root, from outside: what the parent has done while the first
//! process waits for the createRuntime hooks, where that has not put its root
//! together already ([`child`](super::child)).
//!
//! The assembly itself is in [`rootfs`](crate::rootfs). Here are the processes
//! that it takes: one in the container's namespaces, and where these have another
//! root user than ours, one beside it that stays who we are and opens sources for
//! it, which that user may not reach.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use procfs::process::Process;

use super::RuntimeError;
use super::birth::{self, pair};
use super::hooks;
use super::idmap;
use super::inside::{Entrance, Helper};
use super::lower_mounts::MountIds;
use super::mounts::SharedMounts;
use super::state::Status;
use crate::cgroup::Entry;
use crate::edit::{Hook, HookStage, IdMapping};
use crate::error::{Error, Result};
use crate::rootfs::{Assembly, IdMaps, OwnRights, Preflight, Sources, Stage};
use crate::sys::process::{Cloned, clone3, recv_fd, send_fd};

/// Longest reason that comes from the process beside.
const REASON: usize = 64 << 10;

/// What to put together, and of what.
pub struct Work<'a> {
    /// The plan.
    pub assembly: &'a Assembly<'a>,
    /// Where it is prepared.
    pub stage: &'a Stage,
    /// Of idmapped mounts.
    pub id_maps: &'a IdMaps,
    /// Where the root goes then, if it does not stay.
    pub shared: Option<&'a SharedMounts>,
    /// Whether sources are taken from our mount namespace, in which they have the
    /// propagation that the host gave them.
    pub as_on_host: bool,
}

/// Assembles the root.
///
/// # Errors
/// The assembly's, naming the mount or device.
pub fn assemble(entrance: &Entrance<'_>, work: &Work<'_>) -> Result<()> {
    let own = || OwnRights::new(work.assembly, work.id_maps).map_err(|e| e.to_string());
    let opened = RefCell::new(HashMap::new());
    if work.as_on_host {
        let mut own = own().map_err(RuntimeError::Init)?;
        let outside = work.assembly.outside();
        opened.replace(outside.map(|index| (index, own.open(index))).collect());
    }
    let with = |sources: &mut dyn Sources| {
        let mut sources = Opened {
            opened: opened.take(),
            others: sources,
        };
        work.assembly
            .assemble(work.stage, &mut sources)
            .and_then(|()| work.stage.reveal(work.assembly.preflight()))
            .map_err(|e| e.to_string())?;
        work.shared
            .map_or(Ok(()), |mounts| mounts.bring(work.stage))
    };
    if !entrance.has_user_namespace() || !entrance.is_privileged() {
        return entrance.run(None, || with(&mut own()?));
    }
    let helper = entrance.start(None, (), |()| {
        entrance.enter_as_ourselves()?;
        let mut own = own()?;
        let (ours, theirs) = pair().map_err(|e| e.to_string())?;
        let ours = RefCell::new(Some(ours));
        let inner = Helper::start(None, theirs, |theirs| {
            // A copy left open here would hide that the process beside has gone.
            drop(ours.take());
            entrance.become_root()?;
            with(&mut Beside(theirs))
        });
        if let Some(ours) = ours.take() {
            serve(&ours, &mut own);
        }
        inner.and_then(Helper::wait).map_err(|e| e.to_string())
    })?;
    helper.wait()
}

/// Has some of them already.
struct Opened<'a> {
    opened: HashMap<usize, std::result::Result<OwnedFd, String>>,
    others: &'a mut dyn Sources,
}

impl Sources for Opened<'_> {
    fn open(&mut self, index: usize) -> std::result::Result<OwnedFd, String> {
        match self.opened.remove(&index) {
            Some(source) => source,
            None => self.others.open(index),
        }
    }
}

/// Asks the process beside.
struct Beside(OwnedFd);

impl Sources for Beside {
    fn open(&mut self, index: usize) -> std::result::Result<OwnedFd, String> {
        let lost = |e: std::io::Error| format!("ask for a mount source: {e}");
        send_fd(self.0.as_fd(), &index.to_ne_bytes(), None).map_err(lost)?;
        match recv_fd(self.0.as_fd(), REASON).map_err(lost)? {
            (_, Some(source)) => Ok(source),
            (reason, None) => Err(String::from_utf8_lossy(&reason).into_owned()),
        }
    }
}

/// Answers until the other side is gone.
fn serve(socket: &OwnedFd, sources: &mut dyn Sources) {
    while let Ok((request, _)) = recv_fd(socket.as_fd(), size_of::<usize>()) {
        let Ok(index) = request.as_slice().try_into().map(usize::from_ne_bytes) else {
            return;
        };
        let sent = match sources.open(index) {
            Ok(source) => send_fd(socket.as_fd(), b"k", Some(source.as_fd())),
            Err(reason) => send_fd(socket.as_fd(), reason.as_bytes(), None),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What happens last before the first process makes the root its own.
pub struct Finish<'a> {
    /// The checked root.
    pub preflight: &'a Preflight,
    /// The way into the container's cgroup, where its hooks run.
    pub cgroup: &'a Entry,
    /// Those of createContainer.
    pub hooks: &'a [Hook],
    /// What they are told, but for the status.
    pub state: &'a serde_json::Value,
    /// Whether the process does not pivot.
    pub no_pivot: bool,
}

/// Runs createContainer hooks in the container's namespaces and cgroup, and where
/// the process does not pivot, hides what stays below its root.
///
/// # Errors
/// A hook's failure in runc's words; the kernel's.
pub fn finish(entrance: &Entrance<'_>, last: &Finish<'_>) -> Result<()> {
    if last.hooks.is_empty() && !last.no_pivot {
        return Ok(());
    }
    entrance.run(Some(last.cgroup), || {
        if !last.hooks.is_empty() {
            // As with runc, they start in the container's root.
            last.preflight.enter().map_err(|e| e.to_string())?;
            let mut state = last.state.clone();
            state["status"] = Status::Creating.word().into();
            hooks::run(HookStage::CreateContainer, last.hooks, &state, &[])
                .map_err(|e| e.to_string())?;
        }
        if last.no_pivot {
            hide_kernel_filesystems(last.preflight.rootfs())?;
        }
        Ok(())
    })
}

/// Without pivot the host's procfs and sysfs stay in the mount namespace, below
/// the container's root, whole and unmasked. The kernel lets a user namespace
/// mount its own only where a whole one is visible (`mount_too_revealing`): so the
/// container could have one without masks.
fn hide_kernel_filesystems(rootfs: &Path) -> std::result::Result<(), String> {
    let mounts = Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(|e| format!("read mountinfo: {e}"))?;
    for found in mounts {
        let whole = found.root == "/" && matches!(found.fs_type.as_str(), "proc" | "sysfs");
        if whole && !found.mount_point.starts_with(rootfs) {
            hide(&found.mount_point)
                .map_err(|e| format!("hide {}: {e}", found.mount_point.display()))?;
        }
    }
    Ok(())
}

fn hide(place: &Path) -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    match mount(
        NOTHING,
        place,
        NOTHING,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        NOTHING,
    ) {
        // Gone with a mount above it.
        Err(nix::Error::ENOENT) => return Ok(()),
        other => other?,
    }
    match umount2(place, MntFlags::MNT_DETACH) {
        Err(nix::Error::EINVAL | nix::Error::EPERM) => {}
        other => return other,
    }
    // Locked by a user namespace: it can only be covered. Twice, because
    // libcontainer takes one mount off /proc and /sys before it moves the root.
    for _ in 0..2 {
        mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            MsFlags::MS_RDONLY,
            Some("size=0k"),
        )?;
    }
    Ok(())
}

/// Makes the user namespaces that idmapped mounts take their mappings from; they
/// live as long as their descriptors. Equal mappings share one.
///
/// # Errors
/// The kernel's, for mappings that it refuses.
pub fn id_maps(wanted: &[(usize, MountIds)], init: i32) -> Result<IdMaps> {
    let mut made: Vec<(&MountIds, Rc<OwnedFd>)> = Vec::new();
    let mut maps = IdMaps::default();
    for (index, mapping) in wanted {
        let known = made.iter().find(|(earlier, _)| *earlier == mapping);
        let namespace = match known {
            Some((_, namespace)) => Rc::clone(namespace),
            None => Rc::new(match mapping {
                MountIds::Container => user_namespace_of(init)?,
                MountIds::Own { uids, gids } => namespace_with(uids, gids)?,
            }),
        };
        made.push((mapping, Rc::clone(&namespace)));
        maps.namespaces.push((*index, namespace));
    }
    Ok(maps)
}

/// The user namespace of a process.
///
/// # Errors
/// The kernel's.
pub fn user_namespace_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    let file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    Ok(file.into())
}

/// A user namespace without processes.
///
/// # Errors
/// The kernel's, for mappings that it refuses.
pub fn namespace_with(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let failed = |e: std::io::Error| RuntimeError::syscall("make a user namespace for a mount", e);
    let (ours, theirs) = pair().map_err(failed)?;
    let flags = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    match clone3(flags, None, false).map_err(failed)? {
        Cloned::Child => {
            drop(ours);
            // Until we are let go, or gone.
            let _ = recv_fd(theirs.as_fd(), 1);
            crate::sys::process::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let namespace = idmap::map(pid, uids, gids).and_then(|()| user_namespace_of(pid));
            drop(ours);
            birth::reap(&pidfd);
            namespace
        }
    }
}

/// Whether this process can make idmapped mounts of what is on the file system of
/// `place`.
#[must_use]
pub fn can_map_ids(place: &Path) -> bool {
    let one = [IdMapping {
        container_id: 0,
        host_id: 0,
        size: 1,
    }];
    // Others than root may only map mounts of file systems of their own.
    nix::unistd::geteuid().is_root()
        && namespace_with(&one, &one)
            .is_ok_and(|namespace| crate::rootfs::can_map_ids(place, namespace.as_fd()))
}
