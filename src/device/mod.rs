//! The device filter: which device nodes the processes of a container may open
//! and make.
//!
//! - [`rules`]: the user's rules and those runc adds (pure)
//! - [`policy`]: what a list of rules comes to (pure)
//! - [`program`]: a policy as an eBPF program (pure)

pub mod policy;
pub mod program;
pub mod rules;
#[cfg(test)]
mod testing;

/// Why an operation of this module failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A list of rules cannot be honoured.
    #[error(transparent)]
    Rule(#[from] policy::RuleError),
    /// A system call on a named object failed.
    #[error("{0}")]
    Other(String),
}
