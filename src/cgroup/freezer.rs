//! Stopping all processes of a cgroup, and letting them go on.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{CgroupError, Result};
use super::file;
use super::handle::Cgroup;

/// Whether a cgroup runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezerState {
    /// Its processes run.
    Thawed,
    /// It was told to freeze. Its processes stand still, or will at once.
    Frozen,
    /// There is no cgroup, or it cannot be frozen.
    Undefined,
}

impl Cgroup {
    /// Stops every process in the cgroup and below, and waits until none runs.
    ///
    /// # Errors
    /// There is no freezer, or a process would not stop within `patience`; then
    /// the cgroup is thawed again.
    pub fn freeze(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let Some(directory) = self.freezer_directory() else {
            return Err(CgroupError::Freezer(
                "cannot toggle freezer: cgroups not configured for container".to_owned(),
            ));
        };
        let result = if self.v2 {
            freeze_v2(directory, deadline)
        } else {
            freeze_v1(directory, deadline)
        };
        if result.is_err() {
            // Half frozen is worse than not frozen.
            if let Err(error) = self.thaw() {
                tracing::debug!("{error}");
            }
        }
        result
    }

    /// Lets the processes go on. Without a freezer they do anyway.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        let thawed = match self.freezer_directory() {
            None => return Ok(()),
            Some(directory) if self.v2 => file::write(&directory.join("cgroup.freeze"), "0"),
            Some(directory) => file::write(&directory.join("freezer.state"), "THAWED"),
        };
        match thawed {
            Err(e) if e.is_absent() => Ok(()),
            result => result,
        }
    }

    /// Whether the cgroup itself, not one above it, was told to freeze.
    ///
    /// # Errors
    /// The kernel says something unknown.
    pub fn freezer_state(&self) -> Result<FreezerState> {
        let Some(directory) = self.freezer_directory() else {
            return Ok(FreezerState::Undefined);
        };
        // Version 1's `freezer.state` tells of ancestors too, and may say
        // FREEZING; `self_freezing` is what was asked of this one.
        let name = if self.v2 {
            "cgroup.freeze"
        } else {
            "freezer.self_freezing"
        };
        let path = directory.join(name);
        match file::read_optional(&path)?.as_deref().map(str::trim_end) {
            None => Ok(FreezerState::Undefined),
            Some("0") => Ok(FreezerState::Thawed),
            Some("1") => Ok(FreezerState::Frozen),
            Some(other) => Err(CgroupError::Parse {
                path,
                reason: format!("unknown freezer state {other:?}"),
            }),
        }
    }

    fn freezer_directory(&self) -> Option<&Path> {
        self.directory(if self.v2 { "" } else { "freezer" })
    }
}

fn timed_out() -> CgroupError {
    CgroupError::Freezer("timeout reached waiting for the cgroup to freeze".to_owned())
}

/// Version 2 says when it is done: `cgroup.events` becomes readable anew.
fn freeze_v2(directory: &Path, deadline: Instant) -> Result<()> {
    let path = directory.join("cgroup.events");
    let failed = |action| {
        let path = path.clone();
        move |e| CgroupError::io(action, path, e)
    };
    match file::write(&directory.join("cgroup.freeze"), "1") {
        Err(e) if e.is_absent() => {
            return Err(CgroupError::Freezer(format!("freezer not supported: {e}")));
        }
        result => result?,
    }
    let mut events = File::open(&path).map_err(failed("open"))?;
    loop {
        let mut text = String::new();
        events.rewind().map_err(failed("seek"))?;
        events.read_to_string(&mut text).map_err(failed("read"))?;
        if file::value_of(&text, "frozen") == Some("1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // At least a millisecond, or the last one would be spent spinning.
        let timeout = timeout.max(PollTimeout::from(1_u8));
        match poll(
            &mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("poll")(errno.into())),
        }
    }
}

/// Version 1 says nothing, and does nothing by itself either: every read is
/// another try to complete the freeze. A process that forks meanwhile may need
/// to be told again, and sometimes only a thaw in between helps.
fn freeze_v1(directory: &Path, deadline: Instant) -> Result<()> {
    const PAUSE: Duration = Duration::from_micros(100);
    let path = directory.join("freezer.state");
    for round in 1_u32.. {
        if round % 50 == 0 {
            file::write(&path, "THAWED")?;
            std::thread::sleep(PAUSE * 100);
        }
        file::write(&path, "FROZEN")?;
        match file::read(&path)?.trim_end() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => {
                return Err(CgroupError::Freezer(format!(
                    "unexpected state {other} while freezing"
                )));
            }
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Err(CgroupError::Freezer("unable to freeze".to_owned()))
}
