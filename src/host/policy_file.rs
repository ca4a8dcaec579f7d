//! Finds and reads the policy file.
//!
//! What it says decides who gets devices and which programs run, so it counts
//! only where nobody but root (or, for a caller without privilege, the caller)
//! could have written it: a regular file and no symbolic link, with no way in for
//! others in any directory above. One that does not count is an error and never
//! the same as none. Where there is none, looking costs one `open`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::trust::Trusted;
use crate::policy::{Caller, MAX_FILE_SIZE, Policy, PolicyError, SYSTEM_FILE};

/// What the file that counts depends on.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `KUSABI_CONFIG`: this file, which must then exist.
    pub named: Option<OsString>,
    /// Whether the caller has no rights on the host.
    pub rootless: bool,
    /// `XDG_CONFIG_HOME`
    pub config_home: Option<OsString>,
    /// `HOME`
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// This process's.
    ///
    /// An engine without privilege calls with uid 0 of its own user namespace,
    /// and always from a session: only there it is worth a look.
    #[must_use]
    pub fn here() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let rootless = !nix::unistd::geteuid().is_root()
            || (variable("XDG_RUNTIME_DIR").is_some() && !super::trust::maps_every_id());
        Self {
            named: variable("KUSABI_CONFIG"),
            rootless,
            config_home: rootless.then(|| variable("XDG_CONFIG_HOME")).flatten(),
            // Not the C library's look-up: a static binary must not load its
            // modules, and uid 0 of a namespace is not whom passwd calls root.
            home: rootless
                .then(|| variable("HOME").map(PathBuf::from))
                .flatten(),
        }
    }

    /// A user's own file.
    fn own(&self) -> Option<PathBuf> {
        if !self.rootless {
            return None;
        }
        let config = self
            .config_home
            .as_ref()
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
            .or_else(|| self.home.as_ref().map(|home| home.join(".config")))?;
        Some(config.join("kusabi/config.toml"))
    }
}

/// The policy that holds here: `KUSABI_CONFIG`, or else `/etc/kusabi/config.toml`,
/// which for callers without privilege stands behind their own file; what it
/// forbids stays forbidden even then.
///
/// # Errors
/// A file that cannot be read, must not be believed, or is no policy.
pub fn load(surroundings: &Surroundings) -> Result<Policy, PolicyError> {
    if let Some(named) = &surroundings.named {
        return load_named(Path::new(named));
    }
    let system = read(Path::new(SYSTEM_FILE))?;
    let own = surroundings.own().map(|path| read(&path)).transpose()?;
    Ok(match (own.flatten(), system) {
        (Some(own), system) => Policy {
            site: system.map(Box::new),
            ..own
        },
        (None, Some(system)) => system,
        (None, None) => Policy::default(),
    })
}

/// Whether any file would be read, good or not.
#[must_use]
pub fn is_there(surroundings: &Surroundings) -> bool {
    let own = surroundings.own();
    let files = own.as_deref().into_iter().chain([Path::new(SYSTEM_FILE)]);
    surroundings.named.is_some()
        || files
            .map(Path::symlink_metadata)
            .any(|found| !found.is_err_and(|e| e.kind() == ErrorKind::NotFound))
}

/// The policy of one file, which must exist.
///
/// # Errors
/// As [`load`].
pub fn load_named(path: &Path) -> Result<Policy, PolicyError> {
    read(path)?.ok_or_else(|| PolicyError::Unusable {
        file: path.to_owned(),
        reason: "no such file or directory".to_owned(),
    })
}

/// Who calls, by name where a rule may need it.
#[must_use]
pub fn caller() -> Caller {
    let uid = nix::unistd::geteuid();
    Caller {
        uid: uid.as_raw(),
        name: super::caller::name_of(uid.as_raw()),
    }
}

fn read(path: &Path) -> Result<Option<Policy>, PolicyError> {
    let unusable = |reason: String| PolicyError::Unusable {
        file: path.to_owned(),
        reason,
    };
    let opened = OpenOptions::new()
        .read(true)
        // A FIFO would wait for its other end.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            let reason = "a symbolic link, put the file itself there";
            return Err(unusable(reason.to_owned()));
        }
        Err(error) => return Err(unusable(crate::error::reason(&error))),
    };
    check(&file).map_err(unusable)?;
    let most = u64::try_from(MAX_FILE_SIZE).map_or(u64::MAX, |max| max + 1);
    let mut bytes = Vec::new();
    (&file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| unusable(crate::error::reason(&error)))?;
    Policy::parse(path, &bytes).map(Some)
}

/// Whether the open file may be believed. The descriptor is asked, and its real
/// path: names may change meanwhile.
fn check(file: &File) -> Result<(), String> {
    let meta = file.metadata().map_err(|e| crate::error::reason(&e))?;
    if !meta.is_file() {
        return Err("not a regular file".to_owned());
    }
    let trusted = Trusted::here();
    if let Some(objection) = trusted.objection(&meta) {
        return Err(objection);
    }
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = std::fs::read_link(link).map_err(|e| crate::error::reason(&e))?;
    if real
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().ends_with(b" (deleted)"))
    {
        return Err("removed while it was read".to_owned());
    }
    match trusted.objection_to_parents(Path::new("/"), &real) {
        Some(objection) => Err(objection),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path) -> String {
        let error = load_named(path).unwrap_err().to_string();
        let start = format!("policy {}: ", path.display());
        error.strip_prefix(&start).unwrap_or(&error).to_owned()
    }

    #[test]
    fn only_a_file_that_others_cannot_write_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        assert_eq!(refused(&path), "no such file or directory");
        write(&path, "[sources]\nmounts = \"allow\"", 0o644);
        let policy = load_named(&path).unwrap();
        assert_eq!(policy.sources.mounts, crate::policy::Use::Allow);

        write(&path, "", 0o666);
        assert!(refused(&path).starts_with("others may write it (mode 0666"));

        let link = dir.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert_eq!(refused(&link), "a symbolic link, put the file itself there");

        assert_eq!(refused(dir.path()), "not a regular file");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(refused(&fifo), "not a regular file");

        let open = dir.path().join("open");
        let inside = open.join("p.toml");
        write(&inside, "", 0o600);
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let reason = refused(&inside);
        assert!(
            reason.contains("its parent") && reason.contains("0777"),
            "{reason}"
        );
        // Also by a way that does not show it.
        let way = dir.path().join("way");
        symlink(&open, &way).unwrap();
        assert!(refused(&way.join("p.toml")).contains("its parent"));
    }

    #[test]
    fn a_users_own_file_comes_first_and_the_hosts_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let own = home.join(".config/kusabi/config.toml");
        write(&own, "[runtime]\nwrite-back = true", 0o600);
        let rootless = Surroundings {
            rootless: true,
            home: Some(home.clone()),
            ..Surroundings::default()
        };
        assert_eq!(load(&rootless).unwrap().file, Some(own));
        // A relative directory does not count (XDG Base Directory Specification).
        let relative = Surroundings {
            config_home: Some("config".into()),
            ..rootless.clone()
        };
        assert!(load(&relative).unwrap().runtime.write_back);
        let elsewhere = Surroundings {
            config_home: Some(dir.path().join("none").into()),
            ..rootless.clone()
        };
        assert!(!load(&elsewhere).unwrap().runtime.write_back);
        let root = Surroundings {
            rootless: false,
            ..rootless
        };
        assert!(!load(&root).unwrap().runtime.write_back);
        let named = Surroundings {
            named: Some(dir.path().join("none").into()),
            ..Surroundings::default()
        };
        assert!(
            load(&named)
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
    }
}
