//! `create`: from an effective document to a process that waits for `start`.
//!
//! The steps are those of [`Step`], in that order, and each registers its undo.
//! The cgroup exists, filtered and verified, before the process does, so there is
//! no moment at which the process runs unfiltered, whatever is killed when.

mod judge;
mod place;
mod record;
pub mod restore;
mod stage;
mod validate;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use self::judge::Judged;
pub(super) use self::judge::check_preserved;
pub use self::judge::seccomp_cache;
pub use self::place::verify_filter;
pub(super) use self::place::{filter_of, install, standing};
use self::record::Begun;
use self::stage::Kept;
pub(super) use self::stage::{id_mappings, keyring};
use super::RuntimeError;
use super::birth::{self, CloneRequest, Newborn, Through, Way};
use super::child::ChildPlan;
use super::console;
use super::fault::{Step, point};
use super::hooks;
use super::identity::Identity;
use super::idmap;
use super::injected::Injected;
use super::inside::Entrance;
use super::lower;
use super::mounts;
use super::network;
use super::root::{self, Finish, Work};
use super::seccomp;
use super::state::{Locked, State, Status, Store, write_atomically};
use super::undo::Undo;
use crate::cgroup::Cgroup;
use crate::document::Document;
use crate::edit::{HookStage, NamespaceKind};
use crate::error::{Error, Result};
use crate::lease::Reservation;
use crate::rootfs::Stage;
use crate::rootless::Caller;

/// What to create.
pub struct CreateRequest<'a> {
    /// The container id.
    pub id: &'a str,
    /// Absolute bundle directory.
    pub bundle: &'a Path,
    /// The effective configuration.
    pub document: &'a Document,
    /// Who runs it.
    pub caller: &'a Caller,
    /// The plan, as it is stored beside it.
    pub plan: &'a [u8],
    /// The configuration before the plan, where that changes it.
    pub original: Option<&'a [u8]>,
    /// What the edits give, and where its nodes are on the host: `config.json`
    /// has no field for it.
    pub injected: &'a Injected,
    /// Where the terminal goes, when it is not ours to relay.
    pub console_socket: Option<&'a Path>,
    /// Whether the caller stays and relays the terminal (`run` without `-d`).
    pub foreground: bool,
    /// `--pid-file`.
    pub pid_file: Option<&'a Path>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<&'a Path>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS`, after those.
    pub listen_fds: u32,
    /// Devices that are held for it.
    pub lease: Option<&'a Reservation>,
    /// `LISTEN_FDNAMES`, with those.
    pub listen_names: Option<&'a str>,
    /// Whether `mounts` has the directory of [`notify`](super::notify).
    pub notify: bool,
    /// `--rootless`: whether cgroups that cannot be had are done without.
    pub rootless_cgroups: bool,
    /// `--systemd-cgroup`.
    pub systemd: bool,
}

/// A created container.
pub struct Created {
    /// Its locked directory.
    pub locked: Locked,
    /// Its record.
    pub state: State,
    /// Its process.
    pub newborn: Newborn,
    /// The terminal's master, when nobody else took it.
    pub console: Option<OwnedFd>,
}

/// Creates a container. On failure nothing that was made stays.
///
/// # Errors
/// Everything that can be wrong with a configuration, in runc's words where
/// callers match them.
pub fn create(store: &Store, request: &CreateRequest<'_>) -> Result<Created> {
    let mut undo = Undo::new();
    let steps = [Step::CreateState, Step::CreateConfig];
    let Begun {
        locked,
        dir,
        judged,
        planned,
        mut state,
    } = record::begin(store, request, &mut undo, steps)?;
    let steps = [Step::CreateCgroup, Step::CreateFilter];
    let place = place::make(request, planned, &locked, &mut state, &mut undo, steps)?;

    place::share(&judged, &locked, &mut state, &mut undo)?;
    let work = stage::Place::new(store, &dir, request, &judged)?;
    let stage = work.stage(request, &judged);
    let at = (&place.view, &place.cgroup);
    let (plan, kept) = stage::plan(request, &judged, &stage, at, (&dir, &state))?;
    let mut newborn = spawn(request, &judged, plan, &locked)?;
    // Undone before the cgroup is removed, which wants it empty.
    let pidfd = duplicate(&newborn)?;
    undo.push("process", move || {
        // ESRCH: it ended by itself. The cgroup's removal waits for the rest.
        let _ = crate::sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        birth::reap(&pidfd);
        Ok(())
    });
    place.cgroup.adopt(newborn.pid, None)?;
    drop(place.keeper);
    place.cgroup.apply_without_keeper()?;
    state.init = Identity::of(newborn.pid);
    locked.write(&state)?;
    point(Step::CreateProcess)?;

    if judged.namespaces.is_new(NamespaceKind::User) {
        let map = |field| id_mappings(request.document.value(), field);
        idmap::map(newborn.pid, &map("uidMappings")?, &map("gidMappings")?)?;
    }
    birth::set_oom_score(newborn.pid, &judged.process)?;
    // A limit that is the program's is none of who puts its root together.
    if !kept.by_itself {
        birth::limit(newborn.pid, &judged.process)?;
    }
    if let Some(group) = &state.resctrl {
        group.join(newborn.pid)?;
    }
    newborn.release()?;
    point(Step::CreateRelease)?;

    if !judged.namespaces.is_new(NamespaceKind::Mount) {
        let joined = judged.joins.mounts().map(|fd| fd.try_clone_to_owned());
        let joined = joined.transpose();
        let joined = joined.map_err(|e| RuntimeError::syscall("dup namespace", e))?;
        let preflight = Rc::clone(&judged.preflight);
        let stage = work.path().to_path_buf();
        undo.push("mounts", move || {
            mounts::take_off(joined.as_ref(), &preflight, &stage)
        });
    }
    let console = attend(&mut newborn, request, &judged, &state, &stage, &kept)?;
    point(Step::CreateParked)?;

    if !kept.by_itself {
        place::verify(&state, &newborn)?;
    }
    point(Step::CreateVerify)?;
    if let Some(socket) = request.pidfd_socket {
        send_pidfd(socket, &newborn.pidfd)?;
    }
    if let (Some(lease), Some(init)) = (request.lease, state.init) {
        lease.commit(init)?;
    }
    point(Step::CreateCommit)?;
    state.recorded = Status::Created;
    locked.write(&state)?;
    point(Step::CreateRecord)?;
    if let Some(path) = request.pid_file {
        let path = path.to_path_buf();
        write_atomically(&path, newborn.pid.to_string().as_bytes(), 0o644)?;
        undo.push("pid file", move || {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))
        });
    }
    point(Step::CreatePidFile)?;
    undo.disarm();
    drop(undo);
    Ok(Created {
        locked,
        state,
        newborn,
        console,
    })
}

fn spawn(
    request: &CreateRequest<'_>,
    judged: &Judged,
    plan: ChildPlan<'_>,
    locked: &Locked,
) -> Result<Newborn> {
    // Hooks and relative paths of the configuration start at the bundle.
    std::env::set_current_dir(request.bundle).map_err(|e| Error::io("chdir", request.bundle, e))?;
    let joins = &judged.joins;
    let mut pid_namespace = joins.pid();
    let way = if joins.need_helper() {
        pid_namespace = None;
        Some(Way::Paths(joins))
    } else {
        pid_namespace
            .take_if(|_| !request.caller.is_host_root())
            .map(|target| {
                Way::Through(Through {
                    target,
                    flags: libc::CLONE_NEWPID,
                    oom_score_adj: None,
                })
            })
    };
    birth::spawn(
        &CloneRequest {
            flags: stage::clone_flags(&judged.namespaces),
            pid_namespace,
            way,
            locked,
        },
        plan,
    )
}

/// Serves the process until it waits for `start`: puts its root together, runs
/// hooks, takes the seccomp listener and the terminal. Returns the terminal when
/// nobody else took it. Where the process enters its root itself, its place has
/// been verified.
fn attend(
    newborn: &mut Newborn,
    request: &CreateRequest<'_>,
    judged: &Judged,
    state: &State,
    stage: &Stage,
    kept: &Kept<'_>,
) -> Result<Option<OwnedFd>> {
    let pid = newborn.pid;
    let init = duplicate(newborn)?;
    let oci_state = || state.to_oci(Status::Creating);
    let on_hooks = || -> Result<()> {
        let entrance = Entrance::new(init.as_fd(), &judged.namespaces);
        let shared = kept.shared_mounts.as_deref();
        if kept.by_itself {
            birth::limit(pid, &judged.process)?;
        } else {
            let id_maps = root::id_maps(&kept.id_maps, pid)?;
            let with_mounts = Entrance::new(init.as_fd(), &judged.namespaces).with_mounts();
            let work = Work {
                assembly: &kept.assembly,
                stage,
                id_maps: &id_maps,
                shared,
                as_on_host: request.caller.is_host_root()
                    && judged.joins.mounts().is_none()
                    && lower::root_alone_propagates(request.document.value()),
            };
            root::assemble(&with_mounts, &work)?;
        }
        network::move_devices(&judged.net_devices, pid)?;
        for stage in [HookStage::Prestart, HookStage::CreateRuntime] {
            hooks::run(stage, &judged.hooks(stage), &oci_state(), &[])?;
        }
        point(Step::CreateHooks)?;
        let last = Finish {
            preflight: &judged.preflight,
            cgroup: &kept.cgroup,
            hooks: &judged.hooks(HookStage::CreateContainer),
            state: &kept.inner_state,
            // What is not in a namespace of its own is not to be hidden.
            no_pivot: request.no_pivot && shared.is_none(),
        };
        root::finish(&entrance, &last)
    };
    let profile = &request.document.value()["linux"]["seccomp"];
    let text = |field: &str| profile[field].as_str().unwrap_or_default();
    let on_listener = |fd: OwnedFd| {
        let agent = Path::new(text("listenerPath"));
        seccomp::notify_agent(agent, text("listenerMetadata"), &oci_state(), pid, &fd)
    };
    let mut console = None;
    let on_terminal = || -> Result<()> {
        if let Some(ours) = &kept.console {
            console = console::receive(ours, judged.process.console_size, request.console_socket)?;
        }
        Ok(())
    };
    let attend = || {
        if !kept.by_itself {
            return newborn.wait_ready(true, on_hooks, on_listener, on_terminal);
        }
        newborn.wait_assembled()?;
        on_hooks()?;
        newborn.acknowledge()?;
        // Nothing but the process itself is at work from here on. One that has gone
        // from its cgroup because it failed says why.
        let verified = place::verify(state, newborn);
        let again = || Err(RuntimeError::Init("it asked for the hooks twice".into()).into());
        newborn
            .wait_ready(true, again, on_listener, on_terminal)
            .and(verified)
    };
    attend().map_err(|error| process_failed(error, state.cgroup.as_ref()))?;
    Ok(console)
}

fn duplicate(newborn: &Newborn) -> Result<OwnedFd> {
    newborn
        .pidfd
        .try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e).into())
}

/// runc's words for a process that did not come up.
fn process_failed(error: Error, cgroup: Option<&Cgroup>) -> Error {
    let killed =
        matches!(&error, Error::Runtime(RuntimeError::Init(text)) if text == birth::KILLED);
    if killed && cgroup.is_some_and(|cgroup| cgroup.oom_kills().is_ok_and(|kills| kills > 0)) {
        let text = "container init was OOM-killed (memory limit too low?)";
        return RuntimeError::Init(text.into()).into();
    }
    match error {
        Error::Runtime(RuntimeError::Init(text)) => RuntimeError::Init(format!(
            "unable to start container process: error during container init: {text}"
        ))
        .into(),
        other => other,
    }
}

pub(super) fn send_pidfd(socket: &Path, pidfd: &OwnedFd) -> Result<()> {
    let stream = UnixStream::connect(socket).map_err(|e| Error::io("connect", socket, e))?;
    crate::sys::process::send_fd(stream.as_fd(), b"pidfd", Some(pidfd.as_fd()))
        .map_err(|e| Error::io("send to", socket, e))
}
