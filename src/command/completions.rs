//! `completions SHELL`.

use clap_complete::generate;

use super::output;
use crate::cli::{Completions, full_definition};
use crate::error::Result;

/// Prints the completion script of a shell.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn run(arguments: &Completions) -> Result<()> {
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut full_definition(),
        "kusabi",
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))
}
