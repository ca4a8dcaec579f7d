//! From a bundle and flags to an effective configuration and the plan that made
//! it: what `create`, `run`, `explain` and `edit` share.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cdi::Mode;
use crate::cli::Devices;
use crate::document::Document;
use crate::edit::{self, Applied, Explanation, Ledger, Plan};
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::host::caller::caller;
use crate::lease::Reservation;
use crate::policy::Policy;
use crate::request::{self, Flags, Requests};
use crate::resolve::picker::{Holder, Picker};
use crate::resolve::{self, Situation, rootless};
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
    /// What was asked for, and what became of it.
    pub ledger: Ledger,
    /// The devices that are held for the container.
    pub lease: Option<Reservation>,
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
            decisions: self.ledger.decisions(),
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

/// What a plan depends on besides the bundle and the flags.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    /// What a missing file comes to.
    pub mode: Mode,
    /// What the operator allows.
    pub policy: &'o Policy,
    /// The container's id, where there is one.
    pub id: Option<&'o str>,
    /// Where another host was recorded; `None` is this one.
    pub host: Option<&'o Path>,
    /// Whether the plan is for a container, of which root.
    pub container: For<'o>,
}

/// What a plan is made for, as far as it takes devices from others.
#[derive(Debug, Clone, Copy)]
pub enum For<'o> {
    /// A container that this process makes, whose state is below this root.
    Container(&'o Path),
    /// One that another runtime makes.
    Delegate,
    /// None: a look, or a file.
    Nobody,
}

/// Reads a bundle and decides every edit. Changes nothing, but devices may be held
/// from then on.
///
/// # Errors
/// A bundle without a readable `config.json`; requests that cannot be met, or
/// that the policy forbids.
pub fn prepare(
    bundle: Option<&Path>,
    devices: &Devices,
    options: &Options<'_>,
) -> Result<Prepared> {
    prepare_telling(bundle, devices, options, &mut Ledger::default())
}

/// As [`prepare`]; `ledger` gets what becomes of each request, also where one of
/// them fails.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_telling(
    bundle: Option<&Path>,
    devices: &Devices,
    options: &Options<'_>,
    ledger: &mut Ledger,
) -> Result<Prepared> {
    let bundle = bundle_dir(bundle)?;
    let path = bundle.join("config.json");
    let bytes = bounded::read(&path, bounded::MAX_JSON).map_err(|error| {
        if error.is_absence() {
            // runc's words.
            Error::Usage(format!(
                "JSON specification file {} not found",
                path.display()
            ))
        } else {
            error
        }
    })?;
    let original = Document::parse(&bytes)?;
    let mut requests = Requests::default();
    let gathered = request::gather(&original, &flags(devices), options.policy, &mut requests);
    if gathered.is_err() {
        ledger.clone_from(&requests.ledger);
    }
    gathered?;
    let situation = Situation {
        document: &original,
        cdi_dirs: &devices.cdi_dirs,
        mode: options.mode,
        policy: options.policy,
        id: options.id,
        host: options.host.unwrap_or(Path::new("/")),
    };
    let caller = caller();
    let mut picker = Picker::new(holder(options, &caller), situation.host);
    let (mut plan, named) = resolve::plan(&requests, &situation, &mut picker, ledger)?;
    let lease = picker.finish(&plan, &named)?;
    let mut applied = edit::apply_traced(&original, &plan)?;
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
        ledger: std::mem::take(ledger),
        lease,
    })
}

fn holder(options: &Options<'_>, caller: &Caller) -> Holder {
    match (options.container, options.id) {
        (For::Nobody, _) => Holder::Nobody,
        (For::Container(root), Some(id)) => Holder::of(id, root, caller),
        _ if caller.is_host_root() => Holder::Guest,
        _ => Holder::Unprivileged,
    }
}

/// What was typed, as requests are read from it.
pub(super) fn flags(devices: &Devices) -> Flags {
    Flags {
        devices: devices.devices.clone(),
        gpus: devices.gpus.clone(),
        gpu_share: devices.gpu_share.clone(),
        distributed: devices.distributed.clone(),
        cgroup_parent: devices.cgroup_parent.clone(),
    }
}

fn bundle_dir(given: Option<&Path>) -> Result<PathBuf> {
    let dir = given.unwrap_or(Path::new("."));
    fs::canonicalize(dir).map_err(|e| Error::io("chdir", dir, e))
}
