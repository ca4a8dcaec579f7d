//! Bundle directories: made, replaced and removed through one descriptor, so that
//! a name which is exchanged meanwhile leads nowhere else.
//!
//! Nothing is followed out of the directory and nothing is removed that the
//! marker does not account for: a link is removed and never what it names, a
//! directory only when it is empty, and `rmdir` refuses what is mounted on.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, symlinkat, unlinkat};

use super::BundleError;
use super::builder::BundleSpec;
use super::marker::{Identity, MARKER, Marker, Rootfs, digest};
use crate::document::Document;
use crate::error::{Error, Result};

const CONFIG: &str = "config.json";
const ROOTFS: &str = "rootfs";

/// Far above any real one.
const MAX_MARKER: u64 = 64 << 10;

/// A bundle that has been written.
#[derive(Debug)]
pub struct Built {
    /// Its directory, absolute.
    pub path: PathBuf,
    /// What is in its `config.json`.
    pub spec: BundleSpec,
}

/// A directory, held open and locked.
struct Directory {
    path: PathBuf,
    open: Flock<File>,
}

impl Directory {
    /// Opens `path` itself: not what a symbolic link there names.
    fn open(path: &Path) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| match path.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => {
                    foreign(path, "is a symbolic link, name the directory itself")
                }
                _ => Error::io("open", path, e),
            })?;
        let open = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::io("lock", path, errno.into()))?;
        Ok(Self {
            path: path.to_owned(),
            open,
        })
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.open.as_raw_fd())
    }

    fn failed(&self, action: &'static str, name: &str, errno: Errno) -> Error {
        Error::io(action, self.path.join(name), errno.into())
    }

    /// What `openat` of `name` has just returned.
    fn own(&self, name: &str, opened: nix::Result<RawFd>) -> Result<File> {
        let fd = opened.map_err(|errno| self.failed("open", name, errno))?;
        let owned = crate::sys::adopt_fd(fd);
        owned
            .map(File::from)
            .map_err(|e| Error::io("open", self.path.join(name), e))
    }

    fn identity(&self) -> Result<Identity> {
        let meta = self.open.metadata();
        let meta = meta.map_err(|e| Error::io("stat", &self.path, e))?;
        Ok(Identity {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// What is called `name`, links not followed.
    fn stat(&self, name: &str) -> Result<Option<FileStat>> {
        match fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("stat", name, errno)),
        }
    }

    /// Every name but `.` and `..`, sorted.
    fn names(&self, below: &str) -> Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let list = Dir::openat(self.fd(), below, flags, Mode::empty());
        let mut list = list.map_err(|errno| self.failed("open", below, errno))?;
        let mut names = Vec::new();
        for entry in list.iter() {
            let entry = entry.map_err(|errno| self.failed("read", below, errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The content of a regular file that is ours or root's.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) if !is(&stat, SFlag::S_IFREG) => {
                return Err(foreign(&self.path.join(name), "is not a regular file"));
            }
            Some(stat) if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() => {
                let reason = format!("belongs to uid {}", stat.st_uid);
                return Err(foreign(&self.path.join(name), &reason));
            }
            Some(_) => {}
        }
        // Whatever was exchanged since: no link, and no wait for a FIFO.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(self.fd(), name, flags, Mode::empty());
        let file = self.own(name, file)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("read", self.path.join(name), e))?;
        Ok(Some(bytes))
    }

    /// Replaces a file whole or not at all. For its owner alone: a configuration
    /// holds what secrets were resolved to.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(self.fd(), temporary.as_str(), flags, mode);
        let mut file = self.own(&temporary, file)?;
        let written = file
            .write_all(content)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io("write", self.path.join(name), e))
            .and_then(|()| {
                renameat(self.fd(), temporary.as_str(), self.fd(), name)
                    .map_err(|errno| self.failed("rename", name, errno))
            });
        if written.is_err() {
            // The error that is reported is the first one.
            let _ = self.remove(&temporary, UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    fn remove(&self, name: &str, flag: UnlinkatFlags) -> Result<()> {
        match unlinkat(self.fd(), name, flag) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// The marker, if there is one that speaks of this directory.
    fn marker(&self) -> Result<Option<Marker>> {
        let Some(bytes) = self.read(MARKER, MAX_MARKER)? else {
            return Ok(None);
        };
        let path = self.path.join(MARKER);
        let marker = Marker::parse(&bytes)
            .ok_or_else(|| foreign(&path, "is no marker that this version of kusabi wrote"))?;
        if marker.directory != self.identity()? {
            return Err(foreign(
                &path,
                "was made in another directory: this one is a copy of a bundle, or was put in its place",
            ));
        }
        Ok(Some(marker))
    }

    /// Whether `rootfs` is what the marker says; `false` where nothing is there.
    fn has_rootfs(&self, marker: &Marker) -> Result<bool> {
        let path = self.path.join(ROOTFS);
        let Some(stat) = self.stat(ROOTFS)? else {
            return Ok(false);
        };
        match &marker.rootfs {
            Rootfs::Link(target) if is(&stat, SFlag::S_IFLNK) => {
                let now = readlinkat(self.fd(), ROOTFS);
                let now = now.map_err(|errno| self.failed("read", ROOTFS, errno))?;
                if now.as_bytes() != target.as_bytes() {
                    return Err(foreign(&path, "leads somewhere else than when it was made"));
                }
                Ok(true)
            }
            Rootfs::Directory(identity) if is(&stat, SFlag::S_IFDIR) => {
                if *identity != identity_of(&stat) {
                    return Err(foreign(
                        &path,
                        "is another directory than the one that was made, or has something mounted on it",
                    ));
                }
                Ok(true)
            }
            _ => Err(foreign(&path, "is not what was made there")),
        }
    }

    /// The same, for what is going to be removed: a directory must be empty.
    fn has_removable_rootfs(&self, marker: &Marker) -> Result<bool> {
        let there = self.has_rootfs(marker)?;
        if there
            && matches!(marker.rootfs, Rootfs::Directory(_))
            && let Some(name) = self.names(ROOTFS)?.first()
        {
            return Err(foreign(
                &self.path.join(ROOTFS),
                &format!("is not empty, {name:?} is in it"),
            ));
        }
        Ok(there)
    }

    fn remove_rootfs(&self, marker: &Marker) -> Result<()> {
        let flag = match marker.rootfs {
            Rootfs::Link(_) => UnlinkatFlags::NoRemoveDir,
            Rootfs::Directory(_) => UnlinkatFlags::RemoveDir,
        };
        self.remove(ROOTFS, flag)
    }

    fn make_rootfs(&self) -> Result<Identity> {
        let mode = Mode::from_bits_truncate(0o755);
        match mkdirat(self.fd(), ROOTFS, mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.failed("mkdir", ROOTFS, errno)),
        }
        match self.stat(ROOTFS)? {
            Some(stat) if is(&stat, SFlag::S_IFDIR) => Ok(identity_of(&stat)),
            _ => Err(foreign(&self.path.join(ROOTFS), "is not a directory")),
        }
    }

    /// Whether nothing is here that could be anybody's: at most what a build that
    /// was killed leaves, an empty `rootfs`.
    fn is_blank(&self) -> Result<bool> {
        let names = self.names(".")?;
        match names.as_slice() {
            [] => Ok(true),
            [only] if only == ROOTFS => {
                let stat = self.stat(ROOTFS)?;
                let directory = stat.is_some_and(|stat| is(&stat, SFlag::S_IFDIR));
                Ok(directory && self.names(ROOTFS)?.is_empty())
            }
            _ => Ok(false),
        }
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn identity_of(stat: &FileStat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

fn foreign(path: &Path, reason: &str) -> Error {
    BundleError::Foreign {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
    .into()
}

/// A directory without links on the way.
pub(super) fn real(path: &Path) -> Result<PathBuf> {
    let real = fs::canonicalize(path).map_err(|e| Error::io("open", path, e))?;
    if !real.is_dir() {
        return Err(Error::io("open", path, Errno::ENOTDIR.into()));
    }
    Ok(real)
}

/// A path as JSON can hold it.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "is not UTF-8");
        Error::io("write", path, source)
    })
}

/// Writes a bundle into `out`, which is made, or empty, or a bundle of ours.
pub(super) fn build(out: &Path, rootfs: Option<&Path>, spec: BundleSpec) -> Result<Built> {
    // Others may pass through, as root of a user namespace must, and not look.
    let made = match DirBuilder::new().mode(0o711).create(out) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("mkdir", out, e)),
    };
    let directory = Directory::open(out)?;
    let old = directory.marker()?;
    if old.is_none() && !directory.is_blank()? {
        return Err(foreign(
            out,
            "is not empty and is no bundle that kusabi made; choose another directory, or write just the configuration with bundle write-config",
        ));
    }
    let made = made || old.as_ref().is_some_and(|old| old.made);
    let target = rootfs.map(text).transpose()?;
    let written = write(&directory, old.as_ref(), target.as_deref(), made, &spec);
    if written.is_err() && old.is_none() {
        // Nothing of it was there before; the error that is reported is the
        // first one.
        for name in [CONFIG, MARKER] {
            let _ = directory.remove(name, UnlinkatFlags::NoRemoveDir);
        }
        let _ = directory.remove(ROOTFS, UnlinkatFlags::NoRemoveDir);
        let _ = directory.remove(ROOTFS, UnlinkatFlags::RemoveDir);
        if made {
            let _ = fs::remove_dir(out);
        }
    }
    written?;
    Ok(Built {
        path: real(out)?,
        spec,
    })
}

/// The marker speaks of what follows before it is there, so that a build that is
/// killed leaves a bundle that can be replaced and removed.
fn write(
    directory: &Directory,
    old: Option<&Marker>,
    target: Option<&str>,
    made: bool,
    spec: &BundleSpec,
) -> Result<()> {
    if let Some(stat) = directory.stat(CONFIG)?
        && !is(&stat, SFlag::S_IFREG)
    {
        return Err(foreign(
            &directory.path.join(CONFIG),
            "is not a regular file",
        ));
    }
    if let Some(old) = old {
        let stays = target.is_none() && matches!(old.rootfs, Rootfs::Directory(_));
        let there = if stays {
            directory.has_rootfs(old)?
        } else {
            directory.has_removable_rootfs(old)?
        };
        if there && !stays {
            directory.remove_rootfs(old)?;
        }
    } else if target.is_some() {
        directory.remove(ROOTFS, UnlinkatFlags::RemoveDir)?;
    }
    let rootfs = match target {
        Some(target) => Rootfs::Link(target.to_owned()),
        None => Rootfs::Directory(directory.make_rootfs()?),
    };
    let content = spec.bytes()?;
    let marker = Marker::new(&spec.id, directory.identity()?, made, &content, rootfs);
    let bytes = marker.bytes();
    let bytes = bytes.map_err(|e| Error::io("write", &directory.path, e.into()))?;
    directory.write(MARKER, &bytes)?;
    if let Some(target) = target {
        symlinkat(target, directory.fd(), ROOTFS)
            .map_err(|errno| directory.failed("symlink", ROOTFS, errno))?;
    }
    directory.write(CONFIG, &content)
}

/// Writes `config.json` alone, in place of an earlier file of that name.
///
/// # Errors
/// No directory; something other than a file is in the way.
pub fn write_config(out: &Path, document: &Document) -> Result<()> {
    let directory = Directory::open(&real(out)?)?;
    if let Some(stat) = directory.stat(CONFIG)?
        && !is(&stat, SFlag::S_IFREG)
    {
        return Err(foreign(&out.join(CONFIG), "is not a regular file"));
    }
    directory.write(CONFIG, &document.pretty()?)
}

/// Removes a bundle that [`build`] made: `config.json`, `rootfs` (the link, or
/// the empty directory), the marker, and the directory if it was made, too.
/// Either everything in it is ours, or nothing is removed. `changed` allows a
/// `config.json` that somebody has changed since.
///
/// # Errors
/// [`BundleError::Foreign`] names what kusabi did not make.
pub fn clean(out: &Path, changed: bool) -> Result<()> {
    let directory = Directory::open(out)?;
    let marker = directory
        .marker()?
        .ok_or_else(|| foreign(out, "is no bundle that kusabi made"))?;
    for name in directory.names(".")? {
        if ![CONFIG, ROOTFS, MARKER].contains(&name.as_str()) {
            return Err(foreign(
                &out.join(&name),
                "is not kusabi's, remove it first",
            ));
        }
    }
    directory.has_removable_rootfs(&marker)?;
    let config = directory.read(
        CONFIG,
        u64::try_from(Document::MAX_BYTES).unwrap_or(u64::MAX),
    )?;
    if let Some(config) = config
        && digest(&config) != marker.config
        && !changed
    {
        return Err(foreign(
            &out.join(CONFIG),
            "was changed after it was built, remove it, or give --force",
        ));
    }
    directory.remove_rootfs(&marker)?;
    directory.remove(CONFIG, UnlinkatFlags::NoRemoveDir)?;
    directory.remove(MARKER, UnlinkatFlags::NoRemoveDir)?;
    if marker.made {
        remove_itself(&directory)?;
    }
    Ok(())
}

/// Removes the directory by the name it has now, if that name is still its own.
fn remove_itself(directory: &Directory) -> Result<()> {
    let link = format!("/proc/self/fd/{}", directory.open.as_raw_fd());
    let path = fs::read_link(&link).map_err(|e| Error::io("read", &link, e))?;
    let meta = path.symlink_metadata();
    let meta = meta.map_err(|e| Error::io("stat", &path, e))?;
    let named = Identity {
        dev: meta.dev(),
        ino: meta.ino(),
    };
    if named != directory.identity()? {
        return Err(foreign(&path, "was exchanged while it was being removed"));
    }
    fs::remove_dir(&path).map_err(|e| Error::io("remove", &path, e))
}
