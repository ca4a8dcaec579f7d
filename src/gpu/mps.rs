//! NVIDIA's multi-process service: a client finds the daemon by its pipe
//! directory, must be let in by it, and must see its `/dev/shm`.
//!
//! The daemon serves one user at a time, unless it was started for several; and
//! one that is not root serves nobody but its own user.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::objection::{origin_of, refuse};
use super::request::{Mps, PinnedMemory};
use super::{Context, GpuError};
use crate::edit::{Edit, Mount, Plan, Source};
use crate::host::facts::{FileFacts, FileKind, Presence, Snapshot};

const SHM: &str = "/dev/shm";
/// The daemon's own FIFO in its pipe directory.
const CONTROL: &str = "control";

/// What the checks look at: the directories with all their parents.
pub(super) fn paths(wish: &Mps) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::from([wish.pipe_dir.join(CONTROL)]);
    for dir in [&wish.pipe_dir, &wish.log_dir, &wish.shm_dir] {
        paths.extend(dir.ancestors().map(Path::to_path_buf));
    }
    paths
}

pub(super) fn plan(
    wish: &Mps,
    devices: usize,
    snapshot: &Snapshot,
    context: &Context,
    sources: &[Source],
    plan: &mut Plan,
) -> Result<(), GpuError> {
    let origin = origin_of("mps", sources);
    let host = Host { snapshot, context };
    let dirs = [
        (&wish.pipe_dir, "pipe", true),
        (&wish.log_dir, "log", true),
        (&wish.shm_dir, "shared memory", true),
    ];
    let mut objections: Vec<String> = dirs
        .iter()
        .filter_map(|(dir, word, write)| host.objection(dir, word, *write))
        .collect();
    objections.extend(host.other_user(&wish.pipe_dir));
    refuse("mps", objections, &origin, context, plan)?;
    let mut set = |name: &str, value: String| {
        let name = name.to_owned();
        plan.push(Edit::SetEnv { name, value }, origin.clone());
    };
    set("CUDA_MPS_PIPE_DIRECTORY", text(&wish.pipe_dir));
    set("CUDA_MPS_LOG_DIRECTORY", text(&wish.log_dir));
    if let Some(threads) = &wish.threads {
        set("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", threads.clone());
    }
    if let Some(memory) = &wish.memory {
        set("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", limits(memory, devices));
    }
    for (source, destination) in [
        (&wish.pipe_dir, wish.pipe_dir.as_path()),
        (&wish.log_dir, &wish.log_dir),
        // A tmpfs of the same size is not enough: client and daemon meet in it.
        (&wish.shm_dir, Path::new(SHM)),
    ] {
        let edit = Edit::AddMount(Mount {
            destination: destination.to_owned(),
            kind: None,
            source: Some(source.clone()),
            options: ["rw", "nosuid", "nodev", "noexec", "rbind", "rprivate"]
                .map(str::to_owned)
                .to_vec(),
        });
        plan.push(edit, origin.clone());
    }
    let shm = wish.shm_dir.display();
    plan.note(
        format!(
            "{SHM} is {shm} of the host: the container sees what the host's processes keep there"
        ),
        origin.clone(),
    );
    if wish.threads.is_some() || wish.memory.is_some() {
        plan.note(
            "the limits are variables that the container's own processes can unset: set them in \
             the daemon where tenants are not trusted",
            origin.clone(),
        );
    }
    if context.host_uid != 0 && host.owner(&wish.pipe_dir) == Some(0) {
        plan.note(
            "the daemon serves one user at a time: start it with nvidia-cuda-mps-control \
             -multiuser-server where containers of several users share a GPU",
            origin,
        );
    }
    Ok(())
}

/// Paths that were read from text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `DEVICE=SIZE`, with the numbers that devices have inside.
fn limits(memory: &PinnedMemory, devices: usize) -> String {
    let limit = |device: &dyn std::fmt::Display, size: &u64| format!("{device}={size}M");
    let limits: Vec<String> = match memory {
        PinnedMemory::Each(size) => (0..devices).map(|n| limit(&n, size)).collect(),
        PinnedMemory::PerDevice(sizes) => sizes.iter().map(|(n, size)| limit(n, size)).collect(),
    };
    limits.join(",")
}

struct Host<'h> {
    snapshot: &'h Snapshot,
    context: &'h Context,
}

impl Host<'_> {
    fn facts(&self, path: &Path) -> Option<&FileFacts> {
        match self.snapshot.file(path).map(Presence::followed) {
            Some(Presence::Present(facts)) => Some(facts),
            _ => None,
        }
    }

    fn owner(&self, path: &Path) -> Option<u32> {
        self.facts(path).map(|facts| facts.uid)
    }

    /// Why the container cannot use a directory.
    fn objection(&self, dir: &Path, word: &str, write: bool) -> Option<String> {
        let path = dir.display();
        match self.snapshot.file(dir).map(Presence::followed) {
            Some(Presence::Present(facts)) if facts.kind == FileKind::Directory => {}
            Some(Presence::Present(facts)) => {
                return Some(format!(
                    "the {word} directory {path} is {}",
                    facts.kind.noun()
                ));
            }
            Some(Presence::Unknown { reason }) => {
                return Some(format!(
                    "the {word} directory {path} cannot be examined: {reason}"
                ));
            }
            Some(Presence::Absent) | None => {
                return Some(format!(
                    "the {word} directory {path} does not exist; start nvidia-cuda-mps-control -d, \
                     or name the directories it uses"
                ));
            }
        }
        for parent in dir.ancestors().skip(1) {
            if self
                .facts(parent)
                .is_some_and(|facts| !self.may(facts, 0o1))
            {
                return Some(format!(
                    "uid {} may not pass {} on the way to the {word} directory {path}; \
                     chmod o+x {}",
                    self.context.host_uid,
                    parent.display(),
                    parent.display()
                ));
            }
        }
        let wanted = if write { 0o3 } else { 0o1 };
        if self
            .facts(dir)
            .is_some_and(|facts| !self.may(facts, wanted))
        {
            return Some(format!(
                "uid {} may not write the {word} directory {path}; chmod o+wx {path}, or run the \
                 container as its owner",
                self.context.host_uid
            ));
        }
        None
    }

    /// Why the daemon would turn the container away.
    fn other_user(&self, pipe_dir: &Path) -> Option<String> {
        let facts = self.facts(&pipe_dir.join(CONTROL))?;
        let user = self.context.host_uid;
        (facts.uid != 0 && facts.uid != user).then(|| {
            format!(
                "the daemon of {} runs as uid {} and serves nobody else, the container is uid \
                 {user}; run the container as that user, or the daemon as root",
                pipe_dir.display(),
                facts.uid
            )
        })
    }

    /// Whether the process has these of the bits `rwx`.
    fn may(&self, facts: &FileFacts, wanted: u32) -> bool {
        let granted = if self.context.host_uid == 0 {
            0o7
        } else if facts.uid == self.context.host_uid {
            facts.mode >> 6
        } else if self.context.host_gids.contains(&facts.gid) {
            facts.mode >> 3
        } else {
            facts.mode
        };
        granted & wanted == wanted
    }
}

#[cfg(test)]
mod tests;
