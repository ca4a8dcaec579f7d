//! `completions`.

/// Arguments of `completions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Completions {
    /// The shell whose script is printed
    #[arg(value_enum, value_name = "shell")]
    pub shell: clap_complete::Shell,
}
