//! `checkpoint`: a running container's processes into files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use procfs::FromBufRead as _;
use procfs::process::MountInfos;

use super::RuntimeError;
use super::criu::{
    self, Criu_features, Criu_opts, Criu_page_server_info, Criu_req, Criu_req_type, DESCRIPTORS,
    Options, Session, external_mount, namespace_key,
};
use super::delete::delete;
use super::lower::Namespaces;
use super::start::effective;
use super::state::{Locked, State, Status, write_atomically};
use crate::document::Document;
use crate::edit::NamespaceKind;
use crate::error::{Error, Result, reason};
use crate::rootfs::is_bind;

const LOG: &str = "dump.log";

/// What to write, and what becomes of the container.
#[derive(Debug)]
pub struct CheckpointRequest {
    /// What it has in common with a restore.
    pub options: Options,
    /// `--parent-path`, relative to the image's directory.
    pub parent: Option<PathBuf>,
    /// `--leave-running`
    pub leave_running: bool,
    /// `--pre-dump`
    pub pre_dump: bool,
    /// `--tcp-skip-in-flight`
    pub tcp_skip_in_flight: bool,
    /// `--link-remap`
    pub link_remap: bool,
    /// `--page-server`
    pub page_server: Option<(String, u16)>,
    /// `--status-fd`: gets a nul byte once pages are served.
    pub status: Option<OwnedFd>,
}

/// Writes the image; then removes the container, unless it is to go on.
///
/// # Errors
/// A container that does not run, an image directory or parent that is not
/// there, CRIU's answer. The container then runs as before.
pub fn checkpoint(locked: Locked, request: CheckpointRequest) -> Result<()> {
    let state = locked.read()?;
    let status = state.status();
    if matches!(status, Status::Creating | Status::Created | Status::Stopped) {
        return Err(RuntimeError::WrongState(format!(
            "Container cannot be checkpointed in {} state",
            status.word()
        ))
        .into());
    }
    let gone = !request.leave_running && !request.pre_dump;
    prepare_images(&request)?;
    dump(&locked, &state, request)?;
    if gone && let Err(error) = delete(locked, true) {
        // The image is whole, and that is what was asked for.
        tracing::warn!("{error}");
    }
    Ok(())
}

fn prepare_images(request: &CheckpointRequest) -> Result<()> {
    let images = &request.options.images;
    fs::create_dir_all(images).map_err(|e| Error::io("mkdir", images, e))?;
    let Some(parent) = &request.parent else {
        return Ok(());
    };
    let path = images.join(parent);
    let found = match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => std::io::Error::from_raw_os_error(libc::ENOTDIR),
        Err(error) => error,
    };
    Err(RuntimeError::Refused(format!(
        "invalid --parent-path: stat {}: {}",
        path.display(),
        reason(&found)
    ))
    .into())
}

fn dump(locked: &Locked, state: &State, mut request: CheckpointRequest) -> Result<()> {
    let version = criu::version()?;
    let document = effective(locked)?;
    let init = state.init.ok_or(RuntimeError::NotRunning)?.pid;
    let directories = request.options.open(true)?;
    let mut opts = request
        .options
        .common(&directories, LOG, &state.annotations);
    opts.set_root(state.rootfs.to_string_lossy().into_owned());
    opts.set_pid(init);
    opts.set_leave_running(request.leave_running);
    opts.set_tcp_skip_in_flight(request.tcp_skip_in_flight);
    opts.set_link_remap(request.link_remap);
    external_namespaces(&document, version, &mut opts)?;
    if let Some(freezer) = state.cgroup.as_ref().and_then(|cgroup| {
        let unified = cgroup.is_v2();
        // CRIU knows version 2's freezer since 3.14.
        let known = !unified || version >= 3_14_00;
        let name = if unified { "" } else { "freezer" };
        cgroup.directory(name).filter(|_| known)
    }) {
        opts.set_freeze_cgroup(freezer.to_string_lossy().into_owned());
    }
    if let Some((address, port)) = &request.page_server {
        let mut server = Criu_page_server_info::new();
        server.set_address(address.clone());
        server.set_port((*port).into());
        opts.ps = Some(server).into();
    }
    if let Some(parent) = &request.parent {
        opts.set_parent_img(parent.to_string_lossy().into_owned());
        opts.set_track_mem(true);
    }
    let mut wanted = Criu_features::new();
    if request.pre_dump {
        wanted.set_mem_track(true);
    }
    if request.options.lazy_pages {
        wanted.set_lazy_pages(true);
    }
    if request.pre_dump || request.options.lazy_pages {
        criu::require(&wanted)?;
    }
    let kind = if request.pre_dump {
        Criu_req_type::PRE_DUMP
    } else {
        opts.ext_mnt = external_mounts(&document, init)?
            .iter()
            .map(|(place, name)| external_mount(place, name))
            .collect();
        let text = serde_json::to_vec(&state.descriptors)
            .map_err(|e| RuntimeError::Refused(format!("{DESCRIPTORS}: {e}")))?;
        write_atomically(&request.options.images.join(DESCRIPTORS), &text, 0o600)?;
        Criu_req_type::DUMP
    };
    let mut message = Criu_req::new();
    message.opts = Some(opts).into();
    let mut session = Session::start(false)?;
    session
        .run(kind, message, |notification| {
            if notification.script == "status-ready"
                && let Some(status) = request.status.take()
                && let Err(error) = File::from(status).write_all(&[0])
            {
                tracing::warn!("can't write \\0 to status fd: {}", reason(&error));
            }
            Ok(())
        })
        .inspect_err(|_| criu::quote_errors(&directories.logs().join(LOG)))
}

/// Namespaces that were given by path are not the container's to dump.
fn external_namespaces(document: &Document, version: u32, opts: &mut Criu_opts) -> Result<()> {
    let namespaces = Namespaces::new(document.namespaces()?)?;
    criu::check_mounts(&namespaces)?;
    for kind in [NamespaceKind::Network, NamespaceKind::Pid] {
        let (Some(path), Some((name, key))) = (namespaces.path(kind), namespace_key(kind)) else {
            continue;
        };
        criu::require_external(kind, version, "checkpointing")?;
        let meta = fs::metadata(path).map_err(|e| Error::io("stat", path, e))?;
        opts.external.push(format!("{name}[{}]:{key}", meta.ino()));
    }
    Ok(())
}

/// Mounts whose content is the host's: where each is, and what a restore calls
/// it.
fn external_mounts(document: &Document, init: i32) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{init}/mountinfo");
    let file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    let table = MountInfos::from_buf_read(std::io::BufReader::new(file))
        .map_err(|e| RuntimeError::Refused(format!("{path}: {e}")))?;
    let mut external = Vec::new();
    let mut add = |place: String, name: &str| {
        if !external.iter().any(|(known, _)| *known == place) {
            external.push((place, name.to_owned()));
        }
    };
    let root = PathBuf::from(format!("/proc/{init}/root"));
    for mount in document.mounts()?.iter().filter(|mount| is_bind(mount)) {
        let place = inside(&root, &mount.destination)?;
        add(place.clone(), &place);
    }
    // Ours are binds of the host's, of whatever version.
    for mount in &table.0 {
        if mount.fs_type.starts_with("cgroup") {
            let place = mount.mount_point.to_string_lossy().into_owned();
            add(place.clone(), &place);
        }
    }
    for masked in document.value()["linux"]["maskedPaths"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str)
    {
        let is_file = fs::metadata(root.join(masked.trim_start_matches('/')))
            .is_ok_and(|meta| !meta.is_dir());
        if is_file {
            add(masked.to_owned(), "/dev/null");
        }
    }
    // Binds of the host's nodes, in a user namespace.
    for device in criu::device_paths(document)? {
        add(device.clone(), &device);
    }
    Ok(external)
}

/// A destination as the container's mount table has it: links followed, by the
/// container's root.
fn inside(root: &Path, destination: &Path) -> Result<String> {
    let open = || -> std::io::Result<PathBuf> {
        // A link of procfs's own, which leads into the other mount namespace.
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(root)?;
        let handle = pathrs::RootRef::from_fd(root.as_fd())
            .resolve(destination)
            .map_err(|e| crate::rootfs::from_pathrs(&e))?;
        let fd: OwnedFd = handle.into();
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    };
    let path = open().map_err(|e| Error::io("resolve", destination, e))?;
    Ok(path.to_string_lossy().into_owned())
}
