//! `spec`: a config.json to start from.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use super::output;
use super::version::OCI_VERSION;
use crate::cli::Spec;
use crate::error::{Error, Result};

/// Writes `config.json` into the bundle, where there is none.
///
/// # Errors
/// With runc's words when the file exists, and when it cannot be written; then
/// nothing is left behind.
pub(super) fn run(arguments: &Spec) -> Result<()> {
    let bundle = arguments.bundle.as_deref().unwrap_or(Path::new("."));
    if !bundle.as_os_str().is_empty() {
        let metadata = fs::metadata(bundle).map_err(|source| Error::io("chdir", bundle, source))?;
        if !metadata.is_dir() {
            return Err(Error::io("chdir", bundle, Errno::ENOTDIR.into()));
        }
    }
    let mut spec = example(is_unified());
    if arguments.rootless {
        to_rootless(&mut spec, geteuid().as_raw(), getegid().as_raw());
    }
    create(bundle, output::indented(&spec, "\t")?.as_bytes())
}

/// Whether `/sys/fs/cgroup` is cgroup v2: there a container gets a view of its
/// own cgroup only.
fn is_unified() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Makes the file whole or not at all, and never in place of another.
fn create(bundle: &Path, content: &[u8]) -> Result<()> {
    let path = bundle.join("config.json");
    let exists = || Error::Usage("File config.json exists. Remove it first".to_owned());
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let temporary = bundle.join(format!(".config.json.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&temporary)
        .map_err(|source| Error::io("open", &temporary, source))
        .and_then(|mut file| {
            file.write_all(content)
                .map_err(|source| Error::io("write", &temporary, source))
        });
    let moved = written.and_then(|()| {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(None, &temporary, None, &path, flags) {
            Err(Errno::EEXIST) => Err(exists()),
            // File systems that cannot promise it (FUSE, NFS) say EINVAL.
            Err(Errno::EINVAL | Errno::ENOSYS) => fs::rename(&temporary, &path)
                .map_err(|source| Error::io("rename", &temporary, source)),
            result => result.map_err(|errno| Error::io("rename", &temporary, errno.into())),
        }
    });
    if moved.is_err() {
        // The error that is reported is the first one.
        let _ = fs::remove_file(&temporary);
    }
    moved
}

/// The configuration of `runc spec`.
fn example(cgroup_namespace: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if cgroup_namespace {
        namespaces.push("cgroup");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", "ro"],
            ),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// What `runc spec --rootless` changes: the caller is root inside, the host's
/// network is kept, the host's `/sys` is bound, and nothing is asked for that
/// only the host's root may have.
fn to_rootless(spec: &mut Value, euid: u32, egid: u32) {
    let linux = &mut spec["linux"];
    let mut namespaces = linux["namespaces"].take();
    if let Some(list) = namespaces.as_array_mut() {
        list.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "user");
        list.push(json!({ "type": "user" }));
    }
    *linux = json!({
        "uidMappings": [{ "containerID": 0, "hostID": euid, "size": 1 }],
        "gidMappings": [{ "containerID": 0, "hostID": egid, "size": 1 }],
        "namespaces": namespaces,
        "maskedPaths": linux["maskedPaths"].take(),
        "readonlyPaths": linux["readonlyPaths"].take(),
    });
    for entry in spec["mounts"].as_array_mut().into_iter().flatten() {
        if entry["destination"] == "/sys" {
            *entry = mount(
                "/sys",
                "none",
                "/sys",
                &["rbind", "nosuid", "noexec", "nodev", "ro"],
            );
        } else if let Some(options) = entry.get_mut("options").and_then(Value::as_array_mut) {
            options.retain(|option| {
                option
                    .as_str()
                    .is_none_or(|o| !o.starts_with("gid=") && !o.starts_with("uid="))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_namespace_depends_on_the_host() {
        let has = |spec: &Value| {
            spec["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!({ "type": "cgroup" }))
        };
        assert!(has(&example(true)));
        assert!(!has(&example(false)));
    }

    #[test]
    fn rootless_maps_the_caller_and_asks_for_nothing_more() {
        let mut spec = example(true);
        to_rootless(&mut spec, 1000, 100);
        let linux = &spec["linux"];
        assert_eq!(
            linux["uidMappings"],
            json!([{ "containerID": 0, "hostID": 1000, "size": 1 }])
        );
        assert_eq!(
            linux["gidMappings"],
            json!([{ "containerID": 0, "hostID": 100, "size": 1 }])
        );
        assert!(linux.get("resources").is_none());
        let kinds: Vec<&str> = linux["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        let mounts = spec["mounts"].as_array().unwrap();
        assert_eq!(mounts.len(), 7);
        assert_eq!(mounts[5]["type"], "none");
        assert_eq!(mounts[5]["options"][0], "rbind");
        assert!(!spec.to_string().contains("gid=5"));
        assert_eq!(linux["maskedPaths"].as_array().unwrap().len(), 10);
    }

    #[test]
    fn it_is_valid_for_the_library() {
        for mut spec in [example(true), example(false)] {
            serde_json::from_value::<oci_spec::runtime::Spec>(spec.clone()).unwrap();
            to_rootless(&mut spec, 1000, 1000);
            serde_json::from_value::<oci_spec::runtime::Spec>(spec).unwrap();
        }
    }
}
