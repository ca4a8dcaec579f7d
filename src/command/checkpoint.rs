//! `checkpoint` and `restore`.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::create::with_request;
use crate::cli::{Bundle, CgroupsMode, Checkpoint, Criu, Devices, EmptyNamespace, Restore};
use crate::error::{Error, Result, reason};
use crate::host::caller;
use crate::log;
use crate::runtime::RuntimeError;
use crate::runtime::checkpoint::{CheckpointRequest, checkpoint};
use crate::runtime::create::restore::{RestoreOptions, restore as restore_container};
use crate::runtime::criu::{Criu_cg_mode, Options};
use crate::runtime::delete::delete;
use crate::runtime::state::Store;
use crate::runtime::supervise::Supervisor;

/// Below the working directory, where no `--image-path` is given.
const IMAGES: &str = "checkpoint";

/// `checkpoint`.
///
/// # Errors
/// As [`checkpoint()`].
pub(super) fn dump(context: &Context<'_>, arguments: &Checkpoint) -> Result<()> {
    warn_of_rootless();
    let locked = Store::new(context.root.path.clone()).lock(arguments.id.as_str())?;
    let request = CheckpointRequest {
        options: options(&arguments.criu)?,
        parent: arguments.parent_path.clone(),
        leave_running: arguments.leave_running,
        pre_dump: arguments.pre_dump,
        tcp_skip_in_flight: arguments.tcp_skip_in_flight,
        link_remap: arguments.link_remap,
        page_server: arguments
            .page_server
            .as_ref()
            .map(|server| (server.address.clone(), server.port)),
        status: status_fd(arguments)?,
    };
    checkpoint(locked, request)
}

/// `restore`; returns the container's exit status, 0 when detached.
///
/// # Errors
/// As [`restore_container`]; nothing of the container is left then.
pub(super) fn restore(context: &Context<'_>, arguments: &Restore) -> Result<u8> {
    warn_of_rootless();
    let supervisor = if arguments.detach {
        None
    } else {
        Some(Supervisor::new(!arguments.no_subreaper)?)
    };
    let bundle = Bundle {
        bundle: arguments.bundle.clone(),
        console_socket: arguments.console_socket.clone(),
        pid_file: arguments.pid_file.clone(),
        // CRIU decides how the root is entered; it knows an initramfs.
        no_pivot: arguments.no_pivot,
        ..Bundle::default()
    };
    let wanted = RestoreOptions {
        options: options(&arguments.criu)?,
        lsm_profile: arguments.lsm_profile.clone(),
        lsm_mount_context: arguments.lsm_mount_context.clone(),
    };
    let id = arguments.id.as_str();
    let restored = with_request(
        context,
        &bundle,
        &Devices::default(),
        id,
        supervisor.is_some(),
        None,
        |store, request| restore_container(store, request, &wanted),
    )?;
    let Some(supervisor) = supervisor else {
        return Ok(0);
    };
    log::commit();
    drop(restored.locked);
    let status = supervisor.run(restored.pid, &restored.pidfd, restored.console, None)?;
    match Store::new(context.root.path.clone()).lock(id) {
        Ok(locked) => delete(locked, true)?,
        // Somebody else has deleted it.
        Err(error) => tracing::debug!("{error}"),
    }
    Ok(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
}

fn warn_of_rootless() {
    if !caller::caller().is_host_root() {
        tracing::warn!("checkpoint and restore are untested with rootless containers");
    }
}

fn options(given: &Criu) -> Result<Options> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|e| Error::io("resolve", path, e));
    // The one kind there is, and always so: interfaces are not restored.
    for EmptyNamespace::Network in &given.empty_ns {
        tracing::debug!("network namespaces are left empty in any case");
    }
    let images: PathBuf = given.image_path.clone().unwrap_or_else(|| IMAGES.into());
    Ok(Options {
        images: absolute(&images)?,
        work: given.work_path.as_deref().map(absolute).transpose()?,
        tcp_established: given.tcp_established,
        ext_unix_sk: given.ext_unix_sk,
        shell_job: given.shell_job,
        file_locks: given.file_locks,
        lazy_pages: given.lazy_pages,
        auto_dedup: given.auto_dedup,
        cgroups: match given.manage_cgroups_mode {
            None => Criu_cg_mode::DEFAULT,
            Some(CgroupsMode::Soft) => Criu_cg_mode::SOFT,
            Some(CgroupsMode::Full) => Criu_cg_mode::FULL,
            Some(CgroupsMode::Strict) => Criu_cg_mode::STRICT,
            Some(CgroupsMode::Ignore) => Criu_cg_mode::IGNORE,
        },
    })
}

/// The descriptor of `--status-fd`, which counts with `--lazy-pages` alone, as in
/// runc.
fn status_fd(arguments: &Checkpoint) -> Result<Option<std::os::fd::OwnedFd>> {
    if arguments.status_fd == -1 || !arguments.criu.lazy_pages {
        return Ok(None);
    }
    let fd = arguments.status_fd;
    let invalid = |why: &str| -> Error {
        RuntimeError::Refused(format!("invalid --status-fd argument {fd}: {why}")).into()
    };
    let raw = i32::try_from(fd).map_err(|_| invalid("bad file descriptor"))?;
    let flags = nix::fcntl::fcntl(raw, nix::fcntl::FcntlArg::F_GETFL)
        .map_err(|e| invalid(&reason(&e.into())))?;
    if flags & (libc::O_WRONLY | libc::O_RDWR) == 0 {
        return Err(invalid("not writable"));
    }
    crate::sys::adopt_fd(raw)
        .map(Some)
        .map_err(|e| invalid(&reason(&e)))
}
