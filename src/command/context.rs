//! What commands that know containers need to know of their caller.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use nix::unistd::geteuid;

use crate::cli::{Caller, Globals, RootOrigin, Rootless, StateRoot};
use crate::error::{Error, Result};
use crate::host::caller;
use crate::policy::{Policy, PolicyError};
use crate::runtime::state::Store;

/// The global options as they come out on this host.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// As typed.
    pub globals: &'a Globals,
    /// What the operator allows, if that can be told.
    policy: &'a Loaded,
    /// Where containers' state is kept.
    pub root: StateRoot,
    /// `NOTIFY_SOCKET`, unless empty: where systemd waits for readiness.
    pub notify_socket: Option<PathBuf>,
    /// How many descriptors from 3 upwards systemd passed on (`LISTEN_FDS`),
    /// when it passed them to this process (`LISTEN_PID`).
    pub listen_fds: u32,
    /// Their names (`LISTEN_FDNAMES`).
    pub listen_names: Option<String>,
}

impl<'a> Context<'a> {
    /// Reads the environment.
    ///
    /// # Errors
    /// When `--root` is not usable, or the directory below `XDG_RUNTIME_DIR`
    /// cannot be made.
    pub fn new(globals: &'a Globals, policy: &'a Loaded) -> Result<Self> {
        let root = state_root(globals)?;
        if root.origin == RootOrigin::RuntimeDir {
            make_runtime_dir(&root)?;
        }
        let listen_fds = listen_fds(
            variable("LISTEN_PID").as_deref().and_then(|v| v.to_str()),
            variable("LISTEN_FDS").as_deref().and_then(|v| v.to_str()),
            std::process::id(),
        );
        Ok(Self {
            globals,
            policy,
            root,
            notify_socket: variable("NOTIFY_SOCKET").map(PathBuf::from),
            listen_fds,
            listen_names: variable("LISTEN_FDNAMES")
                .filter(|_| listen_fds > 0)
                .and_then(|names| names.into_string().ok()),
        })
    }

    /// Whether cgroups that cannot be had are done without (`--rootless`): by
    /// itself for everybody but the host's root, who knows nothing of what was
    /// delegated.
    #[must_use]
    pub fn rootless_cgroups(&self) -> bool {
        match self.globals.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !caller::caller().is_host_root(),
        }
    }

    /// Whether a container is one of ours.
    #[must_use]
    pub fn holds(&self, id: &str) -> bool {
        Store::new(self.root.path.clone()).load(id).is_ok()
    }

    /// What the operator allows. Commands that end containers do not ask: a
    /// broken policy must not keep them from it.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn policy(&self) -> Result<&'a Policy> {
        known(self.policy)
    }
}

/// A policy, or why it cannot be told.
pub type Loaded = std::result::Result<Policy, PolicyError>;

/// The policy, for commands that do not work without.
///
/// # Errors
/// Why it cannot be told.
pub(super) fn known(policy: &Loaded) -> Result<&Policy> {
    policy.as_ref().map_err(|error| error.clone().into())
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn state_root(globals: &Globals) -> Result<StateRoot> {
    let runtime_dir = variable("XDG_RUNTIME_DIR");
    let user = std::env::var_os("USER");
    let euid = geteuid().as_raw();
    let needs_namespace = globals.root.is_none() && runtime_dir.is_some() && euid == 0;
    // Only looked at where it matters: the engines that call most often set
    // neither.
    let working_dir = if globals.root.as_ref().is_some_and(|root| root.is_relative()) {
        std::env::current_dir().map_err(|source| Error::io("getcwd", ".", source))?
    } else {
        PathBuf::from("/")
    };
    let caller = Caller {
        runtime_dir: runtime_dir.as_deref(),
        user: user.as_deref(),
        euid,
        in_user_namespace: needs_namespace && caller::in_user_namespace(),
        working_dir: &working_dir,
    };
    globals
        .state_root(&caller)
        .map_err(|error| Error::Usage(error.to_string()))
}

/// 0700, and sticky so that what cleans runtime directories leaves it alone.
fn make_runtime_dir(root: &StateRoot) -> Result<()> {
    let hint = |action, source: std::io::Error| {
        tracing::warn!("you should check permission of the path in $XDG_RUNTIME_DIR");
        Error::io(action, &root.path, source)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root.path)
        .map_err(|source| hint("mkdir", source))?;
    fs::set_permissions(&root.path, Permissions::from_mode(0o1700))
        .map_err(|source| hint("chmod", source))
}

/// `sd_listen_fds(3)`: descriptors count only if they were meant for us.
fn listen_fds(pid: Option<&str>, count: Option<&str>, own_pid: u32) -> u32 {
    let ours = pid.and_then(|pid| pid.parse().ok()) == Some(own_pid);
    match count.and_then(|count| count.parse().ok()) {
        Some(count) if ours => count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::listen_fds;

    #[test]
    fn passed_descriptors_must_be_meant_for_us() {
        assert_eq!(listen_fds(Some("42"), Some("2"), 42), 2);
        assert_eq!(listen_fds(Some("41"), Some("2"), 42), 0);
        assert_eq!(listen_fds(None, Some("2"), 42), 0);
        assert_eq!(listen_fds(Some("42"), None, 42), 0);
        assert_eq!(listen_fds(Some("42"), Some("-1"), 42), 0);
        assert_eq!(listen_fds(Some("42"), Some("x"), 42), 0);
    }
}
