//! Puts the container's mounts where they belong, by descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::errno::words;
use super::hide::{self, Hidden, HiddenBelow, Masks};
use super::mounting::{self, NewFilesystem};
use super::mountpoint::{self, Brings, Judge};
use super::nodes;
use super::options::MountOptions;
use super::sources::{Identities, Sources};
use super::stage::{open_path, set_propagation, set_propagation_above};
use super::{DevSetup, Preflight, RootfsError, Stage, copy_up, is_bind};
use crate::edit::{DeviceNode, Mount};
use crate::sys::fsmount::{self, Attributes};
use nix::mount::MsFlags;

/// One of the container's mounts.
#[derive(Debug, Clone)]
pub struct Placement {
    /// As in `mounts`; the source of a bind mount is absolute.
    pub mount: Mount,
    /// Its options, read.
    pub options: MountOptions,
    /// Whether the source is a directory of the runtime's choice, which is in no
    /// container's root.
    pub is_runtimes: bool,
    /// Links that are made in a new file system: name and target.
    pub links: Vec<(String, PathBuf)>,
    /// Whether something has to be made in it after the assembly, so that it is
    /// not for the assembly to make it read-only.
    pub stays_writable: bool,
}

impl Placement {
    /// Reads a mount's options.
    #[must_use]
    pub fn new(mount: Mount) -> Self {
        let mut options = MountOptions::parse(&mount.options);
        if is_bind(&mount) {
            options.flags |= libc::MS_BIND;
        }
        Self {
            mount,
            options,
            is_runtimes: false,
            links: Vec::new(),
            stays_writable: false,
        }
    }

    fn is_bind(&self) -> bool {
        self.options.has(libc::MS_BIND)
    }

    fn is_remount(&self) -> bool {
        self.options.has(libc::MS_REMOUNT)
    }

    /// A new file system that is filled before it becomes read-only.
    fn is_filled_first(&self) -> bool {
        !self.is_bind()
            && (self.mount.kind.as_deref() == Some("tmpfs")
                || mountpoint::lexical(&self.mount.destination) == Path::new("/dev"))
    }
}

/// What is to be put together: by the container's first process, which then enters
/// it, where that will do, else by a process of the parent's while
/// libcontainer waits for the createRuntime hooks.
#[derive(Debug)]
pub struct Assembly<'a> {
    preflight: &'a Preflight,
    placements: Vec<Placement>,
    /// Their destinations without links' ways, `.` and `..`.
    destinations: Vec<PathBuf>,
    /// Of bind mounts whose source lies in the root, by index: where in it.
    inside: Vec<Option<PathBuf>>,
    devices: Vec<DeviceNode>,
    bind_devices: bool,
    hidden: Hidden,
    /// What of `hidden` is done to each mount.
    hidden_below: Vec<HiddenBelow>,
}

impl<'a> Assembly<'a> {
    /// Plans it. `placements` are the mounts in order; `devices` all of
    /// `linux.devices`; `bind_devices` as in [`super::View`].
    #[must_use]
    pub fn new(
        preflight: &'a Preflight,
        mut placements: Vec<Placement>,
        devices: Vec<DeviceNode>,
        bind_devices: bool,
    ) -> Self {
        let mut inside = Vec::new();
        let mut seen = Identities::default();
        for placement in &mut placements {
            let destination = &mut placement.mount.destination;
            *destination = mountpoint::inside(&preflight.rootfs, destination);
            let source = placement.mount.source.as_deref();
            inside.push(
                source
                    .filter(|_| placement.options.has(libc::MS_BIND) && !placement.is_runtimes)
                    .and_then(|source| preflight.part_inside(source, &mut seen)),
            );
        }
        let destinations = placements
            .iter()
            .map(|p| mountpoint::lexical(&p.mount.destination))
            .collect();
        let hidden_below = placements.iter().map(|_| HiddenBelow::default()).collect();
        Self {
            preflight,
            placements,
            destinations,
            inside,
            devices,
            bind_devices,
            hidden: Hidden::default(),
            hidden_below,
        }
    }

    /// Also hides paths; see [`Assembly::hides`] for which.
    #[must_use]
    pub fn hiding(mut self, hidden: Hidden) -> Self {
        for path in &hidden.masked {
            if let Some((index, rest)) = self.mount_to_hide_in(path) {
                self.hidden_below[index].masked.push(rest);
            }
        }
        for path in &hidden.readonly {
            if let Some((index, rest)) = self.mount_to_hide_in(path) {
                self.hidden_below[index].readonly.push(rest);
            }
        }
        self.hidden = hidden;
        self
    }

    /// The checked root.
    #[must_use]
    pub fn preflight(&self) -> &'a Preflight {
        self.preflight
    }

    /// A bind mount, and where in the root its source is, if there.
    pub(super) fn source(&self, index: usize) -> Option<(&Placement, Option<&Path>)> {
        let placement = self.placements.get(index).filter(|p| p.is_bind())?;
        Some((placement, self.inside.get(index)?.as_deref()))
    }

    /// Bind mounts whose source is not in the root, by index: those that are opened
    /// before anything is attached.
    pub fn outside(&self) -> impl Iterator<Item = usize> {
        (0..self.placements.len()).filter(|index| self.is_outside(*index))
    }

    fn is_outside(&self, index: usize) -> bool {
        let placement = &self.placements[index];
        placement.is_bind() && !placement.is_remount() && self.inside[index].is_none()
    }

    /// Whether the container's first process can do this and enter the root itself:
    /// if cutting all mounts off from the host's spoils nothing here; and if no
    /// file system is made of a device, which the cgroup that the process is in may
    /// not let it open.
    #[must_use]
    pub fn suits_the_first_process(&self) -> bool {
        const KERNELS: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];
        let lasts =
            |(kind, _): &(libc::c_ulong, bool)| matches!(*kind, libc::MS_PRIVATE | libc::MS_SLAVE);
        self.placements.iter().all(|placement| {
            let kind = placement.mount.kind.as_deref().unwrap_or_default();
            (placement.is_bind() || KERNELS.contains(&kind))
                && placement.options.propagation.iter().all(lasts)
        })
    }

    /// Whether a masked or read-only path is done here: those below a mount on
    /// /proc or /sys, and below any procfs or sysfs. The others are for
    /// [`super::hide_inside`]: hooks may have to write there first.
    #[must_use]
    pub fn hides(&self, path: &Path) -> bool {
        self.mount_to_hide_in(path).is_some()
    }

    fn mount_to_hide_in(&self, path: &Path) -> Option<(usize, PathBuf)> {
        let path = mountpoint::lexical(path);
        let (index, destination) = self
            .destinations
            .iter()
            .enumerate()
            .filter(|(_, destination)| path.starts_with(destination))
            // The last one of the longest destination is what is seen there.
            .max_by_key(|(_, destination)| destination.components().count())?;
        let mount = &self.placements[index].mount;
        let kernels = ["/proc", "/sys"]
            .map(Path::new)
            .contains(&destination.as_path())
            || (!is_bind(mount) && matches!(mount.kind.as_deref(), Some("proc" | "sysfs")));
        hide::below(&path, destination)
            .filter(|_| kernels)
            .map(|rest| (index, rest))
    }

    /// Puts everything in place; the root is then to be entered
    /// ([`Preflight::pivot`]), or revealed to libcontainer ([`Stage::reveal`]). The
    /// caller is in the namespaces of the container's
    /// first process, its pid namespace for children, and acts as the root user of
    /// its user namespace if that is new.
    ///
    /// # Errors
    /// Names the mount or device. The container must then be given up; nothing
    /// outside its root has been changed.
    pub fn assemble(&self, stage: &Stage, sources: &mut dyn Sources) -> Result<(), RootfsError> {
        let preflight = self.preflight;
        let fault = |action| move |e| preflight.fault(action, e);
        // mkdir and mknod are given exact modes.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let root = open_path(&preflight.rootfs).map_err(fault("open"))?;
        preflight.verify(root.as_fd()).map_err(fault("open"))?;
        // libcontainer may have made everything shared by now, which pivot_root refuses.
        set_propagation(root.as_fd(), stage.propagation()).map_err(fault("make private"))?;
        if let Some(parent) = preflight.rootfs.parent() {
            set_propagation_above(parent, MsFlags::MS_SLAVE).map_err(fault("make slave"))?;
        }

        // Those outside of the root come first: what is attached below may reach
        // other mounts than the container's where they are shared.
        let mut opened = Vec::new();
        for (index, placement) in self.placements.iter().enumerate() {
            let early = self.is_outside(index);
            let copy = early.then(|| sources.open(index)).transpose();
            opened.push(copy.map_err(|reason| mount_error(&placement.mount, reason))?);
        }
        let null = || hide::stages_null(stage);
        let label = self.hidden.label.as_deref();
        let mut work = Work {
            stage,
            masks: Masks::new(&null, label),
            judge: Judge::new(&preflight.rootfs, root.as_fd()),
            filesystems: Vec::new(),
        };
        let mut late: Vec<(OwnedFd, &Placement)> = Vec::new();
        for (index, placement) in self.placements.iter().enumerate() {
            let source = opened[index].take();
            let mounted = self
                .place(&mut work, index, source, sources)
                .map_err(|reason| mount_error(&placement.mount, reason))?;
            late.extend(mounted.map(|mounted| (mounted, placement)));
        }
        self.make_nodes(root.as_fd())?;
        // Only now: something had to be made inside them until here.
        for (mounted, placement) in &late {
            finish(mounted.as_fd(), placement)
                .map_err(|reason| mount_error(&placement.mount, reason))?;
        }
        work.judge
            .still_in_place()
            .map_err(|(mount, reason)| mount_error(mount, reason))?;
        nix::sys::stat::umask(umask);
        Ok(())
    }

    /// Makes one mount. `None` where one that exists was only changed.
    fn place<'m>(
        &'m self,
        work: &mut Work<'m>,
        index: usize,
        source: Option<OwnedFd>,
        sources: &mut dyn Sources,
    ) -> Result<Option<OwnedFd>, String> {
        let placement = &self.placements[index];
        let (mount, options) = (&placement.mount, &placement.options);
        if placement.is_remount() {
            return work.remount(placement).map(|()| None);
        }
        if !placement.is_bind() {
            return self.place_filesystem(work, index).map(Some);
        }
        let mounted = match source {
            Some(copy) => copy,
            None => sources.open(index)?,
        };
        let brings = Brings::of(mounted.as_fd())?;
        let target = work.judge.open_or_create(mount, &brings)?;
        let below = &self.hidden_below[index];
        // Hiding needs a mount of our namespace, but one that nobody sees yet.
        let place = if below.is_empty() {
            None
        } else {
            Some(
                work.stage
                    .place()
                    .map_err(|e| format!("stage: {}", words(&e)))?,
            )
        };
        if place.is_some() {
            // What hides something would else be mounted on the host as well.
            let slave = Attributes {
                propagation: MsFlags::MS_SLAVE.bits(),
                ..Attributes::default()
            };
            fsmount::set_attributes(mounted.as_fd(), true, &slave)
                .map_err(|e| format!("change mount propagation: {}", words(&e)))?;
        }
        let first = place.as_ref().map_or(target.as_fd(), AsFd::as_fd);
        fsmount::attach(&mounted, first).map_err(|e| format!("attach: {}", words(&e)))?;
        mounting::set_bind_flags(mounted.as_fd(), options)?;
        change_all_below(mounted.as_fd(), options)?;
        if place.is_some() {
            hide::apply(mounted.as_fd(), below, &mut work.masks)?;
            fsmount::attach(&mounted, target.as_fd())
                .map_err(|e| format!("attach: {}", words(&e)))?;
        }
        propagate(mounted.as_fd(), options)?;
        work.judge.placed(mount, mounted.as_fd())?;
        Ok(Some(mounted))
    }

    fn place_filesystem<'m>(
        &'m self,
        work: &mut Work<'m>,
        index: usize,
    ) -> Result<OwnedFd, String> {
        let placement = &self.placements[index];
        let (mount, options) = (&placement.mount, &placement.options);
        let kind = mount.kind.as_deref().unwrap_or_default();
        let brings = Brings {
            directory: true,
            procfs: kind == "proc",
        };
        let target = work.judge.open_or_create(mount, &brings)?;
        let label = self.hidden.label.as_deref();
        let new = NewFilesystem {
            mount,
            options,
            inherited_mode: target.inherited_mode(),
            label: label.filter(|_| hide::selinux_is_on()),
            writable: placement.is_filled_first(),
        };
        let prepared = work.stage.place().map(drop);
        let mounted = prepared
            .and_then(|()| new.mount_at(&work.stage.place_path()))
            .map_err(|e| format!("mount {kind}: {}", words(&e)))?;
        let device = mountpoint::metadata(mounted.as_fd()).map_err(|e| words(&e))?;
        work.filesystems.push(device.dev());
        change_all_below(mounted.as_fd(), options)?;
        hide::apply(mounted.as_fd(), &self.hidden_below[index], &mut work.masks)?;
        if options.copy_up && kind == "tmpfs" && target.existed() {
            copy_up::copy_tree(target.as_fd(), mounted.as_fd())
                .map_err(|e| format!("tmpcopyup: {}", words(&e)))?;
        }
        fsmount::attach(&mounted, target.as_fd()).map_err(|e| format!("attach: {}", words(&e)))?;
        propagate(mounted.as_fd(), options)?;
        work.judge.placed(mount, mounted.as_fd())?;
        Ok(mounted)
    }

    fn make_nodes(&self, root: BorrowedFd<'_>) -> Result<(), RootfsError> {
        if self.preflight.dev == DevSetup::Provided {
            return Ok(());
        }
        let error = |path: &Path, reason: String| RootfsError::Device {
            path: path.to_path_buf(),
            reason,
        };
        let defaults = nodes::default_devices();
        // Nodes that were bound in place of devices are devices, too.
        let bound = |d: &DeviceNode| {
            self.bind_devices
                && self
                    .placements
                    .iter()
                    .any(|p| p.is_bind() && mountpoint::lexical(&p.mount.destination) == d.path)
        };
        let missing = defaults
            .iter()
            .filter(|d| !self.devices.iter().any(|own| own.path == d.path) && !bound(d));
        for device in self.devices.iter().chain(missing) {
            nodes::make(root, device, self.bind_devices).map_err(|e| error(&device.path, e))?;
        }
        nodes::make_links(root).map_err(|e| error(Path::new("/dev"), e))
    }
}

/// What the placing of mounts keeps in mind.
struct Work<'m> {
    stage: &'m Stage,
    masks: Masks<'m>,
    judge: Judge<'m>,
    /// Device numbers of the new file systems.
    filesystems: Vec<u64>,
}

impl Work<'_> {
    /// Changes a mount that is there. What is not a bind mount is a file system,
    /// whose options hold wherever it is mounted: only one that was made for this
    /// container may be changed, whatever a link of the image leads to.
    fn remount(&self, placement: &Placement) -> Result<(), String> {
        let (mount, options) = (&placement.mount, &placement.options);
        let target = self.judge.open_existing(mount)?;
        if placement.is_bind() {
            mounting::set_bind_flags(target.as_fd(), options)?;
        } else {
            let found = mountpoint::metadata(target.as_fd()).map_err(|e| words(&e))?;
            if !self.filesystems.contains(&found.dev()) {
                return Err("remount: no file system of this container is mounted there".into());
            }
            mounting::remount(target.as_fd(), mount, options)
                .map_err(|e| format!("remount: {}", words(&e)))?;
        }
        change_all_below(target.as_fd(), options)?;
        propagate(target.as_fd(), options)
    }
}

fn change_all_below(mounted: BorrowedFd<'_>, options: &MountOptions) -> Result<(), String> {
    let Some(attributes) = options.recursive_attributes() else {
        return Ok(());
    };
    fsmount::set_attributes(mounted, true, &attributes)
        .map_err(|e| format!("change attributes recursively: {}", words(&e)))
}

fn propagate(mounted: BorrowedFd<'_>, options: &MountOptions) -> Result<(), String> {
    for (propagation, recursive) in &options.propagation {
        let attributes = Attributes {
            propagation: *propagation,
            ..Attributes::default()
        };
        fsmount::set_attributes(mounted, *recursive, &attributes)
            .map_err(|e| format!("change mount propagation: {}", words(&e)))?;
    }
    Ok(())
}

/// What had to wait until everything was made in a mount.
fn finish(mounted: BorrowedFd<'_>, placement: &Placement) -> Result<(), String> {
    for (name, target) in &placement.links {
        let dir = Some(mounted.as_raw_fd());
        match nix::unistd::symlinkat(target, dir, name.as_str()) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(e) => return Err(format!("link {name}: {}", words(&e.into()))),
        }
    }
    let readonly = placement.options.has(libc::MS_RDONLY) && !placement.stays_writable;
    if readonly && placement.is_filled_first() {
        let attributes = Attributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Attributes::default()
        };
        fsmount::set_attributes(mounted, false, &attributes)
            .map_err(|e| format!("make read-only: {}", words(&e)))?;
    }
    Ok(())
}

fn mount_error(mount: &Mount, reason: String) -> RootfsError {
    RootfsError::mount(mount, reason)
}
