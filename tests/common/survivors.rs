//! Whether what lives on after a crash is still under its device filter.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::host;
use super::process::Spawn;
use super::sandbox::Sandbox;
use super::view::View;

/// Every process of the container that lives on must be in a cgroup where a
/// node that no rule allows cannot be opened. Processes that are about to end,
/// because the one that waits for them has gone, get the time to do so. Returns how many live on.
#[track_caller]
pub fn survivors_are_filtered(sandbox: &Sandbox, id: &str) -> usize {
    let node = sandbox.dir().join("node");
    if !node.exists() {
        make_node(&node, 60, 0);
    }
    let mut outside = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        outside.clear();
        let mut inside = 0;
        for (pid, name) in host::processes_in(id) {
            let Some(procs) = device_cgroup(sandbox.view(), pid) else {
                continue;
            };
            // Looked at first: nothing is opened from a cgroup that is not ours.
            if !procs.to_string_lossy().contains(id) {
                outside.insert(pid, format!("{name} in {}", procs.display()));
                continue;
            }
            let verdict = open_in(sandbox, &procs, &node);
            inside += 1;
            if !verdict.contains("Operation not permitted") {
                outside.insert(pid, format!("{name} in {}: {verdict}", procs.display()));
            }
        }
        if outside.is_empty() {
            return inside;
        }
        assert!(Instant::now() < end, "outside the filter: {outside:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_node(path: &Path, major: u64, minor: u64) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let numbers = makedev(major, minor);
    mknod(
        path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        numbers,
    )
    .expect("mknod");
}

/// `cgroup.procs` of the cgroup whose device filter a process is under; none
/// when the process has ended.
fn device_cgroup(view: View, pid: i32) -> Option<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let (marker, root) = if view == View::Host && !super::view::is_unified() {
        (":devices:", "/sys/fs/cgroup/devices")
    } else {
        ("0::", "/sys/fs/cgroup")
    };
    let path = table.lines().find_map(|line| line.split_once(marker))?.1;
    Some(PathBuf::from(format!("{root}{path}/cgroup.procs")))
}

/// What a shell in that cgroup says when it opens `node`.
fn open_in(sandbox: &Sandbox, procs: &Path, node: &Path) -> String {
    let out = Spawn::new("/bin/sh", &sandbox.dir().join("open"))
        .args(["-c", "echo $$ >\"$1\" && : <\"$2\"", "sh"])
        .arg(procs)
        .arg(node)
        .env("LC_ALL", "C")
        .output();
    format!("{}{}", out.stdout, out.stderr)
}
