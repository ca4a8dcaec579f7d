//! Being born in a cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::{CgroupError, Result};
use super::file;
use super::handle::{Cgroup, Driver};

/// What a new process needs to be in the container's cgroup from its first
/// moment. All descriptors are close-on-exec. Empty where there is no cgroup:
/// rootless, without permission.
#[derive(Debug, Default)]
pub struct Entry {
    unified: Option<Place>,
    tasks: Vec<Place>,
}

/// An open way into one cgroup.
#[derive(Debug)]
struct Place {
    file: OwnedFd,
    path: PathBuf,
}

impl Entry {
    /// Whether there is no cgroup to be in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unified.is_none() && self.tasks.is_empty()
    }

    /// The directory for `clone3` with `CLONE_INTO_CGROUP`: version 2's, also
    /// that of a hybrid host. To move a process there later would wait for every
    /// processor (8 ms and more), since the kernel must hold back all forks.
    #[must_use]
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|place| place.file.as_fd())
    }

    /// Moves the calling thread, which must be its process's only one, into the
    /// version 1 cgroups. Allocates nothing and takes no lock, so it may run
    /// between `clone3` and `execve`. On version 2 there is nothing to do.
    ///
    /// # Errors
    /// The index of the file that refused, for [`Entry::failed`], and why.
    pub fn join(&self) -> std::result::Result<(), (usize, Errno)> {
        for (index, task) in self.tasks.iter().enumerate() {
            loop {
                match nix::unistd::write(&task.file, b"0") {
                    Ok(_) => break,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err((index, errno)),
                }
            }
        }
        Ok(())
    }

    /// The error for a `clone3` or an [`Entry::join`] that failed.
    #[must_use]
    pub fn failed(&self, index: usize, errno: Errno) -> CgroupError {
        let place = self.tasks.get(index).or(self.unified.as_ref());
        let path = place.map(|place| place.path.clone());
        CgroupError::Join(Box::new(CgroupError::Write {
            value: "0".to_owned(),
            path: path.unwrap_or_default(),
            source: errno.into(),
        }))
    }
}

impl Cgroup {
    /// Opens the way in for the container's first process.
    ///
    /// # Errors
    /// A directory has gone or may not be entered.
    pub fn entry(&self) -> Result<Entry> {
        if self.takes_over() {
            return Ok(Entry::default());
        }
        open(self.directories())
    }

    /// Whether processes are born outside and moved in by [`Cgroup::adopt`]: a
    /// user may not move a process from a session into the cgroups of the user's
    /// own manager, which lie elsewhere; the manager may.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        matches!(&self.driver, Driver::Systemd(unit) if unit.user)
    }

    /// Moves a process that waits into the container's cgroup, or the one at
    /// `place`. Does nothing where processes are born in it.
    ///
    /// # Errors
    /// Neither we nor systemd may.
    pub fn adopt(&self, pid: i32, place: Option<&Path>) -> Result<()> {
        let (Driver::Systemd(unit), true) = (&self.driver, self.takes_over()) else {
            return Ok(());
        };
        let Some(own) = self.directory("") else {
            return Ok(());
        };
        let place = place.unwrap_or(own);
        match file::write(&place.join("cgroup.procs"), &pid.to_string()) {
            Err(e) if e.is_permission() => {
                let below = place.strip_prefix(own).unwrap_or(Path::new(""));
                unit.attach(&format!("/{}", below.display()), pid)
                    .map_err(|e| CgroupError::Join(Box::new(e.into())))
            }
            result => result.map_err(|e| CgroupError::Join(Box::new(e))),
        }
    }
}

/// Opens the ways into `directories`, each with its controller; that of version
/// 2 has none.
pub(super) fn open<'a>(directories: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<Entry> {
    let mut entry = Entry::default();
    for (controller, directory) in directories {
        if controller.is_empty() {
            entry.unified = Some(place(directory, false)?);
            continue;
        }
        // Other than `cgroup.procs`, it does not wait for every processor.
        let path = directory.join("tasks");
        // Controllers that are mounted together share a directory.
        if entry.tasks.iter().all(|known| known.path != path) {
            entry.tasks.push(place(&path, true)?);
        }
    }
    Ok(entry)
}

fn place(path: &Path, file: bool) -> Result<Place> {
    let kind = if file {
        0
    } else {
        libc::O_PATH | libc::O_DIRECTORY
    };
    let file = std::fs::OpenOptions::new()
        .read(!file)
        .write(file)
        .custom_flags(kind | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| CgroupError::Join(Box::new(CgroupError::io("open", path, e))))?;
    Ok(Place {
        file: file.into(),
        path: path.to_path_buf(),
    })
}
