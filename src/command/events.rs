//! `events`: a line of JSON for each look at a container's use, and for each
//! kill for want of memory, until the container ends.

use std::io::Write;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::context::Context;
use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, CgroupError, OomEvent};
use crate::cli::Events;
use crate::error::{Error, Result};
use crate::runtime::RuntimeError;
use crate::runtime::resctrl::Group;
use crate::runtime::state::{Status, Store};

/// `events`.
///
/// # Errors
/// The container does not run, or as [`once`] and [`follow`].
pub(super) fn run(context: &Context<'_>, arguments: &Events) -> Result<()> {
    let id = arguments.id.as_str();
    let state = Store::new(context.root.path.clone()).load(id)?;
    if state.status() == Status::Stopped {
        let text = format!("container with id {id} is not running");
        return Err(RuntimeError::Refused(text).into());
    }
    let watched = Watched {
        id,
        cgroup: &state.cgroup.ok_or(CgroupError::Gone)?,
        resctrl: state.resctrl.as_ref(),
    };
    let mut out = std::io::stdout();
    if arguments.stats {
        once(&watched, &mut out)
    } else {
        follow(&watched, arguments.interval, &mut out)
    }
}

/// One line.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The container.
    pub id: &'a str,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// Its resctrl group.
    pub resctrl: Option<&'a Group>,
}

impl Watched<'_> {
    fn stats(&self) -> Result<Stats> {
        let mut stats = self.cgroup.stats()?;
        if let Some(group) = self.resctrl {
            stats.intel_rdt = group.stats()?;
        }
        Ok(stats)
    }
}

/// Writes the statistics once (`--stats`).
///
/// # Errors
/// They cannot be read, or `out` cannot be written.
pub fn once(watched: &Watched<'_>, out: &mut impl Write) -> Result<()> {
    let data = Some(watched.stats()?);
    let (r#type, id) = ("stats", watched.id);
    write(out, &Event { r#type, id, data })
}

/// Writes the statistics every `interval`, and each out-of-memory event when it
/// happens, until there is nothing left to watch.
///
/// # Errors
/// The memory controller is not there, or `out` cannot be written. Statistics
/// that cannot be read for once are only logged: the container may be ending.
pub fn follow(watched: &Watched<'_>, interval: Duration, out: &mut impl Write) -> Result<()> {
    let id = watched.id;
    let mut watch = watched.cgroup.oom_watch()?;
    let mut due = Instant::now() + interval;
    loop {
        loop {
            match watch.read()? {
                OomEvent::Oom => {
                    let (r#type, data) = ("oom", None);
                    write(out, &Event { r#type, id, data })?;
                }
                OomEvent::Ended => return Ok(()),
                OomEvent::Nothing => break,
            }
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            once_or_log(watched, out)?;
            // A tick that is late is not made up for.
            due = due.max(Instant::now().checked_sub(interval).unwrap_or(due)) + interval;
            continue;
        }
        // Rounded up: a wait of no time would spin until the tick.
        let wait = left + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("poll", "out-of-memory events", errno.into())),
        }
    }
}

fn once_or_log(watched: &Watched<'_>, out: &mut impl Write) -> Result<()> {
    match watched.stats() {
        Ok(stats) => {
            let id = watched.id;
            let (r#type, data) = ("stats", Some(stats));
            write(out, &Event { r#type, id, data })
        }
        Err(error) => {
            tracing::warn!("unable to get container cgroup stats: {error}");
            Ok(())
        }
    }
}

fn write(out: &mut impl Write, event: &Event<'_>) -> Result<()> {
    let mut line = serde_json::to_vec(event)
        .map_err(|error| Error::io("write", "json", std::io::Error::other(error)))?;
    line.push(b'\n');
    out.write_all(&line)
        .and_then(|()| out.flush())
        .map_err(|source| Error::io("write", "stdout", source))
}
