//! Capabilities and user ids of a container's process, applied in runc's order.
//!
//! Runs in the container's own process, single-threaded, after pivot and before
//! the user's program.

use std::io;
use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};

use super::process::{CapabilityNames, User};
use crate::sys;

/// The five sets, resolved to what this kernel knows.
#[derive(Debug, Clone, Default)]
pub struct Capabilities {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    permitted: CapsHashSet,
    inheritable: CapsHashSet,
    ambient: CapsHashSet,
}

impl Capabilities {
    /// Resolves names. Unknown ones are left out and returned, sorted, for one
    /// warning.
    #[must_use]
    pub fn resolve(names: &CapabilityNames) -> (Self, Vec<String>) {
        let mut unknown = Vec::new();
        let mut set = |list: &[String]| -> CapsHashSet {
            list.iter()
                .filter_map(|name| match Capability::from_str(name) {
                    Ok(capability) => Some(capability),
                    Err(_) => {
                        unknown.push(name.clone());
                        None
                    }
                })
                .collect()
        };
        let resolved = Self {
            bounding: set(&names.bounding),
            effective: set(&names.effective),
            permitted: set(&names.permitted),
            inheritable: set(&names.inheritable),
            ambient: set(&names.ambient),
        };
        unknown.sort();
        unknown.dedup();
        (resolved, unknown)
    }

    /// Drops from the bounding set what is not listed. Must come before the ids
    /// change, which may take CAP_SETPCAP away.
    fn apply_bounding(&self) -> Result<(), String> {
        for capability in caps::runtime::thread_all_supported() {
            if !self.bounding.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)
                    .map_err(|e| format!("unable to apply bounding set: {}", words(&e)))?;
            }
        }
        Ok(())
    }

    /// Sets the other four. Inheritable first: the kernel measures it against
    /// the permitted set, which then shrinks.
    fn apply(&self) -> Result<(), String> {
        let failed = |e: caps::errors::CapsError| format!("unable to apply caps: {}", words(&e));
        caps::set(None, CapSet::Inheritable, &self.inheritable).map_err(failed)?;
        caps::set(None, CapSet::Effective, &self.effective).map_err(failed)?;
        caps::set(None, CapSet::Permitted, &self.permitted).map_err(failed)?;
        caps::clear(None, CapSet::Ambient).map_err(failed)?;
        let mut ambient: Vec<_> = self.ambient.iter().collect();
        ambient.sort_by_key(|capability| capability.index());
        for capability in ambient {
            // The kernel raises only what is permitted and inheritable.
            if caps::raise(None, CapSet::Ambient, *capability).is_err() {
                tracing::warn!(
                    "can't raise ambient capability {capability}: operation not permitted"
                );
            }
        }
        Ok(())
    }
}

/// The kernel's reason in the words that callers match.
fn words(error: &caps::errors::CapsError) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// Becomes the user: groups, ids, capabilities and working directory, in runc's
/// order (libcontainer `finalizeNamespace`). `None` for `groups` keeps those there
/// are.
///
/// # Errors
/// One line in runc's words.
pub fn become_user(
    user: &User,
    groups: Option<&[u32]>,
    capabilities: &Capabilities,
    cwd: &str,
) -> Result<(), String> {
    // The directory may be closed to the user but open to us (or, on a network
    // file system that squashes root, the other way round): try before and after.
    let retry = match nix::unistd::chdir(cwd) {
        Ok(()) => false,
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => true,
        Err(e) => return Err(chdir_failed(cwd, e)),
    };
    capabilities.apply_bounding()?;
    sys::process::prctl(libc::PR_SET_KEEPCAPS, 1)
        .map_err(|e| format!("set keep caps: {}", e.kind_text()))?;
    own_stdio(user.uid).map_err(|e| format!("own stdio: {}", e.kind_text()))?;
    if let Some(groups) = groups
        && groups_allowed()
    {
        sys::process::setgroups(groups).map_err(|e| format!("setgroups: {}", e.kind_text()))?;
    }
    sys::process::setresgid(user.gid).map_err(|e| id_failed("setgid", "gid", user.gid, &e))?;
    sys::process::setresuid(user.uid).map_err(|e| id_failed("setuid", "uid", user.uid, &e))?;
    if retry {
        nix::unistd::chdir(cwd).map_err(|e| chdir_failed(cwd, e))?;
    }
    // A descriptor of the host's, inherited and used as working directory, would
    // lead out of the container (CVE-2024-21626).
    let here = nix::unistd::getcwd().map_err(|_| OUTSIDE.to_owned())?;
    if !here.is_absolute() {
        return Err(OUTSIDE.into());
    }
    sys::process::prctl(libc::PR_SET_KEEPCAPS, 0)
        .map_err(|e| format!("clear keep caps: {}", e.kind_text()))?;
    // Leaving uid 0 has cleared the effective set; raising it again lets the
    // next calls shrink the others.
    let permitted = caps::read(None, CapSet::Permitted).map_err(|e| e.to_string())?;
    caps::set(None, CapSet::Effective, &permitted).map_err(|e| e.to_string())?;
    capabilities.apply()
}

const OUTSIDE: &str = "current working directory is outside of container mount namespace root -- possible container breakout detected";

fn chdir_failed(cwd: &str, errno: nix::errno::Errno) -> String {
    format!(
        "chdir to cwd ({cwd:?}) set in config.json failed: {}",
        io::Error::from(errno).kind_text()
    )
}

fn id_failed(call: &str, what: &str, id: u32, error: &io::Error) -> String {
    if error.raw_os_error() == Some(libc::EINVAL) {
        format!("cannot {call} to unmapped {what} {id} in user namespace")
    } else {
        format!("{call} {id}: {}", error.kind_text())
    }
}

fn groups_allowed() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

/// Gives stdin, stdout and stderr to the user, so that `/dev/stdout` can be
/// reopened. Failure to do so for want of a mapping or a writable file system is
/// not worth a container.
fn own_stdio(uid: u32) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::unistd::{Uid, fchown};
    for fd in 0..3 {
        let stat = match nix::sys::stat::fstat(fd) {
            Ok(stat) => stat,
            Err(Errno::EBADF) => continue,
            Err(e) => return Err(e.into()),
        };
        let is_null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR
            && stat.st_rdev == nix::sys::stat::makedev(1, 3);
        if stat.st_uid == uid || is_null {
            continue;
        }
        match fchown(fd, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The kernel's words for an error, without the number that Rust appends:
/// callers match `permission denied` and `no such file or directory` in lower
/// case, as Go prints them.
pub trait KindText {
    /// As in `no such file or directory`.
    fn kind_text(&self) -> String;
}

impl KindText for io::Error {
    fn kind_text(&self) -> String {
        let text = self.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        text.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_capabilities_are_set_aside_once() {
        let names = CapabilityNames {
            bounding: vec!["CAP_CHOWN".into(), "CAP_UNKNOWN".into()],
            effective: vec!["CAP_UNKNOWN".into(), "UNKNOWN".into()],
            ..CapabilityNames::default()
        };
        let (resolved, unknown) = Capabilities::resolve(&names);
        assert_eq!(unknown, ["CAP_UNKNOWN", "UNKNOWN"]);
        assert_eq!(resolved.bounding.len(), 1);
        assert!(resolved.effective.is_empty());
    }

    #[test]
    fn errors_read_like_go_s() {
        let text = io::Error::from_raw_os_error(libc::ENOENT).kind_text();
        assert_eq!(text, "no such file or directory");
        assert_eq!(
            io::Error::from_raw_os_error(libc::EACCES).kind_text(),
            "permission denied"
        );
    }
}
