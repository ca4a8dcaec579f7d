//! The mounts of a service: those that every container has, its storage, and the
//! API socket.

use std::path::{Path, PathBuf};

use super::error::ServiceError;
use super::file::{Service, Storage, StorageKind};
use super::rules::replaces_default;
use super::volume::{VolumeName, Volumes};
use crate::edit::Mount;
use crate::host::facts::{FileKind, Presence, Snapshot};

/// Where the API socket is in the container, unless said otherwise.
pub const API_SOCKET: &str = "/run/kusabi/api.sock";

/// A socket of the host that the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
}

/// What every container has, in the order in which it is mounted. `/sys` is
/// writable only with privilege, and so is the cgroup file system: root in the
/// container could otherwise leave its device filter.
pub(super) fn defaults(privileged: bool) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
    ]
}

/// Every mount, and what is to be said about them.
pub(super) fn all(
    service: &Service,
    place: &str,
    volumes: &Volumes,
    socket: Option<&Socket>,
    files: Option<&Snapshot>,
) -> Result<(Vec<Mount>, Vec<String>), ServiceError> {
    let mut mounts = defaults(service.privileged);
    let mut warnings = Vec::new();
    let replaced = |target: &Path| {
        let same = |storage: &Storage| storage.target == target;
        replaces_default(target) && service.storage.iter().any(same)
    };
    mounts.retain(|mount| !replaced(&mount.destination));
    let mut storage = Vec::new();
    for (index, one) in service.storage.iter().enumerate() {
        let place = format!("{place}.storage[{index}]");
        storage.push(mount_of(one, &place, volumes, files)?);
        warnings.extend(warnings_of(one, &place));
    }
    if let Some(socket) = socket {
        storage.push(socket_mount(socket, files)?);
    }
    // One that is below another must come after it.
    storage.sort_by_key(|mount| mount.destination.components().count());
    mounts.extend(storage);
    Ok((mounts, warnings))
}

fn warnings_of(storage: &Storage, place: &str) -> Option<String> {
    let target = storage.target.display();
    let unsafe_there =
        "SQLite and other databases that lock files or map memory are not safe there";
    match (&storage.kind, storage.tier.as_deref()) {
        (StorageKind::S3 { .. }, _) => Some(format!(
            "{place}: {target} is an object store: {unsafe_there}"
        )),
        (_, Some("network")) => Some(format!(
            "{place}: {target} is on the network: {unsafe_there}"
        )),
        (_, None | Some("local")) => None,
        (_, Some(tier)) => Some(format!(
            "{place}: tier {tier:?} says nothing to kusabi, which knows local and network"
        )),
    }
}

fn mount_of(
    storage: &Storage,
    place: &str,
    volumes: &Volumes,
    files: Option<&Snapshot>,
) -> Result<Mount, ServiceError> {
    let source = match (&storage.kind, VolumeName::of(storage)) {
        (StorageKind::Tmpfs { size, mode }, _) => {
            return Ok(tmpfs(storage, *size, mode.unwrap_or(0o1777)));
        }
        (StorageKind::Bind { source }, _) => source.clone(),
        (_, Some(volume)) => match volumes.get(&volume) {
            Some(path) => {
                must_be(
                    place,
                    path,
                    files,
                    &|kind| kind == FileKind::Directory,
                    "a directory",
                )?;
                path.to_owned()
            }
            None => {
                return Err(ServiceError::Volume {
                    place: place.to_owned(),
                    volume,
                });
            }
        },
        (_, None) => PathBuf::new(),
    };
    if matches!(storage.kind, StorageKind::Bind { .. }) {
        let fits = |kind| {
            matches!(
                kind,
                FileKind::Directory | FileKind::File | FileKind::Socket
            )
        };
        must_be(place, &source, files, &fits, "a directory, file or socket")?;
    }
    let access: &[&str] = if storage.readonly {
        // The second for what is mounted below it.
        &["ro", "rro"]
    } else {
        &["rw"]
    };
    Ok(bind(&storage.target, source, access))
}

fn bind(target: &Path, source: PathBuf, access: &[&str]) -> Mount {
    let options = ["rbind", "rprivate"].iter().chain(access);
    Mount {
        destination: target.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source),
        options: options.map(|option| (*option).to_owned()).collect(),
    }
}

/// The kernel reads bytes and `k m g`, and octal; it takes `256Mi` for 256.
fn tmpfs(storage: &Storage, size: Option<i64>, mode: u32) -> Mount {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
    options.push(format!("mode={mode:04o}"));
    options.extend(size.map(|bytes| format!("size={bytes}")));
    if storage.readonly {
        options.push("ro".to_owned());
    }
    Mount {
        destination: storage.target.clone(),
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".into()),
        options,
    }
}

fn socket_mount(socket: &Socket, files: Option<&Snapshot>) -> Result<Mount, ServiceError> {
    let is_socket = |kind| kind == FileKind::Socket;
    must_be("--socket", &socket.host, files, &is_socket, "a socket")?;
    let mut mount = bind(&socket.container, socket.host.clone(), &["ro"]);
    mount.options[0] = "bind".to_owned();
    mount
        .options
        .extend(["nosuid", "nodev", "noexec"].map(str::to_owned));
    Ok(mount)
}

/// Checks what was probed; where nothing was, there is nothing to check.
fn must_be(
    place: &str,
    path: &Path,
    files: Option<&Snapshot>,
    fits: &dyn Fn(FileKind) -> bool,
    what: &str,
) -> Result<(), ServiceError> {
    let Some(files) = files else {
        return Ok(());
    };
    let reason = match files.file(path).map(Presence::followed) {
        Some(Presence::Present(facts)) if fits(facts.kind) => return Ok(()),
        Some(Presence::Present(facts)) => format!("is {}, not {what}", facts.kind.noun()),
        Some(Presence::Absent) => format!("is not there, it must be {what}"),
        Some(Presence::Unknown { reason }) => reason.clone(),
        None => "was not looked at".to_owned(),
    };
    Err(ServiceError::Host {
        place: place.to_owned(),
        path: path.display().to_string(),
        reason,
    })
}
