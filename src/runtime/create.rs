//! `create`: from an effective document to a process that waits for `start`.
//!
//! The steps are those of [`Step`], in that order, and each registers its undo.
//! The cgroup exists, filtered and verified, before the process does, so there is
//! no moment at which the process runs unfiltered, whatever is killed when.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::RuntimeError;
use super::birth::{self, CloneRequest, Newborn};
use super::child::{ChildPlan, Staging};
use super::console;
use super::credentials::Capabilities;
use super::fault::{Step, point};
use super::fifo::Gate;
use super::hooks;
use super::identity::Identity;
use super::lower::{self, Context, Namespaces};
use super::lower_mounts::CgroupView;
use super::process::ProcessSpec;
use super::seccomp::{self, CompiledFilter};
use super::state::{CONFIG_FILE, Locked, PLAN_FILE, State, Status, Store, write_atomically};
use super::tail::Plan as TailPlan;
use super::undo::Undo;
use crate::cgroup::{Cgroup, CgroupSpec, Layout};
use crate::device::{DeviceFilter, Standing, Target};
use crate::document::Document;
use crate::edit::{HookStage, IdMapping, NamespaceKind};
use crate::error::{Error, Result};
use crate::rootfs::{self, Stage};

/// Where seccomp filters are kept below the state root. No container id contains
/// the character, so it cannot be taken for one.
const SECCOMP_CACHE: &str = "@seccomp";

/// What to create.
pub struct CreateRequest<'a> {
    /// The container id.
    pub id: &'a str,
    /// Absolute bundle directory.
    pub bundle: &'a Path,
    /// The effective configuration.
    pub document: &'a Document,
    /// The plan, as it is stored beside it.
    pub plan: &'a [u8],
    /// Where device nodes are on the host, for those that are elsewhere there
    /// than in the container. `config.json` has no field for it.
    pub host_paths: &'a [(PathBuf, PathBuf)],
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
    let document = request.document;
    let value = document.value();
    // Everything that can be judged without making anything comes first.
    let process = ProcessSpec::parse(&value["process"], "config.json: process")?;
    let namespaces = Namespaces::new(document.namespaces()?)?;
    refuse_unsupported(value, &namespaces)?;
    check_preserved(request.preserve_fds + request.listen_fds)?;
    console::check(
        process.terminal,
        !request.foreground,
        request.console_socket,
    )?;
    let rootfs = rootfs_of(document, request.bundle)?;
    let mounts = document.mounts()?;
    let mut devices = document.devices()?;
    for device in &mut devices {
        if let Some((_, host)) = request
            .host_paths
            .iter()
            .find(|(path, _)| *path == device.path)
        {
            device.host_path.clone_from(host);
        }
    }
    let preflight = Rc::new(rootfs::preflight(
        &rootfs,
        &rootfs::View {
            bundle: request.bundle,
            mounts: &mounts,
            devices: &devices,
            bind_devices: namespaces.is_private(NamespaceKind::User),
            terminal: process.terminal,
            cwd: Path::new(&process.cwd),
        },
    )?);
    let (capabilities, unknown) =
        Capabilities::resolve(&process.capabilities.clone().unwrap_or_default());
    if !unknown.is_empty() {
        tracing::warn!(
            "ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        );
    }
    let seccomp = seccomp_filter(document, store)?;
    let all_hooks = document.hooks()?;

    let mut undo = Undo::new();
    let locked = store.claim(request.id)?;
    let dir = locked.path().to_path_buf();
    {
        let dir = dir.clone();
        undo.push("state directory", move || {
            fs::remove_dir_all(&dir).map_err(|e| Error::io("remove", &dir, e))
        });
    }
    let mut state = initial_state(request, document, &rootfs, &namespaces)?;
    locked.write(&state)?;
    point(Step::CreateState)?;

    write_atomically(&dir.join(CONFIG_FILE), document.as_bytes(), 0o600)?;
    write_atomically(&dir.join(PLAN_FILE), request.plan, 0o600)?;
    point(Step::CreateConfig)?;

    let layout = Layout::detect()?;
    let planned = Cgroup::plan(&layout, &cgroup_spec(request.id, document, &namespaces)?)?;
    // On record first: whatever kills us, delete knows what to remove.
    state.cgroup = Some(planned.cgroup().clone());
    locked.write(&state)?;
    let cgroup = planned.make()?;
    {
        let cgroup = cgroup.clone();
        undo.push(
            "cgroup",
            move || Ok(cgroup.remove(super::delete::PATIENCE)?),
        );
    }
    state.cgroup = Some(cgroup.clone());
    cgroup.apply()?;
    point(Step::CreateCgroup)?;

    install_filter(&cgroup, document, &mut state)?;
    locked.write(&state)?;
    point(Step::CreateFilter)?;

    let cgroups = cgroup_view(&layout, &cgroup);
    let stage = Stage::new(stage_dir(store)?, &preflight);
    let lowered = lower::for_init(
        value,
        &Context {
            bundle: request.bundle,
            preflight: &preflight,
            stage: &stage,
            devices: &devices,
            cgroups: &cgroups,
            namespaces: &namespaces,
        },
    )?;
    let (console_ours, console_theirs) = if process.terminal {
        let (ours, theirs) = console::pair()?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    let start_hooks = hooks::of_stage(&all_hooks, HookStage::StartContainer);
    let mut hook_state = state.to_oci(Status::Created);
    let plan = ChildPlan {
        spec: lowered.spec,
        rootfs: stage.library_root(),
        staging: Some(Staging {
            preflight: Rc::clone(&preflight),
            stage: stage.clone(),
            tree: preflight.clone_tree()?,
        }),
        is_exec: false,
        console: console_theirs,
        preserve_fds: request.preserve_fds,
        no_pivot: request.no_pivot,
        entry: cgroup.entry()?,
        user_namespace: namespaces.is_private(NamespaceKind::User),
        join: Vec::new(),
        time_namespace: time_offsets(value, &namespaces),
        stays_dumpable: !nix::unistd::geteuid().is_root(),
        keyring: keyring(request)?,
        container_id: request.id.to_owned(),
        bundle: request.bundle.to_path_buf(),
        tail: TailPlan {
            process: process.clone(),
            capabilities,
            seccomp,
            make_cwd: true,
            readonly_root: lowered.readonly_root,
            readonly_paths: lowered.readonly_paths,
            start_hooks,
            state: {
                hook_state["pid"] = if namespaces.is_new(NamespaceKind::Pid) {
                    1.into()
                } else {
                    0.into()
                };
                hook_state.clone()
            },
            preserve_fds: request.preserve_fds,
            listen_fds: request.listen_fds,
            readonly_dev: lowered.readonly_dev,
        },
        gate: Some(Gate::create(&dir)?),
    };
    // Hooks and relative paths of the configuration start at the bundle.
    std::env::set_current_dir(request.bundle).map_err(|e| Error::io("chdir", request.bundle, e))?;
    let pid_namespace = namespaces
        .path(NamespaceKind::Pid)
        .map(|path| fs::File::open(path).map_err(|e| Error::io("open", path, e)))
        .transpose()?;
    let mut newborn = birth::spawn(
        &CloneRequest {
            flags: clone_flags(&namespaces),
            pid_namespace: pid_namespace.as_ref().map(AsFd::as_fd),
            locked: &locked,
        },
        plan,
    )?;
    // Undone before the cgroup is removed, which wants it empty.
    let pidfd = newborn
        .pidfd
        .try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e))?;
    undo.push("process", move || {
        // ESRCH: it ended by itself. The cgroup's removal waits for the rest.
        let _ = crate::sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        birth::reap(&pidfd);
        Ok(())
    });
    state.init = Identity::of(newborn.pid);
    locked.write(&state)?;
    point(Step::CreateProcess)?;

    if namespaces.is_new(NamespaceKind::User) {
        let map = |field| id_mappings(value, field);
        birth::map_ids(newborn.pid, &map("uidMappings")?, &map("gidMappings")?)?;
    }
    birth::limit(newborn.pid, &process)?;
    newborn.release()?;
    point(Step::CreateRelease)?;

    let pid = newborn.pid;
    let oci_state = |status: Status| state.to_oci(status);
    let user_namespace = namespaces.is_private(NamespaceKind::User);
    let init = newborn
        .pidfd
        .try_clone()
        .map_err(|e| RuntimeError::syscall("dup pidfd", e))?;
    let on_hooks = || -> Result<()> {
        birth::inside(init.as_fd(), user_namespace, || {
            lowered.assembly.assemble(&stage).map_err(|e| e.to_string())
        })?;
        for stage in [HookStage::Prestart, HookStage::CreateRuntime] {
            let list = hooks::of_stage(&all_hooks, stage);
            hooks::run(stage, &list, &oci_state(Status::Creating), &[])?;
        }
        point(Step::CreateHooks)
    };
    let metadata = value["linux"]["seccomp"]["listenerMetadata"]
        .as_str()
        .unwrap_or_default();
    let agent = value["linux"]["seccomp"]["listenerPath"]
        .as_str()
        .unwrap_or_default();
    let on_listener = |fd: OwnedFd| {
        seccomp::notify_agent(
            Path::new(agent),
            metadata,
            &oci_state(Status::Creating),
            pid,
            &fd,
        )
    };
    let mut console = None;
    let on_terminal = || -> Result<()> {
        if let Some(ours) = &console_ours {
            console = console::receive(ours, process.console_size, request.console_socket)?;
        }
        Ok(())
    };
    newborn
        .wait_ready(on_hooks, on_listener, on_terminal)
        .map_err(process_failed)?;
    point(Step::CreateParked)?;

    verify(&state, &newborn)?;
    point(Step::CreateVerify)?;
    if let Some(socket) = request.pidfd_socket {
        send_pidfd(socket, &newborn.pidfd)?;
    }
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

/// runc's words for a process that did not come up.
fn process_failed(error: Error) -> Error {
    match error {
        Error::Runtime(RuntimeError::Init(text)) => RuntimeError::Init(format!(
            "unable to start container process: error during container init: {text}"
        ))
        .into(),
        other => other,
    }
}

fn initial_state(
    request: &CreateRequest<'_>,
    document: &Document,
    rootfs: &Path,
    namespaces: &Namespaces,
) -> Result<State> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let creator = Identity::of(me).ok_or_else(|| {
        RuntimeError::Refused("/proc does not show this process; is it mounted?".into())
    })?;
    let created = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .map_err(|e| RuntimeError::Refused(format!("format the time: {e}")))?;
    Ok(State {
        oci_version: document.value()["ociVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        id: request.id.to_owned(),
        recorded: Status::Creating,
        init: None,
        creator,
        bundle: request.bundle.to_path_buf(),
        rootfs: rootfs.to_path_buf(),
        created,
        owner: nix::unistd::geteuid().as_raw(),
        annotations: document
            .annotations()?
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        cgroup: None,
        filter: None,
        systemd: false,
        private_pid: namespaces.is_new(NamespaceKind::Pid),
    })
}

/// How the cgroup of a document is made.
///
/// # Errors
/// Fields of the wrong type.
pub fn cgroup_spec<'a>(
    id: &'a str,
    document: &'a Document,
    _namespaces: &Namespaces,
) -> Result<CgroupSpec<'a>> {
    Ok(CgroupSpec {
        cgroups_path: document.cgroups_path()?,
        id,
        resources: &document.value()["linux"]["resources"],
        rootless: !nix::unistd::geteuid().is_root(),
        owner: crate::cgroup::delegated_uid(document.value()),
    })
}

fn install_filter(cgroup: &Cgroup, document: &Document, state: &mut State) -> Result<()> {
    let rules = document.device_rules()?;
    let devices = document.devices()?;
    let declared: Vec<&Path> = devices.iter().map(|d| d.path.as_path()).collect();
    let Some(directory) = cgroup.devices_target() else {
        // Rootless without a cgroup: no filter can be had, and none is needed to
        // hold back somebody who cannot make nodes.
        return Ok(());
    };
    let filter = DeviceFilter::for_container(&rules, &declared)?;
    state.filter = Some(with_target(cgroup, directory, |target| {
        Ok(filter.install(target)?)
    })?);
    Ok(())
}

/// Opens the place a filter is in.
fn with_target<T>(
    cgroup: &Cgroup,
    directory: &Path,
    act: impl FnOnce(&Target<'_>) -> Result<T>,
) -> Result<T> {
    if !cgroup.is_v2() {
        return act(&Target::V1(directory));
    }
    let file = fs::File::open(directory).map_err(|e| Error::io("open", directory, e))?;
    act(&Target::V2(file.as_fd()))
}

/// Checks that the recorded device filter is in force.
///
/// # Errors
/// A filter that is missing or another than the recorded one.
pub fn verify_filter(state: &State) -> Result<()> {
    let (Some(cgroup), Some(filter)) = (&state.cgroup, &state.filter) else {
        return Ok(());
    };
    let Some(directory) = cgroup.devices_target() else {
        return Ok(());
    };
    let standing = with_target(cgroup, directory, |target| Ok(filter.verify(target)?))?;
    if let Standing::Narrower(what) = standing {
        tracing::warn!("device filter of {}: {what}", state.id);
    }
    Ok(())
}

/// The process is where it should be before anybody is told that it exists.
fn verify(state: &State, newborn: &Newborn) -> Result<()> {
    verify_filter(state)?;
    if let Some(cgroup) = &state.cgroup {
        let own = nix::unistd::Pid::from_raw(newborn.pid);
        if cgroup.devices_target().is_some() && !cgroup.pids(true)?.contains(&own) {
            return Err(RuntimeError::Init(
                "the container's process left its cgroup during create".into(),
            )
            .into());
        }
    }
    Ok(())
}

fn cgroup_view(layout: &Layout, cgroup: &Cgroup) -> CgroupView {
    if cgroup.is_v2() {
        match (layout.hierarchies().first(), cgroup.directories().next()) {
            (Some(hierarchy), Some((_, own))) => CgroupView::V2 {
                mountpoint: hierarchy.mount_point.clone(),
                own: own.to_path_buf(),
            },
            _ => CgroupView::None,
        }
    } else {
        let mut views: Vec<(String, PathBuf)> = Vec::new();
        for hierarchy in layout.hierarchies() {
            let own = hierarchy.names.iter().find_map(|n| cgroup.directory(n));
            let name = hierarchy
                .mount_point
                .file_name()
                .map(|n| n.to_string_lossy().into_owned());
            if let (Some(own), Some(name)) = (own, name)
                // As runc: beside version 1 the unified hierarchy is not shown.
                && hierarchy.names.iter().any(|n| !n.is_empty())
            {
                views.push((name, own.to_path_buf()));
            }
        }
        if views.is_empty() {
            CgroupView::None
        } else {
            CgroupView::V1(views)
        }
    }
}

fn clone_flags(namespaces: &Namespaces) -> u64 {
    let mut flags = 0;
    for (kind, flag) in [
        (NamespaceKind::Pid, libc::CLONE_NEWPID),
        (NamespaceKind::User, libc::CLONE_NEWUSER),
        // Ours to make: mounts are prepared in it before the library runs.
        (NamespaceKind::Mount, libc::CLONE_NEWNS),
    ] {
        if namespaces.is_new(kind) {
            flags |= u64::from(flag.cast_unsigned());
        }
    }
    flags
}

fn time_offsets(value: &Value, namespaces: &Namespaces) -> Option<String> {
    if !namespaces.is_new(NamespaceKind::Time) {
        return None;
    }
    let mut text = String::new();
    for (clock, offset) in value["linux"]["timeOffsets"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let part = |name: &str| offset[name].as_i64().unwrap_or(0);
        text.push_str(&format!("{clock} {} {}\n", part("secs"), part("nanosecs")));
    }
    Some(text)
}

fn keyring(request: &CreateRequest<'_>) -> Result<Option<CString>> {
    if request.no_new_keyring {
        return Ok(None);
    }
    CString::new(format!("_ses.{}", request.id))
        .map(Some)
        .map_err(|_| RuntimeError::InvalidId.into())
}

fn seccomp_filter(document: &Document, store: &Store) -> Result<Option<CompiledFilter>> {
    let profile = &document.value()["linux"]["seccomp"];
    if profile.is_null() {
        return Ok(None);
    }
    seccomp::parse_and_compile(profile, &store.root().join(SECCOMP_CACHE)).map(Some)
}

/// The seccomp cache of a store, for `exec`.
#[must_use]
pub fn seccomp_cache(store: &Store) -> PathBuf {
    store.root().join(SECCOMP_CACHE)
}

fn rootfs_of(document: &Document, bundle: &Path) -> Result<PathBuf> {
    let path = document.root_path()?.unwrap_or_default();
    if path.is_empty() {
        return Err(RuntimeError::config("root.path", "must name the root file system").into());
    }
    let path = bundle.join(path);
    fs::canonicalize(&path).map_err(|e| {
        RuntimeError::config(
            "root.path",
            format!("invalid rootfs: stat {}: {}", path.display(), {
                use super::credentials::KindText;
                e.kind_text()
            }),
        )
        .into()
    })
}

/// An empty directory for the stage. The container's root user, who may be
/// nobody on the host, has to search it; others can put nothing in it.
fn stage_dir(store: &Store) -> Result<PathBuf> {
    let dir = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/run/kusabi-stage")
    } else {
        store.root().join("@stage")
    };
    match fs::DirBuilder::new().mode(0o711).create(&dir) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::io("mkdir", &dir, e)),
    }
    let meta = fs::symlink_metadata(&dir).map_err(|e| Error::io("stat", &dir, e))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(RuntimeError::Refused(format!(
            "{}: must be a directory of uid {} that nobody else may write; remove it",
            dir.display(),
            nix::unistd::geteuid()
        ))
        .into());
    }
    Ok(dir)
}

/// One of `linux.uidMappings` and `linux.gidMappings`.
fn id_mappings(value: &Value, field: &str) -> Result<Vec<IdMapping>> {
    let list = &value["linux"][field];
    if list.is_null() {
        return Ok(Vec::new());
    }
    // Through text: numbers kept as written do not read as integers otherwise.
    serde_json::from_str(&list.to_string())
        .map_err(|e| RuntimeError::config(format!("linux.{field}"), e.to_string()).into())
}

/// Descriptors the caller promised to have opened; if one is not, one of ours
/// would get its number and leak into the container.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    for fd in 3..3 + count {
        let raw = i32::try_from(fd).unwrap_or(i32::MAX);
        if nix::sys::stat::fstat(raw).is_err() {
            return Err(RuntimeError::Refused(format!(
                "unable to stat preserved-fd {} (of {count}), please check that the fd is open",
                fd - 2
            ))
            .into());
        }
        crate::sys::set_cloexec(raw, false)
            .map_err(|e| RuntimeError::syscall(format!("preserve descriptor {fd}"), e))?;
    }
    Ok(())
}

pub(super) fn send_pidfd(socket: &Path, pidfd: &OwnedFd) -> Result<()> {
    let stream = UnixStream::connect(socket).map_err(|e| Error::io("connect", socket, e))?;
    crate::sys::process::send_fd(stream.as_fd(), b"pidfd", Some(pidfd.as_fd()))
        .map_err(|e| Error::io("send to", socket, e))
}

fn refuse_unsupported(value: &Value, namespaces: &Namespaces) -> Result<()> {
    let linux = &value["linux"];
    let filled = |v: &Value| match v {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    for field in super::support::REFUSED_LINUX_FIELDS {
        if filled(&linux[field]) {
            return Err(RuntimeError::config(
                format!("linux.{field}"),
                "is not supported by this version of kusabi",
            )
            .into());
        }
    }
    if !namespaces.is_new(NamespaceKind::Mount) {
        return Err(RuntimeError::config(
            "linux.namespaces",
            "a container without a new mount namespace is not supported by this version of kusabi",
        )
        .into());
    }
    if namespaces.path(NamespaceKind::User).is_some() {
        return Err(RuntimeError::config(
            "linux.namespaces",
            "joining a user namespace by path is not supported by this version of kusabi",
        )
        .into());
    }
    if namespaces.is_new(NamespaceKind::User) && !filled(&linux["uidMappings"]) {
        return Err(RuntimeError::config(
            "linux.uidMappings",
            "user namespaces enabled, but no uid mappings found",
        )
        .into());
    }
    if !namespaces.is_private(NamespaceKind::User) && filled(&linux["uidMappings"]) {
        return Err(RuntimeError::config(
            "linux.uidMappings",
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        )
        .into());
    }
    Ok(())
}
