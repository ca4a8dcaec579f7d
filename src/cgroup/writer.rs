//! Carries out a list of [`Write`]s, in order, and says what the kernel said.

use std::path::Path;

use nix::errno::Errno;

use super::convert::Write;
use super::error::{CgroupError, Result};
use super::file;

/// Writes all of `writes`. `directory` gives the directory of a controller,
/// `available` the controllers of a version 2 cgroup.
///
/// # Errors
/// The first value that the kernel refuses for good, or a limit in a hierarchy
/// without a directory. What was written before stays.
pub(super) fn write_all<'a>(
    writes: &[Write],
    directory: impl Fn(&str) -> Option<&'a Path>,
    available: impl Fn() -> String,
) -> Result<()> {
    let mut waiting: Vec<&Write> = Vec::new();
    for write in writes {
        let Some(directory) = directory(write.controller) else {
            return Err(CgroupError::NoDirectory {
                controller: write.controller.to_owned(),
            });
        };
        match one(directory, write) {
            Ok(()) => {}
            Err(e) if write.rule.retry_after.is_some() && e.errno() == Some(Errno::EINVAL) => {
                waiting.push(write);
                continue;
            }
            Err(e) if write.rule.unified => return Err(unified(write, &e, &available())),
            Err(e) => return Err(e),
        }
        let (ready, rest) = waiting
            .into_iter()
            .partition(|w| w.rule.retry_after == Some(&*write.file));
        waiting = rest;
        let ready: Vec<&Write> = ready;
        for write in ready {
            one(directory, write)?;
        }
    }
    Ok(())
}

fn one(directory: &Path, write: &Write) -> Result<()> {
    let path = directory.join(&*write.file);
    match file::write(&path, &write.value) {
        Err(e) if write.rule.optional && e.errno() == Some(Errno::ENOENT) => return Ok(()),
        Err(e) if e.errno() == Some(Errno::EBUSY) && write.file == "memory.limit_in_bytes" => {
            return Err(in_use(directory, write).unwrap_or(e));
        }
        result => result?,
    }
    if write.rule.read_back {
        let asked = file::parse_number(&write.value).unwrap_or_default();
        let got = file::read_number(&path)?;
        if asked != got {
            let side = if asked > got { "maximum" } else { "minimum" };
            return Err(CgroupError::Limit(format!(
                "the {side} allowed cpu-shares is {got}"
            )));
        }
    }
    Ok(())
}

/// `EBUSY` from a memory limit means that the use is above it.
fn in_use(directory: &Path, write: &Write) -> Option<CgroupError> {
    let number = |name: &str| file::read_number(&directory.join(name)).ok();
    let usage = number("memory.usage_in_bytes")?;
    let peak = number("memory.max_usage_in_bytes")?;
    Some(CgroupError::Limit(format!(
        "unable to set memory limit to {} (current usage: {usage}, peak usage: {peak})",
        write.value
    )))
}

fn unified(write: &Write, error: &CgroupError, available: &str) -> CgroupError {
    let key = &write.file;
    // A missing file is ENOENT, or EPERM where cgroupfs refuses to make it.
    if error.is_permission() || error.errno() == Some(Errno::ENOENT) {
        match key.split_once('.') {
            None => {
                return CgroupError::Unified(format!(
                    "unified resource {key:?} must be in the form CONTROLLER.PARAMETER"
                ));
            }
            Some((controller, _))
                if controller != "cgroup"
                    && !available.split_whitespace().any(|c| c == controller) =>
            {
                return CgroupError::Unified(format!(
                    "unified resource {key:?} can't be set: controller {controller:?} not available"
                ));
            }
            Some(_) => {}
        }
    }
    CgroupError::Unified(format!("unable to set unified resource {key:?}: {error}"))
}
