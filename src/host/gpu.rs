//! Probes what tells of GPUs, when something asks for one: the files that
//! [`Needs`] names, below a host root.
//!
//! A recorded host is a tree of files, too. It cannot hold device nodes
//! everywhere, so it lists them in a file of its own, [`NODES_FILE`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::SFlag;
use pathrs::Root;
use pathrs::flags::OpenFlags;

use super::facts::{FileFacts, FileKind, Presence, Snapshot};
use super::nodes::{self, examine, io_error};
use crate::error::{Error, Result};
use crate::gpu::{Mps, Needs, Sharing, sharing_paths};

/// Lists what a recorded host has in `/dev` and the like, one a line: path, type
/// (`c`, `b`, `p`, `d`irectory, `f`ile), `MAJOR:MINOR`, octal mode, `UID:GID`. Only
/// read below a root that is not `/`.
pub const NODES_FILE: &str = "kusabi-nodes";

/// What these files may at most have: far above any of procfs or sysfs.
const MAX_TEXT: u64 = 1 << 20;

/// Follows every pattern from `root`.
///
/// # Errors
/// Only if `root` cannot be opened, or its list of nodes cannot be read: what is
/// wrong with a path is a fact about it.
pub fn probe(root: &Path, needs: &Needs) -> Result<Snapshot> {
    let mut probe = Probe::open(root)?;
    for pattern in &needs.names {
        for dir in probe.expand(pattern) {
            probe.list(&dir, "*");
        }
    }
    for pattern in &needs.texts {
        for path in probe.expand(pattern) {
            probe.read(&path);
        }
    }
    for pattern in &needs.nodes {
        for path in probe.expand(pattern) {
            probe.examine(&path);
        }
    }
    for pattern in &needs.links {
        for path in probe.expand(pattern) {
            if let Ok(target) = probe.root.readlink(&path) {
                probe.snapshot.links.insert(path, target);
            }
        }
    }
    Ok(probe.snapshot)
}

/// Examines single paths, as [`nodes::probe`] does, also on a recorded host.
///
/// # Errors
/// As [`probe`].
pub fn examine_paths(root: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Result<Snapshot> {
    let mut probe = Probe::open(root)?;
    for path in paths {
        probe.examine(&path);
    }
    Ok(probe.snapshot)
}

/// Writes down everything that tells of this host's GPUs, as a tree that
/// [`probe`] reads like the host itself. Only root can read some of it.
///
/// # Errors
/// What keeps a file from being written; `dir` must be empty or not exist yet.
pub fn record(root: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).map_err(|e| Error::io("mkdir", dir, e))?;
    let mut entries = fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    if entries.next().is_some() {
        return Err(Error::Usage(format!(
            "{}: not empty, name a directory that is or does not exist",
            dir.display()
        )));
    }
    let mut snapshot = probe(root, &crate::gpu::needs(None))?;
    snapshot.merge_names(probe(root, &crate::gpu::link_needs(None))?);
    let mps = Sharing::Mps(Mps::default());
    snapshot.merge(examine_paths(root, sharing_paths(Some(&mps)))?);
    let mut written = Vec::new();
    let below = |path: &Path| dir.join(path.strip_prefix("/").unwrap_or(path));
    // First, so that what is recorded below a link is where the link leads.
    for (path, target) in &snapshot.links {
        if let Some(place) = inside(path, target) {
            let (link, place) = (below(path), below(&place));
            fs::create_dir_all(&place).map_err(|e| Error::io("mkdir", &place, e))?;
            let parent = link.parent().unwrap_or(dir);
            fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent, e))?;
            symlink(target, &link).map_err(|e| Error::io("symlink", &link, e))?;
        }
    }
    for (path, names) in &snapshot.dirs {
        let target = below(path);
        fs::create_dir_all(&target).map_err(|e| Error::io("mkdir", &target, e))?;
        for name in names {
            // What else is known of it, comes below.
            let child = path.join(name);
            if snapshot.texts.contains_key(&child) || snapshot.files.contains_key(&child) {
                continue;
            }
            let target = target.join(name);
            fs::create_dir_all(&target).map_err(|e| Error::io("mkdir", &target, e))?;
        }
    }
    for (path, text) in &snapshot.texts {
        let target = below(path);
        write(&target, text)?;
        written.push(path.clone());
    }
    write(&dir.join(NODES_FILE), &nodes_text(&snapshot))?;
    written.push(PathBuf::from("/").join(NODES_FILE));
    Ok(written)
}

/// Where a relative link leads, if that is below the root by its own words.
fn inside(link: &Path, target: &Path) -> Option<PathBuf> {
    let mut place = link.parent()?.to_owned();
    for part in target.components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir if place.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(place)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent, e))?;
    }
    fs::write(path, text).map_err(|e| Error::io("write", path, e))
}

fn nodes_text(snapshot: &Snapshot) -> String {
    let mut out = String::from("# path type major:minor mode uid:gid\n");
    for (path, presence) in &snapshot.files {
        let Presence::Present(facts) = presence else {
            continue;
        };
        let kind = match facts.kind {
            FileKind::Char => "c",
            FileKind::Block => "b",
            FileKind::Directory => "d",
            FileKind::File => "f",
            FileKind::Fifo => "p",
            _ => continue,
        };
        let _ = writeln!(
            out,
            "{} {kind} {}:{} {:04o} {}:{}",
            path.display(),
            facts.major,
            facts.minor,
            facts.mode,
            facts.uid,
            facts.gid
        );
    }
    out
}

/// One line of [`NODES_FILE`].
fn recorded(line: &str) -> Option<(PathBuf, FileFacts)> {
    let mut words = line.split_whitespace();
    let path = PathBuf::from(words.next()?);
    let kind = match words.next()? {
        "c" => FileKind::Char,
        "b" => FileKind::Block,
        "d" => FileKind::Directory,
        "f" => FileKind::File,
        "p" => FileKind::Fifo,
        _ => return None,
    };
    let pair = |text: &str| -> Option<(u32, u32)> {
        let (first, second) = text.split_once(':')?;
        Some((first.parse().ok()?, second.parse().ok()?))
    };
    let (major, minor) = pair(words.next()?)?;
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = pair(words.next()?)?;
    if words.next().is_some() || !path.is_absolute() {
        return None;
    }
    let facts = FileFacts {
        kind,
        mode,
        uid,
        gid,
        major,
        minor,
        target: None,
    };
    Some((path, facts))
}

struct Probe {
    root: Root,
    /// Nodes of a recorded host.
    recorded: Option<Snapshot>,
    snapshot: Snapshot,
}

impl Probe {
    fn open(path: &Path) -> Result<Self> {
        let root = Root::open(path).map_err(|error| Error::io("open", path, io_error(&error)))?;
        let mut probe = Self {
            root,
            recorded: None,
            snapshot: Snapshot::default(),
        };
        if path == Path::new("/") {
            return Ok(probe);
        }
        let Some(text) = probe.text(Path::new(NODES_FILE)) else {
            return Ok(probe);
        };
        let mut nodes = Snapshot::default();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (node, facts) = recorded(line).ok_or_else(|| {
                Error::Usage(format!(
                    "{}/{NODES_FILE}:{}: expected path, type, major:minor, mode, uid:gid",
                    path.display(),
                    number + 1
                ))
            })?;
            nodes.files.insert(node, Presence::Present(facts));
        }
        probe.recorded = Some(nodes);
        Ok(probe)
    }

    /// The paths that a pattern stands for. Those with a `*` exist; one without
    /// may not.
    fn expand(&mut self, pattern: &str) -> Vec<PathBuf> {
        let mut paths = vec![PathBuf::from("/")];
        for part in Path::new(pattern).components() {
            let Component::Normal(part) = part else {
                continue;
            };
            let part = part.to_string_lossy();
            if !part.contains('*') {
                for path in &mut paths {
                    path.push(&*part);
                }
                continue;
            }
            paths = paths
                .iter()
                .flat_map(|dir| {
                    let names = self.list(dir, &part);
                    names.into_iter().map(|name| dir.join(name))
                })
                .collect();
        }
        paths
    }

    /// The names in a directory that match, which the snapshot then has.
    fn list(&mut self, dir: &Path, pattern: &str) -> BTreeSet<String> {
        let mut names = self.directory(dir);
        let is_there = names.is_some();
        if let Some(recorded) = &self.recorded {
            let below = recorded
                .files
                .keys()
                .filter(|path| path.parent() == Some(dir));
            let below: Vec<String> = below
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect();
            if !below.is_empty() {
                names.get_or_insert_default().extend(below);
            }
        }
        let matching: BTreeSet<String> = names
            .into_iter()
            .flatten()
            .filter(|name| matches(pattern, name))
            .collect();
        // `/dev` and the like have much that is nobody's business here.
        if is_there || !matching.is_empty() {
            let known = self.snapshot.dirs.entry(dir.to_owned()).or_default();
            known.extend(matching.iter().cloned());
            known.sort();
            known.dedup();
        }
        matching
    }

    /// The names in a directory; `None` if it is none.
    fn directory(&self, dir: &Path) -> Option<BTreeSet<String>> {
        let handle = self.root.resolve(dir).ok()?;
        let file = handle
            .reopen(OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY)
            .ok()?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let entries = fs::read_dir(path).ok()?;
        Some(
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
        )
    }

    fn read(&mut self, path: &Path) {
        if let Some(text) = self.text(path) {
            self.snapshot.texts.insert(path.to_owned(), text);
        }
    }

    /// A regular file's text, as far as it may go.
    fn text(&self, path: &Path) -> Option<String> {
        let handle = self.root.resolve(path).ok()?;
        let meta = nodes::metadata(&handle).ok()?;
        // Opening a FIFO would wait for its other end.
        if SFlag::from_bits_truncate(std::os::unix::fs::MetadataExt::mode(&meta)) & SFlag::S_IFMT
            != SFlag::S_IFREG
        {
            return None;
        }
        let file = handle.reopen(OpenFlags::O_RDONLY).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn examine(&mut self, path: &Path) {
        let presence = match &self.recorded {
            Some(recorded) => match recorded.files.get(path) {
                Some(presence) => presence.clone(),
                None => examine(&self.root, path),
            },
            None => examine(&self.root, path),
        };
        self.snapshot.files.insert(path.to_owned(), presence);
    }
}

/// Whether a name is a pattern's, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::{matches, recorded};

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name) in [
            ("*", "x"),
            ("*", ""),
            ("gpu*", "gpu0"),
            ("*:*", "0000:06:00.0"),
            ("a*b*c", "a--b--c"),
            ("plain", "plain"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("gpu*", "xgpu0"),
            ("*:*", "bind"),
            ("a*b*c", "a--c--b"),
            ("*x", "xy"),
            ("plain", "plain2"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_line_of_nodes_is_whole_or_nothing() {
        let (path, facts) = recorded("/dev/nvidia0 c 195:0 0666 0:44").unwrap();
        assert_eq!(path.to_str(), Some("/dev/nvidia0"));
        assert_eq!(
            (facts.major, facts.minor, facts.mode, facts.gid),
            (195, 0, 0o666, 44)
        );
        for line in [
            "",
            "/dev/x",
            "dev/x c 1:1 0666 0:0",
            "/dev/x q 1:1 0666 0:0",
            "/dev/x c 1 0666 0:0",
            "/dev/x c 1:1 0888 0:0",
            "/dev/x c 1:1 0666 0:0 more",
        ] {
            assert!(recorded(line).is_none(), "{line}");
        }
    }
}
