//! Which cgroup hierarchies this process can see, and where it is in them.
//!
//! Read once, from the calling thread's `mountinfo` and `cgroup`; the result is
//! plain data. A mount that another one hides does not count, so a private
//! `cgroup2` mounted over a hybrid tree is recognised for what it shows.

use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use procfs::process::{MountInfo, MountInfos};
use procfs::{FromBufRead, ProcessCGroups};

use super::error::{CgroupError, Result};

/// Where the unified hierarchy is, if it is the only one.
const UNIFIED: &str = "/sys/fs/cgroup";
/// Where the unified hierarchy is beside version 1 (systemd's hybrid layout).
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// One hierarchy that is mounted where we can see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or `name=NAME`; the unified hierarchy is the empty
    /// string alone.
    pub names: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which directory of the hierarchy is mounted there (`/` unless in a
    /// container without a cgroup namespace).
    pub root: String,
    /// The cgroup of this process in it, from the hierarchy's root.
    pub own: String,
}

impl Hierarchy {
    /// The directory of this process's cgroup. Where the mount does not show
    /// it, the mount point is the nearest there is.
    #[must_use]
    pub fn own_directory(&self) -> PathBuf {
        let below = Path::new(&self.own)
            .strip_prefix(&self.root)
            .unwrap_or(Path::new(""));
        let normal = |c| matches!(c, Component::Normal(_));
        let below = if below.components().all(normal) {
            below
        } else {
            Path::new("")
        };
        // Not `join`, which would add a slash for the empty path.
        self.mount_point
            .components()
            .chain(below.components())
            .collect()
    }
}

/// All hierarchies that the mount namespace of this process shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The unified hierarchy is the only one.
    v2: bool,
    /// Version 1 hierarchies in mount order, then the unified one.
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Looks at the mount namespace of this process.
    ///
    /// # Errors
    /// `/proc` cannot be read, or no cgroup file system is mounted.
    pub fn detect() -> Result<Self> {
        let read = |path: &str| {
            let bytes = std::fs::read(path).map_err(|e| CgroupError::io("read", path, e))?;
            // Other mounts may have names of any bytes.
            Ok::<_, CgroupError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let own = read("/proc/thread-self/cgroup")?;
        if shows_all_of_v2(Path::new(UNIFIED))
            && let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::"))
        {
            return Ok(Self {
                v2: true,
                hierarchies: vec![Hierarchy {
                    names: vec![String::new()],
                    mount_point: UNIFIED.into(),
                    root: "/".to_owned(),
                    own: path.to_owned(),
                }],
            });
        }
        // There is a line for each mount of each container of the host.
        let mounts = lines_that_matter(&read("/proc/thread-self/mountinfo")?);
        Self::parse(mounts.as_bytes(), own.as_bytes())
    }

    /// The same from the text of the two files.
    ///
    /// # Errors
    /// The text is not what the kernel writes, or names no cgroup mount.
    pub fn parse(mountinfo: impl BufRead, own: impl BufRead) -> Result<Self> {
        let bad = |path: &str, e: &procfs::ProcError| CgroupError::Parse {
            path: path.into(),
            reason: e.to_string(),
        };
        let mounts = MountInfos::from_buf_read(mountinfo)
            .map_err(|e| bad("/proc/thread-self/mountinfo", &e))?
            .0;
        let own = ProcessCGroups::from_buf_read(own)
            .map_err(|e| bad("/proc/thread-self/cgroup", &e))?
            .0;
        let seen: Vec<&MountInfo> = mounts
            .iter()
            .filter(|m| m.fs_type.starts_with("cgroup") && is_visible(m, &mounts))
            .collect();
        let unified_at = |at: &str| {
            let mount = seen
                .iter()
                .find(|m| m.fs_type == "cgroup2" && m.mount_point == Path::new(at))?;
            let own = own.iter().find(|g| g.hierarchy == 0)?;
            Some(Hierarchy {
                names: vec![String::new()],
                mount_point: mount.mount_point.clone(),
                root: mount.root.clone(),
                own: own.pathname.clone(),
            })
        };
        if let Some(unified) = unified_at(UNIFIED) {
            return Ok(Self {
                v2: true,
                hierarchies: vec![unified],
            });
        }
        let mut hierarchies: Vec<Hierarchy> = own
            .iter()
            .filter_map(|group| {
                let name = group.controllers.first()?;
                let shows = |m: &&&MountInfo| m.fs_type == "cgroup" && has_option(m, name);
                let usual = |m: &&&MountInfo| shows(m) && m.mount_point.starts_with(UNIFIED);
                let mount = seen
                    .iter()
                    .find(usual)
                    .or_else(|| seen.iter().find(shows))?;
                Some(Hierarchy {
                    names: group.controllers.clone(),
                    mount_point: mount.mount_point.clone(),
                    root: mount.root.clone(),
                    own: group.pathname.clone(),
                })
            })
            .collect();
        if hierarchies.is_empty() {
            return Err(CgroupError::Limit(
                "no cgroup mount found in mountinfo".to_owned(),
            ));
        }
        hierarchies.extend(unified_at(HYBRID));
        Ok(Self {
            v2: false,
            hierarchies,
        })
    }

    /// Whether the unified hierarchy (version 2) is the only one.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Whether the unified hierarchy is mounted beside version 1.
    #[must_use]
    pub fn is_hybrid(&self) -> bool {
        !self.v2 && self.hierarchy("").is_some()
    }

    /// The hierarchy of a controller, of `name=NAME`, or of the empty string
    /// for the unified one.
    #[must_use]
    pub fn hierarchy(&self, name: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|h| h.names.iter().any(|n| n == name))
    }

    /// All hierarchies; the unified one comes last.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }
}

/// Whether a path is the root of the unified hierarchy, and `/proc/self/cgroup`
/// counts from there: the usual case, for which the kernel need not list all
/// mounts.
fn shows_all_of_v2(path: &Path) -> bool {
    // kernfs numbers its directories from there (fs/kernfs/dir.c).
    const ROOT: u64 = 1;
    // The first cgroup namespace (include/uapi/linux/nsfs.h).
    const FIRST: u64 = 0xEFFF_FFFB;
    let number = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.ino());
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
        && number(path) == ROOT
        && number(Path::new("/proc/thread-self/ns/cgroup")) == FIRST
}

/// The lines of `mountinfo` that tell of cgroup file systems, and those of mounts
/// that are on the way to one or could cover one.
fn lines_that_matter(mounts: &str) -> String {
    let place = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let shows_cgroups = |line: &&str| line.contains(" - cgroup");
    let places: Vec<String> = mounts.lines().filter(shows_cgroups).map(place).collect();
    let matters = |line: &&str| {
        let above = place(line);
        let is_below = |place: &String| Path::new(place).starts_with(&above);
        shows_cgroups(line) || places.iter().any(is_below)
    };
    let kept = mounts.lines().filter(matters);
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Whether the superblock has the option, as in `cpu` or `name=systemd`.
fn has_option(mount: &MountInfo, option: &str) -> bool {
    match option.split_once('=') {
        Some((key, value)) => {
            mount.super_options.get(key).and_then(Option::as_deref) == Some(value)
        }
        None => matches!(mount.super_options.get(option), Some(None)),
    }
}

/// Whether a path walk from our root arrives at this mount: nothing is mounted
/// on top of it, and on the way up nothing was mounted over a directory above.
fn is_visible(mount: &MountInfo, all: &[MountInfo]) -> bool {
    // procfs calls the parent's mount id `pid`.
    let covered = all.iter().any(|other| {
        other.pid == mount.mnt_id
            && other.mnt_id != mount.mnt_id
            && other.mount_point == mount.mount_point
    });
    if covered {
        return false;
    }
    let mut current = mount;
    // No more steps than mounts: a malformed table cannot make this loop.
    for _ in 0..all.len() {
        let hidden = all.iter().any(|other| {
            other.pid == current.pid
                && other.mnt_id != current.mnt_id
                // The root of an initramfs is its own parent.
                && other.mnt_id != current.pid
                && other.mount_point != current.mount_point
                && current.mount_point.starts_with(&other.mount_point)
        });
        if hidden {
            return false;
        }
        match all.iter().find(|parent| parent.mnt_id == current.pid) {
            Some(parent) if parent.mnt_id != current.mnt_id => current = parent,
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
23 1 8:1 / / rw - ext4 /dev/root rw
30 23 0:5 / /sys rw - sysfs sysfs rw
31 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
36 23 0:30 / /mnt/devices rw - cgroup cgroup rw,devices
";
    const HYBRID_OWN: &str = "\
4:name=systemd:/user.slice
3:memory:/not/mounted
2:devices:/
1:cpu,cpuacct:/a:b/c
0::/user.slice/session.scope
";
    const V2_MOUNT: &str = "40 30 0:32 / /sys/fs/cgroup rw - cgroup2 none rw\n";

    fn parse(mounts: &str, own: &str) -> Result<Layout> {
        Layout::parse(mounts.as_bytes(), own.as_bytes())
    }

    #[test]
    fn another_cgroup_namespace_counts_from_elsewhere() {
        let whole = [UNIFIED, HYBRID].map(Path::new);
        let Some(whole) = whole.into_iter().find(|path| shows_all_of_v2(path)) else {
            return;
        };
        // Of this thread alone.
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).is_ok() {
            assert!(!shows_all_of_v2(whole));
        }
        assert!(!shows_all_of_v2(Path::new("/")));
    }

    #[test]
    fn mounts_elsewhere_do_not_matter() {
        let elsewhere = "50 23 0:9 / /sys/fs/bpf rw - bpf bpf rw\n\
                         51 23 0:9 / /run rw - tmpfs tmpfs rw\n\
                         52 51 0:9 / /run/x rw - overlay overlay rw,lowerdir=a\n";
        let over = "53 31 0:9 / /sys/fs/cgroup/devices rw - tmpfs tmpfs rw\n";
        let all = format!("{HYBRID_MOUNTS}{elsewhere}{over}");
        let kept = lines_that_matter(&all);
        assert!(kept.contains(over) && !kept.contains("/run ") && !kept.contains("/sys/fs/bpf"));
        assert_eq!(
            parse(&kept, HYBRID_OWN).unwrap(),
            parse(&all, HYBRID_OWN).unwrap()
        );
    }

    #[test]
    fn hybrid_has_each_hierarchy_once() {
        let layout = parse(HYBRID_MOUNTS, HYBRID_OWN).unwrap();
        assert!(!layout.is_v2() && layout.is_hybrid());
        let cpu = layout.hierarchy("cpuacct").unwrap();
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(cpu.own, "/a:b/c");
        assert_eq!(
            layout.hierarchy("devices").unwrap().mount_point,
            Path::new("/sys/fs/cgroup/devices")
        );
        assert!(layout.hierarchy("memory").is_none());
        assert!(layout.hierarchy("name=systemd").is_some());
        assert_eq!(layout.hierarchies().len(), 4);
    }

    #[test]
    fn a_cgroup2_that_took_the_place_of_the_tree_is_v2() {
        let mounts =
            "23 1 8:1 / / rw - ext4 r rw\n30 23 0:5 / /sys rw - sysfs s rw\n".to_owned() + V2_MOUNT;
        assert!(parse(&mounts, HYBRID_OWN).unwrap().is_v2());
    }

    #[test]
    fn the_root_of_an_initramfs_is_its_own_parent() {
        let mounts = "1 1 0:2 / / rw - rootfs rootfs rw\n30 1 0:5 / /sys rw - sysfs s rw\n"
            .to_owned()
            + V2_MOUNT;
        assert!(parse(&mounts, HYBRID_OWN).unwrap().is_v2());
    }

    #[test]
    fn a_cgroup2_mounted_on_top_hides_the_hybrid_tree() {
        let on_top = HYBRID_MOUNTS.to_owned() + &V2_MOUNT.replace("40 30", "40 31");
        let layout = parse(&on_top, HYBRID_OWN).unwrap();
        assert!(layout.is_v2());
        assert_eq!(layout.hierarchies().len(), 1);
    }

    #[test]
    fn a_tmpfs_mounted_on_top_hides_everything() {
        let mounts = HYBRID_MOUNTS
            .lines()
            .filter(|l| !l.starts_with("36 "))
            .map(|l| format!("{l}\n"))
            .collect::<String>();
        for over in [
            "50 31 0:77 / /sys/fs/cgroup rw - tmpfs t rw\n",
            "50 30 0:77 / /sys/fs rw - tmpfs t rw\n",
            "50 30 0:77 / /sys rw - tmpfs t rw\n",
        ] {
            let error = parse(&(mounts.clone() + over), HYBRID_OWN).unwrap_err();
            assert_eq!(
                error.to_string(),
                "no cgroup mount found in mountinfo",
                "{over}"
            );
        }
    }

    #[test]
    fn own_directory_is_seen_through_the_mount_root() {
        let group = |root: &str, own: &str| Hierarchy {
            names: vec!["cpu".into()],
            mount_point: "/m".into(),
            root: root.into(),
            own: own.into(),
        };
        for (root, own, want) in [
            ("/", "/a/b", "/m/a/b"),
            ("/", "/", "/m"),
            ("/docker/x", "/docker/x/y", "/m/y"),
            ("/docker/x", "/docker/x", "/m"),
            ("/docker/x", "/elsewhere", "/m"),
            ("/", "/../../up", "/m"),
            ("/..", "/", "/m"),
        ] {
            assert_eq!(
                group(root, own).own_directory(),
                Path::new(want),
                "{root} {own}"
            );
        }
    }

    #[test]
    fn garbage_is_an_error_that_names_the_file() {
        let error = parse("what", HYBRID_OWN).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("unable to parse /proc/thread-self/mountinfo: ")
        );
        let error = parse(HYBRID_MOUNTS, "what").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("unable to parse /proc/thread-self/cgroup: ")
        );
    }
}
