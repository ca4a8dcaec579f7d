//! Giving a version 2 cgroup to the container.

use std::os::unix::fs::lchown;
use std::path::{Component, Path};

use serde_json::Value;

use super::error::{CgroupError, Result};
use super::file;

/// Files that a delegated cgroup's owner may write, where the kernel keeps no
/// list (before Linux 4.15, from cgroups(7)).
const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// Who owns the cgroup, by `config.json`: the process's user as the host numbers
/// it, if the container has a cgroup namespace of its own and mounts cgroupfs
/// writable. Otherwise, or if that user is not mapped, nobody.
#[must_use]
pub fn delegated_uid(config: &Value) -> Option<u32> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let namespaces = list(&config["linux"]["namespaces"]);
    let namespace = |kind: &str| namespaces.iter().find(|n| n["type"] == kind);
    let private = namespace("cgroup").is_some_and(|n| n["path"].as_str().is_none_or(str::is_empty));
    let writable = list(&config["mounts"]).iter().any(|mount| {
        let destination = mount["destination"].as_str().unwrap_or_default();
        let options = list(&mount["options"]);
        // The last of contradicting options counts.
        let read_only = options
            .iter()
            .filter_map(Value::as_str)
            .rfind(|o| matches!(*o, "ro" | "rw"))
            == Some("ro");
        mount["source"] == "cgroup" && is_cgroupfs(destination) && !read_only
    });
    if !private || !writable {
        return None;
    }
    let uid = config["process"]["user"]["uid"].as_u64().unwrap_or(0);
    if namespace("user").is_none() {
        return u32::try_from(uid).ok();
    }
    list(&config["linux"]["uidMappings"])
        .iter()
        .find_map(|map| {
            let inside = map["containerID"].as_u64().unwrap_or(0);
            let offset = uid.checked_sub(inside)?;
            (offset < map["size"].as_u64()?)
                .then(|| u32::try_from(map["hostID"].as_u64().unwrap_or(0) + offset).ok())
                .flatten()
        })
}

fn is_cgroupfs(destination: &str) -> bool {
    let mut clean: Vec<&str> = Vec::new();
    for component in Path::new(destination).components() {
        match component {
            Component::Normal(name) => clean.push(name.to_str().unwrap_or_default()),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    destination.starts_with('/') && clean == ["sys", "fs", "cgroup"]
}

/// Makes `uid` the owner of the cgroup and of the files that the kernel says are
/// safe to give away.
pub(super) fn delegate(directory: &Path, uid: u32) -> Result<()> {
    let chown = |path: &Path| match lchown(path, Some(uid), None) {
        // Not every kernel has every file.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && path != directory => Ok(()),
        result => result.map_err(|e| CgroupError::io("chown", path, e)),
    };
    chown(directory)?;
    let list = file::read_optional("/sys/kernel/cgroup/delegate".as_ref())?;
    for name in list.as_deref().unwrap_or(FILES).lines() {
        chown(&directory.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({
            "process": {"user": {"uid": 5}},
            "mounts": [
                {"destination": "/proc", "source": "proc"},
                {"destination": "/sys/fs/../fs/cgroup/", "source": "cgroup", "type": "cgroup",
                 "options": ["nosuid", "ro", "rw"]}
            ],
            "linux": {"namespaces": [{"type": "cgroup"}]}
        })
    }

    #[test]
    fn only_with_a_private_namespace_and_a_writable_mount() {
        assert_eq!(delegated_uid(&config()), Some(5));
        let without = |change: fn(&mut Value)| {
            let mut config = config();
            change(&mut config);
            delegated_uid(&config)
        };
        assert_eq!(without(|c| c["mounts"][1]["options"] = json!(["ro"])), None);
        assert_eq!(
            without(|c| c["mounts"][1]["options"] = Value::Null),
            Some(5)
        );
        assert_eq!(without(|c| c["mounts"][1]["source"] = json!("/x")), None);
        assert_eq!(
            without(|c| c["mounts"][1]["destination"] = json!("/sys")),
            None
        );
        assert_eq!(without(|c| c["linux"]["namespaces"] = json!([])), None);
        let path = |c: &mut Value| c["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/cgroup");
        assert_eq!(without(path), None);
        assert_eq!(delegated_uid(&json!({})), None);
    }

    #[test]
    fn the_owner_is_as_the_host_numbers_it() {
        let mut config = config();
        config["linux"]["namespaces"] = json!([{"type": "user"}, {"type": "cgroup", "path": ""}]);
        assert_eq!(delegated_uid(&config), None, "no mapping");
        config["linux"]["uidMappings"] = json!([
            {"containerID": 0, "hostID": 1000, "size": 1},
            {"containerID": 1, "hostID": 100_000, "size": 5}
        ]);
        assert_eq!(delegated_uid(&config), Some(100_004));
        config["process"]["user"]["uid"] = json!(6);
        assert_eq!(delegated_uid(&config), None, "outside the mapping");
    }
}
