//! Collects what `doctor` judges, from this machine or from a recorded one.

use std::path::Path;

use super::cdi_dirs;
use super::gpu::{examine_paths, probe};
use crate::cdi::{Registry, search_path};
use crate::doctor;
use crate::error::Result;
use crate::host::facts::Snapshot;

/// The facts of a host below `root`; `registry` is what its specifications say.
///
/// # Errors
/// When `root` cannot be opened.
pub fn collect(root: &Path, registry: &Registry) -> Result<Snapshot> {
    let mut snapshot = probe(root, &doctor::needs())?;
    let mut paths = doctor::paths(registry);
    paths.extend(doctor::programs(&snapshot));
    snapshot.merge(examine_paths(root, paths)?);
    Ok(snapshot)
}

/// The specifications of a recorded host, in the usual directories.
#[must_use]
pub fn recorded_registry(root: &Path) -> Registry {
    let dirs = search_path(&[], None, None, &[]);
    let options = cdi_dirs::Options {
        root: root.to_owned(),
        ..cdi_dirs::Options::default()
    };
    let files = cdi_dirs::read(&dirs, &options);
    Registry::load(dirs, files)
}
