//! A recording is as good as the host.

use std::fs;

use kusabi::gpu::{Inventory, needs};
use kusabi::host::gpu::{probe, record};

use crate::{HOSTS, host, snapshot};

#[test]
fn a_recording_tells_what_the_host_told() {
    for name in HOSTS {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("recorded");
        let written = record(&host(name), &copy).unwrap();
        assert!(!written.is_empty());
        let again = probe(&copy, &needs(None)).unwrap();
        let before = snapshot(name);
        let devices = |snapshot| Inventory::read(snapshot).devices().to_vec();
        assert_eq!(devices(&again), devices(&before), "{name}");
        assert_eq!(again.texts, before.texts, "{name}");
    }
}

#[test]
fn a_recording_does_not_go_over_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "x").unwrap();
    let error = record(&host("none"), dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("not empty, name a directory that is or does not exist"),
        "{error}"
    );
}

/// Nothing of this machine shows through: a link in the tree means a place in the
/// tree.
#[test]
fn a_recorded_host_is_a_world_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("proc/driver/nvidia/gpus")).unwrap();
    std::os::unix::fs::symlink("/proc/version", root.join("proc/driver/nvidia/version")).unwrap();
    std::os::unix::fs::symlink("/dev", root.join("dev")).unwrap();
    let snapshot = probe(root, &needs(None)).unwrap();
    assert_eq!(snapshot.text("/proc/driver/nvidia/version"), None);
    assert!(Inventory::read(&snapshot).devices().is_empty());
}

#[test]
fn a_list_of_nodes_that_cannot_be_read_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("kusabi-nodes"),
        "# x\n\n/dev/nvidia0 c 195\n",
    )
    .unwrap();
    let error = probe(dir.path(), &needs(None)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{}/kusabi-nodes:3: expected path, type, major:minor, mode, uid:gid",
            dir.path().display()
        )
    );
}
