//! The other backend: another runtime makes and keeps the container, from a
//! bundle that has been edited.
//!
//! It replaces this process by exec, so that its pid, descriptors, output and exit
//! code are what the caller would have got from it.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::RuntimeError;
use crate::error::{Error, Result};

/// Where programs are looked for without a `PATH`, and after it: engines may run
/// with a short one.
const USUAL: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The first of `programs` that there is. kusabi itself is not one, whatever it
/// is called.
///
/// # Errors
/// When there is none.
pub fn find(programs: &[PathBuf], path: Option<&OsStr>) -> Result<PathBuf> {
    // Not by device: this process may see its own file through an overlay.
    let identity = |meta: &Metadata| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    let own = std::fs::metadata("/proc/self/exe")
        .map(|meta| identity(&meta))
        .ok();
    let fits = |candidate: &Path| {
        std::fs::metadata(candidate).is_ok_and(|meta| {
            let executable = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
            executable && Some(identity(&meta)) != own
        })
    };
    for program in programs {
        if program.is_absolute() {
            if fits(program) {
                return Ok(program.clone());
            }
            continue;
        }
        let dirs = std::env::split_paths(path.unwrap_or_default());
        let found = dirs
            // A relative directory would be the caller's, or the bundle's.
            .filter(|dir| dir.is_absolute())
            .chain(USUAL.iter().map(PathBuf::from))
            .map(|dir| dir.join(program))
            .find(|candidate| fits(candidate));
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let names: Vec<String> = programs.iter().map(|p| p.display().to_string()).collect();
    Err(RuntimeError::Refused(format!(
        "no runtime of {} is found in PATH; install one, or change runtime.backend in the policy",
        names.join(", ")
    ))
    .into())
}

/// Becomes `program`; `words` are the command line, whose first word is ours.
/// Returns only where that fails.
#[must_use]
pub fn exec(program: &Path, words: &[OsString]) -> Error {
    let error: io::Error = Command::new(program).args(words.iter().skip(1)).exec();
    Error::io("exec", program, error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_that_is_there_and_never_kusabi_itself() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (second, third) = (make("second", 0o755), make("third", 0o755));
        make("plain", 0o644);
        let own = std::env::current_exe().unwrap();
        std::os::unix::fs::symlink(own, dir.path().join("self")).unwrap();
        let path = dir.path().as_os_str();
        let list = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let found = |names: &[&str]| find(&list(names), Some(path));
        assert_eq!(found(&["first", "second", "third"]).unwrap(), second);
        assert_eq!(found(&["plain", "self", "third"]).unwrap(), third);
        let absolute = third.to_str().unwrap();
        assert_eq!(found(&["/nonexistent/x", absolute]).unwrap(), third);
        let error = found(&["no-such-runtime", "plain"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no runtime of no-such-runtime, plain is found"),
            "{error}"
        );
        // A relative directory in PATH is nobody's that can be trusted.
        assert!(find(&list(&["second"]), Some(OsStr::new("."))).is_err());
    }
}
