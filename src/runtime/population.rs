//! The processes of a container, also of one without a cgroup (rootless).

use std::fs;
use std::path::Path;

use super::RuntimeError;
use super::state::State;
use crate::error::{Error, Result};

/// Every process of the container, as our pid namespace numbers them.
///
/// They are those of its cgroup; without one, those of its pid namespace that
/// this caller may look at.
///
/// # Errors
/// The cgroup cannot be read; there is neither a cgroup nor a pid namespace of
/// the container's own to tell its processes by.
pub fn processes(state: &State) -> Result<Vec<i32>> {
    if let Some(cgroup) = &state.cgroup
        && cgroup.devices_target().is_some()
    {
        let pids = cgroup.pids(true)?;
        return Ok(pids.into_iter().map(nix::unistd::Pid::as_raw).collect());
    }
    let Some(init) = state.init.filter(super::identity::Identity::is_alive) else {
        return Ok(Vec::new());
    };
    if !state.private_pid {
        return Err(RuntimeError::Refused(
            "unable to get all container pids: the container has neither a cgroup nor a pid \
             namespace of its own"
                .into(),
        )
        .into());
    }
    // Until its program runs, init may not always be looked at; then it is alone.
    let Ok(namespace) = fs::read_link(format!("/proc/{}/ns/pid", init.pid)) else {
        return Ok(vec![init.pid]);
    };
    let proc = Path::new("/proc");
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(|e| Error::io("readdir", proc, e))? {
        let entry = entry.map_err(|e| Error::io("readdir", proc, e))?;
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        // Others' processes, and such as have just ended, cannot be read.
        if let Some(pid) = pid
            && fs::read_link(entry.path().join("ns/pid")).is_ok_and(|n| n == namespace)
        {
            found.push(pid);
        }
    }
    Ok(found)
}
