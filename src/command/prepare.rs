//! From a bundle and flags to an effective configuration and the plan that made
//! it: what `create`, `run`, `explain` and `edit` share.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::Devices;
use crate::document::Document;
use crate::edit::{self, Applied, Explanation, Plan};
use crate::error::{Error, Result};
use crate::request::{self, Flags};

/// What an absent host node means.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// An error.
    Create,
    /// A warning.
    Explain,
}

/// A bundle's configuration, before and after.
#[derive(Debug)]
pub struct Prepared {
    /// Absolute bundle directory.
    pub bundle: PathBuf,
    /// As the engine wrote it.
    pub original: Document,
    /// After all edits, with what each of them did.
    pub applied: Applied,
    /// The edits, with their origin.
    pub plan: Plan,
}

impl Prepared {
    /// The plan in words, JSON or as a diff.
    pub fn explanation(&self) -> Explanation<'_> {
        Explanation {
            original: &self.original,
            plan: &self.plan,
            applied: &self.applied,
        }
    }
}

/// Reads a bundle and decides every edit. Changes nothing.
///
/// # Errors
/// A bundle without a readable `config.json`; requests that cannot be met.
pub fn prepare(bundle: Option<&Path>, devices: &Devices, _mode: Mode) -> Result<Prepared> {
    let bundle = bundle_dir(bundle)?;
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).map_err(|e| match e.kind() {
        // runc's words.
        std::io::ErrorKind::NotFound => Error::Usage(format!(
            "JSON specification file {} not found",
            path.display()
        )),
        _ => Error::io("open", &path, e),
    })?;
    let original = Document::parse(&bytes)?;
    let flags = Flags {
        devices: devices.devices.clone(),
    };
    let requests = request::collect(&original, &flags)?;
    let plan = if requests.is_empty() {
        // The usual case costs no look at any directory.
        Plan::default()
    } else {
        return Err(Error::Usage("devices by name are not available yet".into()));
    };
    let applied = edit::apply_traced(&original, &plan)?;
    Ok(Prepared {
        bundle,
        original,
        applied,
        plan,
    })
}

fn bundle_dir(given: Option<&Path>) -> Result<PathBuf> {
    let dir = given.unwrap_or(Path::new("."));
    fs::canonicalize(dir).map_err(|e| Error::io("chdir", dir, e))
}
