//! `explain` and `edit`: what would become of a bundle, and doing just that.

use super::output;
use super::prepare::prepare;
use crate::cdi::Mode;
use crate::cli::{Edit, Explain, ExplainFormat};
use crate::error::Result;
use crate::runtime::state::write_atomically;

/// Prints the plan; changes nothing.
///
/// # Errors
/// As for `create`, but for what only a create can find missing.
pub fn explain(arguments: &Explain) -> Result<()> {
    let prepared = prepare(
        arguments.bundle.as_deref(),
        &arguments.devices,
        Mode::Explain,
    )?;
    let explanation = prepared.explanation();
    let text = match arguments.format {
        ExplainFormat::Text => explanation.text(),
        ExplainFormat::Json => explanation.json(),
        ExplainFormat::Diff => explanation.diff()?,
    };
    output::print(&text)
}

/// Writes the effective configuration over the bundle's, by rename. A bundle
/// without anything to edit is left untouched.
///
/// # Errors
/// As for `create`, and I/O errors.
pub fn edit(arguments: &Edit) -> Result<()> {
    let prepared = prepare(
        arguments.bundle.as_deref(),
        &arguments.devices,
        Mode::Create,
    )?;
    if prepared.applied.document.as_bytes() == prepared.original.as_bytes() {
        return Ok(());
    }
    let path = prepared.bundle.join("config.json");
    let mode = std::fs::metadata(&path).map_or(0o644, |meta| {
        std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
    });
    write_atomically(&path, prepared.applied.document.as_bytes(), mode)
}
