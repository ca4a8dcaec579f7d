//! A directory that is worked in through one descriptor, so that a name which is
//! exchanged meanwhile leads nowhere else.
//!
//! Nothing is followed out of it. Files appear whole or not at all; until one has
//! replaced another it has a name that its own content accounts for
//! ([`beside`]), so that what a killed process leaves can be told from what
//! somebody else put there.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};

use super::BundleError;
use super::marker::{Identity, digest};
use crate::error::{Error, Result};
use crate::runtime::fault::{Step, point};

/// Whether a file may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// No: whatever has the name is somebody else's.
    New,
    /// Yes: it is replaced. The step is that of the new one being whole, beside it.
    Replace(Step),
}

/// A directory, held open and locked.
pub(super) struct Directory {
    pub path: PathBuf,
    open: Flock<File>,
}

impl Directory {
    /// Opens `path` itself: not what a symbolic link there names.
    pub fn open(path: &Path) -> Result<Self> {
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

    pub fn fd(&self) -> Option<RawFd> {
        Some(self.open.as_raw_fd())
    }

    pub fn failed(&self, action: &'static str, name: &str, errno: Errno) -> Error {
        Error::io(action, self.path.join(name), errno.into())
    }

    pub fn foreign(&self, name: &str, reason: &str) -> Error {
        foreign(&self.path.join(name), reason)
    }

    /// What `openat` of `name` has just returned.
    fn own(&self, name: &str, opened: nix::Result<RawFd>) -> Result<File> {
        let fd = opened.map_err(|errno| self.failed("open", name, errno))?;
        let owned = crate::sys::adopt_fd(fd);
        owned
            .map(File::from)
            .map_err(|e| Error::io("open", self.path.join(name), e))
    }

    pub fn identity(&self) -> Result<Identity> {
        let meta = self.open.metadata();
        let meta = meta.map_err(|e| Error::io("stat", &self.path, e))?;
        Ok(Identity {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// What is called `name`, links not followed.
    pub fn stat(&self, name: &str) -> Result<Option<FileStat>> {
        match fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("stat", name, errno)),
        }
    }

    /// Every name but `.` and `..`, sorted.
    pub fn names(&self, below: &str) -> Result<Vec<String>> {
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
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) if !is(&stat, SFlag::S_IFREG) => {
                return Err(self.foreign(name, "is not a regular file"));
            }
            Some(stat) if !is_trusted(&stat) => {
                let reason = format!("belongs to uid {}", stat.st_uid);
                return Err(self.foreign(name, &reason));
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

    /// Writes a file whole or not at all. For its owner alone: a configuration
    /// holds what secrets were resolved to.
    pub fn write(&self, name: &str, content: &[u8], way: Way) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        match openat(self.fd(), ".", flags, owner_only()) {
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => self.write_named(name, content, way),
            file => self.write_nameless(name, content, way, self.own(name, file)?),
        }
    }

    /// With a file that has no name before it is whole.
    fn write_nameless(&self, name: &str, content: &[u8], way: Way, mut file: File) -> Result<()> {
        self.fill(name, &mut file, content)?;
        let link = |name: &str| {
            let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(None, nameless.as_str(), self.fd(), name, follow)
                .map_err(|errno| self.failed("link", name, errno))
        };
        match way {
            Way::New => link(name),
            Way::Replace(step) => {
                let temporary = beside(name, content);
                link(&temporary)?;
                self.put_in_place(&temporary, name, way, step)
            }
        }
    }

    /// On file systems that know no file without a name.
    fn write_named(&self, name: &str, content: &[u8], way: Way) -> Result<()> {
        let temporary = beside(name, content);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(self.fd(), temporary.as_str(), flags, owner_only());
        let mut file = self.own(&temporary, file)?;
        if let Err(error) = self.fill(name, &mut file, content) {
            // The error that is reported is the first one.
            let _ = self.remove(&temporary, UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        let step = match way {
            Way::New => Step::BuildNewConfig,
            Way::Replace(step) => step,
        };
        self.put_in_place(&temporary, name, way, step)
    }

    fn fill(&self, name: &str, file: &mut File, content: &[u8]) -> Result<()> {
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io("write", self.path.join(name), e))
    }

    fn put_in_place(&self, temporary: &str, name: &str, way: Way, step: Step) -> Result<()> {
        let done = point(step).and_then(|()| {
            match way {
                Way::New => self.rename_to_new(temporary, name),
                Way::Replace(_) => renameat(self.fd(), temporary, self.fd(), name),
            }
            .map_err(|errno| self.failed("rename", name, errno))
        });
        if done.is_err() {
            // The error that is reported is the first one.
            let _ = self.remove(temporary, UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    /// Gives what is called `old` a name that nothing has.
    pub fn rename_to_new(&self, old: &str, new: &str) -> nix::Result<()> {
        let flag = RenameFlags::RENAME_NOREPLACE;
        renameat2(self.fd(), old, self.fd(), new, flag)
    }

    pub fn remove(&self, name: &str, flag: UnlinkatFlags) -> Result<()> {
        match unlinkat(self.fd(), name, flag) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Removes the directory by the name it has now, if that name is still its
    /// own. It must be empty.
    pub fn remove_itself(&self) -> Result<()> {
        let link = format!("/proc/self/fd/{}", self.open.as_raw_fd());
        let path = fs::read_link(&link).map_err(|e| Error::io("read", &link, e))?;
        let meta = path.symlink_metadata();
        let meta = meta.map_err(|e| Error::io("stat", &path, e))?;
        let named = Identity {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        if named != self.identity()? {
            return Err(foreign(&path, "was exchanged while it was being removed"));
        }
        fs::remove_dir(&path).map_err(|e| Error::io("remove", &path, e))
    }
}

/// The name of a file that is going to replace `name`: no name that anybody would
/// choose, and none that another content would have.
pub(super) fn beside(name: &str, content: &[u8]) -> String {
    format!("{}{}", prefix(name), digest(content))
}

/// What [`beside`] begins with.
pub(super) fn prefix(name: &str) -> String {
    format!(".{}.", name.trim_start_matches('.'))
}

fn owner_only() -> Mode {
    Mode::S_IRUSR | Mode::S_IWUSR
}

pub(super) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Ours or root's.
pub(super) fn is_trusted(stat: &FileStat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

pub(super) fn identity_of(stat: &FileStat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

pub(super) fn foreign(path: &Path, reason: &str) -> Error {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Directory) -> Vec<String> {
        directory.names(".").unwrap()
    }

    /// With and without files that have no name before they are whole.
    #[test]
    fn files_appear_whole_and_replace_only_what_they_may() {
        type Write = fn(&Directory, &str, &[u8], Way) -> Result<()>;
        let ways: [Write; 2] = [Directory::write, Directory::write_named];
        for write in ways {
            let dir = tempfile::tempdir().unwrap();
            let directory = Directory::open(dir.path()).unwrap();
            let content = || fs::read_to_string(dir.path().join("a")).unwrap();
            let replace = Way::Replace(Step::BuildNewConfig);
            write(&directory, "a", b"one", Way::New).unwrap();
            assert_eq!(content(), "one");
            let error = write(&directory, "a", b"two", Way::New).unwrap_err();
            assert!(error.to_string().ends_with("file exists"), "{error}");
            assert_eq!(content(), "one");
            write(&directory, "a", b"two", replace).unwrap();
            assert_eq!(content(), "two");
            assert_eq!(names(&directory), ["a"]);
            // Something is called what the new one would be.
            let other = beside("a", b"three");
            fs::write(dir.path().join(&other), "foreign").unwrap();
            let error = write(&directory, "a", b"three", replace).unwrap_err();
            assert!(error.to_string().ends_with("file exists"), "{error}");
            assert_eq!(names(&directory), [other.as_str(), "a"]);
            assert_eq!(content(), "two");
        }
    }
}
