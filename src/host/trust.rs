//! Who could have written a file: the question before believing it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Owners whose files are believed.
#[derive(Debug, Clone)]
pub struct Trusted {
    uids: Vec<u32>,
    /// The caller's own uid.
    caller: u32,
}

impl Trusted {
    /// Root and the caller. In a user namespace that does not map the host's
    /// root, root's files show the overflow uid, which then counts as root.
    #[must_use]
    pub fn here() -> Self {
        let caller = nix::unistd::geteuid().as_raw();
        let mut uids = vec![0, caller];
        if !maps_every_id() {
            uids.push(overflow_uid());
        }
        Self { uids, caller }
    }

    /// Root and the given user.
    #[must_use]
    pub fn root_and(caller: u32) -> Self {
        Self {
            uids: vec![0, caller],
            caller,
        }
    }

    /// Why this file or directory cannot be believed, if so.
    pub fn objection(&self, meta: &Metadata) -> Option<String> {
        if !self.uids.contains(&meta.uid()) {
            return Some(format!(
                "owned by uid {}, who is neither root nor the caller (uid {})",
                meta.uid(),
                self.caller
            ));
        }
        // Group bits are harmless where the group is root's or the owner's
        // private one, which distributions number like its user.
        let private = meta.gid() == 0 || (meta.gid() == meta.uid() && meta.uid() == self.caller);
        let writers = if private { 0o002 } else { 0o022 };
        (meta.mode() & writers != 0).then(|| {
            format!(
                "others may write it (mode {:04o}, group {}), take it away with chmod go-w",
                meta.mode() & 0o7777,
                meta.gid()
            )
        })
    }

    /// Why a directory on the way to a file cannot be believed: whoever may
    /// rename its entries can replace the file. The sticky bit prevents that.
    pub fn objection_to_parent(&self, meta: &Metadata) -> Option<String> {
        let sticky = meta.mode() & 0o1000 != 0;
        if sticky && self.uids.contains(&meta.uid()) {
            return None;
        }
        self.objection(meta)
    }

    /// Looks at every directory from `file`'s parent up to `root`, `root`
    /// itself included. `file` is a real path, without symbolic links.
    pub fn objection_to_parents(&self, root: &Path, file: &Path) -> Option<String> {
        for parent in file.ancestors().skip(1) {
            let objection = match parent.symlink_metadata() {
                Ok(meta) => self.objection_to_parent(&meta),
                Err(error) => Some(error.to_string().to_lowercase()),
            };
            if let Some(objection) = objection {
                return Some(format!("its parent {}: {objection}", parent.display()));
            }
            if parent == root {
                break;
            }
        }
        None
    }
}

/// Whether this is the host's own user namespace, or one that is as good.
pub fn maps_every_id() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_full_map(&map))
}

fn is_full_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn overflow_uid() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/overflowuid")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65534)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_maps_every_id() {
        assert!(is_full_map("         0          0 4294967295\n"));
        assert!(!is_full_map("         0       1000          1\n"));
        assert!(!is_full_map("0 0 4294967294\n"));
        assert!(!is_full_map(""));
    }
}
