//! The steps of every operation, as data, and the place where a test may break
//! each one.
//!
//! Each operation calls [`point`] after the step's work is done. In an ordinary
//! build that is nothing; with the cargo feature `fault-injection`, the variable
//! `KUSABI_FAULT=<operation>.<step>=error|kill` makes it fail or SIGKILLs the
//! process there. The list drives `tests/faults`: a step without its failure
//! case cannot exist.

/// Makes the type, its list and its names from one table, so that no step can be
/// missing from the list.
macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A step of an operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $variant,)+
        }

        impl Step {
            /// Every step, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name tests use, as in `create.cgroup`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

steps! {
    /// create: the devices are held, by kusabi.
    CreateLease = "create.lease",
    /// create: the state directory is claimed and the record written, which names the
    /// cgroup that is not made yet.
    CreateState = "create.state",
    /// create: the effective configuration and plan are stored.
    CreateConfig = "create.config",
    /// create: the cgroup exists, with its limits.
    CreateCgroup = "create.cgroup",
    /// create: the device filter is installed and verified.
    CreateFilter = "create.filter",
    /// create: the child exists and waits.
    CreateProcess = "create.process",
    /// create: id maps and limits are set, the child runs.
    CreateRelease = "create.release",
    /// create: the hooks that run beside the container (prestart, createRuntime)
    /// have run; its own createContainer hooks have not.
    CreateHooks = "create.hooks",
    /// create: the child waits for start.
    CreateParked = "create.parked",
    /// create: what was made is what was asked for.
    CreateVerify = "create.verify",
    /// create: the devices are held by the container.
    CreateCommit = "create.commit",
    /// create: the record says created.
    CreateRecord = "create.record",
    /// create: the pid file is written.
    CreatePidFile = "create.pid-file",
    /// restore: the state directory is claimed and the record written.
    RestoreState = "restore.state",
    /// restore: the effective configuration and plan are stored.
    RestoreConfig = "restore.config",
    /// restore: the cgroup exists, with its limits.
    RestoreCgroup = "restore.cgroup",
    /// restore: the device filter is installed and verified.
    RestoreFilter = "restore.filter",
    /// restore: the image is open, and criu started; it has made nothing yet.
    RestoreCriu = "restore.criu",
    /// restore: the namespaces are there, and the hooks beside the container have
    /// run; criu works.
    RestoreHooks = "restore.hooks",
    /// restore: the processes run.
    RestoreProcess = "restore.process",
    /// restore: what was made is what was asked for.
    RestoreVerify = "restore.verify",
    /// restore: the record says running.
    RestoreRecord = "restore.record",
    /// restore: the pid file is written.
    RestorePidFile = "restore.pid-file",
    /// start: the filter is verified.
    StartVerify = "start.verify",
    /// start: init has become the user's program.
    StartRelease = "start.release",
    /// start: poststart hooks have run.
    StartHooks = "start.hooks",
    /// exec: the filter is verified.
    ExecVerify = "exec.verify",
    /// exec: the child exists and waits.
    ExecProcess = "exec.process",
    /// exec: the child runs.
    ExecRelease = "exec.release",
    /// exec: the pid file is written.
    ExecPidFile = "exec.pid-file",
    /// devices, heal: what stands in the way has gone, and every new node is there.
    ChangeNodes = "change.nodes",
    /// devices: what is given is mounted.
    ChangeMounts = "change.mounts",
    /// devices, heal: the other filter is in force.
    ChangeFilter = "change.filter",
    /// devices: what is taken has gone.
    ChangeTaken = "change.taken",
    /// devices: the container holds what it is given.
    ChangeLease = "change.lease",
    /// devices, heal: the changed configuration is stored.
    ChangeConfig = "change.config",
    /// devices, heal: the record says so.
    ChangeRecord = "change.record",
    /// delete: the processes are gone.
    DeleteKill = "delete.kill",
    /// delete: the cgroup is gone.
    DeleteCgroup = "delete.cgroup",
    /// delete: poststop hooks have run.
    DeleteHooks = "delete.hooks",
    /// delete: the devices are free.
    DeleteLease = "delete.lease",
    /// delete: the state directory is gone.
    DeleteState = "delete.state",
    /// bundle build: the directory is there, in it its empty `rootfs` if it has one.
    BuildDirectory = "build.directory",
    /// bundle build: the marker that replaces an earlier one is whole, beside it.
    BuildNewMarker = "build.new-marker",
    /// bundle build: the marker is there.
    BuildMarker = "build.marker",
    /// bundle build: `rootfs` is there.
    BuildRootfs = "build.rootfs",
    /// bundle build and write-config: the `config.json` that replaces an earlier
    /// one is whole, beside it.
    BuildNewConfig = "build.new-config",
    /// bundle build: `config.json` is there.
    BuildConfig = "build.config",
    /// bundle clean: `rootfs` has another name.
    CleanRootfsAside = "clean.rootfs-aside",
    /// bundle clean: `rootfs` is gone.
    CleanRootfs = "clean.rootfs",
    /// bundle clean: `config.json` has another name.
    CleanConfigAside = "clean.config-aside",
    /// bundle clean: `config.json` is gone.
    CleanConfig = "clean.config",
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
