//! Probes single files: device nodes, hooks, mount sources.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use pathrs::error::{Error as PathError, ErrorKind};
use pathrs::{Handle, Root};

use super::facts::{FileFacts, FileKind, Presence, Snapshot};
use crate::error::{Error, Result};

/// Examines each path below `root`, as a process whose root it is would find it.
///
/// # Errors
/// Only if `root` itself cannot be opened; what is wrong with a path is a fact
/// about it.
pub fn probe(root: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Result<Snapshot> {
    let root = Root::open(root).map_err(|error| Error::io("open", root, io_error(&error)))?;
    let files = paths
        .into_iter()
        .map(|path| {
            let found = examine(&root, &path);
            (path, found)
        })
        .collect();
    Ok(Snapshot {
        files,
        ..Snapshot::default()
    })
}

/// What is at `path` below `root`.
pub(super) fn examine(root: &Root, path: &Path) -> Presence {
    match root.resolve_nofollow(path) {
        Err(error) => failed(&error),
        Ok(handle) => match facts(&handle) {
            Presence::Present(mut facts) if facts.kind == FileKind::Symlink => {
                let target = match root.resolve(path) {
                    Ok(handle) => self::facts(&handle),
                    Err(error) => failed(&error),
                };
                facts.target = Some(Box::new(target));
                Presence::Present(facts)
            }
            other => other,
        },
    }
}

fn facts(handle: &Handle) -> Presence {
    match metadata(handle) {
        Ok(meta) => from_metadata(&meta),
        Err(error) => Presence::Unknown {
            reason: error.to_string().to_lowercase(),
        },
    }
}

/// `fstat` of a handle, which never opens what it stands for.
pub(super) fn metadata(handle: &Handle) -> io::Result<Metadata> {
    let handle = handle.try_clone().map_err(|error| io_error(&error))?;
    File::from(OwnedFd::from(handle)).metadata()
}

fn from_metadata(meta: &Metadata) -> Presence {
    let file_type = meta.file_type();
    let kind = if file_type.is_block_device() {
        FileKind::Block
    } else if file_type.is_char_device() {
        FileKind::Char
    } else if file_type.is_fifo() {
        FileKind::Fifo
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_symlink() {
        FileKind::Symlink
    } else if file_type.is_socket() {
        FileKind::Socket
    } else {
        FileKind::File
    };
    let (major, minor) = match kind {
        FileKind::Block | FileKind::Char => (major(meta.rdev()), minor(meta.rdev())),
        _ => (0, 0),
    };
    // The C library's numbers have 32 bits each; the kernel fills 12 and 20.
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Presence::Present(FileFacts {
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            major,
            minor,
            target: None,
        }),
        _ => Presence::Unknown {
            reason: format!("device numbers {major}:{minor} are out of range"),
        },
    }
}

fn failed(error: &PathError) -> Presence {
    if is_absent(error) {
        return Presence::Absent;
    }
    Presence::Unknown {
        reason: crate::error::reason(&io_error(error)),
    }
}

/// Whether a path does not exist, or cannot.
pub(super) fn is_absent(error: &PathError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::OsError(Some(libc::ENOENT | libc::ENOTDIR))
    )
}

/// The system's own words where there are some.
pub(super) fn io_error(error: &PathError) -> io::Error {
    match error.kind() {
        ErrorKind::OsError(Some(errno)) => io::Error::from_raw_os_error(errno),
        _ => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    use super::*;

    #[test]
    fn every_kind_of_file_is_told_below_a_host_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("dev")).unwrap();
        fs::write(root.join("dev/file"), "").unwrap();
        fs::set_permissions(root.join("dev/file"), fs::Permissions::from_mode(0o640)).unwrap();
        // An absolute link means a place below the root, as on that host.
        symlink("/dev/file", root.join("dev/link")).unwrap();
        symlink("/nowhere", root.join("dev/dangling")).unwrap();
        nix::unistd::mkfifo(&root.join("dev/fifo"), Mode::S_IRWXU).unwrap();
        let paths = [
            "/dev",
            "/dev/file",
            "/dev/link",
            "/dev/dangling",
            "/dev/fifo",
            "/dev/none",
            "/dev/file/below",
        ];
        let snapshot = probe(root, paths.map(PathBuf::from)).unwrap();

        let kind = |path: &str| match snapshot.file(path).unwrap() {
            Presence::Present(facts) => facts.kind,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(kind("/dev"), FileKind::Directory);
        assert_eq!(kind("/dev/fifo"), FileKind::Fifo);
        assert_eq!(kind("/dev/link"), FileKind::Symlink);
        let Some(Presence::Present(file)) = snapshot.file("/dev/link").map(Presence::followed)
        else {
            panic!("{snapshot:?}");
        };
        assert_eq!((file.kind, file.mode), (FileKind::File, 0o640));
        assert_eq!(
            snapshot.file("/dev/dangling").unwrap().followed(),
            &Presence::Absent
        );
        assert_eq!(snapshot.file("/dev/none"), Some(&Presence::Absent));
        assert_eq!(snapshot.file("/dev/file/below"), Some(&Presence::Absent));
        assert_eq!(snapshot.file("/dev/unasked"), None);
    }

    #[test]
    fn device_numbers_are_read_in_full() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP device_numbers_are_read_in_full: needs root for mknod");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for (name, kind, numbers) in [
            ("c", SFlag::S_IFCHR, (4095, 1_048_575)),
            ("b", SFlag::S_IFBLK, (511, 300)),
        ] {
            let device = makedev(numbers.0, numbers.1);
            mknod(&dir.path().join(name), kind, Mode::S_IRUSR, device).unwrap();
        }
        let snapshot = probe(dir.path(), ["/c", "/b"].map(PathBuf::from)).unwrap();
        let numbers = |path: &str| match snapshot.file(path) {
            Some(Presence::Present(facts)) => (facts.kind, facts.major, facts.minor),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(numbers("/c"), (FileKind::Char, 4095, 1_048_575));
        assert_eq!(numbers("/b"), (FileKind::Block, 511, 300));
    }

    #[test]
    fn a_snapshot_survives_being_written_down() {
        let snapshot = probe(
            Path::new("/"),
            ["/dev/null", "/proc/self/exe", "/none"].map(PathBuf::from),
        )
        .unwrap();
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
