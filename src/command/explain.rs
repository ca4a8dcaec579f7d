//! `explain` and `edit`: what would become of a bundle, and doing just that.

use super::output;
use super::prepare::{For, Options, prepare};
use crate::cdi::Mode;
use crate::cli::{Edit, Explain, ExplainFormat};
use crate::error::Result;
use crate::policy::Policy;

/// Prints the plan; changes nothing.
///
/// # Errors
/// As for `create`, but for what only a create can find missing.
pub fn explain(arguments: &Explain, policy: &Policy) -> Result<()> {
    let prepared = prepare(
        arguments.bundle.as_deref(),
        &arguments.devices,
        &Options {
            mode: Mode::Explain,
            policy,
            id: None,
            host: arguments.host_root.as_deref(),
            container: For::Nobody,
        },
    )?;
    let explanation = prepared.explanation();
    let text = match arguments.format {
        ExplainFormat::Text => explanation.text(),
        ExplainFormat::Json => explanation.json(),
        ExplainFormat::Diff => explanation.diff()?,
        ExplainFormat::Config => {
            let text = prepared.applied.document.pretty()?;
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    output::print(&text)
}

/// Writes the effective configuration over the bundle's, by rename. A bundle
/// without anything to edit is left untouched.
///
/// # Errors
/// As for `create`, and I/O errors.
pub fn edit(arguments: &Edit, policy: &Policy) -> Result<()> {
    let prepared = prepare(
        arguments.bundle.as_deref(),
        &arguments.devices,
        &Options {
            mode: Mode::Create,
            policy,
            id: None,
            host: None,
            container: For::Nobody,
        },
    )?;
    prepared.write_back()
}
