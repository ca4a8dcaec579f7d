//! CRIU, which checkpoints and restores the processes of a container.
//!
//! It is a program of the host (`criu swrk`), spoken to over a socket pair in the
//! protocol of its `rpc.proto`, as runc does. This module knows what both
//! directions have in common; [`checkpoint`](super::checkpoint) and
//! [`create`](super::create) know what a container is.

mod quote;
mod session;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub use rust_criu::rust_criu_protobuf::rpc::{
    Cgroup_root, Criu_cg_mode, Criu_features, Criu_notify, Criu_opts, Criu_page_server_info,
    Criu_req, Criu_req_type, Ext_mount_map, Inherit_fd, Join_namespace,
};

pub use quote::quote_errors;
pub use session::{Notification, Session};

use super::RuntimeError;
use super::lower::Namespaces;
use crate::document::Document;
use crate::edit::NamespaceKind;
use crate::error::{Error, Result};

/// Where a dump keeps what descriptors 0, 1 and 2 were; runc's name and format.
pub const DESCRIPTORS: &str = "descriptors.json";

/// runc's, which podman and others write.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// The oldest version with a protocol of this kind.
pub const OLDEST: u32 = 3_00_00;

/// What a command says in either direction.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's directory.
    pub images: PathBuf,
    /// CRIU's own directory, for logs and statistics.
    pub work: Option<PathBuf>,
    /// `--tcp-established`
    pub tcp_established: bool,
    /// `--ext-unix-sk`
    pub ext_unix_sk: bool,
    /// `--shell-job`
    pub shell_job: bool,
    /// `--file-locks`
    pub file_locks: bool,
    /// `--lazy-pages`
    pub lazy_pages: bool,
    /// `--auto-dedup`
    pub auto_dedup: bool,
    /// `--manage-cgroups-mode`
    pub cgroups: Criu_cg_mode,
}

/// The directories of one run, open.
pub struct Directories {
    images: File,
    work: Option<File>,
    logs: PathBuf,
}

impl Directories {
    /// Lets CRIU take them from us.
    pub fn give(&self, opts: &mut Criu_opts) {
        opts.set_images_dir_fd(self.images.as_raw_fd());
        if let Some(work) = &self.work {
            opts.set_work_dir_fd(work.as_raw_fd());
        }
    }

    /// Where CRIU writes its log.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }
}

impl Options {
    /// Opens the directories; makes the working directory, and where `make`
    /// says so the image's.
    ///
    /// # Errors
    /// I/O errors.
    pub fn open(&self, make: bool) -> Result<Directories> {
        if make {
            mkdir(&self.images)?;
        }
        let open = |path: &Path| File::open(path).map_err(|e| Error::io("open", path, e));
        let work = match &self.work {
            Some(path) => {
                mkdir(path)?;
                Some(open(path)?)
            }
            None => None,
        };
        Ok(Directories {
            images: open(&self.images)?,
            work,
            logs: self.work.as_ref().unwrap_or(&self.images).clone(),
        })
    }

    /// What CRIU is told in either direction.
    #[must_use]
    pub fn common(
        &self,
        directories: &Directories,
        log: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Criu_opts {
        let mut opts = Criu_opts::new();
        directories.give(&mut opts);
        opts.set_log_level(4);
        opts.set_log_file(log.to_owned());
        // Obsolete, but read by versions that do not know the mode.
        opts.set_manage_cgroups(true);
        opts.set_manage_cgroups_mode(self.cgroups);
        opts.set_notify_scripts(true);
        opts.set_shell_job(self.shell_job);
        opts.set_tcp_established(self.tcp_established);
        opts.set_ext_unix_sk(self.ext_unix_sk);
        opts.set_file_locks(self.file_locks);
        opts.set_auto_dedup(self.auto_dedup);
        opts.set_lazy_pages(self.lazy_pages);
        opts.set_orphan_pts_master(true);
        // Interfaces and routes are not the runtime's affair, as in runc.
        opts.set_empty_ns(libc::CLONE_NEWNET.cast_unsigned());
        match annotations.get(CONFIG_ANNOTATION).map(String::as_str) {
            None => opts.set_config_file(CONFIG_FILE.to_owned()),
            Some("") => {}
            Some(path) => opts.set_config_file(path.to_owned()),
        }
        opts
    }
}

/// 0700: an image holds the memory of processes.
fn mkdir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("mkdir", path, e)),
        _ => Ok(()),
    }
}

/// The installed version as one number, as in 31701.
///
/// # Errors
/// CRIU is not there, or older than [`OLDEST`].
pub fn version() -> Result<u32> {
    let failed = |e: Error| -> Error {
        RuntimeError::Refused(format!("CRIU version check failed: {e}")).into()
    };
    let session = Session::start(false).map_err(failed)?;
    let version = session.version().map_err(failed)?;
    if version < OLDEST {
        let text = format!("CRIU version {version} must be {OLDEST} or higher");
        return Err(RuntimeError::Refused(text).into());
    }
    tracing::debug!("Using CRIU {version}");
    Ok(version)
}

/// Refuses containers whose mounts are not theirs alone: CRIU dumps and makes whole
/// mount namespaces.
///
/// # Errors
/// The namespace is not a new one.
pub fn check_mounts(namespaces: &Namespaces) -> Result<()> {
    if namespaces.is_new(NamespaceKind::Mount) {
        return Ok(());
    }
    let text = "checkpoint and restore need a mount namespace of the container's own";
    Err(RuntimeError::config("linux.namespaces", text).into())
}

/// Refuses what this CRIU or kernel cannot do.
///
/// # Errors
/// Names the features, in runc's words.
pub fn require(wanted: &Criu_features) -> Result<()> {
    let known = Session::start(false)?.features(wanted)?;
    let mut missing = Vec::new();
    if wanted.mem_track() && known.mem_track == Some(false) {
        missing.push("MemTrack");
    }
    if wanted.lazy_pages() && known.lazy_pages == Some(false) {
        missing.push("LazyPages");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("criu is missing features: [{}]", missing.join(" "));
    Err(RuntimeError::Refused(text).into())
}

/// An external mount: on a dump its place and name, on a restore its name and
/// source.
#[must_use]
pub fn external_mount(key: &str, value: &str) -> Ext_mount_map {
    let mut map = Ext_mount_map::new();
    map.set_key(key.to_owned());
    map.set_val(value.to_owned());
    map
}

/// The name under which CRIU is given a namespace that is not its own to make;
/// runc's, so that its images can be restored and the other way round.
#[must_use]
pub fn namespace_key(kind: NamespaceKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// Refuses a namespace that this CRIU cannot leave to others; `doing` is
/// `checkpointing` or `restoration`.
///
/// # Errors
/// In runc's words.
pub fn require_external(kind: NamespaceKind, version: u32, doing: &str) -> Result<()> {
    let since = match kind {
        NamespaceKind::Network => 3_11_00,
        _ => 3_15_00,
    };
    if version >= since {
        return Ok(());
    }
    Err(RuntimeError::Refused(format!(
        "criu lacks support for external {} namespace during the {doing} process (old criu \
         version?)",
        kind.key()
    ))
    .into())
}

/// Nodes that are binds of the host's in a user namespace: those of the document
/// and the runtime's own.
///
/// # Errors
/// A document that says nonsense about devices.
pub fn device_paths(document: &Document) -> Result<Vec<String>> {
    const OWN: [&str; 6] = ["null", "random", "full", "tty", "zero", "urandom"];
    let devices = document.devices()?;
    let named = devices
        .iter()
        .map(|device| device.path.to_string_lossy().into_owned());
    Ok(named
        .chain(OWN.iter().map(|name| format!("/dev/{name}")))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(annotations: &[(&str, &str)]) -> Criu_opts {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            images: dir.path().join("images"),
            work: Some(dir.path().join("work")),
            tcp_established: true,
            ext_unix_sk: false,
            shell_job: true,
            file_locks: false,
            lazy_pages: true,
            auto_dedup: false,
            cgroups: Criu_cg_mode::STRICT,
        };
        assert!(options.open(false).is_err(), "there is no image to restore");
        let directories = options.open(true).unwrap();
        assert_eq!(directories.logs(), dir.path().join("work"));
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        options.common(&directories, "dump.log", &annotations)
    }

    #[test]
    fn every_option_reaches_criu() {
        let opts = common(&[]);
        assert!(opts.tcp_established() && opts.shell_job() && opts.lazy_pages());
        assert!(!opts.ext_unix_sk() && !opts.file_locks() && !opts.auto_dedup());
        assert_eq!(opts.manage_cgroups_mode(), Criu_cg_mode::STRICT);
        assert_eq!(opts.log_file(), "dump.log");
        assert_eq!(opts.empty_ns(), 0x4000_0000);
        assert!(opts.orphan_pts_master() && opts.notify_scripts());
    }

    #[test]
    fn an_annotation_names_another_configuration_or_none() {
        assert_eq!(common(&[]).config_file(), "/etc/criu/runc.conf");
        let other = common(&[("org.criu.config", "/etc/other.conf")]);
        assert_eq!(other.config_file(), "/etc/other.conf");
        assert!(!common(&[("org.criu.config", "")]).has_config_file());
    }
}
