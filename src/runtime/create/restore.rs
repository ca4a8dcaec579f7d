//! `restore`: a container whose processes come out of an image.
//!
//! Record, cgroup and device filter are made as for `create`, and in force before
//! CRIU starts; CRIU makes the namespaces, mounts and processes. It works in a
//! mount namespace of its own, so nothing is staged where others see it, and all
//! of it goes with CRIU.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::CreateRequest;
use super::judge::Judged;
use super::place;
use super::record::{self, Begun};
use crate::cgroup::Cgroup;
use crate::document::Document;
use crate::edit::{HookStage, NamespaceKind};
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::rootfs::{self, is_bind};
use crate::runtime::criu::{
    self, Cgroup_root, Criu_opts, Criu_req, Criu_req_type, DESCRIPTORS, Directories, Inherit_fd,
    Join_namespace, Notification, Options, Session, external_mount, namespace_key,
};
use crate::runtime::fault::{Step, point};
use crate::runtime::hooks;
use crate::runtime::identity::Identity;
use crate::runtime::lower_mounts::CgroupView;
use crate::runtime::state::write_atomically;
use crate::runtime::state::{Locked, State, Status, Store};
use crate::runtime::undo::Undo;
use crate::runtime::{RuntimeError, birth, console};
use crate::sys::fsmount;
use crate::sys::process::{pidfd_open, pidfd_send_signal, setns, unshare};

const LOG: &str = "restore.log";
const ROOT: &str = "criu-root";

/// What is only said for a restore.
#[derive(Debug)]
pub struct RestoreOptions {
    /// What it has in common with a checkpoint.
    pub options: Options,
    /// `--lsm-profile`, as TYPE:NAME.
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`
    pub lsm_mount_context: Option<String>,
}

/// A container that runs again.
pub struct Restored {
    /// Its locked directory.
    pub locked: Locked,
    /// Its first process.
    pub pid: i32,
    /// The same, never recycled.
    pub pidfd: OwnedFd,
    /// The terminal's master, when nobody else took it.
    pub console: Option<OwnedFd>,
}

/// Restores a container. On failure nothing that was made stays.
///
/// # Errors
/// As `create`; an image that is not there or not whole, CRIU's answer.
pub fn restore(
    store: &Store,
    request: &CreateRequest<'_>,
    restore: &RestoreOptions,
) -> Result<Restored> {
    let mut undo = Undo::new();
    let steps = [Step::RestoreState, Step::RestoreConfig];
    let Begun {
        locked,
        dir,
        judged,
        planned,
        mut state,
    } = record::begin(store, request, &mut undo, steps)?;
    criu::check_mounts(&judged.namespaces)?;
    let version = criu::version()?;
    let steps = [Step::RestoreCgroup, Step::RestoreFilter];
    let place = place::make(request, planned, &locked, &mut state, &mut undo, steps)?;
    let (view, cgroup) = (place.view, place.cgroup);
    place::share(&judged, &locked, &mut state, &mut undo)?;

    let directories = restore.options.open(false)?;
    let log = directories.logs().join(LOG);
    let mut opts = restore
        .options
        .common(&directories, LOG, &state.annotations);
    opts.set_evasive_devices(true);
    opts.set_rst_sibling(true);
    lsm(restore, version, &mut opts)?;
    let root = dir.join(ROOT);
    opts.set_root(root.to_string_lossy().into_owned());
    // Open, and not close-on-exec, until CRIU has started.
    let namespaces = join_namespaces(&judged, version, &mut opts)?;
    external_mounts(request, &judged, &view, &mut opts)?;
    let images = &restore.options.images;
    state.descriptors = inherited(&images.join(DESCRIPTORS), &mut opts)?;

    let (session, directories) = start(request, &judged, &restore.options, &root)?;
    directories.give(&mut opts);
    drop(namespaces);
    state.restorer = Identity::of(i32::try_from(session.pid()).unwrap_or_default());
    locked.write(&state)?;
    point(Step::RestoreCriu)?;
    let mut run = Run {
        request,
        judged: &judged,
        state: &mut state,
        locked: &locked,
        console: None,
        init: None,
    };
    let result = resume(session, &cgroup, opts, &mut run);
    let (init, console) = (run.init.take(), run.console.take());
    if let Some((_, pidfd)) = &init {
        let pidfd = duplicate(pidfd)?;
        undo.push("process", move || {
            // ESRCH: it ended by itself.
            let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            birth::reap(&pidfd);
            Ok(())
        });
    }
    result.inspect_err(|_| criu::quote_errors(&log))?;
    let Some((pid, pidfd)) = init else {
        let text = "criu restored no process";
        return Err(RuntimeError::Refused(text.to_owned()).into());
    };
    point(Step::RestoreProcess)?;
    drop(place.keeper);
    cgroup.apply_without_keeper()?;
    // The mount is gone with CRIU's namespace.
    fs::remove_dir(&root).map_err(|e| Error::io("remove", &root, e))?;
    place::verify_filter(&state)?;
    point(Step::RestoreVerify)?;
    if let Some(socket) = request.pidfd_socket {
        super::send_pidfd(socket, &pidfd)?;
    }
    if let (Some(lease), Some(init)) = (request.lease, state.init) {
        lease.commit(init)?;
    }
    state.recorded = Status::Running;
    locked.write(&state)?;
    point(Step::RestoreRecord)?;
    if let Some(path) = request.pid_file {
        let path = path.to_path_buf();
        write_atomically(&path, pid.to_string().as_bytes(), 0o644)?;
        undo.push("pid file", move || {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))
        });
    }
    point(Step::RestorePidFile)?;
    undo.disarm();
    drop(undo);
    Ok(Restored {
        locked,
        pid,
        pidfd,
        console,
    })
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e).into())
}

fn lsm(restore: &RestoreOptions, version: u32, opts: &mut Criu_opts) -> Result<()> {
    let needs = |flag: &str| -> Result<()> {
        if version >= 3_16_00 {
            return Ok(());
        }
        let text = format!("{flag} requires at least CRIU 3.16");
        Err(RuntimeError::Refused(text).into())
    };
    if let Some(profile) = &restore.lsm_profile {
        needs("--lsm-profile")?;
        opts.set_lsm_profile(profile.clone());
    }
    if let Some(context) = &restore.lsm_mount_context {
        needs("--lsm-mount-context")?;
        opts.set_lsm_mount_context(context.clone());
    }
    Ok(())
}

/// Namespaces given by path: network and pid are handed to CRIU open, as things
/// that it left alone in the dump; others it joins by name.
fn join_namespaces(judged: &Judged, version: u32, opts: &mut Criu_opts) -> Result<Vec<fs::File>> {
    let mut open = Vec::new();
    for kind in [
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::User,
        NamespaceKind::Mount,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
    ] {
        let Some(path) = judged.namespaces.path(kind) else {
            continue;
        };
        if let Some((_, key)) = namespace_key(kind) {
            criu::require_external(kind, version, "restoration")?;
            let file = fs::File::open(path).map_err(|_| {
                RuntimeError::Refused(format!(
                    "Requested network namespace {} does not exist",
                    path.display()
                ))
            })?;
            crate::sys::set_cloexec(file.as_raw_fd(), false)
                .map_err(|e| RuntimeError::syscall("hand criu a namespace", e))?;
            opts.inherit_fd.push(inherit(key, file.as_raw_fd()));
            open.push(file);
        } else if matches!(kind, NamespaceKind::Cgroup | NamespaceKind::Time) {
            let text = format!("Do not know how to handle namespace {}", kind.key());
            return Err(RuntimeError::Refused(text).into());
        } else {
            let mut join = Join_namespace::new();
            let name = match kind {
                NamespaceKind::Mount => "mnt",
                other => other.key(),
            };
            join.set_ns(name.to_owned());
            join.set_ns_file(path.to_string_lossy().into_owned());
            opts.join_ns.push(join);
        }
    }
    Ok(open)
}

fn inherit(key: &str, fd: i32) -> Inherit_fd {
    let mut inherit = Inherit_fd::new();
    inherit.set_key(key.to_owned());
    inherit.set_fd(fd);
    inherit
}

/// What the dump calls external, and where it is on this host.
fn external_mounts(
    request: &CreateRequest<'_>,
    judged: &Judged,
    view: &CgroupView,
    opts: &mut Criu_opts,
) -> Result<()> {
    let document: &Document = request.document;
    for mount in document.mounts()? {
        let place = rootfs::lands_at(&judged.preflight, &mount.destination)?;
        let kind = mount.kind.as_deref().unwrap_or_default();
        let mut add = |place: &Path, source: &Path| {
            let (place, source) = (place.to_string_lossy(), source.to_string_lossy());
            opts.ext_mnt.push(external_mount(&place, &source));
        };
        if is_bind(&mount) {
            let source = mount.source.clone().unwrap_or_default();
            add(&place, &request.bundle.join(source));
        } else if kind == "cgroup" || kind == "cgroup2" {
            match view {
                CgroupView::V2 { mountpoint, own } => {
                    let private = judged.namespaces.is_private(NamespaceKind::Cgroup);
                    add(&place, if private { own } else { mountpoint });
                }
                CgroupView::V1(hierarchies) => {
                    for (name, own) in hierarchies {
                        add(&place.join(name), own);
                    }
                }
                CgroupView::None => add(&place, Path::new("/sys/fs/cgroup")),
            }
        }
    }
    // Masks are known by this name, whatever they cover.
    opts.ext_mnt.push(external_mount("/dev/null", "/dev/null"));
    for device in criu::device_paths(document)? {
        if device != "/dev/null" {
            opts.ext_mnt.push(external_mount(&device, &device));
        }
    }
    Ok(())
}

/// Standard streams that were pipes are ours now. Returns what they were.
fn inherited(path: &Path, opts: &mut Criu_opts) -> Result<Vec<String>> {
    let text = bounded::read(path, 1 << 20)?;
    let names: Vec<String> = serde_json::from_slice(&text)
        .map_err(|e| RuntimeError::Refused(format!("{}: {e}", path.display())))?;
    for (fd, name) in (0..).zip(&names) {
        if name.contains("pipe:") {
            opts.inherit_fd.push(inherit(name, fd));
        }
    }
    Ok(names)
}

/// Starts CRIU in a mount namespace of its own, with the root where it wants it
/// (a mount, below nothing that is covered) and a place for each mount, as init
/// would have made. Returns its directories as that namespace has them: it mounts
/// in the one that it works in.
fn start(
    request: &CreateRequest<'_>,
    judged: &Judged,
    options: &Options,
    root: &Path,
) -> Result<(Session, Directories)> {
    let own = "/proc/self/ns/mnt";
    let back = fs::File::open(own).map_err(|e| Error::io("open", own, e))?;
    let fail = |what: &str, e: std::io::Error| -> Error { RuntimeError::syscall(what, e).into() };
    fs::create_dir(root).map_err(|e| Error::io("mkdir", root, e))?;
    unshare(libc::CLONE_NEWNS).map_err(|e| fail("make a mount namespace for criu", e))?;
    let inside = || -> Result<(Session, Directories)> {
        let none = None::<&Path>;
        // Not private: CRIU makes a bind mount the slave that it was by its source.
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        nix::mount::mount(none, "/", none, slave, none)
            .map_err(|e| fail("make mounts slaves", e.into()))?;
        let rootfs = rootfs::reopen(&judged.preflight)?;
        let tree = fsmount::clone_tree(rootfs.as_fd(), c"", true)
            .map_err(|e| fail("copy the root's mounts", e))?;
        let target = fs::File::open(root).map_err(|e| Error::io("open", root, e))?;
        fsmount::attach(&tree, target.as_fd()).map_err(|e| fail("mount criu's root", e))?;
        let sources: Vec<_> = request
            .document
            .mounts()?
            .into_iter()
            .map(|mut mount| {
                mount.source = mount.source.map(|source| request.bundle.join(source));
                mount
            })
            .collect();
        rootfs::make_places(rootfs.as_fd(), &judged.rootfs, &sources)?;
        Ok((
            Session::start(!judged.process.terminal)?,
            options.open(false)?,
        ))
    };
    let session = inside();
    setns(back.as_fd(), libc::CLONE_NEWNS)
        .map_err(|e| fail("return to the own mount namespace", e))?;
    // That changed the directory, too.
    std::env::set_current_dir(request.bundle).map_err(|e| Error::io("chdir", request.bundle, e))?;
    session
}

/// What happens while CRIU works.
struct Run<'a> {
    request: &'a CreateRequest<'a>,
    judged: &'a Judged,
    state: &'a mut State,
    locked: &'a Locked,
    console: Option<OwnedFd>,
    init: Option<(i32, OwnedFd)>,
}

fn resume(
    mut session: Session,
    cgroup: &Cgroup,
    mut opts: Criu_opts,
    run: &mut Run<'_>,
) -> Result<()> {
    let pid = session.pid();
    // The restored processes are its children, and begin where it is.
    for (_, directory) in cgroup.directories() {
        let path: PathBuf = directory.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(|e| Error::io("write", &path, e))?;
    }
    if let Some(group) = &run.state.resctrl {
        group.join(i32::try_from(pid).unwrap_or_default())?;
    }
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).map_err(|e| Error::io("open", &path, e))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(place)) = (parts.next(), parts.next()) else {
            continue;
        };
        for controller in controllers.split(',') {
            let mut root = Cgroup_root::new();
            root.set_ctrl(controller.to_owned());
            root.set_path(place.to_owned());
            opts.cg_root.push(root);
        }
    }
    let mut message = Criu_req::new();
    message.opts = Some(opts).into();
    session.run(Criu_req_type::RESTORE, message, |notification| {
        run.notified(notification)
    })
}

impl Run<'_> {
    fn notified(&mut self, notification: Notification) -> Result<()> {
        match notification.script.as_str() {
            "setup-namespaces" => {
                let mut state = self.state.to_oci(Status::Creating);
                state["pid"] = notification.pid.into();
                for stage in [HookStage::Prestart, HookStage::CreateRuntime] {
                    hooks::run(stage, &self.judged.hooks(stage), &state, &[])?;
                }
                point(Step::RestoreHooks)?;
            }
            "post-restore" => {
                let pidfd = pidfd_open(notification.pid)
                    .map_err(|e| RuntimeError::syscall("open the restored process", e))?;
                self.init = Some((notification.pid, pidfd));
                self.state.init = Identity::of(notification.pid);
                self.locked.write(self.state)?;
            }
            "orphan-pts-master" => {
                let Some(master) = notification.terminal else {
                    return Err(RuntimeError::Init("criu sent no terminal".into()).into());
                };
                self.console =
                    console::hand_on(master, b"orphan-pts-master", self.request.console_socket)?;
            }
            _ => {}
        }
        Ok(())
    }
}
