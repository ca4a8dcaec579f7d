//! Who runs kusabi, which ids they may map, and where the host keeps a node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::trust::maps_every_id;
use crate::edit::{DeviceKind, DeviceNode};
use crate::error::{Error, Result};
use crate::rootless::{self, Caller, Maps, User};

/// This process.
#[must_use]
pub fn caller() -> Caller {
    Caller {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        in_user_namespace: in_user_namespace(),
    }
}

/// Whether this is another user namespace than the host's first.
#[must_use]
pub fn in_user_namespace() -> bool {
    !maps_every_id()
}

/// The maps that a container of this caller lives in: a plain user's are to be
/// made, from `etc/subuid` and `etc/subgid` below `root`; for root they are those
/// of the namespace we are in.
///
/// # Errors
/// A file that is there and cannot be read; what is wrong with its content.
pub fn maps(root: &Path, caller: &Caller) -> Result<Maps> {
    if !caller.is_user() {
        return Ok(Maps {
            uid: own_map("/proc/self/uid_map")?,
            gid: own_map("/proc/self/gid_map")?,
        });
    }
    let name = login_name(root, caller.uid)?;
    let user = User {
        name: name.as_deref(),
        uid: caller.uid,
    };
    let map = |file: &str, own: u32| {
        let path = root.join(file);
        let text = read_if_there(&path)?;
        let ranges = rootless::ranges(&path, &text, user, own)?;
        Ok::<_, Error>(rootless::container_map(&path, caller.uid, own, &ranges)?)
    };
    Ok(Maps {
        uid: map("etc/subuid", caller.uid)?,
        gid: map("etc/subgid", caller.gid)?,
    })
}

fn own_map(path: &str) -> Result<Vec<crate::edit::IdMapping>> {
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    rootless::parse_map(&text).ok_or_else(|| {
        let odd = io::Error::other("not three numbers a line");
        Error::io("read", path, odd)
    })
}

/// Read from the file: the C library's look-up loads modules, which a static
/// binary must not do. Whoever has no line there is known by uid alone.
fn login_name(root: &Path, uid: u32) -> Result<Option<String>> {
    let text = read_if_there(&root.join("etc/passwd"))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 2 && fields[2].parse() == Ok(uid))
        .map(|fields| fields[0].to_owned()))
}

/// The name of a user of this host. One who is not in `/etc/passwd` may be known
/// to a directory service, which `getent` asks.
#[must_use]
pub fn name_of(uid: u32) -> Option<String> {
    if let Ok(Some(name)) = login_name(Path::new("/"), uid) {
        return Some(name);
    }
    let asked = std::process::Command::new("/usr/bin/getent")
        .args(["passwd", &uid.to_string()])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let line = String::from_utf8(asked.stdout).ok()?;
    let name = line.split(':').next().filter(|name| !name.is_empty())?;
    asked.status.success().then(|| name.to_owned())
}

fn read_if_there(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|e| Error::io("open", path, e)),
    }
}

/// Where the node of a device may be: first where the configuration says, then
/// where the kernel's own name for the number says (`/sys/dev`, sysfs-dev(5)).
#[must_use]
pub fn node_places(device: &DeviceNode) -> Vec<PathBuf> {
    let class = match device.kind {
        DeviceKind::Block => "block",
        _ => "char",
    };
    let uevent = format!("/sys/dev/{class}/{}:{}/uevent", device.major, device.minor);
    let mut places = vec![device.host_path.clone()];
    // No sysfs, or a number without a driver: then there is no other name.
    let text = fs::read_to_string(uevent).unwrap_or_default();
    if let Some(name) = text.lines().find_map(|line| line.strip_prefix("DEVNAME=")) {
        let named = Path::new("/dev").join(name);
        if !places.contains(&named) {
            places.push(named);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    const ANN: Caller = Caller {
        uid: 1000,
        gid: 100,
        in_user_namespace: false,
    };

    fn numbers(map: &[crate::edit::IdMapping]) -> Vec<(u32, u32, u32)> {
        map.iter()
            .map(|l| (l.container_id, l.host_id, l.size))
            .collect()
    }

    #[test]
    fn groups_are_looked_up_by_the_users_name() {
        let host = host(&[
            ("etc/passwd", "root:x:0:0::/:\nann:x:1000:100::/:\n"),
            ("etc/subuid", "ann:100000:10\n1000:200000:5\n"),
            ("etc/subgid", "100:1:1\n1000:300000:7\n"),
        ]);
        let maps = maps(host.path(), &ANN).unwrap();
        assert_eq!(
            numbers(&maps.uid),
            [(0, 1000, 1), (1, 100_000, 10), (11, 200_000, 5)]
        );
        assert_eq!(numbers(&maps.gid), [(0, 100, 1), (1, 300_000, 7)]);
    }

    #[test]
    fn without_files_there_is_a_single_id() {
        let host = host(&[]);
        let maps = maps(host.path(), &ANN).unwrap();
        assert_eq!(numbers(&maps.uid), [(0, 1000, 1)]);
        assert_eq!(numbers(&maps.gid), [(0, 100, 1)]);
    }

    #[test]
    fn a_wrong_file_is_named_by_its_path() {
        let host = host(&[("etc/subgid", "1000:100:1\n")]);
        let error = maps(host.path(), &ANN).unwrap_err().to_string();
        assert!(
            error.contains("etc/subgid:1: 100:1 holds the caller's own id 100"),
            "{error}"
        );
    }

    #[test]
    fn the_kernels_name_of_a_number_is_known() {
        let null = DeviceNode {
            path: "/dev/nothing".into(),
            host_path: "/dev/nothing".into(),
            kind: DeviceKind::Char,
            major: 1,
            minor: 3,
            file_mode: None,
            uid: None,
            gid: None,
        };
        assert_eq!(
            node_places(&null),
            [Path::new("/dev/nothing"), Path::new("/dev/null")]
        );
    }
}
