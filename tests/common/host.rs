//! What a test may have left on the host, and taking it away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::deadline;

/// Mounts, cgroups and processes that bear the name `unique`, one line each.
/// To be asked in the host's own mount namespace.
pub fn traces(unique: &str) -> Vec<String> {
    let mounts = mounts_naming(unique)
        .into_iter()
        .map(|m| format!("mount {m}"));
    let cgroups = cgroups_named(unique)
        .into_iter()
        .map(|dir| format!("cgroup {}", dir.display()));
    let processes = processes_in(unique)
        .into_iter()
        .map(|(pid, name)| format!("process {pid} ({name})"));
    mounts.chain(cgroups).chain(processes).collect()
}

/// Lines of the mount table that hold `unique`.
fn mounts_naming(unique: &str) -> Vec<String> {
    fs::read_to_string("/proc/thread-self/mountinfo")
        .expect("the mount table")
        .lines()
        .filter(|line| line.contains(unique))
        .map(str::to_owned)
        .collect()
}

/// Directories of any cgroup hierarchy whose name holds `unique`, parents last.
pub fn cgroups_named(unique: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        walk(&hierarchy, &mut |dir| {
            if dir.to_string_lossy().contains(unique) {
                found.push(dir.to_path_buf());
            }
        });
    }
    found
}

/// Where cgroup hierarchies are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("the mount table");
    let mut paths: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            fs.starts_with("cgroup").then_some(())?;
            mount.split(' ').nth(4).map(PathBuf::from)
        })
        .filter(|path| path.starts_with("/sys/fs/cgroup"))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Calls `visit` for every directory below `dir`, children first.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    // Other people's cgroups come and go meanwhile.
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
            visit(&entry.path());
        }
    }
}

/// Processes with a cgroup or an argument that holds `unique`. The dead that
/// their parent has not reaped are no concern of the runtime's.
pub fn processes_in(unique: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let dir = entry.path();
        let text = |file: &str| {
            fs::read(dir.join(file))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let stat = text("stat");
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if state.starts_with(['Z', 'X']) {
            continue;
        }
        if text("cgroup").contains(unique) || text("cmdline").contains(unique) {
            found.push((pid, text("comm").trim().to_owned()));
        }
    }
    found
}

/// Kills what is in the cgroups that bear the name `unique`, thawing them
/// first, and removes them. Returns what would not go.
pub fn remove_cgroups(unique: &str) -> Vec<String> {
    let dirs = cgroups_named(unique);
    for dir in &dirs {
        // Absent in hierarchies of other controllers.
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        for pid in members(dir) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let end = Instant::now() + deadline();
    let mut stuck = Vec::new();
    for dir in &dirs {
        while let Err(e) = fs::remove_dir(dir) {
            if e.kind() == io::ErrorKind::NotFound {
                break;
            }
            if Instant::now() > end {
                stuck.push(format!("rmdir {}: {e}", dir.display()));
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    stuck
}

/// Detaches whatever is mounted below `dir`.
pub fn unmount_below(dir: &Path) {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("the mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let ours: Vec<&str> = points
        .filter(|point| Path::new(point).starts_with(dir))
        .collect();
    for point in ours.iter().rev() {
        // One may have gone with its parent.
        let _ = umount2(*point, MntFlags::MNT_DETACH);
    }
}

/// Processes of the cgroup at `dir`.
pub fn members(dir: &Path) -> Vec<i32> {
    fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

/// A directory that others may enter, as containers with a user namespace must.
pub fn make_dir(path: &Path) {
    fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
}

/// The nodes and links directly in a directory such as `/dev`: name, type,
/// mode, owner and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevListing(BTreeMap<String, String>);

impl DevListing {
    /// The host's `/dev`.
    pub fn of_host() -> Self {
        Self::of(Path::new("/dev"))
    }

    /// What is in `dir` now.
    pub fn of(dir: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir(dir).expect("a directory").flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            let kind = meta.file_type();
            if !(kind.is_char_device() || kind.is_block_device() || kind.is_symlink()) {
                continue;
            }
            let text = format!(
                "{:o} {}:{} {:#x}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.rdev()
            );
            nodes.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
        Self(nodes)
    }

    /// What has changed or gone since `self` was taken. Nodes that have come
    /// are reported too, but for loop devices, which anyone on the host makes.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let before = self.0.iter().filter_map(|(name, node)| {
            let after = now.0.get(name).map_or("gone", String::as_str);
            (after != node).then(|| format!("/dev/{name}: {node} became {after}"))
        });
        let new = now
            .0
            .keys()
            .filter(|name| !self.0.contains_key(*name) && !name.starts_with("loop"))
            .map(|name| format!("/dev/{name}: new"));
        before.chain(new).collect()
    }
}
