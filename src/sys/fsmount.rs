//! The new mount API: `fsopen`, `fsmount`, `open_tree`, `mount_setattr`,
//! `move_mount` (Linux 5.2, 5.12).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{check, check_fd};

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// A file system being configured.
#[derive(Debug)]
pub struct Context(OwnedFd);

impl Context {
    /// `fsopen(2)`.
    ///
    /// # Errors
    /// `ENODEV` for an unknown type, `EPERM` without CAP_SYS_ADMIN.
    pub fn open(fstype: &CStr) -> io::Result<Self> {
        // SAFETY: a valid C string.
        check_fd(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
            .map(Self)
    }

    /// Sets `key` to `value`, or sets the flag `key`.
    ///
    /// # Errors
    /// `EINVAL` for what the file system does not know.
    pub fn set(&self, key: &CStr, value: Option<&CStr>) -> io::Result<()> {
        let (command, pointer) = match value {
            Some(v) => (FSCONFIG_SET_STRING, v.as_ptr()),
            None => (FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        // SAFETY: valid C strings, or null where the command takes none.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key.as_ptr(),
                pointer,
                0,
            )
        })
        .map(drop)
    }

    /// Creates the file system and a detached mount of it with the attributes
    /// (`MOUNT_ATTR_*`).
    ///
    /// # Errors
    /// The file system's.
    pub fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        let null = std::ptr::null::<libc::c_char>();
        // SAFETY: the command takes neither key nor value.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_CMD_CREATE,
                null,
                null,
                0,
            )
        })?;
        // SAFETY: no pointers.
        check_fd(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })
    }
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// The user namespace of `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// `mount_setattr(2)` on the mount a descriptor refers to.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &Attributes,
) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `attributes` is a `struct mount_attr` of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// `open_tree(2)` with `OPEN_TREE_CLONE`: a detached copy of the mount at `path`.
///
/// # Errors
/// The kernel's.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: a valid C string.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// `move_mount(2)`: attaches a detached mount on top of the directory or file
/// that `target` refers to.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: &OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: valid, empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// `setxattr(2)` of `security.selinux` on what a descriptor refers to, for file
/// systems that take no label when they are mounted.
///
/// # Errors
/// The kernel's; `EINVAL` for a label with a nul byte.
pub fn set_selinux_label(fd: &OwnedFd, label: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let value = std::ffi::CString::new(label)?;
    // SAFETY: valid C strings, and a value of the length given, its nul included.
    check(
        unsafe {
            libc::setxattr(
                path.as_ptr(),
                c"security.selinux".as_ptr(),
                value.as_ptr().cast(),
                value.as_bytes_with_nul().len(),
                0,
            )
        }
        .into(),
    )
    .map(drop)
}
