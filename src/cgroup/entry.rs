//! Being born in a cgroup.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::{CgroupError, Result};
use super::handle::Cgroup;

/// What a new process needs to be in the container's cgroup from its first
/// moment. All descriptors are close-on-exec.
#[derive(Debug)]
pub enum Entry {
    /// Version 2: the directory, for `clone3` with `CLONE_INTO_CGROUP`.
    Unified {
        /// `O_PATH` on the directory.
        directory: OwnedFd,
        /// Its path, for errors.
        path: PathBuf,
    },
    /// Version 1: files into which the new, still single-threaded process writes
    /// `0`, see [`Entry::join`].
    Legacy(Vec<TaskFile>),
    /// There is no cgroup: rootless, without permission.
    None,
}

/// An open file that takes the writing task into a cgroup. Version 1 has
/// `tasks`, which (other than `cgroup.procs`) does not wait for every processor;
/// the unified hierarchy has `cgroup.procs`.
#[derive(Debug)]
pub struct TaskFile {
    file: OwnedFd,
    path: PathBuf,
}

impl TaskFile {
    /// Its path, for errors.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for TaskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Entry {
    /// The descriptor for `CLONE_INTO_CGROUP`, on version 2.
    #[must_use]
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Unified { directory, .. } => Some(directory.as_fd()),
            Self::Legacy(_) | Self::None => None,
        }
    }

    /// Moves the calling thread, which must be its process's only one, into the
    /// version 1 cgroups. Allocates nothing and takes no lock, so it may run
    /// between `clone3` and `execve`. On version 2 there is nothing to do.
    ///
    /// # Errors
    /// The index of the file that refused, for [`Entry::path`], and why.
    pub fn join(&self) -> std::result::Result<(), (usize, Errno)> {
        let Self::Legacy(files) = self else {
            return Ok(());
        };
        for (index, file) in files.iter().enumerate() {
            loop {
                match nix::unistd::write(file, b"0") {
                    Ok(_) => break,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err((index, errno)),
                }
            }
        }
        Ok(())
    }

    /// The path behind a failure, for [`Entry::failed`].
    #[must_use]
    pub fn path(&self, index: usize) -> Option<&Path> {
        match self {
            Self::Unified { path, .. } => Some(path),
            Self::Legacy(files) => files.get(index).map(TaskFile::path),
            Self::None => None,
        }
    }

    /// The error for a `clone3` or [`Entry::join`] that failed.
    #[must_use]
    pub fn failed(&self, index: usize, errno: Errno) -> CgroupError {
        let path = self.path(index).unwrap_or(Path::new(""));
        CgroupError::Join(Box::new(CgroupError::Write {
            value: "0".to_owned(),
            path: path.to_path_buf(),
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
        if self.v2 {
            return match self.directory("") {
                Some(directory) => unified(directory),
                None => Ok(Entry::None),
            };
        }
        legacy(self.directories())
    }
}

pub(super) fn unified(directory: &Path) -> Result<Entry> {
    let fd = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(directory)
        .map_err(|e| CgroupError::Join(Box::new(CgroupError::io("open", directory, e))))?;
    Ok(Entry::Unified {
        directory: fd.into(),
        path: directory.to_path_buf(),
    })
}

pub(super) fn legacy<'a>(directories: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<Entry> {
    let mut files: Vec<TaskFile> = Vec::new();
    for (controller, directory) in directories {
        let name = if controller.is_empty() {
            "cgroup.procs"
        } else {
            "tasks"
        };
        let path = directory.join(name);
        // Controllers that are mounted together share a directory.
        if files.iter().any(|f| f.path == path) {
            continue;
        }
        let file: File = std::fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|e| CgroupError::Join(Box::new(CgroupError::io("open", &path, e))))?;
        files.push(TaskFile {
            file: file.into(),
            path,
        });
    }
    if files.is_empty() {
        return Ok(Entry::None);
    }
    Ok(Entry::Legacy(files))
}
