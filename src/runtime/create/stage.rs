//! What the new process is made of: the library's copy of the configuration, the
//! stage it works on, and the plan of everything that the process does itself.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::CreateRequest;
use super::judge::Judged;
use crate::cgroup::{Cgroup, Entry};
use crate::edit::{HookStage, IdMapping, NamespaceKind};
use crate::error::{Error, Result};
use crate::rootfs::{Assembly, Stage};
use crate::runtime::RuntimeError;
use crate::runtime::child::{ChildPlan, Staging, UtsNames, Whole};
use crate::runtime::console;
use crate::runtime::fifo::Gate;
use crate::runtime::lower::{self, Context, Namespaces};
use crate::runtime::lower_mounts::{CgroupView, MountIds};
use crate::runtime::mounts::{SharedMounts, within};
use crate::runtime::state::{State, Status, Store};
use crate::runtime::tail::Plan as TailPlan;
use crate::runtime::typed;

/// What the parent keeps of the plan.
pub(super) struct Kept<'a> {
    /// How the root is put together.
    pub assembly: Rc<Assembly<'a>>,
    /// Whether the process does that itself.
    pub by_itself: bool,
    /// Which of its mounts are idmapped, and how.
    pub id_maps: Vec<(usize, MountIds)>,
    /// The way into the container's cgroup.
    pub cgroup: Entry,
    /// The state as hooks inside the container see it, but for the status.
    pub inner_state: Value,
    /// Our end of the socket that brings the terminal.
    pub console: Option<OwnedFd>,
    /// Where the root is to be, if not in a mount namespace of its own.
    pub shared_mounts: Option<Rc<SharedMounts>>,
}

/// Plans the process; `cgroup` is where it will be born.
pub(super) fn plan<'a>(
    request: &'a CreateRequest<'_>,
    judged: &'a Judged,
    stage: &'a Stage,
    (view, cgroup): (&'a CgroupView, &Cgroup),
    (dir, state): (&Path, &State),
) -> Result<(ChildPlan<'a>, Kept<'a>)> {
    let value = request.document.value();
    let namespaces = &judged.namespaces;
    let context = Context {
        bundle: request.bundle,
        preflight: &judged.preflight,
        stage,
        devices: &judged.devices,
        cgroups: view,
        namespaces,
        bind_devices: judged.bind_devices,
        rootless: request.caller.is_user(),
        has_rights: request.caller.is_host_root()
            && !request.no_pivot
            && has_time(value)
            && !namespaces.is_private(NamespaceKind::User)
            && namespaces.is_new(NamespaceKind::Mount),
    };
    let (lowered, tree) = within(judged.joins.mounts(), || {
        let lowered = lower::for_init(value, &context)?;
        Ok((lowered, judged.preflight.clone_tree()?))
    })?;
    let shared_mounts = match namespaces.is_private(NamespaceKind::Mount) {
        true => None,
        false => Some(Rc::new(SharedMounts::new(&judged.preflight)?)),
    };
    let (ours, theirs) = if judged.process.terminal {
        let (ours, theirs) = console::pair()?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    let assembly = Rc::new(lowered.assembly);
    // The library sets them where it has made the namespace.
    let names_are_ours = lowered.by_itself || namespaces.path(NamespaceKind::Uts).is_some();
    let plan = ChildPlan {
        spec: lowered.spec,
        // Where the process enters its root itself, the library does not look for it.
        rootfs: stage.library_root(),
        staging: Some(Staging {
            preflight: Rc::clone(&judged.preflight),
            stage: stage.clone(),
            tree,
            whole: lowered.by_itself.then(|| Whole {
                assembly: Rc::clone(&assembly),
                sysctls: lowered.sysctls,
            }),
        }),
        is_exec: false,
        console: theirs,
        preserve_fds: request.preserve_fds,
        no_pivot: request.no_pivot && shared_mounts.is_none(),
        root: None,
        entry: cgroup.entry()?,
        user_namespace: namespaces.is_private(NamespaceKind::User),
        join: judged.joins.by_the_process()?,
        unshare: match lowered.by_itself {
            true => new_ones(namespaces, &BY_ITSELF).collect(),
            false => Vec::new(),
        },
        uts_names: match names_are_ours {
            true => judged.uts_names.clone(),
            false => UtsNames::default(),
        },
        time_namespace: time_offsets(value, namespaces),
        stays_dumpable: request.caller.is_user(),
        keyring: keyring(state)?,
        container_id: request.id.to_owned(),
        tail: TailPlan {
            process: judged.process.clone(),
            attributes: judged.attributes.clone(),
            capabilities: judged.capabilities.clone(),
            seccomp: judged.seccomp.clone(),
            make_cwd: true,
            show_console: lowered.by_itself && judged.process.terminal,
            protection: Some(lowered.protection),
            start_hooks: judged.hooks(HookStage::StartContainer),
            state: inner_state(state, namespaces),
            preserve_fds: request.preserve_fds,
            listen_fds: request.listen_fds,
            listen_names: request.listen_names.map(str::to_owned),
            keep_groups: request.caller.is_user(),
            shared_mounts: shared_mounts.clone(),
        },
        gate: Some(Gate::create(dir)?),
    };
    // Only those two act inside after the root is put together.
    let acts_inside = request.no_pivot || !judged.hooks(HookStage::CreateContainer).is_empty();
    let kept = Kept {
        assembly,
        by_itself: lowered.by_itself,
        id_maps: lowered.id_maps,
        cgroup: if acts_inside {
            cgroup.entry()?
        } else {
            Entry::default()
        },
        inner_state: inner_state(state, namespaces),
        console: ours,
        shared_mounts,
    };
    Ok((plan, kept))
}

/// The state as hooks inside the container see it.
fn inner_state(state: &State, namespaces: &Namespaces) -> Value {
    let mut inner = state.to_oci(Status::Created);
    let pid = i32::from(namespaces.is_new(NamespaceKind::Pid));
    inner["pid"] = pid.into();
    inner
}

/// An empty directory for the stage to be mounted on, in the container's first
/// mount namespace alone. The container's root user, who may be nobody on the
/// host, has to reach it; others can put nothing in it.
pub(super) struct Place {
    path: PathBuf,
    /// Whether it is this container's alone, and goes with this value.
    own: bool,
}

impl Place {
    pub(super) fn new(
        store: &Store,
        state_dir: &Path,
        request: &CreateRequest<'_>,
        judged: &Judged,
    ) -> Result<Self> {
        let caller = request.caller;
        let (path, own) = if caller.is_host_root() {
            (PathBuf::from("/run/kusabi-stage"), false)
        } else if is_callers(request, judged)? {
            (store.root().join("@stage"), false)
        } else {
            // The caller's own directories are closed to such a root user.
            let meta = fs::metadata(state_dir).map_err(|e| Error::io("stat", state_dir, e))?;
            let name = format!("kusabi-stage-{:x}-{:x}", meta.dev(), meta.ino());
            (Path::new("/tmp").join(name), true)
        };
        match fs::DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("mkdir", &path, e)),
        }
        let meta = fs::symlink_metadata(&path).map_err(|e| Error::io("stat", &path, e))?;
        if !meta.is_dir() || meta.uid() != caller.uid || meta.mode() & 0o022 != 0 {
            return Err(RuntimeError::Refused(format!(
                "{}: must be a directory of uid {} that nobody else may write; remove it",
                path.display(),
                caller.uid
            ))
            .into());
        }
        Ok(Self { path, own })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The stage on it.
    pub(super) fn stage(&self, request: &CreateRequest<'_>, judged: &Judged) -> Stage {
        let stage = Stage::new(&self.path, &judged.preflight);
        if lower::root_receives(request.document.value()) {
            stage.receiving()
        } else {
            stage
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = fs::remove_dir(&self.path)
        {
            tracing::debug!("rmdir {}: {error}", self.path.display());
        }
    }
}

/// Whether the container's root user is the caller on the host.
fn is_callers(request: &CreateRequest<'_>, judged: &Judged) -> Result<bool> {
    if !judged.namespaces.is_private(NamespaceKind::User) {
        return Ok(true);
    }
    let map = id_mappings(request.document.value(), "uidMappings")?;
    Ok(map
        .iter()
        .any(|line| line.container_id == 0 && line.host_id == request.caller.uid))
}

/// Whether the container's processor quota leaves room for the few milliseconds
/// that its root takes. A helper is not bound by it.
fn has_time(value: &Value) -> bool {
    const ROOM: i64 = 10_000;
    let resources = &value["linux"]["resources"];
    let quota = resources["cpu"]["quota"].as_i64().unwrap_or(0);
    (quota <= 0 || quota >= ROOM) && resources["unified"]["cpu.max"].is_null()
}

/// Namespaces that a process can make for itself at any time, once it is in the
/// cgroup that is to be the root of its view.
const BY_ITSELF: [(NamespaceKind, i32); 4] = [
    (NamespaceKind::Network, libc::CLONE_NEWNET),
    (NamespaceKind::Ipc, libc::CLONE_NEWIPC),
    (NamespaceKind::Uts, libc::CLONE_NEWUTS),
    (NamespaceKind::Cgroup, libc::CLONE_NEWCGROUP),
];

/// Those of them that the container gets new.
fn new_ones(
    namespaces: &Namespaces,
    kinds: &[(NamespaceKind, i32)],
) -> impl Iterator<Item = (NamespaceKind, i32)> {
    let new = kinds.iter().filter(|(kind, _)| namespaces.is_new(*kind));
    new.copied()
}

pub(super) fn clone_flags(namespaces: &Namespaces) -> u64 {
    let kinds = [
        (NamespaceKind::Pid, libc::CLONE_NEWPID),
        (NamespaceKind::User, libc::CLONE_NEWUSER),
    ];
    let mut flags = new_ones(namespaces, &kinds)
        .fold(0, |all, (_, flag)| all | u64::from(flag.cast_unsigned()));
    // Ours to make: mounts are prepared in it before the library runs. Who shares
    // ours leaves it in the end.
    if namespaces.path(NamespaceKind::Mount).is_none() {
        flags |= u64::from(libc::CLONE_NEWNS.cast_unsigned());
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

/// The name of a container's session keyring, unless it shares its creator's.
///
/// # Errors
/// None for an id that names a directory.
pub(in crate::runtime) fn keyring(state: &State) -> Result<Option<CString>> {
    if state.shared_keyring {
        return Ok(None);
    }
    CString::new(format!("_ses.{}", state.id))
        .map(Some)
        .map_err(|_| RuntimeError::InvalidId.into())
}

/// One of `linux.uidMappings` and `linux.gidMappings`.
pub(in crate::runtime) fn id_mappings(value: &Value, field: &str) -> Result<Vec<IdMapping>> {
    let list = &value["linux"][field];
    if list.is_null() {
        return Ok(Vec::new());
    }
    typed::read(list, &format!("config.json: linux.{field}"))
}
