//! Everything about a request that can be judged before anything is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

use super::stage::id_mappings;
use super::{CreateRequest, validate};
use crate::document::Document;
use crate::edit::{DeviceNode, Hook, HookStage, NamespaceKind};
use crate::error::Result;
use crate::rootfs::{self, Preflight};
use crate::runtime::RuntimeError;
use crate::runtime::attributes::Attributes;
use crate::runtime::child::UtsNames;
use crate::runtime::console;
use crate::runtime::credentials::Capabilities;
use crate::runtime::hooks;
use crate::runtime::injected::Injected;
use crate::runtime::join::{self, Joins};
use crate::runtime::lower::Namespaces;
use crate::runtime::lsm;
use crate::runtime::mounts::within;
use crate::runtime::network::{self, Device};
use crate::runtime::process::ProcessSpec;
use crate::runtime::resctrl::{self, Planned};
use crate::runtime::rootless;
use crate::runtime::seccomp::{self, CompiledFilter};
use crate::runtime::state::Store;
use crate::runtime::typed;

/// Where seccomp filters are kept below the state root. No container id contains
/// the character, so it cannot be taken for one.
const SECCOMP_CACHE: &str = "@seccomp";

/// What errors call the container's process.
const PROCESS: &str = "config.json: process";

/// A request that nothing speaks against, read once.
pub(super) struct Judged {
    pub process: ProcessSpec,
    pub namespaces: Namespaces,
    /// Those of them that exist already.
    pub joins: Joins,
    /// Names to set in a joined UTS namespace.
    pub uts_names: UtsNames,
    /// Who owns the cgroup, where it is delegated.
    pub cgroup_owner: Option<u32>,
    /// Absolute, without symbolic links.
    pub rootfs: PathBuf,
    pub devices: Vec<DeviceNode>,
    /// Whether they are bound from the host instead of made.
    pub bind_devices: bool,
    pub preflight: Rc<Preflight>,
    pub attributes: Attributes,
    pub capabilities: Capabilities,
    pub seccomp: Option<CompiledFilter>,
    /// `linux.intelRdt`.
    pub resctrl: Option<Planned>,
    /// `linux.netDevices`.
    pub net_devices: Vec<Device>,
    hooks: Vec<(HookStage, Hook)>,
}

impl Judged {
    /// Reads and checks; the only thing it may write is the seccomp cache.
    pub fn new(store: &Store, request: &CreateRequest<'_>) -> Result<Self> {
        let document = request.document;
        let value = document.value();
        protections_are_readable(value)?;
        let process = ProcessSpec::parse(&value["process"], PROCESS)?;
        let attributes = Attributes::new(&process, &value["linux"], PROCESS)?.for_init();
        lsm::check(&process)?;
        let namespaces = Namespaces::new(document.namespaces()?)?;
        rootless::check(request.caller, document, &namespaces, &process)?;
        let joins = Joins::open(&namespaces)?;
        validate::document(value, &namespaces, || joins.is_own_network())?;
        check_preserved(request.preserve_fds + request.listen_fds)?;
        console::check(
            process.terminal,
            !request.foreground,
            request.console_socket,
        )?;
        let bind_devices =
            request.caller.in_user_namespace || namespaces.is_private(NamespaceKind::User);
        let devices = devices_of(document, request.injected)?;
        let view = rootfs::View {
            bundle: request.bundle,
            mounts: &document.mounts()?,
            devices: &devices,
            bind_devices,
            terminal: process.terminal,
            cwd: Path::new(&process.cwd),
        };
        let (rootfs, preflight) = within(joins.mounts(), || {
            let rootfs = rootfs_of(document, request.bundle)?;
            let preflight = rootfs::preflight(&rootfs, &view)?;
            Ok((rootfs, Rc::new(preflight)))
        })?;
        let capabilities = capabilities_of(&process);
        Ok(Self {
            seccomp: seccomp_filter(document, store)?,
            hooks: document.hooks()?,
            resctrl: resctrl_of(request)?,
            net_devices: network::devices(document, &namespaces, request.rootless_cgroups)?,
            cgroup_owner: cgroup_owner(value, &joins)?,
            uts_names: uts_names(value, &namespaces),
            process,
            namespaces,
            joins,
            rootfs,
            devices,
            bind_devices,
            preflight,
            attributes,
            capabilities,
        })
    }

    /// The hooks of one stage, in order.
    pub fn hooks(&self, stage: HookStage) -> Vec<Hook> {
        hooks::of_stage(&self.hooks, stage)
    }

    /// Whether there are any that `start` or `delete` runs.
    pub fn has_late_hooks(&self) -> bool {
        let late = |stage: &HookStage| matches!(stage, HookStage::Poststart | HookStage::Poststop);
        self.hooks.iter().any(|(stage, _)| late(stage))
    }
}

/// Who owns a delegated cgroup. The ids of a joined user namespace are its own;
/// engines that give them, too, must give the same.
fn cgroup_owner(value: &Value, joins: &Joins) -> Result<Option<u32>> {
    let Some(user) = joins.user() else {
        return Ok(crate::cgroup::delegated_uid(value));
    };
    let (uids, gids) = join::mappings(user)?;
    let linux = &value["linux"];
    let given = |field: &str| id_mappings(value, field);
    if !linux["uidMappings"].is_null() || !linux["gidMappings"].is_null() {
        if given("uidMappings")? != uids || given("gidMappings")? != gids {
            return Err(RuntimeError::config(
                "linux.uidMappings",
                "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one",
            )
            .into());
        }
        return Ok(crate::cgroup::delegated_uid(value));
    }
    let mut mapped = value.clone();
    mapped["linux"]["uidMappings"] = serde_json::to_value(uids)
        .map_err(|e| RuntimeError::config("linux.uidMappings", e.to_string()))?;
    Ok(crate::cgroup::delegated_uid(&mapped))
}

/// Names for a UTS namespace of the container's own.
fn uts_names(value: &Value, namespaces: &Namespaces) -> UtsNames {
    if !namespaces.is_private(NamespaceKind::Uts) {
        return UtsNames::default();
    }
    let name = |field: &str| {
        let name = value[field].as_str().unwrap_or_default();
        (!name.is_empty()).then(|| name.to_owned())
    };
    UtsNames {
        host: name("hostname"),
        domain: name("domainname"),
    }
}

/// What is read leniently later must not be lost for its type: a root or a path
/// that was to be read-only would be writable.
fn protections_are_readable(value: &Value) -> Result<()> {
    typed::read::<Option<bool>>(&value["root"]["readonly"], "config.json: root.readonly")?;
    for field in ["maskedPaths", "readonlyPaths"] {
        let origin = format!("config.json: linux.{field}");
        typed::read::<Option<Vec<String>>>(&value["linux"][field], &origin)?;
    }
    for field in ["mountLabel", "rootfsPropagation"] {
        let origin = format!("config.json: linux.{field}");
        typed::read::<Option<String>>(&value["linux"][field], &origin)?;
    }
    Ok(())
}

fn devices_of(document: &Document, injected: &Injected) -> Result<Vec<DeviceNode>> {
    let mut devices = document.devices()?;
    // As runc: it is a link of the runtime's, to the container's own terminals.
    devices.retain(|device| device.path != Path::new("/dev/ptmx"));
    for device in &mut devices {
        if let Some(host) = injected.host_path(&device.path) {
            device.host_path = host.to_path_buf();
        }
    }
    Ok(devices)
}

fn resctrl_of(request: &CreateRequest<'_>) -> Result<Option<Planned>> {
    if request.document.value()["linux"]["intelRdt"].is_null() {
        return Ok(None);
    }
    resctrl::plan(request.document, request.id, resctrl::mounted().as_deref())
}

fn capabilities_of(process: &ProcessSpec) -> Capabilities {
    let (capabilities, unknown) =
        Capabilities::resolve(&process.capabilities.clone().unwrap_or_default());
    if !unknown.is_empty() {
        tracing::warn!(
            "ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        );
    }
    capabilities
}

fn seccomp_filter(document: &Document, store: &Store) -> Result<Option<CompiledFilter>> {
    let profile = &document.value()["linux"]["seccomp"];
    seccomp::parse_and_compile(profile, &store.root().join(SECCOMP_CACHE))
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
                use crate::runtime::credentials::KindText;
                e.kind_text()
            }),
        )
        .into()
    })
}

/// Descriptors the caller promised to have opened; if one is not, one of ours
/// would get its number and leak into the container. What was handed on is not
/// closed by `execve`, or it would not be here; all of ours is.
pub(in crate::runtime) fn check_preserved(count: u32) -> Result<()> {
    for fd in 3..3 + count {
        let raw = i32::try_from(fd).unwrap_or(i32::MAX);
        let flags = fcntl(raw, FcntlArg::F_GETFD).map(FdFlag::from_bits_truncate);
        if !flags.is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC)) {
            return Err(RuntimeError::Refused(format!(
                "unable to stat preserved-fd {} (of {count}), please check that the fd is open",
                fd - 2
            ))
            .into());
        }
    }
    Ok(())
}
