//! Collects what `doctor` judges, from this machine or from a recorded one.

use std::path::Path;

use super::gpu::{examine_paths, probe};
use crate::cdi::Registry;
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
