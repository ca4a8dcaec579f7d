//! Puts what libcontainer has made on the stage where it belongs, by descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use pathrs::RootRef;

use super::hide::{self, Hidden, HiddenBelow};
use super::mountpoint::{self, Judge};
use super::nodes;
use super::stage::{make_private, open_path, set_propagation_above};
use super::{DevSetup, Preflight, RootfsError, Stage, is_bind};
use crate::edit::{DeviceNode, Mount};
use crate::sys::fsmount::{self, Attributes};

/// A mount, and what is changed about it once it is in place.
#[derive(Debug, Clone)]
pub struct Placement {
    /// As in `mounts`. Of the options, `mode=` and `tmpcopyup` matter here.
    pub mount: Mount,
    /// Propagation and attributes, in order; `true` for all mounts below too.
    pub changes: Vec<(Attributes, bool)>,
}

/// What is to be put together: given to the parent, who acts while libcontainer
/// waits for the createRuntime hooks.
#[derive(Debug)]
pub struct Assembly<'a> {
    preflight: &'a Preflight,
    placements: Vec<Placement>,
    devices: Vec<DeviceNode>,
    bind_devices: bool,
    /// Which placement libcontainer mounts on its own /dev.
    dev: Option<usize>,
    hidden: Hidden,
}

impl<'a> Assembly<'a> {
    /// Plans it. `placements` are the mounts in order, as libcontainer is to make
    /// them; `devices` all of `linux.devices`; `bind_devices` as in [`super::View`].
    #[must_use]
    pub fn new(
        preflight: &'a Preflight,
        mut placements: Vec<Placement>,
        devices: Vec<DeviceNode>,
        bind_devices: bool,
    ) -> Self {
        for placement in &mut placements {
            let destination = &mut placement.mount.destination;
            *destination = mountpoint::inside(&preflight.rootfs, destination);
        }
        let is_dev = |p: &Placement| mountpoint::lexical(&p.mount.destination) == Path::new("/dev");
        let dev = match preflight.dev {
            DevSetup::Mounted => placements.iter().rposition(is_dev),
            DevSetup::Image | DevSetup::Provided => None,
        };
        Self {
            preflight,
            placements,
            devices,
            bind_devices,
            dev,
            hidden: Hidden::default(),
        }
    }

    /// Also hides paths; see [`Assembly::hides`] for which.
    #[must_use]
    pub fn hiding(self, hidden: Hidden) -> Self {
        Self { hidden, ..self }
    }

    /// Whether a masked or read-only path is done here: those below a mount on
    /// /proc or /sys, and below any procfs or sysfs. The others are left to
    /// libcontainer, for hooks may still have to write there.
    #[must_use]
    pub fn hides(&self, path: &Path) -> bool {
        self.mount_to_hide_in(path).is_some()
    }

    fn mount_to_hide_in(&self, path: &Path) -> Option<(usize, PathBuf)> {
        let path = mountpoint::lexical(path);
        let (index, destination) = self
            .placements
            .iter()
            .map(|p| mountpoint::lexical(&p.mount.destination))
            .enumerate()
            .filter(|(_, destination)| path.starts_with(destination))
            // The last one of the longest destination is what is seen there.
            .max_by_key(|(_, destination)| destination.components().count())?;
        let mount = &self.placements[index].mount;
        let kernels = ["/proc", "/sys"]
            .map(Path::new)
            .contains(&destination.as_path())
            || (!is_bind(mount) && matches!(mount.kind.as_deref(), Some("proc" | "sysfs")));
        hide::below(&path, &destination)
            .filter(|_| kernels)
            .map(|rest| (index, rest))
    }

    fn hidden_below(&self, index: usize) -> HiddenBelow {
        let of = |paths: &[PathBuf]| {
            let found = paths.iter().filter_map(|p| self.mount_to_hide_in(p));
            found
                .filter(|(i, _)| *i == index)
                .map(|(_, rest)| rest)
                .collect()
        };
        HiddenBelow {
            masked: of(&self.hidden.masked),
            readonly: of(&self.hidden.readonly),
        }
    }

    /// Where libcontainer is to mount the placement of this index.
    ///
    /// Flat and numbered, so that no mount of the container lies on the way to
    /// another; only a fresh /dev has its name, since libcontainer makes the
    /// devices there.
    #[must_use]
    pub fn library_destination(&self, index: usize) -> PathBuf {
        if self.dev == Some(index) {
            "/dev".into()
        } else {
            format!("/{index}").into()
        }
    }

    /// Whether libcontainer is to make this device. It makes those that end up in
    /// a fresh /dev; the rest is made here, below whatever is mounted there.
    #[must_use]
    pub fn is_libcontainers(&self, device: &Path) -> bool {
        let covered = |(index, p): (usize, &Placement)| {
            let destination = mountpoint::lexical(&p.mount.destination);
            Some(index) != self.dev && device != destination && device.starts_with(&destination)
        };
        self.dev.is_some()
            && device.starts_with("/dev")
            && !self.placements.iter().enumerate().any(covered)
    }

    /// Puts everything in place. The caller is in the mount namespace of the
    /// container's first process, in its user namespace if that is new, and acts
    /// as the container's root user.
    ///
    /// # Errors
    /// Names the mount or device. The container must then be given up; nothing
    /// outside its root has been changed.
    pub fn assemble(&self, stage: &Stage) -> Result<(), RootfsError> {
        let preflight = self.preflight;
        let fault = |action| move |e| preflight.fault(action, e);
        // mkdir and mknod are given exact modes.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let root = open_path(&preflight.rootfs).map_err(fault("open"))?;
        preflight.verify(root.as_fd()).map_err(fault("open"))?;
        // libcontainer may have made everything shared, which pivot_root refuses.
        make_private(root.as_fd()).map_err(fault("make private"))?;
        if let Some(parent) = preflight.rootfs.parent() {
            set_propagation_above(parent, MsFlags::MS_SLAVE).map_err(fault("make slave"))?;
        }

        let mut judge = Judge::new(&preflight.rootfs, root.as_fd());
        let mut late: Vec<(OwnedFd, &Placement)> = Vec::new();
        for (index, placement) in self.placements.iter().enumerate() {
            let mounted = self
                .place(stage, placement, &mut judge, index)
                .map_err(|reason| mount_error(&placement.mount, reason))?;
            late.push((mounted, placement));
        }
        self.make_nodes(root.as_fd())?;
        // Only now: something had to be made inside them until here.
        for (mounted, placement) in &late {
            change(mounted.as_fd(), placement, |a| a.propagation == 0)
                .map_err(|e| mount_error(&placement.mount, format!("change attributes: {e}")))?;
        }
        judge
            .still_in_place()
            .map_err(|(mount, reason)| mount_error(mount, reason))?;
        nix::sys::stat::umask(umask);
        stage.reveal(&preflight.rootfs).map_err(fault("reveal"))
    }

    fn place<'m>(
        &self,
        stage: &Stage,
        placement: &'m Placement,
        judge: &mut Judge<'m>,
        index: usize,
    ) -> Result<OwnedFd, String>
    where
        'a: 'm,
    {
        let source = stage
            .scratch()
            .join(relative(&self.library_destination(index)));
        if self.dev == Some(index) {
            // libcontainer's name for it; runc's, and everybody's, is core.
            match std::fs::rename(source.join("kcore"), source.join("core")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("/dev/core: {e}"));
                }
                _ => {}
            }
        }
        let mounted = open_path(&source).map_err(|e| format!("open staged mount: {e}"))?;
        let label = self.hidden.label.as_deref();
        hide::apply(mounted.as_fd(), &self.hidden_below(index), stage, label)?;
        let target = judge.open_or_create(&placement.mount, mounted.as_fd())?;
        if !is_bind(&placement.mount) && placement.mount.kind.as_deref() == Some("tmpfs") {
            mountpoint::inherit(&placement.mount, &target, mounted.as_fd())?;
        }
        fsmount::attach(&mounted, target.as_fd()).map_err(|e| format!("attach: {e}"))?;
        change(mounted.as_fd(), placement, |a| a.propagation != 0)
            .map_err(|e| format!("change propagation: {e}"))?;
        judge.placed(&placement.mount, mounted.as_fd())?;
        Ok(mounted)
    }

    fn make_nodes(&self, root: BorrowedFd<'_>) -> Result<(), RootfsError> {
        if self.preflight.dev == DevSetup::Provided {
            return Ok(());
        }
        let root = RootRef::from_fd(root);
        let error = |path: &Path, reason: String| RootfsError::Device {
            path: path.to_path_buf(),
            reason,
        };
        let defaults = nodes::default_devices();
        let missing = defaults
            .iter()
            .filter(|d| !self.devices.iter().any(|own| own.path == d.path));
        for device in self.devices.iter().chain(missing) {
            if !self.is_libcontainers(&device.path) {
                nodes::make(&root, device, self.bind_devices)
                    .map_err(|e| error(&device.path, e))?;
            }
        }
        if self.preflight.dev == DevSetup::Image {
            nodes::make_links(&root).map_err(|e| error(Path::new("/dev"), e))?;
        }
        Ok(())
    }
}

fn change(
    mounted: BorrowedFd<'_>,
    placement: &Placement,
    which: impl Fn(&Attributes) -> bool,
) -> io::Result<()> {
    placement
        .changes
        .iter()
        .filter(|(attributes, _)| which(attributes))
        .try_for_each(|(attributes, recursive)| {
            fsmount::set_attributes(mounted, *recursive, attributes)
        })
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn mount_error(mount: &Mount, reason: String) -> RootfsError {
    RootfsError::mount(mount, reason)
}
