//! The steps of every operation, as data, and the place where a test may break
//! each one.
//!
//! Each operation calls [`point`] after the step's work is done. In an ordinary
//! build that is nothing; with the cargo feature `fault-injection`, the variable
//! `KUSABI_FAULT=<operation>.<step>=error|kill` makes it fail or SIGKILLs the
//! process there. The list drives `tests/faults.rs`: a step without its failure
//! case cannot exist.

/// A step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// create: the state directory is claimed and the record written.
    CreateState,
    /// create: the effective configuration and plan are stored.
    CreateConfig,
    /// create: the cgroup exists, with its limits.
    CreateCgroup,
    /// create: the device filter is installed and verified.
    CreateFilter,
    /// create: the child exists and waits.
    CreateProcess,
    /// create: id maps and limits are set, the child runs.
    CreateRelease,
    /// create: the runtime's hooks have run.
    CreateHooks,
    /// create: the child waits for start.
    CreateParked,
    /// create: what was made is what was asked for.
    CreateVerify,
    /// create: the record says created.
    CreateRecord,
    /// create: the pid file is written.
    CreatePidFile,
    /// start: the filter is verified.
    StartVerify,
    /// start: init has become the user's program.
    StartRelease,
    /// start: the record says running.
    StartRecord,
    /// start: poststart hooks have run.
    StartHooks,
    /// exec: the filter is verified.
    ExecVerify,
    /// exec: the child exists and waits.
    ExecProcess,
    /// exec: the child runs.
    ExecRelease,
    /// exec: the pid file is written.
    ExecPidFile,
    /// delete: the processes are gone.
    DeleteKill,
    /// delete: the cgroup is gone.
    DeleteCgroup,
    /// delete: poststop hooks have run.
    DeleteHooks,
    /// delete: the state directory is gone.
    DeleteState,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 23] = [
        Self::CreateState,
        Self::CreateConfig,
        Self::CreateCgroup,
        Self::CreateFilter,
        Self::CreateProcess,
        Self::CreateRelease,
        Self::CreateHooks,
        Self::CreateParked,
        Self::CreateVerify,
        Self::CreateRecord,
        Self::CreatePidFile,
        Self::StartVerify,
        Self::StartRelease,
        Self::StartRecord,
        Self::StartHooks,
        Self::ExecVerify,
        Self::ExecProcess,
        Self::ExecRelease,
        Self::ExecPidFile,
        Self::DeleteKill,
        Self::DeleteCgroup,
        Self::DeleteHooks,
        Self::DeleteState,
    ];

    /// The name tests use, as in `create.cgroup`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateState => "create.state",
            Self::CreateConfig => "create.config",
            Self::CreateCgroup => "create.cgroup",
            Self::CreateFilter => "create.filter",
            Self::CreateProcess => "create.process",
            Self::CreateRelease => "create.release",
            Self::CreateHooks => "create.hooks",
            Self::CreateParked => "create.parked",
            Self::CreateVerify => "create.verify",
            Self::CreateRecord => "create.record",
            Self::CreatePidFile => "create.pid-file",
            Self::StartVerify => "start.verify",
            Self::StartRelease => "start.release",
            Self::StartRecord => "start.record",
            Self::StartHooks => "start.hooks",
            Self::ExecVerify => "exec.verify",
            Self::ExecProcess => "exec.process",
            Self::ExecRelease => "exec.release",
            Self::ExecPidFile => "exec.pid-file",
            Self::DeleteKill => "delete.kill",
            Self::DeleteCgroup => "delete.cgroup",
            Self::DeleteHooks => "delete.hooks",
            Self::DeleteState => "delete.state",
        }
    }
}

/// A step is done. Fails only where a test has asked for it.
///
/// # Errors
/// The injected failure.
#[cfg(feature = "fault-injection")]
pub fn point(step: Step) -> crate::Result<()> {
    let Ok(wanted) = std::env::var("KUSABI_FAULT") else {
        return Ok(());
    };
    let Some((name, what)) = wanted.split_once('=') else {
        return Ok(());
    };
    if name != step.name() {
        return Ok(());
    }
    if what == "kill" {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
    Err(super::RuntimeError::Refused(format!("injected failure at {name}")).into())
}

/// A step is done.
///
/// # Errors
/// Never in this build.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn point(_step: Step) -> crate::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_carry_their_operation() {
        let mut names: Vec<_> = Step::ALL.iter().map(|s| s.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Step::ALL.len());
        assert!(names.iter().all(|n| n.split_once('.').is_some()));
    }
}
