//! `exec`: an additional process in a running container.
//!
//! It gets what init got and nothing more: the same namespaces (user, pid and
//! time included), seccomp filter, capabilities and device filter.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use super::RuntimeError;
use super::attributes::Attributes;
use super::birth::{self, CloneRequest, Newborn, Through, Way};
use super::child::{ChildPlan, UtsNames};
use super::console;
use super::create::{seccomp_cache, verify_filter};
use super::credentials::Capabilities;
use super::fault::{Step, point};
use super::lower::{self, Namespaces};
use super::lsm;
use super::process::ProcessSpec;
use super::seccomp;
use super::state::{Locked, State, Status, Store, write_atomically};
use super::tail::Plan as TailPlan;
use super::undo::Undo;
use crate::cgroup::{Entry, SubCgroups};
use crate::document::Document;
use crate::edit::NamespaceKind;
use crate::error::{Error, Result};
use crate::host::caller::caller;
use crate::sys::process::{pidfd_open, pidfd_send_signal, prctl};

/// What to execute.
pub struct ExecRequest<'a> {
    /// The `process` object.
    pub process: &'a Value,
    /// Where it came from, for errors.
    pub origin: &'a str,
    /// Whether we return while it runs.
    pub detach: bool,
    /// `--console-socket`.
    pub console_socket: Option<&'a Path>,
    /// `--pid-file`.
    pub pid_file: Option<&'a Path>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<&'a Path>,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS`, after those.
    pub listen_fds: u32,
    /// `LISTEN_FDNAMES`, with those.
    pub listen_names: Option<&'a str>,
    /// `--cgroup`.
    pub cgroups: &'a SubCgroups,
    /// `--ignore-paused`.
    pub ignore_paused: bool,
}

/// A process that runs.
pub struct Executed {
    /// The process.
    pub newborn: Newborn,
    /// Its terminal, when nobody else took it.
    pub console: Option<OwnedFd>,
}

/// The namespaces in the order in which they are joined; pid is joined by the
/// parent.
const NAMESPACES: &[(&str, i32)] = &[
    ("user", libc::CLONE_NEWUSER),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("net", libc::CLONE_NEWNET),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", 0x80),
    ("mnt", libc::CLONE_NEWNS),
];

/// Executes a process in a container.
///
/// # Errors
/// A container that does not run, the kernel's, the process's own reason. The
/// process is then gone and no pid file was written.
pub fn exec(
    store: &Store,
    locked: &Locked,
    state: &State,
    document: &Document,
    request: &ExecRequest<'_>,
) -> Result<Executed> {
    match state.status() {
        Status::Stopped => return refuse("cannot exec in a stopped container"),
        Status::Paused if !request.ignore_paused => {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        _ => {}
    }
    let process = ProcessSpec::parse(request.process, request.origin)?;
    let linux = &document.value()["linux"];
    let attributes = Attributes::new(&process, linux, request.origin)?;
    lsm::check(&process)?;
    let caller = caller();
    let user = caller.is_user();
    if user {
        super::rootless::groups(&process)?;
    }
    super::create::check_preserved(request.preserve_fds + request.listen_fds)?;
    console::check(process.terminal, request.detach, request.console_socket)?;
    let init = state.init.ok_or(RuntimeError::NotRunning)?;
    let pidfd = pidfd_open(init.pid).map_err(|_| RuntimeError::NotRunning)?;
    if !init.is_alive() {
        return Err(RuntimeError::NotRunning.into());
    }
    verify_filter(state)?;
    point(Step::ExecVerify)?;
    let cgroup = state
        .cgroup
        .as_ref()
        .ok_or_else(|| RuntimeError::Refused("the container has no cgroup on record".into()))?;
    let places = cgroup.exec_places(nix::unistd::Pid::from_raw(init.pid), request.cgroups)?;
    // As runc: who may not join the container's cgroup does without.
    let nowhere = cgroup.is_rootless().then_some(None);
    let mut places = places.into_iter().map(Some).chain(nowhere);
    let mut refusal: Option<Error> = None;
    if !user {
        // The new process is in the container's pid namespace from its first
        // moment: nobody there may look into it (CVE-2016-9962).
        prctl(libc::PR_SET_DUMPABLE, 0).map_err(|e| RuntimeError::syscall("set dumpable", e))?;
    }
    let mut undo = Undo::new();
    let (mut newborn, console_ours, helped) = loop {
        let Some(place) = places.next() else {
            // The place that was meant is the one to tell of.
            let nowhere = || RuntimeError::Refused("no cgroup takes the process".into()).into();
            return Err(refusal.unwrap_or_else(nowhere));
        };
        let opened = match &place {
            None => Ok(Entry::default()),
            // A user's systemd moves it.
            Some(place) if cgroup.takes_over() => place.exists().map(|()| Entry::default()),
            Some(place) => place.open(),
        };
        let entry = match opened {
            // Init may have moved, and removed where it was.
            Err(error) if error.is_absent() || cgroup.is_rootless() => {
                refusal.get_or_insert(error.into());
                continue;
            }
            entry => entry?,
        };
        let (ours, theirs) = match process.terminal {
            true => console::pair().map(|(a, b)| (Some(a), Some(b)))?,
            false => (None, None),
        };
        let plan = child_plan(
            store,
            state,
            document,
            request,
            (&process, &attributes),
            (&pidfd, init.pid),
            entry,
            theirs,
        )?;
        let private_pid = differs(init.pid, "pid")?;
        let user_flag = if user && differs(init.pid, "user")? {
            libc::CLONE_NEWUSER
        } else {
            0
        };
        // All of /proc that was read by its number was still this process's.
        if !init.is_alive() {
            return Err(RuntimeError::NotRunning.into());
        }
        let pid_flag = if private_pid { libc::CLONE_NEWPID } else { 0 };
        let flags = user_flag | pid_flag;
        let through = (!caller.is_host_root() && flags != 0).then(|| Through {
            target: pidfd.as_fd(),
            flags,
            oom_score_adj: process.oom_score_adj,
        });
        let helped = through.is_some();
        let clone = CloneRequest {
            flags: 0,
            pid_namespace: (private_pid && through.is_none()).then(|| pidfd.as_fd()),
            way: through.map(Way::Through),
            locked,
        };
        match birth::spawn(&clone, plan) {
            Ok(newborn) => {
                let moved = match &place {
                    Some(place) => cgroup.adopt(newborn.pid, place.directory()),
                    None => Ok(()),
                };
                if let Err(error) = moved {
                    newborn.kill();
                    refusal.get_or_insert(error.into());
                    continue;
                }
                break (newborn, ours, helped);
            }
            // A cgroup that hands controllers to its children takes no process,
            // nor does a threaded one.
            Err(Error::Runtime(RuntimeError::Syscall { source, .. }))
                if matches!(
                    source.raw_os_error(),
                    Some(libc::EBUSY | libc::EOPNOTSUPP | libc::ENODEV)
                ) =>
            {
                let error = match &place {
                    Some(place) => place.refused(source).into(),
                    None => RuntimeError::syscall("clone the container's process", source).into(),
                };
                refusal.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    };
    let child = newborn
        .pidfd
        .try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e))?;
    undo.push("process", move || {
        let _ = pidfd_send_signal(child.as_fd(), libc::SIGKILL);
        birth::reap(&child);
        Ok(())
    });
    point(Step::ExecProcess)?;
    birth::limit(newborn.pid, &process)?;
    if !helped {
        birth::set_oom_score(newborn.pid, &process)?;
    }
    // As runc: not where resctrl has been unmounted since.
    if let Some(group) = state.resctrl.as_ref().filter(|group| group.exists()) {
        group.join(newborn.pid)?;
    }
    newborn.release()?;
    point(Step::ExecRelease)?;
    let pid = newborn.pid;
    let profile = &document.value()["linux"]["seccomp"];
    let mut console = None;
    newborn
        .wait_ready(
            false,
            || Ok(()),
            |fd| {
                let text = |name: &str| profile[name].as_str().unwrap_or_default();
                let agent = Path::new(text("listenerPath"));
                seccomp::notify_agent(
                    agent,
                    text("listenerMetadata"),
                    &state.to_oci(Status::Running),
                    pid,
                    &fd,
                )
            },
            || {
                if let Some(ours) = &console_ours {
                    console = console::receive(ours, process.console_size, request.console_socket)?;
                }
                Ok(())
            },
        )
        .map_err(process_failed)?;
    if let Some(socket) = request.pidfd_socket {
        super::create::send_pidfd(socket, &newborn.pidfd)?;
    }
    if let Some(path) = request.pid_file {
        write_atomically(path, pid.to_string().as_bytes(), 0o644)?;
        let path = path.to_path_buf();
        undo.push("pid file", move || {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))
        });
    }
    point(Step::ExecPidFile)?;
    undo.disarm();
    drop(undo);
    Ok(Executed { newborn, console })
}

/// runc's words for a process that did not come up.
fn process_failed(error: Error) -> Error {
    match error {
        Error::Runtime(RuntimeError::Init(text)) => {
            RuntimeError::Init(format!("unable to start container process: {text}")).into()
        }
        other => other,
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "one caller; the parts have nothing in common"
)]
fn child_plan(
    store: &Store,
    state: &State,
    document: &Document,
    request: &ExecRequest<'_>,
    (process, attributes): (&ProcessSpec, &Attributes),
    (pidfd, init): (&OwnedFd, i32),
    entry: Entry,
    console: Option<OwnedFd>,
) -> Result<ChildPlan<'static>> {
    let (capabilities, unknown) =
        Capabilities::resolve(&process.capabilities.clone().unwrap_or_default());
    if !unknown.is_empty() {
        tracing::warn!(
            "ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        );
    }
    let profile = &document.value()["linux"]["seccomp"];
    let seccomp = seccomp::parse_and_compile(profile, &seccomp_cache(store))?;
    let mut flags = 0;
    let mut user = false;
    for (name, flag) in NAMESPACES {
        if differs(init, name)? {
            let is_user = *flag == libc::CLONE_NEWUSER;
            user |= is_user;
            // See `through`: it has been joined then.
            if !is_user || nix::unistd::geteuid().is_root() {
                flags |= flag;
            }
        }
    }
    let target = pidfd
        .try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e))?;
    Ok(ChildPlan {
        spec: lower::for_exec(document.value(), request.process)?,
        rootfs: state.rootfs.clone(),
        staging: None,
        is_exec: true,
        console,
        preserve_fds: request.preserve_fds,
        no_pivot: false,
        root: root_of(document, init)?,
        entry,
        user_namespace: user,
        join: if flags == 0 {
            Vec::new()
        } else {
            vec![(target, flags)]
        },
        unshare: Vec::new(),
        uts_names: UtsNames::default(),
        time_namespace: None,
        stays_dumpable: false,
        keyring: super::create::keyring(state)?,
        container_id: state.id.clone(),
        tail: TailPlan {
            process: process.clone(),
            attributes: attributes.clone(),
            capabilities,
            seccomp,
            make_cwd: false,
            show_console: false,
            protection: None,
            start_hooks: Vec::new(),
            state: Value::Null,
            preserve_fds: request.preserve_fds,
            listen_fds: request.listen_fds,
            listen_names: request.listen_names.map(str::to_owned),
            keep_groups: !nix::unistd::geteuid().is_root(),
            shared_mounts: None,
        },
        gate: None,
    })
}

/// The root of a container whose mount namespace has another one, the host's.
fn root_of(document: &Document, init: i32) -> Result<Option<OwnedFd>> {
    if Namespaces::new(document.namespaces()?)?.is_private(NamespaceKind::Mount) {
        return Ok(None);
    }
    let path = format!("/proc/{init}/root");
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(&path);
    let root = root.map_err(|e| Error::io("open", &path, e))?;
    Ok(Some(root.into()))
}

/// Whether a process is in another namespace of this kind than we are.
fn differs(pid: i32, name: &str) -> Result<bool> {
    let theirs = format!("/proc/{pid}/ns/{name}");
    let read = |path: &str| fs::read_link(path);
    match (read(&theirs), read(&format!("/proc/self/ns/{name}"))) {
        (Ok(theirs), Ok(ours)) => Ok(theirs != ours),
        // A kernel without this kind of namespace.
        (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        (Err(e), _) | (_, Err(e)) => Err(Error::io("readlink", theirs, e)),
    }
}

fn refuse<T>(text: &str) -> Result<T> {
    Err(RuntimeError::WrongState(text.to_owned()).into())
}
