//! From a bundle and flags to an effective configuration and the plan that made
//! it: what `create`, `run`, `explain` and `edit` share.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{cdi, rootless};
use crate::cdi::{Context, Mode, Wanted};
use crate::cli::Devices;
use crate::document::Document;
use crate::edit::{self, Applied, Explanation, Plan};
use crate::error::{Error, Result};
use crate::host::caller::caller;
use crate::host::{nodes, policy_file};
use crate::policy::Policy;
use crate::request::{self, Flags, Request, What};
use crate::rootless::Caller;
use crate::runtime::state::write_atomically;

/// A bundle's configuration, before and after.
#[derive(Debug)]
pub struct Prepared {
    /// Absolute bundle directory.
    pub bundle: PathBuf,
    /// Who runs it.
    pub caller: Caller,
    /// As the engine wrote it.
    pub original: Document,
    /// After all edits, with what each of them did.
    pub applied: Applied,
    /// The edits, with their origin.
    pub plan: Plan,
}

impl Prepared {
    /// Adds edits that no request asked for, after all others.
    ///
    /// # Errors
    /// The configuration cannot have them.
    pub fn add(&mut self, edits: Plan) -> Result<()> {
        self.plan.append(edits);
        self.applied = edit::apply_traced(&self.original, &self.plan)?;
        Ok(())
    }

    /// The plan in words, JSON or as a diff.
    pub fn explanation(&self) -> Explanation<'_> {
        Explanation {
            original: &self.original,
            plan: &self.plan,
            applied: &self.applied,
        }
    }

    /// Replaces the bundle's `config.json` by the effective one, by rename; its
    /// mode stays. Where nothing is edited, it is left untouched.
    ///
    /// # Errors
    /// I/O errors; the old file is then still whole.
    pub fn write_back(&self) -> Result<()> {
        if self.applied.document.as_bytes() == self.original.as_bytes() {
            return Ok(());
        }
        let path = self.bundle.join("config.json");
        let mode = fs::metadata(&path).map_or(0o644, |meta| meta.mode() & 0o7777);
        write_atomically(&path, self.applied.document.as_bytes(), mode)
    }
}

/// Reads a bundle and decides every edit. Changes nothing.
///
/// # Errors
/// A bundle without a readable `config.json`; requests that cannot be met, or
/// that the policy forbids.
pub fn prepare(
    bundle: Option<&Path>,
    devices: &Devices,
    mode: Mode,
    policy: &Policy,
) -> Result<Prepared> {
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
    let mut plan = if requests.is_empty() {
        // The usual case costs no look at any directory.
        Plan::default()
    } else {
        let host = Path::new("/");
        resolve(&requests, &original, &devices.cdi_dirs, mode, policy, host)?
    };
    let mut applied = edit::apply_traced(&original, &plan)?;
    let caller = caller();
    let conversion = rootless::conversion(&caller, &applied.document, &plan)?;
    if !conversion.is_empty() {
        plan.append(conversion);
        applied = edit::apply_traced(&original, &plan)?;
    }
    Ok(Prepared {
        bundle,
        caller,
        original,
        applied,
        plan,
    })
}

/// Finds the devices that are asked for and what the host has of them; `host` is
/// the root of its files.
///
/// # Errors
/// Requests that cannot be met, or that the policy forbids.
pub(crate) fn resolve(
    requests: &[Request],
    document: &Document,
    explicit: &[PathBuf],
    mode: Mode,
    policy: &Policy,
    host: &Path,
) -> Result<Plan> {
    let mut wanted = Wanted::new();
    let caller = policy_file::caller();
    for request in requests {
        let What::Cdi(name) = &request.what;
        policy.permits(name.vendor(), name.class(), &caller)?;
        wanted
            .entry(name.clone())
            .or_default()
            .insert(request.source.clone());
    }
    let registry = cdi::registry(explicit, &policy.devices.cdi_dirs, host);
    let resolution = registry.resolve(&wanted)?;
    let facts = nodes::probe(host, resolution.needs())?;
    let process = document.process_user()?;
    let context = Context {
        uid: process.uid,
        gid: process.gid,
        idmap_mounts: false,
        mode,
    };
    let mut plan = resolution.plan(&facts, &context)?;
    policy.enforce_hooks(&mut plan, &document.hooks()?)?;
    Ok(plan)
}

fn bundle_dir(given: Option<&Path>) -> Result<PathBuf> {
    let dir = given.unwrap_or(Path::new("."));
    fs::canonicalize(dir).map_err(|e| Error::io("chdir", dir, e))
}
