//! Failures of container operations, in runc's words where callers match them.

use std::path::PathBuf;

/// Why a container operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The state directory exists. containerd and podman match these words.
    #[error("container with given ID already exists")]
    Exists,
    /// No such state directory. containerd's `delete` ignores these words.
    #[error("container does not exist")]
    NotExist,
    /// The id has characters that a file name of ours may not have.
    #[error("invalid container ID format")]
    InvalidId,
    /// A signal for a container whose init has ended.
    #[error("container not running")]
    NotRunning,
    /// `pause` of a container that is not running, `resume` of one not paused.
    #[error("container not paused")]
    NotPaused,
    /// `start` of a container in another state.
    #[error("{0}")]
    WrongState(String),
    /// `delete` without force.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// The container.
        id: String,
        /// What it is.
        status: &'static str,
    },
    /// `state.json` cannot be understood.
    #[error("{}: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A system call failed.
    #[error("{action}: {}", crate::error::reason(source))]
    Syscall {
        /// What was being done, naming the object.
        action: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The container's process failed before it became the user's program.
    #[error("{0}")]
    Init(String),
    /// Init failed once it had been let go, and has said so on the container's own
    /// error stream.
    #[error("{0}")]
    Program(String),
    /// A field of `config.json` that this runtime cannot honour.
    #[error("config.json: {field}: {reason}")]
    Config {
        /// Dotted path.
        field: String,
        /// What is wrong, and what would fix it.
        reason: String,
    },
    /// A hook failed.
    #[error("error running {stage} hook #{index}: {reason}")]
    Hook {
        /// The OCI stage.
        stage: &'static str,
        /// Position in its list, from 0.
        index: usize,
        /// Exit status or spawn failure.
        reason: String,
    },
    /// The command cannot be carried out as asked.
    #[error("{0}")]
    Refused(String),
}

impl RuntimeError {
    /// A failed system call, worded as `action: reason`.
    pub fn syscall(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Syscall {
            action: action.into(),
            source: source.into(),
        }
    }

    /// A field of `config.json` that cannot be honoured.
    pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
