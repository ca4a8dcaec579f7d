//! A directory outside every root that nothing may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What `SECRET` files hold: seeing it inside a container is a break-out.
pub const SECRET: &str = "a secret of the host";

/// The directory, and how it was.
#[derive(Debug)]
pub struct Canary {
    dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes one at `dir`, with files under the names that runtimes remove, make,
    /// truncate or chmod.
    pub fn new(dir: PathBuf) -> Self {
        Self::with(dir, |_| ())
    }

    /// The same with what `prepare` changes about it.
    pub fn with(dir: PathBuf, prepare: impl FnOnce(&Path)) -> Self {
        fs::create_dir(&dir).unwrap();
        for name in ["secret", "ptmx", "console", "null"] {
            let path = dir.join(name);
            fs::write(&path, SECRET).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        fs::create_dir(dir.join("pts")).unwrap();
        prepare(&dir);
        let before = listing(&dir);
        Self { dir, before }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Everything that is not as it was.
    pub fn changes(&self) -> Vec<String> {
        let now = listing(&self.dir);
        let all: std::collections::BTreeSet<&PathBuf> =
            self.before.keys().chain(now.keys()).collect();
        let text = |map: &BTreeMap<PathBuf, String>, path| {
            map.get(path)
                .map_or_else(|| "absent".to_owned(), Clone::clone)
        };
        all.into_iter()
            .filter(|path| self.before.get(*path) != now.get(*path))
            .map(|path| {
                format!(
                    "{}: {} became {}",
                    path.display(),
                    text(&self.before, path),
                    text(&now, path)
                )
            })
            .collect()
    }
}

/// Path, type, mode, owner, numbers and content of all below `dir` and itself.
fn listing(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        let content = if meta.is_file() {
            fs::read_to_string(&path).unwrap()
        } else {
            String::new()
        };
        let text = format!(
            "{:o} {}:{} {:#x} {content:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev()
        );
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        found.insert(path, text);
    }
    found
}
