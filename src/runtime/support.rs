//! What this version refuses. Those who refuse it read it here, and `features`
//! does, so that it never promises what a container then cannot have.

/// Whether `--systemd-cgroup` can be had.
pub const SYSTEMD_DRIVER: bool = false;
