//! Facts about a host as plain, serialisable data: what the pure modules decide
//! on. No probing here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Block device.
    Block,
    /// Character device.
    Char,
    /// FIFO.
    Fifo,
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Unix socket.
    Socket,
}

impl FileKind {
    /// What to call it in a sentence.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Block => "a block device",
            Self::Char => "a character device",
            Self::Fifo => "a FIFO",
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Socket => "a socket",
        }
    }
}

/// One file, as `lstat` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, with setuid, setgid and sticky, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major number of a device (12 bits in the kernel), else 0.
    #[serde(default)]
    pub major: u32,
    /// Minor number of a device (20 bits in the kernel), else 0.
    #[serde(default)]
    pub minor: u32,
    /// Where a symbolic link leads in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<Presence>>,
}

/// Whether there is something at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Nothing is there.
    Absent,
    /// It could not be examined.
    Unknown {
        /// Why.
        reason: String,
    },
    /// Something is there.
    Present(FileFacts),
}

impl Presence {
    /// What a program that opens the path would meet: links followed.
    #[must_use]
    pub fn followed(&self) -> &Self {
        match self {
            Self::Present(FileFacts {
                target: Some(target),
                ..
            }) => target.followed(),
            other => other,
        }
    }
}

/// Everything that was probed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Files by their absolute path on that host.
    pub files: BTreeMap<PathBuf, Presence>,
    /// What small text files say: those of procfs and sysfs that describe
    /// devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<PathBuf, String>,
    /// The names in directories, sorted. One that was looked for and is not
    /// there has no entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dirs: BTreeMap<PathBuf, Vec<String>>,
    /// Where symbolic links point, as they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<PathBuf, PathBuf>,
}

impl Snapshot {
    /// What is known about a path; `None` if nobody looked.
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&Presence> {
        self.files.get(path.as_ref())
    }

    /// What a text file says, without white space around it; `None` if it is not
    /// there or nobody looked.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> Option<&str> {
        self.texts.get(path.as_ref()).map(|text| text.trim())
    }

    /// The names in a directory; none if it is not there or nobody looked.
    #[must_use]
    pub fn names(&self, dir: impl AsRef<Path>) -> &[String] {
        self.dirs.get(dir.as_ref()).map_or(&[], Vec::as_slice)
    }

    /// Takes over what another snapshot of the same host knows, which may have
    /// looked for other names in the same directories.
    pub fn merge_names(&mut self, mut other: Self) {
        for (dir, names) in std::mem::take(&mut other.dirs) {
            let known = self.dirs.entry(dir).or_default();
            known.extend(names);
            known.sort();
            known.dedup();
        }
        self.merge(other);
    }

    /// Takes over what another snapshot knows.
    pub fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
        self.texts.extend(other.texts);
        self.dirs.extend(other.dirs);
        self.links.extend(other.links);
    }
}
