//! What of the container's root is hidden or read-only, done by its own process
//! once it is inside: until then something had to be made or mounted there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::credentials::KindText;
use crate::rootfs::{Hidden, hide_inside};
use crate::sys;
use crate::sys::fsmount::{Attributes, set_attributes};

/// The last changes to the root.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// `linux.maskedPaths` and `linux.readonlyPaths` that the assembly leaves.
    pub hidden: Hidden,
    /// Whether /dev becomes read-only; the console is made in it.
    pub readonly_dev: bool,
    /// `root.readonly`.
    pub readonly_root: bool,
    /// Propagation of the root, and whether of all mounts below it.
    pub propagation: Option<(u64, bool)>,
}

impl Protection {
    /// Makes them.
    ///
    /// # Errors
    /// One line, naming the path.
    pub fn apply(&self) -> Result<(), String> {
        let failed = |what: &'static str| move |e: io::Error| format!("{what}: {}", e.kind_text());
        let root = open_path("/").map_err(failed("open the root"))?;
        if let Some((propagation, recursive)) = self.propagation {
            let attributes = Attributes {
                propagation,
                ..Attributes::default()
            };
            set_attributes(root.as_fd(), recursive, &attributes)
                .map_err(failed("unable to apply root propagation flags"))?;
        }
        hide_inside(root.as_fd(), &self.hidden)?;
        if self.readonly_dev {
            open_path("/dev")
                .and_then(|dev| read_only(&dev))
                .map_err(failed("make /dev read-only"))?;
        }
        if self.readonly_root {
            read_only(&root).map_err(failed("make the root read-only"))?;
        }
        Ok(())
    }
}

fn read_only(mount: &OwnedFd) -> io::Result<()> {
    let attributes = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Attributes::default()
    };
    set_attributes(mount.as_fd(), false, &attributes)
}

fn open_path(path: &str) -> io::Result<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let raw = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?;
    sys::adopt_fd(raw)
}
