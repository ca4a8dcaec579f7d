//! `uid_map` and `gid_map` of a new user namespace: written, and read back.

use std::fs;
use std::process::Command;

use nix::unistd::{getegid, geteuid};

use super::RuntimeError;
use crate::edit::IdMapping;
use crate::error::{Error, Result};
use crate::rootless::parse_map;

/// Writes both maps of the process's user namespace, and checks that they are in
/// force as they were meant.
///
/// Root writes them itself, all lines at once. Others may write one line, of
/// their own id; for all else newuidmap(1) and newgidmap(1) do it, as
/// user_namespaces(7) demands.
///
/// # Errors
/// The kernel's or the helper's, naming the map; a map that reads back as
/// another one.
pub fn map(pid: i32, uid: &[IdMapping], gid: &[IdMapping]) -> Result<()> {
    let root = geteuid().is_root();
    let alone = |map: &[IdMapping], own: u32| matches!(map, [IdMapping { host_id, size: 1, .. }] if *host_id == own);
    if root || alone(uid, geteuid().as_raw()) {
        write(pid, "uid_map", uid)?;
    } else {
        ask("newuidmap", "/etc/subuid", pid, uid)?;
    }
    if root {
        write(pid, "gid_map", gid)?;
    } else if alone(gid, getegid().as_raw()) {
        // Dropping a group could give access that the group was denied.
        let path = format!("/proc/{pid}/setgroups");
        fs::write(&path, "deny").map_err(|e| Error::io("write", &path, e))?;
        write(pid, "gid_map", gid)?;
    } else {
        ask("newgidmap", "/etc/subgid", pid, gid)?;
    }
    verify(pid, "uid_map", uid)?;
    verify(pid, "gid_map", gid)
}

fn write(pid: i32, file: &str, map: &[IdMapping]) -> Result<()> {
    let text: String = map
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect();
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).map_err(|e| Error::io("write", &path, e))
}

fn ask(helper: &str, file: &str, pid: i32, map: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for m in map {
        for number in [m.container_id, m.host_id, m.size] {
            command.arg(number.to_string());
        }
    }
    let output = command.output().map_err(|e| {
        RuntimeError::Refused(format!(
            "{helper}: {}; install the package uidmap, or map nothing but the own id",
            crate::error::reason(&e)
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    // newuidmap names itself in what it says.
    let words = words.strip_prefix(&format!("{helper}: ")).unwrap_or(&words);
    Err(RuntimeError::Refused(format!("{helper}: {words}; check {file}")).into())
}

/// The helpers' exit status alone is not relied on: a container whose ids are
/// others than its configuration says must not start.
fn verify(pid: i32, file: &str, wanted: &[IdMapping]) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    let sorted = |mut map: Vec<IdMapping>| {
        map.sort_by_key(|m| m.container_id);
        map
    };
    match parse_map(&text) {
        Some(found) if sorted(found.clone()) == sorted(wanted.to_vec()) => Ok(()),
        _ => Err(RuntimeError::Refused(format!(
            "{file} of the container is not what was asked for: {}",
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        ))
        .into()),
    }
}
