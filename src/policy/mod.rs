//! What the host's operator allows: the policy file as a value.
//!
//! Pure: bytes in, value out. `host::policy_file` finds and reads the file, and
//! refuses one that others could have written. Requests are wishes; this module
//! says which of them count ([`Policy::judge`]), which kinds of devices a caller
//! may have ([`Policy::permits`]) and which hooks may run ([`Hooks::verdict`]).
//! Everything has a default, so that no file at all is a policy, too.
//!
//! | file | holds |
//! |---|---|
//! | `read` | TOML to [`Policy`], with line and column of what is wrong |
//! | `kinds` | patterns of device kinds, allowed and denied |
//! | `hooks` | which hooks may run |
//! | `enforce` | what becomes of a plan's hooks |
//! | `show` | a policy as a table of keys, values and where they were set |

mod enforce;
mod hooks;
mod kinds;
mod read;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use hooks::{HookVerdict, Hooks, NotAllowed, VendorHook};
pub use kinds::{Caller, Kinds, Pattern};
pub use read::MAX_FILE_SIZE;
pub use show::Entry;

use crate::cdi::QualifiedName;
use crate::edit::PolicyLine;
use crate::yaml::{Position, Problem};

/// What the operator has decided, or the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The file it was read from; `None` where there is none.
    pub file: Option<PathBuf>,
    /// Whose requests count.
    pub sources: Sources,
    /// What every container gets.
    pub request: Standing,
    /// How requests find devices.
    pub devices: Devices,
    /// Which kinds may be had by anybody.
    pub kinds: Kinds,
    /// What single callers may have besides, by user name or number: both this
    /// and [`Policy::kinds`] must permit it.
    pub users: BTreeMap<String, Kinds>,
    /// Which hooks may run.
    pub hooks: Hooks,
    /// Where containers' cgroups go.
    pub cgroup: Cgroup,
    /// Who makes the container.
    pub runtime: Runtime,
    /// What only NVIDIA's images ask for.
    pub nvidia: Nvidia,
    /// A log besides the caller's.
    pub log: Log,
    /// The host's own policy below a user's: its `kinds` and `users` hold, too.
    pub site: Option<Box<Policy>>,
    /// Which keys the file sets, and where.
    pub(crate) set: BTreeMap<String, Position>,
}

/// Whether requests from one place count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Always.
    Allow,
    /// Where the container could take devices anyway: `CAP_SYS_ADMIN` is in its
    /// bounding set.
    Privileged,
    /// Never.
    Off,
}

/// A place that requests come from, as the policy tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Flags of `create`, `run`, `edit`, `explain`.
    CommandLine,
    /// `cdi.k8s.io/…`
    CdiAnnotations,
    /// `kusabi.dev/…`, but for the cgroup parent.
    Annotations,
    /// `/dev/null` mounted below `/var/run/nvidia-container-devices`.
    Mounts,
    /// `NVIDIA_VISIBLE_DEVICES` and its like.
    Environment,
    /// `kusabi.dev/cgroup-parent`
    CgroupParent,
}

/// Whose requests count: `[sources]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// `command-line`
    pub command_line: Use,
    /// `cdi-annotations`
    pub cdi_annotations: Use,
    /// `annotations`
    pub annotations: Use,
    /// `mounts`
    pub mounts: Use,
    /// `environment`
    pub environment: Use,
    /// `cdi-annotation-prefixes`: what annotations that ask for CDI devices
    /// start with.
    pub cdi_annotation_prefixes: Vec<String>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            command_line: Use::Allow,
            cdi_annotations: Use::Allow,
            annotations: Use::Allow,
            mounts: Use::Off,
            environment: Use::Privileged,
            cdi_annotation_prefixes: vec!["cdi.k8s.io/".to_owned()],
        }
    }
}

/// What every container gets, asked for or not: `[request]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// `devices`: CDI devices.
    pub devices: Vec<QualifiedName>,
    /// `gpus`: as the flag `--gpus`.
    pub gpus: Option<String>,
    /// `gpu-share`: as the flag `--gpu-share`.
    pub gpu_share: Option<String>,
}

/// How requests find devices: `[devices]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// `default-vendor`: whose GPUs a request without a vendor means; by default
    /// the only vendor that the host has.
    pub default_vendor: Option<String>,
    /// `default-kind`: the `vendor/class` in which bare device names are looked
    /// up; by default that of the vendor.
    pub default_kind: Option<String>,
    /// `cdi-dirs`: after the usual directories, the last has the highest
    /// priority.
    pub cdi_dirs: Vec<PathBuf>,
}

/// Where containers' cgroups go: `[cgroup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// `parent-annotation`: whether `kusabi.dev/cgroup-parent` counts.
    pub parent_annotation: Use,
    /// `migrate`: whether processes in the way of a nested cgroup may be moved
    /// to its `init` child.
    pub migrate: bool,
}

impl Default for Cgroup {
    fn default() -> Self {
        Self {
            parent_annotation: Use::Off,
            migrate: false,
        }
    }
}

/// Who makes the container: `[runtime]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// `backend`
    pub backend: Backend,
    /// `write-back`: whether the bundle's `config.json` is replaced by the
    /// effective one.
    pub write_back: bool,
    /// `annotations`: who resolves CDI annotations.
    pub annotations: Resolver,
}

/// What runs containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Backend {
    /// This process, with libcontainer.
    #[default]
    InProcess,
    /// The first of these programs that is found: names looked up in `PATH`, or
    /// absolute paths.
    Delegate(Vec<PathBuf>),
}

/// Who resolves CDI annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolver {
    /// We do; what the engine has injected already is recognised.
    #[default]
    Kusabi,
    /// The engine has done it, maybe from directories of its own: annotations
    /// ask for nothing.
    Engine,
}

/// What only NVIDIA's images ask for: `[nvidia]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nvidia {
    /// `disable-require`: `NVIDIA_REQUIRE_*` is not checked.
    pub disable_require: bool,
    /// `swarm-resource`: variables that count as `NVIDIA_VISIBLE_DEVICES`.
    pub swarm_resource: Vec<String>,
    /// `ignore-imex-channels`: `NVIDIA_IMEX_CHANNELS` is ignored.
    pub ignore_imex_channels: bool,
}

/// A log besides the one that the caller names: `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// `file`: appended to.
    pub file: Option<PathBuf>,
    /// `debug`: whether it gets lines of level debug.
    pub debug: bool,
    /// `format`: whether its lines are JSON.
    pub json: bool,
}

/// Whether a request counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Count,
    /// It does not.
    Ignore {
        /// Why, and where that is said: one line.
        reason: String,
        /// Which line of which file would change it.
        allow: PolicyLine,
    },
}

/// Why a policy cannot be used, or what it forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is not a valid policy.
    #[error("{}", first_of(file, problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// The file cannot be read, or must not be believed.
    #[error("policy {}: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why, and what would fix it.
        reason: String,
    },
    /// The caller may not have it.
    #[error("{what} is not permitted: {rule}")]
    Denied {
        /// What was asked for.
        what: String,
        /// The key and the file that say so.
        rule: String,
    },
}

/// The first problem, as `file:line:column: field: reason`.
fn first_of(file: &Path, problems: &[Problem]) -> String {
    let file = file.display();
    match problems {
        [] => format!("policy {file}: invalid"),
        [only] => format!("policy {file}:{only}"),
        [first, more @ ..] => format!("policy {file}:{first} (and {} more)", more.len()),
    }
}

/// Where the host's policy is.
pub const SYSTEM_FILE: &str = "/etc/kusabi/config.toml";

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] with everything that is wrong with it.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, PolicyError> {
        read::policy(file, bytes).map_err(|problems| PolicyError::Invalid {
            file: file.to_owned(),
            problems,
        })
    }

    /// Whether requests from `place` count, for a container that has
    /// `CAP_SYS_ADMIN` in its bounding set or not.
    #[must_use]
    pub fn judge(&self, place: Place, has_sys_admin: bool) -> Decision {
        let (key, choice) = match place {
            Place::CommandLine => ("sources.command-line", self.sources.command_line),
            Place::CdiAnnotations => ("sources.cdi-annotations", self.sources.cdi_annotations),
            Place::Annotations => ("sources.annotations", self.sources.annotations),
            Place::Mounts => ("sources.mounts", self.sources.mounts),
            Place::Environment => ("sources.environment", self.sources.environment),
            Place::CgroupParent => ("cgroup.parent-annotation", self.cgroup.parent_annotation),
        };
        let why = match choice {
            Use::Allow => return Decision::Count,
            Use::Privileged if has_sys_admin => return Decision::Count,
            Use::Privileged => "only containers with CAP_SYS_ADMIN may ask there",
            Use::Off => "nobody may ask there",
        };
        Decision::Ignore {
            reason: format!("{why} ({})", self.where_set(key)),
            allow: self.line(&format!("{key} = \"allow\"")),
        }
    }

    /// A line as it would stand in the file that counts.
    #[must_use]
    pub fn line(&self, line: &str) -> PolicyLine {
        PolicyLine {
            line: line.to_owned(),
            file: self.file().display().to_string(),
        }
    }

    /// Whether `caller` may have devices of this kind.
    ///
    /// # Errors
    /// [`PolicyError::Denied`], naming the rule.
    pub fn permits(&self, vendor: &str, class: &str, caller: &Caller) -> Result<(), PolicyError> {
        let mut tables = vec![("kinds".to_owned(), &self.kinds)];
        for (user, kinds) in &self.users {
            if caller.is(user) {
                tables.push((format!("users.{user}"), kinds));
            }
        }
        for (table, kinds) in tables {
            if let Some(word) = kinds.objection(vendor, class) {
                let key = format!("{table}.{word}");
                return Err(PolicyError::Denied {
                    what: format!("{vendor}/{class} for {caller}"),
                    rule: format!("{key} ({})", self.where_set(&key)),
                });
            }
        }
        match &self.site {
            Some(site) => site.permits(vendor, class, caller),
            None => Ok(()),
        }
    }

    /// The file, or where it would be.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(SYSTEM_FILE))
    }

    /// Where a key was set, as `file:line`, or `default`.
    #[must_use]
    pub fn where_set(&self, key: &str) -> String {
        match (&self.file, self.set.get(key)) {
            (Some(file), Some(at)) => format!("{}:{}", file.display(), at.line),
            _ => "default".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
