//! One mount, made and given its flags: what `mount(2)` does, as runc calls it.

use std::ffi::c_ulong;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::errno::words;
use super::options::MountOptions;
use super::stage::open_path;
use crate::edit::Mount;

/// Flags that say what is mounted, not how.
const KIND: c_ulong = libc::MS_BIND | libc::MS_REC | libc::MS_REMOUNT;
/// The three that exclude each other.
const ACCESS_TIME_ENUM: c_ulong = libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;
const ACCESS_TIME: c_ulong = ACCESS_TIME_ENUM | libc::MS_NODIRATIME;
/// What the kernel may have locked in a mount that comes from a more privileged
/// mount namespace (`mount_namespaces(7)`).
const LOCKABLE: c_ulong =
    libc::MS_RDONLY | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOSUID | ACCESS_TIME;

/// A new file system.
#[derive(Debug)]
pub(super) struct NewFilesystem<'a> {
    pub(super) mount: &'a Mount,
    pub(super) options: &'a MountOptions,
    /// The mode of the directory that a tmpfs is going to cover.
    pub(super) inherited_mode: Option<u32>,
    /// `linux.mountLabel`.
    pub(super) label: Option<&'a str>,
    /// It has to be filled before it becomes read-only.
    pub(super) writable: bool,
}

impl NewFilesystem<'_> {
    /// Mounts it at a directory that nobody else can reach.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn mount_at(&self, place: &Path) -> io::Result<OwnedFd> {
        let kind = self.mount.kind.as_deref().unwrap_or_default();
        let mut flags = self.options.flags;
        if self.writable {
            flags &= !libc::MS_RDONLY;
        }
        let data = self.data(kind);
        mount(self.mount.source.as_deref(), place, kind, flags, &data)?;
        let mounted = open_path(place)?;
        if kind == "mqueue"
            && let Some(label) = self.label
        {
            crate::sys::fsmount::set_selinux_label(&mounted, label)?;
        }
        Ok(mounted)
    }

    /// A mode that is given counts, as the last of two.
    fn data(&self, kind: &str) -> String {
        let mode = self
            .inherited_mode
            .filter(|_| kind == "tmpfs")
            .map(|mode| format!("mode={mode:04o}"));
        let label = self
            .label
            .filter(|_| !matches!(kind, "proc" | "sysfs" | "mqueue"))
            .map(|label| format!("context=\"{label}\""));
        let words = mode
            .into_iter()
            .chain(self.options.data.iter().cloned())
            .chain(label);
        words.collect::<Vec<_>>().join(",")
    }
}

/// Changes a file system that the container has already. The target must be the
/// root of one, which the kernel checks.
///
/// # Errors
/// The kernel's.
pub(super) fn remount(
    target: BorrowedFd<'_>,
    request: &Mount,
    options: &MountOptions,
) -> io::Result<()> {
    let kind = request.kind.as_deref().unwrap_or_default();
    let source = request.source.as_deref();
    let data = options.data.join(",");
    mount(source, &of_descriptor(target), kind, options.flags, &data)
}

/// Gives a bind mount the flags that were asked for, and no others: not those of
/// the mount that its source is on, unless they are locked.
///
/// Without any request it stays as its source.
///
/// # Errors
/// The reason, in runc's words, where a locked flag was asked to be cleared.
pub(super) fn set_bind_flags(
    mounted: BorrowedFd<'_>,
    options: &MountOptions,
) -> Result<(), String> {
    if options.flags & !KIND == 0 && options.cleared == 0 {
        return Ok(());
    }
    let wanted = options.flags | libc::MS_BIND | libc::MS_REMOUNT;
    let place = of_descriptor(mounted);
    let Err(first) = mount(None, &place, "", wanted, "") else {
        return Ok(());
    };
    let first = words(&first);
    let fail = |text: String| {
        Err(format!(
            "failed to set user-requested vfs flags on bind-mount: {text}"
        ))
    };
    let existing = match flags_of(mounted) {
        Ok(existing) => existing,
        Err(e) => return fail(format!("statfs: {}", words(&e))),
    };
    let stuck = existing & options.cleared & LOCKABLE;
    if stuck != 0 {
        return fail(format!(
            "cannot clear locked flags {}: {first}",
            flag_words(stuck)
        ));
    }
    // The kernel takes some combinations of these to mean others, silently.
    if options.flags & ACCESS_TIME != 0 && options.flags & ACCESS_TIME != existing & ACCESS_TIME {
        let stuck = flag_words(existing & ACCESS_TIME);
        return fail(format!("cannot change locked atime flags {stuck}: {first}"));
    }
    let kept = existing & LOCKABLE;
    match mount(None, &place, "", wanted | kept, "") {
        Ok(()) => Ok(()),
        Err(e) => fail(format!(
            "remount with locked flags {} re-applied: {}",
            flag_words(kept),
            words(&e)
        )),
    }
}

fn mount(
    source: Option<&Path>,
    place: &Path,
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let data = Some(data).filter(|d| !d.is_empty());
    let flags = MsFlags::from_bits_retain(flags);
    Ok(nix::mount::mount(source, place, Some(kind), flags, data)?)
}

/// Leads to the very mount that the descriptor refers to.
fn of_descriptor(fd: BorrowedFd<'_>) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// A mount's flags. `MS_STRICTATIME` is what is left when no other is said.
fn flags_of(mounted: BorrowedFd<'_>) -> io::Result<c_ulong> {
    let found = fstatvfs(mounted)?.flags();
    let mut flags = 0;
    for (there, flag) in [
        (FsFlags::ST_RDONLY, libc::MS_RDONLY),
        (FsFlags::ST_NOSUID, libc::MS_NOSUID),
        (FsFlags::ST_NODEV, libc::MS_NODEV),
        (FsFlags::ST_NOEXEC, libc::MS_NOEXEC),
        (FsFlags::ST_NOATIME, libc::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, libc::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, libc::MS_RELATIME),
    ] {
        if found.contains(there) {
            flags |= flag;
        }
    }
    if flags & ACCESS_TIME_ENUM == 0 {
        flags |= libc::MS_STRICTATIME;
    }
    Ok(flags)
}

fn flag_words(flags: c_ulong) -> String {
    let names = [
        ("MS_RDONLY", libc::MS_RDONLY),
        ("MS_NOSUID", libc::MS_NOSUID),
        ("MS_NODEV", libc::MS_NODEV),
        ("MS_NOEXEC", libc::MS_NOEXEC),
        ("MS_NOATIME", libc::MS_NOATIME),
        ("MS_NODIRATIME", libc::MS_NODIRATIME),
        ("MS_RELATIME", libc::MS_RELATIME),
        ("MS_STRICTATIME", libc::MS_STRICTATIME),
    ];
    let set = names.iter().filter(|(_, flag)| flags & flag != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_mode_comes_after_the_inherited_one() {
        let mount = Mount {
            destination: "/x".into(),
            kind: Some("tmpfs".into()),
            source: None,
            options: vec![],
        };
        let options = MountOptions::parse(&["nosuid", "mode=1500", "size=1m"]);
        let new = |kind, label| {
            NewFilesystem {
                mount: &mount,
                options: &options,
                inherited_mode: Some(0o710),
                label,
                writable: true,
            }
            .data(kind)
        };
        assert_eq!(new("tmpfs", None), "mode=0710,mode=1500,size=1m");
        assert_eq!(
            new("devpts", Some("u:r:t:s0:c1,c2")),
            "mode=1500,size=1m,context=\"u:r:t:s0:c1,c2\""
        );
        assert_eq!(new("proc", Some("label")), "mode=1500,size=1m");
    }

    #[test]
    fn flags_have_the_kernels_names() {
        assert_eq!(
            flag_words(libc::MS_NODEV | libc::MS_STRICTATIME),
            "MS_NODEV|MS_STRICTATIME"
        );
    }
}
