//! What of a directory's contents kusabi made: the marker says so, and each thing
//! that it names is compared before it counts as ours.

use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::unistd::UnlinkatFlags;

use super::directory::{Directory, identity_of, is, is_trusted, prefix};
use super::marker::{Identity, MARKER, Marker, Rootfs, digest};
use crate::document::Document;
use crate::error::Result;
use crate::runtime::fault::{Step, point};

pub(super) const CONFIG: &str = "config.json";
pub(super) const ROOTFS: &str = "rootfs";
/// What [`CONFIG`] is called while it is being removed.
pub(super) const CONFIG_ASIDE: &str = ".config.json.removed";
/// What [`ROOTFS`] is called while it is being removed.
pub(super) const ROOTFS_ASIDE: &str = ".rootfs.removed";

/// Far above any real one.
const MAX_MARKER: u64 = 64 << 10;

/// A file that is whole and has not replaced another: what a killed process
/// leaves.
pub(super) enum Leftover {
    /// Nobody else has such a file.
    Ours,
    /// Named like one, with another content.
    Doubtful,
}

impl Directory {
    /// The marker, if there is one that speaks of this directory.
    pub fn marker(&self) -> Result<Option<Marker>> {
        let Some(bytes) = self.read(MARKER, MAX_MARKER)? else {
            return Ok(None);
        };
        let marker = Marker::parse(&bytes).ok_or_else(|| {
            self.foreign(MARKER, "is no marker that this version of kusabi wrote")
        })?;
        if marker.directory != self.identity()? {
            return Err(self.foreign(
                MARKER,
                "was made in another directory: this one is a copy of a bundle, or was put in its place",
            ));
        }
        Ok(Some(marker))
    }

    /// Whether what is called `name` is the marker's `rootfs`; `false` where
    /// nothing is there.
    pub fn has_rootfs(&self, name: &str, marker: &Marker) -> Result<bool> {
        let Some(stat) = self.stat(name)? else {
            return Ok(false);
        };
        match &marker.rootfs {
            Rootfs::Link(target) if is(&stat, SFlag::S_IFLNK) => {
                let now = readlinkat(self.fd(), name);
                let now = now.map_err(|errno| self.failed("read", name, errno))?;
                if now.as_bytes() != target.as_bytes() {
                    return Err(self.foreign(name, "leads somewhere else than when it was made"));
                }
                Ok(true)
            }
            Rootfs::Directory(identity) if is(&stat, SFlag::S_IFDIR) => {
                if *identity != identity_of(&stat) {
                    return Err(self.foreign(
                        name,
                        "is another directory than the one that was made, or has something mounted on it",
                    ));
                }
                Ok(true)
            }
            Rootfs::Pending if is(&stat, SFlag::S_IFDIR) => Ok(true),
            _ => Err(self.foreign(name, "is not what was made there")),
        }
    }

    /// The same, for what is going to be removed: a directory must be empty.
    pub fn has_removable_rootfs(&self, name: &str, marker: &Marker) -> Result<bool> {
        let there = self.has_rootfs(name, marker)?;
        if there
            && !matches!(marker.rootfs, Rootfs::Link(_))
            && let Some(inside) = self.names(name)?.first()
        {
            return Err(self.foreign(name, &format!("is not empty, {inside:?} is in it")));
        }
        Ok(there)
    }

    /// Whether what is called `name` is the marker's `config.json`, or any other
    /// where `changed` allows that; `false` where nothing is there.
    pub fn has_config(&self, name: &str, marker: &Marker, changed: bool) -> Result<bool> {
        let limit = u64::try_from(Document::MAX_BYTES).unwrap_or(u64::MAX);
        let Some(config) = self.read(name, limit)? else {
            return Ok(false);
        };
        if !marker.accounts_for(&config) && !changed {
            return Err(self.foreign(
                name,
                "was changed after it was built, remove it, or give --force",
            ));
        }
        Ok(true)
    }

    /// Removes what is called `name` if `check` finds it ours when nobody else
    /// finds it by that name any more; else it is put back.
    pub fn take_away(
        &self,
        name: &str,
        aside: &str,
        flag: UnlinkatFlags,
        check: impl Fn(&str) -> Result<bool>,
        step: Step,
    ) -> Result<()> {
        match self.rename_to_new(name, aside) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(()),
            // There are file systems that cannot rename so.
            Err(Errno::EINVAL) => {
                check(name)?;
                return self.remove(name, flag);
            }
            Err(errno) => return Err(self.failed("remove", name, errno)),
        }
        point(step)?;
        if check(aside).is_ok() {
            return self.remove(aside, flag);
        }
        Err(match self.rename_to_new(aside, name) {
            Ok(()) => self.foreign(name, "was exchanged while it was being removed"),
            Err(_) => {
                let reason =
                    format!("was {name} while that was being removed, and is not kusabi's");
                self.foreign(aside, &reason)
            }
        })
    }

    /// Whether `name` is that of a file which was going to replace another, and
    /// whose it is.
    pub fn leftover(&self, name: &str) -> Result<Option<Leftover>> {
        let rest = [CONFIG, MARKER]
            .iter()
            .find_map(|replaced| name.strip_prefix(prefix(replaced).as_str()));
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let Some(wanted) = rest.filter(|rest| rest.len() == 64 && rest.bytes().all(hex)) else {
            return Ok(None);
        };
        let file = self.stat(name)?;
        if !file.is_some_and(|stat| is(&stat, SFlag::S_IFREG) && is_trusted(&stat)) {
            return Ok(Some(Leftover::Doubtful));
        }
        let limit = u64::try_from(Document::MAX_BYTES).unwrap_or(u64::MAX);
        let whole = self.read(name, limit)?;
        let ours = whole.is_some_and(|content| digest(&content) == wanted);
        Ok(Some(if ours {
            Leftover::Ours
        } else {
            Leftover::Doubtful
        }))
    }

    /// Removes what killed processes have left of files that were to replace
    /// others. Nobody is writing now: the directory is locked.
    pub fn sweep(&self) -> Result<()> {
        for name in self.names(".")? {
            if let Some(Leftover::Ours) = self.leftover(&name)? {
                self.remove(&name, UnlinkatFlags::NoRemoveDir)?;
            }
        }
        Ok(())
    }

    pub fn make_rootfs(&self) -> Result<Identity> {
        let mode = Mode::from_bits_truncate(0o755);
        match mkdirat(self.fd(), ROOTFS, mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.failed("mkdir", ROOTFS, errno)),
        }
        match self.stat(ROOTFS)? {
            Some(stat) if is(&stat, SFlag::S_IFDIR) => Ok(identity_of(&stat)),
            _ => Err(self.foreign(ROOTFS, "is not a directory")),
        }
    }

    /// Whether nothing is here that could be anybody's: at most what a build that
    /// was killed leaves, an empty `rootfs`.
    pub fn is_blank(&self) -> Result<bool> {
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

/// How what a `rootfs` is goes away.
pub(super) fn removal(marker: &Marker) -> UnlinkatFlags {
    match marker.rootfs {
        Rootfs::Link(_) => UnlinkatFlags::NoRemoveDir,
        Rootfs::Directory(_) | Rootfs::Pending => UnlinkatFlags::RemoveDir,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// As if it had been exchanged since it was looked at.
    #[test]
    fn what_is_exchanged_meanwhile_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let rootfs = Rootfs::Link("/there".to_owned());
        let identity = directory.identity().unwrap();
        let marker = Marker::new("id", identity, true, b"ours", rootfs);
        let take = || {
            directory.take_away(
                CONFIG,
                CONFIG_ASIDE,
                UnlinkatFlags::NoRemoveDir,
                |name| directory.has_config(name, &marker, false),
                Step::CleanConfigAside,
            )
        };
        fs::write(dir.path().join(CONFIG), "ours").unwrap();
        take().unwrap();
        take().unwrap();
        assert!(directory.names(".").unwrap().is_empty());

        fs::write(dir.path().join(CONFIG), "mine").unwrap();
        let error = take().unwrap_err().to_string();
        assert!(
            error.ends_with("config.json: was exchanged while it was being removed"),
            "{error}"
        );
        assert_eq!(directory.names(".").unwrap(), [CONFIG]);

        let take = |name: &str| {
            directory.take_away(
                name,
                ROOTFS_ASIDE,
                removal(&marker),
                |name| directory.has_removable_rootfs(name, &marker),
                Step::CleanRootfsAside,
            )
        };
        std::os::unix::fs::symlink("/elsewhere", dir.path().join(ROOTFS)).unwrap();
        take(ROOTFS).unwrap_err();
        let still = fs::read_link(dir.path().join(ROOTFS)).unwrap();
        assert_eq!(still.to_str(), Some("/elsewhere"));
        // What has the other name is nobody's to overwrite.
        fs::write(dir.path().join(ROOTFS_ASIDE), "mine").unwrap();
        let error = take(ROOTFS).unwrap_err().to_string();
        assert!(error.ends_with("rootfs: file exists"), "{error}");
        assert_eq!(directory.names(".").unwrap().len(), 3);
    }
}
