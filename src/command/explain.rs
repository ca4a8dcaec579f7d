//! `explain` and `edit`: what would become of a bundle, or has become of a
//! container; and doing just that.

use std::fs;
use std::io;
use std::path::Path;

use super::context::Context;
use super::output;
use super::prepare::{For, Options, prepare, prepare_telling};
use crate::cdi::Mode;
use crate::cli::{Edit, Explain, ExplainFormat};
use crate::document::Document;
use crate::edit::{self, Explanation, Ledger, Report};
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::policy::Policy;
use crate::runtime::RuntimeError;
use crate::runtime::state::{CONFIG_FILE, ORIGINAL_FILE, PLAN_FILE, Store, write_atomically};

/// Prints the plan of a bundle; changes nothing. Where requests are refused, what
/// became of each is printed all the same.
///
/// # Errors
/// As for `create`, but for what only a create can find missing.
pub fn explain(arguments: &Explain, policy: &Policy) -> Result<()> {
    let options = Options {
        mode: Mode::Explain,
        policy,
        id: None,
        host: arguments.host_root.as_deref(),
        container: For::Nobody,
    };
    let mut ledger = Ledger::default();
    let bundle = arguments.bundle.as_deref();
    let prepared = match prepare_telling(bundle, &arguments.devices, &options, &mut ledger) {
        Ok(prepared) => prepared,
        Err(error) => {
            if !ledger.decisions().is_empty() {
                let report = edit::refusal(ledger.decisions(), &error);
                match arguments.format {
                    ExplainFormat::Text => output::print(&report.text())?,
                    ExplainFormat::Json => output::print(&report.json())?,
                    ExplainFormat::Diff | ExplainFormat::Config => {}
                }
            }
            return Err(error);
        }
    };
    let explanation = prepared.explanation();
    let text = match arguments.format {
        ExplainFormat::Text => explanation.whole()?.text(),
        ExplainFormat::Json => explanation.whole()?.json(),
        ExplainFormat::Diff => explanation.diff()?,
        ExplainFormat::Config => pretty(&prepared.applied.document)?,
    };
    output::print(&text)
}

/// Prints the plan that a container was made by, from its record. Takes no lock:
/// each file is replaced as a whole.
///
/// # Errors
/// A container that does not exist, or is being made.
pub fn explain_container(context: &Context<'_>, id: &str, format: ExplainFormat) -> Result<()> {
    let store = Store::new(context.root.path.clone());
    store.load(id)?;
    let dir = store.path(id)?;
    let effective = || document(&dir.join(CONFIG_FILE));
    let report = || -> Result<Report> {
        let mut report = stored(&dir)?;
        report.diff = Some(diff(&dir)?);
        Ok(report)
    };
    let text = match format {
        ExplainFormat::Text => report()?.text(),
        ExplainFormat::Json => report()?.json(),
        ExplainFormat::Diff => diff(&dir)?,
        ExplainFormat::Config => pretty(&effective()?)?,
    };
    output::print(&text)
}

/// Adds what a container was given or lost while it ran to the plan that is kept of
/// it.
///
/// # Errors
/// Files that cannot be read or written.
pub(super) fn remember(dir: &Path, later: &Explanation<'_>) -> Result<()> {
    let original = dir.join(ORIGINAL_FILE);
    // Nothing had been edited before.
    if !original.exists() {
        write_atomically(&original, later.original.as_bytes(), 0o600)?;
    }
    let mut report = stored(dir)?;
    report.append(later.report());
    write_atomically(&dir.join(PLAN_FILE), report.json().as_bytes(), 0o600)
}

fn stored(dir: &Path) -> Result<Report> {
    let path = dir.join(PLAN_FILE);
    let bytes = bounded::read(&path, bounded::MAX_STATE)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let reason = e.to_string();
        RuntimeError::State { path, reason }.into()
    })
}

/// What became of a container's configuration.
fn diff(dir: &Path) -> Result<String> {
    let path = dir.join(ORIGINAL_FILE);
    match document(&path) {
        Ok(original) => Ok(edit::diff(&original, &document(&dir.join(CONFIG_FILE))?)?),
        // It is as it came.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

fn document(path: &Path) -> Result<Document> {
    let bytes = fs::read(path).map_err(|e| Error::io("open", path, e))?;
    Ok(Document::parse(&bytes)?)
}

fn pretty(document: &Document) -> Result<String> {
    Ok(String::from_utf8_lossy(&document.pretty()?).into_owned())
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
