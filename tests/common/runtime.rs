//! The runtimes a test may call: the one under test, and peers from Debian to
//! compare with.

use std::path::{Path, PathBuf};

/// Whose command line and habits to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This package.
    Kusabi,
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
}

/// An OCI runtime on this machine.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Absolute path of the executable.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

impl Runtime {
    /// The runtime the suite is about: `KUSABI_TEST_RUNTIME` (a path, or a name
    /// in `PATH`), else the binary that cargo built.
    pub fn under_test() -> Self {
        let Some(asked) = std::env::var_os("KUSABI_TEST_RUNTIME").filter(|v| !v.is_empty()) else {
            return Self::at(PathBuf::from(env!("CARGO_BIN_EXE_kusabi")));
        };
        let path = PathBuf::from(&asked);
        if path.components().count() > 1 {
            let path = path
                .canonicalize()
                .unwrap_or_else(|e| panic!("KUSABI_TEST_RUNTIME={}: {e}", asked.to_string_lossy()));
            return Self::at(path);
        }
        let name = asked.to_string_lossy();
        let found =
            which(&name).unwrap_or_else(|| panic!("KUSABI_TEST_RUNTIME={name}: not in PATH"));
        Self::at(found)
    }

    /// A peer from `PATH`, if this machine has it.
    pub fn peer(kind: Kind) -> Option<Self> {
        let name = match kind {
            Kind::Kusabi => "kusabi",
            Kind::Runc => "runc",
            Kind::Crun => "crun",
        };
        which(name).map(Self::at)
    }

    /// The runtime at `path`, told by its name.
    pub fn at(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = if name.starts_with("runc") {
            Kind::Runc
        } else if name.starts_with("crun") {
            Kind::Crun
        } else {
            Kind::Kusabi
        };
        Self { path, kind }
    }

    /// Whether this is kusabi: for what no other runtime does.
    pub fn is_kusabi(&self) -> bool {
        self.kind == Kind::Kusabi
    }
}

/// The first executable called `name` in `PATH`, or where Debian keeps the
/// tools of root.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
