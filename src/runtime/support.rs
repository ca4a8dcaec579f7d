//! What this version refuses. Those who refuse it read it here, and `features`
//! does, so that it never promises what a container then cannot have.

/// Mount options that libcontainer parses but does not apply, or takes for file
/// system data (which a bind mount ignores without a word), and nobody applies in
/// its place yet.
pub const REFUSED_MOUNT_OPTIONS: &[&str] = &[
    "idmap",
    "ridmap",
    "sync",
    "dirsync",
    "remount",
    "mand",
    "iversion",
    "noiversion",
    "lazytime",
    "nolazytime",
    "loud",
    "silent",
    "nosymfollow",
    "symfollow",
];

/// Whether `--systemd-cgroup` can be had.
pub const SYSTEMD_DRIVER: bool = false;
