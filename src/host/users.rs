//! Reads `passwd` and `group` of a root file system, and of a process what it
//! may pass on.

use std::path::Path;

use super::below::{self, Unread};
use crate::error::{Error, Result};
use crate::service::{Capability, UserDatabase};

/// Far above any real file.
const MAX_BYTES: u64 = 4 << 20;

/// The users of a root file system, which is the image's and hostile: it chooses
/// names and numbers, and nothing outside it is ever read. A file that is not
/// there names nobody.
///
/// # Errors
/// The root cannot be opened; a file is there and cannot be read.
pub fn of_rootfs(rootfs: &Path) -> Result<UserDatabase> {
    let failed =
        |path: &Path, reason: String| Error::io("read", path, std::io::Error::other(reason));
    let root = below::open(rootfs).map_err(|reason| failed(rootfs, reason))?;
    let text = |path: &str| match below::read(&root, Path::new(path), MAX_BYTES) {
        Ok((bytes, _)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Unread::Absent) => Ok(String::new()),
        Err(Unread::Refused(reason)) => Err(failed(&rootfs.join(path), reason)),
    };
    Ok(UserDatabase::parse(
        &text("etc/passwd")?,
        &text("etc/group")?,
    ))
}

/// The bounding set of this process as the tree's `/proc/self/status` has it;
/// `None` where the tree has no such file.
#[must_use]
pub fn bounding_set(host_root: &Path) -> Option<Vec<Capability>> {
    let root = below::open(host_root).ok()?;
    let (bytes, _) = below::read(&root, Path::new("proc/self/status"), MAX_BYTES).ok()?;
    Capability::bounding_of(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_hostile_root_file_system_names_nobody_of_ours() {
        let tmp = tempfile::tempdir().unwrap();
        let etc = tmp.path().join("etc");
        fs::create_dir(&etc).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", etc.join("passwd")).unwrap();
        assert_eq!(of_rootfs(tmp.path()).unwrap(), UserDatabase::default());
        fs::remove_file(etc.join("passwd")).unwrap();
        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = of_rootfs(tmp.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("/etc/passwd: is not a regular file"),
            "{error}"
        );
    }

    #[test]
    fn this_process_has_a_bounding_set_and_a_bare_tree_has_none() {
        assert!(bounding_set(Path::new("/")).is_some());
        assert_eq!(bounding_set(tempfile::tempdir().unwrap().path()), None);
    }
}
