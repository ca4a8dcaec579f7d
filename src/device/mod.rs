//! The device filter: which device nodes the processes of a container may open
//! and make.
//!
//! ```text
//! linux.resources.devices ─ rules ─▶ + runc's defaults ─ policy ─▶ Policy
//!     ├─ v1 ─▶ devices.allow, devices.deny; devices.list compared
//!     └─ program ─ v2 ─▶ eBPF program, attached to the cgroup; identity compared
//! ```
//!
//! [`rules`], [`policy`] and [`program`] are pure. A filter is put on the cgroup
//! *before* a process is in it, and checked again at start and exec
//! ([`Installed::verify`]). Everything here fails closed: an error means that
//! the container must not run.

mod error;
pub mod policy;
pub mod program;
pub mod rules;
#[cfg(test)]
mod testing;
pub mod v1;
pub mod v2;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use error::DeviceError;
use policy::Policy;
use program::Program;

use crate::edit::DeviceRule;

/// Where a filter is put: a directory of the container's own.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The directory in the hierarchy of the v1 devices controller.
    V1(&'a Path),
    /// The directory in the v2 hierarchy; `O_PATH` is enough.
    V2(BorrowedFd<'a>),
}

impl Target<'_> {
    fn version(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V2(_) => "v2",
        }
    }
}

/// How what is in force compares with what was installed. Never is more
/// allowed: that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the same.
    Exact,
    /// Somebody has taken something away since; the text says what.
    Narrower(String),
    /// v1, with a default that allows: the exceptions cannot be read.
    ModeOnly,
}

/// The filter of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFilter {
    policy: Policy,
}

impl DeviceFilter {
    /// The filter for exactly these rules, in order, on top of *deny everything*.
    ///
    /// # Errors
    /// [`DeviceError::Rule`].
    pub fn build(rules: &[DeviceRule]) -> Result<Self, DeviceError> {
        Ok(Self {
            policy: Policy::from_rules(rules)?,
        })
    }

    /// The filter for a container: `linux.resources.devices`, then runc's
    /// defaults. `declared` holds the paths of `linux.devices`, which take the
    /// place of default nodes (see [`rules::effective_beside`]).
    ///
    /// # Errors
    /// [`DeviceError::Rule`].
    pub fn for_container(user: &[DeviceRule], declared: &[&Path]) -> Result<Self, DeviceError> {
        Ok(Self {
            policy: Policy::for_container(user, declared)?,
        })
    }

    /// The filter of a policy that was on record.
    #[must_use]
    pub fn of_policy(policy: Policy) -> Self {
        Self { policy }
    }

    /// What it allows.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts the filter in force in place of an earlier one of ours, and checks
    /// that it is.
    ///
    /// On v2 the change is atomic. On v1 an update from a denying default to
    /// another writes only the difference; a change of the default is refused by
    /// the kernel once the cgroup has children.
    ///
    /// # Errors
    /// Any [`DeviceError`]; what was in force before is then still there (v2) or
    /// may be there in part (v1).
    pub fn install(&self, target: &Target<'_>) -> Result<Installed, DeviceError> {
        let place = match target {
            Target::V1(cgroup) => {
                v1::install(cgroup, &self.policy)?;
                Place::V1
            }
            Target::V2(cgroup) => Place::V2 {
                program: v2::install(*cgroup, &Program::compile(&self.policy))?,
            },
        };
        Ok(Installed {
            digest: self.policy.digest(),
            policy: self.policy.clone(),
            place,
        })
    }
}

/// One line a rule, the default first: what `kusabi devices` prints.
impl fmt::Display for DeviceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}

/// A filter that is in force, as `state.json` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// SHA-256 of the policy: equal for rule lists that mean the same.
    pub digest: String,
    /// What it allows.
    pub policy: Policy,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
}

/// Which mechanism a filter is in force with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cgroup", rename_all = "camelCase")]
pub enum Place {
    /// The files of the v1 devices controller.
    V1,
    /// An eBPF program.
    V2 {
        /// Which.
        program: v2::ProgramId,
    },
}

impl Installed {
    /// Checks that the filter is still in force, before a process is started in
    /// the cgroup.
    ///
    /// # Errors
    /// [`DeviceError::Gone`] or [`DeviceError::Changed`] when it is not, others
    /// when that cannot be found out. The process must then not be started.
    pub fn verify(&self, target: &Target<'_>) -> Result<Standing, DeviceError> {
        match (&self.place, target) {
            (Place::V1, Target::V1(cgroup)) => v1::verify(cgroup, &self.policy),
            (Place::V2 { program }, Target::V2(cgroup)) => v2::verify(*cgroup, program),
            (place, target) => Err(DeviceError::WrongVersion {
                installed: match place {
                    Place::V1 => "v1",
                    Place::V2 { .. } => "v2",
                },
                asked: target.version(),
            }),
        }
    }
}
