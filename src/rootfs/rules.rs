//! What may be mounted, made and entered where. Text in, verdict out: these
//! rules do no I/O, so that the preflight and the assembly judge alike.

use std::path::{Component, Path};

/// Files of procfs that lxcfs and checkpoint tools replace one by one; runc lets
/// just these be mount points below /proc.
const REPLACEABLE_PROC_FILES: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Where a resolved path is with regard to /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcPosition {
    /// Somewhere else.
    Outside,
    /// Exactly /proc.
    Root,
    /// One of the files below /proc that may be replaced.
    Replaceable,
    /// Anywhere else below /proc.
    Inside,
}

/// Judges a path without links, absolute inside the container.
pub(super) fn proc_position(path: &Path) -> ProcPosition {
    match path.strip_prefix("/proc") {
        Err(_) => ProcPosition::Outside,
        Ok(rest) if rest.as_os_str().is_empty() => ProcPosition::Root,
        Ok(rest) if is_replaceable(rest) => ProcPosition::Replaceable,
        Ok(_) => ProcPosition::Inside,
    }
}

/// Whether a path relative to the root of a procfs may be a mount point.
pub(super) fn is_replaceable(below_proc: &Path) -> bool {
    REPLACEABLE_PROC_FILES
        .iter()
        .any(|file| below_proc == Path::new(file))
}

/// Whether a path without links goes through a magic link of procfs, behind
/// which is not what its text says: `/proc/self/fd/7`, `/proc/1/root`.
pub(super) fn is_magic(path: &Path) -> bool {
    let mut names = path.components().filter_map(|c| match c {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    if names.next() != Some("proc") {
        return false;
    }
    let is_process = |name: &str| {
        matches!(name, "self" | "thread-self")
            || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()))
    };
    if !names.next().is_some_and(is_process) {
        return false;
    }
    let mut entry = names.next();
    if entry == Some("task") {
        entry = names.nth(1);
    }
    match entry {
        Some("root" | "cwd" | "exe") => true,
        Some("fd" | "map_files" | "ns") => names.next().is_some(),
        _ => false,
    }
}

/// What is wrong with the text of a device's path, if anything.
pub(super) fn device_path_fault(path: &Path) -> Option<&'static str> {
    if !path.is_absolute() {
        return Some("must be absolute");
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Some("must not contain `..`");
    }
    if path == Path::new("/") || path == Path::new("/dev") {
        return Some("must name a file");
    }
    ["/proc", "/sys"]
        .iter()
        .any(|p| path.starts_with(p))
        .then_some("must not be below /proc or /sys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_judged_by_component() {
        let at = |p: &str| proc_position(Path::new(p));
        assert_eq!(at("/proc"), ProcPosition::Root);
        assert_eq!(at("/procfs"), ProcPosition::Outside);
        assert_eq!(at("/srv/proc"), ProcPosition::Outside);
        assert_eq!(at("/proc/sys"), ProcPosition::Inside);
        assert_eq!(at("/proc/self/attr"), ProcPosition::Inside);
        assert_eq!(at("/proc/uptime"), ProcPosition::Replaceable);
        assert_eq!(at("/proc/uptime/x"), ProcPosition::Inside);
        assert_eq!(
            at("/proc/sys/crypto/fips_enabled"),
            ProcPosition::Replaceable
        );
        assert_eq!(at("/proc/sys/crypto"), ProcPosition::Inside);
    }

    #[test]
    fn magic_links_are_told_from_ordinary_paths() {
        for magic in [
            "/proc/self/fd/7",
            "/proc/self/fd/7/etc",
            "/proc/thread-self/fd/3",
            "/proc/1/fd/3",
            "/proc/1/task/12/fd/3",
            "/proc/1/root",
            "/proc/self/cwd/..",
            "/proc/self/ns/mnt",
        ] {
            assert!(is_magic(Path::new(magic)), "{magic}");
        }
        for plain in [
            "/",
            "/proc",
            "/proc/self",
            "/proc/self/fd",
            "/proc/sys/fs",
            "/home/self/fd/7",
        ] {
            assert!(!is_magic(Path::new(plain)), "{plain}");
        }
    }

    #[test]
    fn device_paths_are_plain() {
        assert_eq!(device_path_fault(Path::new("/dev/nvidia0")), None);
        assert_eq!(device_path_fault(Path::new("/opt/gpu/card0")), None);
        for bad in [
            "dev/null",
            "/dev/../etc/x",
            "/dev",
            "/",
            "/proc/driver/x",
            "/sys/x",
        ] {
            assert!(device_path_fault(Path::new(bad)).is_some(), "{bad}");
        }
    }
}
