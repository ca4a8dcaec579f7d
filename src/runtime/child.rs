//! The new process, from its clone to libcontainer.
//!
//! Runs on a copy of the parent's memory, single-threaded. It never returns: it
//! becomes the user's program, or reports one line and ends. It may not write to
//! stdout or stderr, which belong to the container already.
//!
//! Where it has all of the runtime's rights, it puts its root together and enters
//! it itself. That saves a helper process, and the library a root of its own.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use libcontainer::container::{Container, ContainerStatus, State as LibraryState};
use libcontainer::notify_socket::NotifyListener;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel::{InitReceiver, MainSender};
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;

use super::attributes;
use super::credentials::KindText;
use super::fifo::Gate;
use super::lsm;
use super::mounts::change_root_to;
use super::sysctl::{self, Sysctls};
use super::tail::{self, Ends, Plan, Tail, message};
use crate::cgroup::Entry;
use crate::edit::NamespaceKind;
use crate::rootfs::{Assembly, IdMaps, OwnRights, Preflight, RootfsError, Stage};
use crate::sys;

/// What the child does before libcontainer.
pub struct ChildPlan<'a> {
    /// The library's copy of the configuration.
    pub spec: Spec,
    /// The root file system for the library.
    pub rootfs: PathBuf,
    /// The stage to put up first; `exec` needs none.
    pub staging: Option<Staging<'a>>,
    /// Whether this is `exec` in a container that exists.
    pub is_exec: bool,
    /// Our end of a socket pair for the terminal.
    pub console: Option<OwnedFd>,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// The root to be confined to by chroot(2), where joining namespaces does not
    /// do it: for `exec` in a container without a mount namespace.
    pub root: Option<OwnedFd>,
    /// The cgroup to be born in; on version 1 the child writes itself into it.
    pub entry: Entry,
    /// Whether the child has a new user namespace, or is to join one.
    pub user_namespace: bool,
    /// Namespaces to join: a descriptor and `CLONE_NEW*` flags.
    pub join: Vec<(OwnedFd, i32)>,
    /// Namespaces to make, each with its `CLONE_NEW*`, which the library then does
    /// not.
    pub unshare: Vec<(NamespaceKind, i32)>,
    /// Names to set once they are joined or made.
    pub uts_names: UtsNames,
    /// A new time namespace, with the lines of `timens_offsets`.
    pub time_namespace: Option<String>,
    /// Whether the parent has to reach into this process without being root.
    pub stays_dumpable: bool,
    /// Name of the session keyring to join.
    pub keyring: Option<CString>,
    /// Asked for by the library.
    pub container_id: String,
    /// What comes after the library.
    pub tail: Plan,
    /// Where init waits for `start`.
    pub gate: Option<Gate>,
}

/// Names of the machine for a UTS namespace that the library has not made.
#[derive(Debug, Clone, Default)]
pub struct UtsNames {
    /// `hostname`.
    pub host: Option<String>,
    /// `domainname`.
    pub domain: Option<String>,
}

impl UtsNames {
    fn set(&self) -> Result<(), String> {
        if let Some(name) = &self.host {
            nix::unistd::sethostname(name)
                .map_err(|e| format!("sethostname: {}", std::io::Error::from(e).kind_text()))?;
        }
        if let Some(name) = &self.domain {
            sys::process::set_domain_name(name)
                .map_err(|e| format!("setdomainname: {}", e.kind_text()))?;
        }
        Ok(())
    }
}

/// What [`Preflight::stage`] takes, and what comes after it.
pub struct Staging<'a> {
    /// The checked root.
    pub preflight: Rc<Preflight>,
    /// Where.
    pub stage: Stage,
    /// The root's mounts, as the parent could copy them.
    pub tree: Option<OwnedFd>,
    /// What is this process's to do of what libcontainer does else.
    pub whole: Option<Whole<'a>>,
}

/// A root that the first process puts together and enters itself.
pub struct Whole<'a> {
    /// What of.
    pub assembly: Rc<Assembly<'a>>,
    /// Set once inside.
    pub sysctls: Sysctls,
}

/// The library's channels and our socket, the child's ends.
pub struct ChildEnds {
    /// To the parent.
    pub main: MainSender,
    /// From the parent.
    pub init: InitReceiver,
    /// Ours.
    pub sync: OwnedFd,
    /// Already told to go on: the wait for `start` is ours, in the tail.
    pub listener: NotifyListener,
}

/// The life of the child.
pub fn run(plan: ChildPlan<'_>, ends: ChildEnds) -> ! {
    let ChildEnds {
        mut main,
        mut init,
        sync,
        listener,
    } = ends;
    let ends = Rc::new(RefCell::new(Ends { sync, gate: None }));
    let (args, tail_plan_gate) = match before_library(plan, &ends, listener) {
        Ok(ready) => ready,
        Err(text) => tail::fail(&ends, &text),
    };
    if let Ok(mut ends) = ends.try_borrow_mut() {
        ends.gate = tail_plan_gate;
    }
    match container_init_process(&args, &mut main, &mut init) {
        Ok(()) => tail::fail(&ends, "the container's process returned"),
        Err(error) => {
            let text = describe(&error, crate::log::take_library_error());
            tail::fail(&ends, &text)
        }
    }
}

/// The library's error is terse; the object it failed on is in its last log
/// event.
fn describe(error: &dyn std::error::Error, logged: Option<String>) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    match logged {
        Some(event) if !event.is_empty() && event != text => format!("{event}: {text}"),
        _ => text,
    }
}

fn before_library(
    plan: ChildPlan<'_>,
    ends: &Rc<RefCell<Ends>>,
    listener: NotifyListener,
) -> Result<(ContainerArgs, Option<Gate>), String> {
    plan.entry
        .join()
        .map_err(|(index, errno)| plan.entry.failed(index, errno).to_string())?;
    drop(plan.entry);
    // Nobody in a namespace that is joined may look into this process. In a user
    // namespace the parent has its maps to write first.
    if plan.is_exec || !(plan.user_namespace || plan.stays_dumpable) {
        not_dumpable()?;
    }
    plan.tail.attributes.apply_initial_affinity()?;
    mark_start();
    // What depends on nothing that is still to come is made while the parent has
    // things to do: a network namespace takes the kernel half a millisecond. A
    // cgroup namespace begins where the parent may yet put this process.
    let waits = plan.user_namespace || !plan.join.is_empty();
    let (late, early): (Vec<_>, Vec<_>) = plan
        .unshare
        .iter()
        .partition(|(kind, _)| waits || *kind == NamespaceKind::Cgroup);
    make_namespaces(&early)?;
    wait_for_release(ends)?;
    join_namespaces(&plan.join)?;
    if let Some(root) = &plan.root {
        change_root_to(root.as_fd()).map_err(|e| format!("chroot: {}", e.kind_text()))?;
    }
    if plan.user_namespace {
        become_namespace_root(plan.tail.keep_groups)?;
    }
    make_namespaces(&late)?;
    plan.uts_names.set()?;
    // Becoming another user has changed it.
    if plan.stays_dumpable {
        dumpable(1)?;
    } else {
        not_dumpable()?;
    }
    if let Some(offsets) = &plan.time_namespace {
        enter_time_namespace(offsets)?;
        dumpable(u64::from(plan.stays_dumpable))?;
    }
    if let Some(name) = &plan.keyring {
        let extra = keyring_search(plan.is_exec, plan.user_namespace);
        join_keyring(name, extra, &plan.tail.process.selinux_label)?;
    }
    let enters_itself = plan.staging.as_ref().is_some_and(|s| s.whole.is_some());
    if let Some(staging) = plan.staging {
        put_up(staging, ends)?;
    }
    tracing::debug!("child process in init()");
    // With a root of its own, and in its namespaces, it is what an additional
    // process is to the library.
    let container_type = if plan.is_exec || enters_itself {
        ContainerType::TenantContainer { exec_notify_fd: -1 }
    } else {
        ContainerType::InitContainer
    };
    let preserve_fds = i32::try_from(plan.preserve_fds + plan.tail.listen_fds)
        .map_err(|_| "too many preserved descriptors".to_owned())?;
    let args = ContainerArgs {
        container_type,
        syscall: SyscallType::Linux,
        spec: Rc::new(plan.spec),
        rootfs: plan.rootfs,
        console_socket: plan.console.map(IntoRawFd::into_raw_fd),
        notify_listener: listener,
        preserve_fds,
        // It wants one for hooks, though none of them are its own.
        container: Some(Container {
            state: LibraryState::new(
                &plan.container_id,
                ContainerStatus::Creating,
                None,
                PathBuf::new(),
            ),
            root: PathBuf::new(),
        }),
        user_ns_config: None,
        cgroup_config: libcgroups::common::CgroupConfig {
            cgroup_path: PathBuf::new(),
            systemd_cgroup: false,
            container_name: plan.container_id,
        },
        detached: true,
        executor: Box::new(Tail::new(Rc::new(plan.tail), Rc::clone(ends))),
        no_pivot: plan.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
    };
    Ok((args, plan.gate))
}

fn make_namespaces(kinds: &[&(NamespaceKind, i32)]) -> Result<(), String> {
    for (kind, flag) in kinds {
        sys::process::unshare(*flag)
            .map_err(|e| format!("unshare {} namespace: {}", kind.key(), e.kind_text()))?;
    }
    Ok(())
}

/// The lines by which readers of runc's debug log tell its stages apart, at the
/// same moments: before namespaces are joined, and below when they have been.
fn mark_start() {
    let pid = std::process::id();
    tracing::debug!("nsexec[{pid}]: => nsexec container setup");
    tracing::debug!("nsexec[{pid}]: affinity: {}", attributes::affinity_text());
}

/// Waits until the parent has set id maps and limits.
fn wait_for_release(ends: &Rc<RefCell<Ends>>) -> Result<(), String> {
    let ends = ends.try_borrow().map_err(|e| e.to_string())?;
    let (bytes, _) = sys::process::recv_fd(ends.sync.as_fd(), 4).map_err(|e| e.to_string())?;
    if bytes.is_empty() {
        // The runtime is gone; so are we.
        sys::process::exit_now(1);
    }
    Ok(())
}

fn join_namespaces(join: &[(OwnedFd, i32)]) -> Result<(), String> {
    for (fd, flags) in join {
        sys::process::setns(fd.as_fd(), *flags)
            .map_err(|e| format!("join namespaces ({flags:#x}): {}", e.kind_text()))?;
    }
    Ok(())
}

/// Puts up the stage, and where that is for this process to do, the root, which it
/// then enters.
fn put_up(staging: Staging<'_>, ends: &RefCell<Ends>) -> Result<(), String> {
    let Staging {
        preflight,
        stage,
        tree,
        whole,
    } = staging;
    let made = stage.make(whole.is_none()).map_err(|e| e.to_string())?;
    let put_up = preflight.stage(&stage, &made, tree);
    put_up.map_err(|e| e.to_string())?;
    let Some(Whole { assembly, sysctls }) = whole else {
        return Ok(());
    };
    put_together(&preflight, &stage, &assembly).map_err(|e| e.to_string())?;
    {
        let ends = ends.try_borrow().map_err(|e| e.to_string())?;
        tail::send(&ends, message::ASSEMBLED)?;
        tail::await_answer(&ends, "the runtime did not run the hooks")?;
    }
    preflight.pivot().map_err(|e| e.to_string())?;
    sysctl::apply(&sysctls)
}

fn put_together(
    preflight: &Preflight,
    stage: &Stage,
    assembly: &Assembly<'_>,
) -> Result<(), RootfsError> {
    preflight.leave_the_host()?;
    let id_maps = IdMaps::default();
    let mut sources = OwnRights::new(assembly, &id_maps)?;
    assembly.assemble(stage, &mut sources)
}

/// Nobody in the container may look into this process (CVE-2016-9962).
fn not_dumpable() -> Result<(), String> {
    dumpable(0)
}

fn dumpable(value: u64) -> Result<(), String> {
    sys::process::prctl(libc::PR_SET_DUMPABLE, value)
        .map(drop)
        .map_err(|e| format!("set dumpable: {}", e.kind_text()))
}

fn become_namespace_root(keep_groups: bool) -> Result<(), String> {
    sys::process::setresgid(0)
        .map_err(|e| format!("setgid 0 in user namespace: {}", e.kind_text()))?;
    sys::process::setresuid(0)
        .map_err(|e| format!("setuid 0 in user namespace: {}", e.kind_text()))?;
    if keep_groups {
        return Ok(());
    }
    match sys::process::setgroups(&[]) {
        // Denied where an unprivileged user made the map (user_namespaces(7)).
        Err(e) if e.raw_os_error() != Some(libc::EPERM) => {
            Err(format!("setgroups in user namespace: {}", e.kind_text()))
        }
        _ => Ok(()),
    }
}

/// Leaves the process dumpable.
fn enter_time_namespace(offsets: &str) -> Result<(), String> {
    const CLONE_NEWTIME: i32 = 0x80;
    let fail = |what: &str, e: std::io::Error| format!("time namespace: {what}: {}", e.kind_text());
    // The offsets file belongs to root unless the process can be dumped.
    sys::process::prctl(libc::PR_SET_DUMPABLE, 1).map_err(|e| fail("set dumpable", e))?;
    sys::process::unshare(CLONE_NEWTIME).map_err(|e| fail("unshare", e))?;
    if !offsets.is_empty() {
        std::fs::write("/proc/self/timens_offsets", offsets)
            .map_err(|e| fail("write timens_offsets", e))?;
    }
    let own = File::open("/proc/self/ns/time_for_children")
        .map_err(|e| fail("open time_for_children", e))?;
    sys::process::setns(own.as_fd(), CLONE_NEWTIME).map_err(|e| fail("setns", e))?;
    Ok(())
}

/// Who may search the session keyring besides its possessors: those who may be the
/// container, with a user namespace other ids, else the owner. `exec` joins what
/// init has made.
fn keyring_search(is_exec: bool, user_namespace: bool) -> u32 {
    const OTHER_SEARCH: u32 = 0x8;
    const USER_SEARCH: u32 = 0x8_0000;
    match (is_exec, user_namespace) {
        (true, _) => 0,
        (false, true) => OTHER_SEARCH,
        (false, false) => USER_SEARCH,
    }
}

/// The container's session keyring, so that its processes do not see those of the
/// runtime's caller.
fn join_keyring(name: &CString, extra: u32, label: &str) -> Result<(), String> {
    if !label.is_empty() {
        lsm::label_keys(label)?;
    }
    match sys::process::join_session_keyring(name, extra) {
        Err(e) if e.raw_os_error() != Some(libc::ENOSYS) => {
            return Err(format!("unable to join session keyring: {}", e.kind_text()));
        }
        _ => {}
    }
    if label.is_empty() {
        return Ok(());
    }
    lsm::label_keys("")
}
