//! The options of a mount: OCI `config.md`, "Linux mount options", as runc reads
//! them. Text in, flags out; a word that is none of these is the file system's.

use std::ffi::c_ulong;

use crate::sys::fsmount::Attributes;

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Sets flags of `mount(2)`.
    Set(c_ulong),
    /// Clears them.
    Clear(c_ulong),
    /// Propagation; `true` for all mounts below too.
    Propagation(c_ulong, bool),
    /// Sets an attribute of `mount_setattr(2)` recursively.
    SetAll(u64),
    /// Clears one.
    ClearAll(u64),
    /// Starts a tmpfs with what the image has below it.
    CopyUp,
    /// Maps ids; `true` for all mounts below too.
    MapIds(bool),
}

use Meaning::{Clear, ClearAll, CopyUp, MapIds, Propagation, Set, SetAll};

/// Sorted, for `features`.
const OPTIONS: &[(&str, Meaning)] = &[
    ("async", Clear(libc::MS_SYNCHRONOUS)),
    ("atime", Clear(libc::MS_NOATIME)),
    ("bind", Set(libc::MS_BIND)),
    ("defaults", Set(0)),
    ("dev", Clear(libc::MS_NODEV)),
    ("diratime", Clear(libc::MS_NODIRATIME)),
    ("dirsync", Set(libc::MS_DIRSYNC)),
    ("exec", Clear(libc::MS_NOEXEC)),
    ("idmap", MapIds(false)),
    ("iversion", Set(libc::MS_I_VERSION)),
    ("lazytime", Set(libc::MS_LAZYTIME)),
    ("loud", Clear(libc::MS_SILENT)),
    ("mand", Set(libc::MS_MANDLOCK)),
    ("noatime", Set(libc::MS_NOATIME)),
    ("nodev", Set(libc::MS_NODEV)),
    ("nodiratime", Set(libc::MS_NODIRATIME)),
    ("noexec", Set(libc::MS_NOEXEC)),
    ("noiversion", Clear(libc::MS_I_VERSION)),
    ("nolazytime", Clear(libc::MS_LAZYTIME)),
    ("nomand", Clear(libc::MS_MANDLOCK)),
    ("norelatime", Clear(libc::MS_RELATIME)),
    ("nostrictatime", Clear(libc::MS_STRICTATIME)),
    ("nosuid", Set(libc::MS_NOSUID)),
    ("nosymfollow", Set(libc::MS_NOSYMFOLLOW)),
    ("private", Propagation(libc::MS_PRIVATE, false)),
    ("ratime", ClearAll(libc::MOUNT_ATTR_NOATIME)),
    ("rbind", Set(libc::MS_BIND | libc::MS_REC)),
    ("rdev", ClearAll(libc::MOUNT_ATTR_NODEV)),
    ("rdiratime", ClearAll(libc::MOUNT_ATTR_NODIRATIME)),
    ("relatime", Set(libc::MS_RELATIME)),
    ("remount", Set(libc::MS_REMOUNT)),
    ("rexec", ClearAll(libc::MOUNT_ATTR_NOEXEC)),
    ("ridmap", MapIds(true)),
    ("rnoatime", SetAll(libc::MOUNT_ATTR_NOATIME)),
    ("rnodev", SetAll(libc::MOUNT_ATTR_NODEV)),
    ("rnodiratime", SetAll(libc::MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", SetAll(libc::MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", ClearAll(libc::MOUNT_ATTR_RELATIME)),
    ("rnostrictatime", ClearAll(libc::MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", SetAll(libc::MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", SetAll(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", Set(libc::MS_RDONLY)),
    ("rprivate", Propagation(libc::MS_PRIVATE, true)),
    ("rrelatime", SetAll(libc::MOUNT_ATTR_RELATIME)),
    ("rro", SetAll(libc::MOUNT_ATTR_RDONLY)),
    ("rrw", ClearAll(libc::MOUNT_ATTR_RDONLY)),
    ("rshared", Propagation(libc::MS_SHARED, true)),
    ("rslave", Propagation(libc::MS_SLAVE, true)),
    ("rstrictatime", SetAll(libc::MOUNT_ATTR_STRICTATIME)),
    ("rsuid", ClearAll(libc::MOUNT_ATTR_NOSUID)),
    ("rsymfollow", ClearAll(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(libc::MS_UNBINDABLE, true)),
    ("rw", Clear(libc::MS_RDONLY)),
    ("shared", Propagation(libc::MS_SHARED, false)),
    ("silent", Set(libc::MS_SILENT)),
    ("slave", Propagation(libc::MS_SLAVE, false)),
    ("strictatime", Set(libc::MS_STRICTATIME)),
    ("suid", Clear(libc::MS_NOSUID)),
    ("symfollow", Clear(libc::MS_NOSYMFOLLOW)),
    ("sync", Set(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(libc::MS_UNBINDABLE, false)),
];

/// Every option that is not left to a file system, sorted.
pub fn known() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// Attributes for a mount and all below it.
#[derive(Debug, Clone, Copy, Default)]
struct AllBelow {
    set: u64,
    clear: u64,
}

/// The options of one mount, read.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// `MS_*` to set.
    pub flags: c_ulong,
    /// `MS_*` that were asked not to be set.
    pub cleared: c_ulong,
    /// `MS_SHARED` and its like, in order; `true` for all mounts below too.
    pub propagation: Vec<(c_ulong, bool)>,
    all_below: Option<AllBelow>,
    /// Whether a tmpfs starts with what it covers.
    pub copy_up: bool,
    /// Whether ids are mapped, and if so, whether in all mounts below too.
    pub map_ids: Option<bool>,
    /// The file system's own.
    pub data: Vec<String>,
}

impl MountOptions {
    /// Reads the options, in order: the last of several about one flag counts.
    #[must_use]
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_ref();
            match OPTIONS.iter().find(|(name, _)| *name == option) {
                Some((_, meaning)) => parsed.take(*meaning),
                None => parsed.data.push(option.to_owned()),
            }
        }
        parsed
    }

    fn take(&mut self, meaning: Meaning) {
        match meaning {
            Set(flags) => {
                self.flags |= flags;
                self.cleared &= !flags;
            }
            Clear(flags) => {
                self.flags &= !flags;
                self.cleared |= flags;
            }
            Propagation(kind, all) => self.propagation.push((kind, all)),
            SetAll(attribute) => {
                let below = self.all_below.get_or_insert_default();
                below.set |= attribute;
                below.clear &= !attribute;
                below.clear |= access_time(attribute);
            }
            ClearAll(attribute) => {
                let below = self.all_below.get_or_insert_default();
                below.set &= !attribute;
                below.clear |= attribute | access_time(attribute);
            }
            CopyUp => self.copy_up = true,
            MapIds(all) => self.map_ids = Some(all),
        }
    }

    /// Whether all of the given flags are set.
    #[must_use]
    pub fn has(&self, flags: c_ulong) -> bool {
        self.flags & flags == flags
    }

    /// What is changed about the mount and all mounts below it.
    #[must_use]
    pub fn recursive_attributes(&self) -> Option<Attributes> {
        self.all_below.map(|AllBelow { set, clear }| Attributes {
            set,
            clear,
            ..Attributes::default()
        })
    }
}

/// Access times are one field with several values: whoever changes it has to
/// clear all of it (`mount_setattr(2)`). `MOUNT_ATTR_RELATIME` is its zero.
fn access_time(attribute: u64) -> u64 {
    if attribute & libc::MOUNT_ATTR__ATIME == attribute {
        libc::MOUNT_ATTR__ATIME
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_flag_counts() {
        let options = MountOptions::parse(&["ro", "nosuid", "rw", "suid", "nosuid", "rbind"]);
        assert_eq!(
            options.flags,
            libc::MS_NOSUID | libc::MS_BIND | libc::MS_REC
        );
        assert_eq!(options.cleared, libc::MS_RDONLY);
        assert!(options.has(libc::MS_BIND) && !options.has(libc::MS_RDONLY));
    }

    #[test]
    fn what_is_not_known_is_the_file_systems_in_order() {
        let options = MountOptions::parse(&["size=1m", "nodev", "mode=755", "acl"]);
        assert_eq!(options.data, ["size=1m", "mode=755", "acl"]);
        assert_eq!(options.flags, libc::MS_NODEV);
    }

    #[test]
    fn propagation_keeps_its_order() {
        let options = MountOptions::parse(&["rshared", "slave"]);
        assert_eq!(
            options.propagation,
            [(libc::MS_SHARED, true), (libc::MS_SLAVE, false)]
        );
    }

    #[test]
    fn a_recursive_access_time_clears_the_others() {
        let attributes = |o: &[&str]| {
            let attributes = MountOptions::parse(o).recursive_attributes().unwrap();
            (attributes.set, attributes.clear)
        };
        let atime = libc::MOUNT_ATTR__ATIME;
        assert_eq!(attributes(&["rro"]), (libc::MOUNT_ATTR_RDONLY, 0));
        assert_eq!(attributes(&["rro", "rrw"]), (0, libc::MOUNT_ATTR_RDONLY));
        assert_eq!(attributes(&["rnoatime"]), (libc::MOUNT_ATTR_NOATIME, atime));
        assert_eq!(attributes(&["rrelatime"]), (0, atime));
        assert_eq!(attributes(&["rnorelatime"]), (0, atime));
        assert_eq!(
            attributes(&["rnodiratime"]),
            (libc::MOUNT_ATTR_NODIRATIME, 0)
        );
        assert!(
            MountOptions::parse(&["ro", "nosuid"])
                .recursive_attributes()
                .is_none()
        );
    }

    #[test]
    fn the_table_is_sorted_and_names_each_option_once() {
        let names: Vec<_> = known().collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }
}
