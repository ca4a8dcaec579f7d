//! Being told when the kernel kills for want of memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::error::{CgroupError, Result};
use super::file;
use super::handle::Cgroup;

/// A descriptor that becomes readable when a process of the cgroup is killed for
/// want of memory, or the cgroup comes to its end.
#[derive(Debug)]
pub struct OomWatch(Kind);

#[derive(Debug)]
enum Kind {
    Legacy {
        events: EventFd,
        /// Closing it would end the registration.
        _control: File,
        cgroup: PathBuf,
    },
    Unified {
        events: Inotify,
        memory: PathBuf,
        cgroup: PathBuf,
        kills: u64,
    },
}

/// What [`OomWatch::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// A process was killed, or would have been if that were not disabled.
    Oom,
    /// No process is left, or the cgroup has gone: nothing more will come.
    Ended,
    /// Nothing (more) has happened.
    Nothing,
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Legacy { events, .. } => events.as_fd(),
            Kind::Unified { events, .. } => events.as_fd(),
        }
    }
}

impl Cgroup {
    /// Starts to watch for out-of-memory events.
    ///
    /// # Errors
    /// The memory controller is not there, or the kernel refuses.
    pub fn oom_watch(&self) -> Result<OomWatch> {
        let directory = self.directory(if self.v2 { "" } else { "memory" });
        let directory = directory.ok_or(CgroupError::NoMemoryController)?;
        let kind = if self.v2 {
            let memory = directory.join("memory.events");
            let cgroup = directory.join("cgroup.events");
            let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
                .map_err(|e| CgroupError::io("inotify_init", directory, e.into()))?;
            for path in [&memory, &cgroup] {
                events
                    .add_watch(path, AddWatchFlags::IN_MODIFY)
                    .map_err(|e| CgroupError::io("inotify_add_watch", path, e.into()))?;
            }
            Kind::Unified {
                events,
                kills: self.oom_kills()?,
                memory,
                cgroup,
            }
        } else {
            let path = directory.join("memory.oom_control");
            let control = File::open(&path).map_err(|e| CgroupError::io("open", &path, e))?;
            let events = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(|e| CgroupError::io("eventfd", &path, e.into()))?;
            let register = format!("{} {}", events.as_fd().as_raw_fd(), control.as_raw_fd());
            file::write(&directory.join("cgroup.event_control"), &register)?;
            Kind::Legacy {
                events,
                _control: control,
                cgroup: directory.to_path_buf(),
            }
        };
        Ok(OomWatch(kind))
    }
}

impl OomWatch {
    /// Takes one event. Never blocks: ask once before the first wait and then,
    /// after each, until there is nothing.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn read(&mut self) -> Result<OomEvent> {
        match &mut self.0 {
            Kind::Legacy { events, cgroup, .. } => match events.read() {
                // The cgroup's end is an event, too.
                Ok(_) if cgroup.exists() => Ok(OomEvent::Oom),
                Ok(_) => Ok(OomEvent::Ended),
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(OomEvent::Nothing),
                Err(errno) => Err(CgroupError::io("read", cgroup, errno.into())),
            },
            Kind::Unified {
                events,
                memory,
                cgroup,
                kills,
            } => {
                // Which of the two files it was does not matter: both are read.
                match events.read_events() {
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(CgroupError::io("read", cgroup, errno.into())),
                }
                let value = |path: &PathBuf, key: &str| -> Result<Option<u64>> {
                    let text = file::read_optional(path)?;
                    let value = text.as_deref().and_then(|t| file::value_of(t, key));
                    Ok(value.and_then(|v| file::parse_number(v).ok()))
                };
                let now = value(memory, "oom_kill")?;
                if let Some(now) = now
                    && now > *kills
                {
                    *kills = now;
                    return Ok(OomEvent::Oom);
                }
                match value(cgroup, "populated")? {
                    Some(0) | None => Ok(OomEvent::Ended),
                    Some(_) => Ok(OomEvent::Nothing),
                }
            }
        }
    }
}
