//! Options before (or after) the command, and where state lives without
//! `--root`.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::values::{self, Refusal};

/// Options that every command has.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Globals {
    /// Log at level debug, too
    #[arg(long)]
    pub debug: bool,
    /// Append the log to FILE instead of writing it to stderr
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Shape of the log's lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Directory for the state of containers, best on a tmpfs [default: /run/kusabi]
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub root: Option<PathBuf>,
    /// Manage cgroups through systemd; cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Tolerate that cgroups cannot be changed: true, false or auto
    #[arg(long, value_name = "WHEN", value_parser = rootless, default_value = "auto")]
    pub rootless: Rootless,
    /// Look for CDI specifications here and nowhere else, whichever command looks;
    /// may be repeated. Directories that a command is given rank higher
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
}

/// Shape of log lines (`--log-format`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether cgroup failures are tolerated (`--rootless`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rootless {
    /// Depends on who calls.
    #[default]
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}

fn rootless(text: &str) -> Result<Rootless, Refusal> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Rootless::Auto);
    }
    match values::boolean(text) {
        Some(true) => Ok(Rootless::True),
        Some(false) => Ok(Rootless::False),
        None => Err(Refusal::Flag("expected true, false or auto".to_owned())),
    }
}

/// What the default state directory depends on.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// `XDG_RUNTIME_DIR`; empty is the same as absent.
    pub runtime_dir: Option<&'a OsStr>,
    /// `USER`.
    pub user: Option<&'a OsStr>,
    /// Effective user id.
    pub euid: u32,
    /// Whether this is not the initial user namespace.
    pub in_user_namespace: bool,
    /// Working directory, absolute.
    pub working_dir: &'a Path,
}

/// Where containers' state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRoot {
    /// Absolute and without `.` or `..`.
    pub path: PathBuf,
    /// How it was chosen.
    pub origin: RootOrigin,
}

/// How the state directory was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootOrigin {
    /// `--root`: if it does not exist, `list` fails.
    Flag,
    /// Below `XDG_RUNTIME_DIR`: made 0700 with the sticky bit, so that cleaners
    /// leave it alone (XDG Base Directory Specification).
    RuntimeDir,
    /// `/run/kusabi`: need not exist.
    System,
}

impl Globals {
    /// The state directory, by runc's rules: `--root`, else below
    /// `XDG_RUNTIME_DIR` for callers who are not the host's root, else
    /// `/run/kusabi`.
    ///
    /// # Errors
    /// When `--root` means `/`.
    pub fn state_root(&self, caller: &Caller<'_>) -> Result<StateRoot, RootIsSlash> {
        if let Some(given) = &self.root {
            let path = clean(&caller.working_dir.join(given));
            if path == Path::new("/") {
                return Err(RootIsSlash);
            }
            return Ok(StateRoot {
                path,
                origin: RootOrigin::Flag,
            });
        }
        match caller.runtime_dir {
            Some(dir) if !dir.is_empty() && caller.honours_runtime_dir() => Ok(StateRoot {
                path: clean(&caller.working_dir.join(dir).join("kusabi")),
                origin: RootOrigin::RuntimeDir,
            }),
            _ => Ok(StateRoot {
                path: PathBuf::from("/run/kusabi"),
                origin: RootOrigin::System,
            }),
        }
    }
}

impl Caller<'_> {
    /// The host's root has always used `/run`, even where a session gave it a
    /// runtime directory; root of a user namespace only if it calls itself so.
    fn honours_runtime_dir(&self) -> bool {
        self.euid != 0 || (self.in_user_namespace && self.user.is_none_or(|user| user != "root"))
    }
}

/// `--root` names the root of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Option --root argument should not be set to /")]
pub struct RootIsSlash;

/// Removes `.`, `..` and repeated slashes by the text alone, as Go's
/// `filepath.Clean` does for an absolute path.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(euid: u32, runtime_dir: Option<&str>) -> Caller<'_> {
        Caller {
            runtime_dir: runtime_dir.map(OsStr::new),
            user: None,
            euid,
            in_user_namespace: false,
            working_dir: Path::new("/somewhere/else"),
        }
    }

    fn root(globals: &Globals, caller: &Caller<'_>) -> (String, RootOrigin) {
        let root = globals.state_root(caller).unwrap();
        (root.path.to_str().unwrap().to_owned(), root.origin)
    }

    #[test]
    fn the_hosts_root_ignores_the_runtime_dir() {
        for dir in [None, Some(""), Some("/run/user/0")] {
            assert_eq!(
                root(&Globals::default(), &caller(0, dir)),
                ("/run/kusabi".to_owned(), RootOrigin::System)
            );
        }
    }

    #[test]
    fn others_use_it_unless_it_is_empty() {
        assert_eq!(
            root(&Globals::default(), &caller(1000, Some("/run/user/1000"))),
            ("/run/user/1000/kusabi".to_owned(), RootOrigin::RuntimeDir)
        );
        for dir in [None, Some("")] {
            assert_eq!(
                root(&Globals::default(), &caller(1000, dir)),
                ("/run/kusabi".to_owned(), RootOrigin::System)
            );
        }
    }

    #[test]
    fn root_of_a_user_namespace_uses_it_unless_called_root() {
        let inside = |user| Caller {
            in_user_namespace: true,
            user,
            ..caller(0, Some("/run/user/1000"))
        };
        let system = "/run/kusabi".to_owned();
        let session = "/run/user/1000/kusabi".to_owned();
        assert_eq!(root(&Globals::default(), &inside(None)).0, session);
        assert_eq!(
            root(&Globals::default(), &inside(Some(OsStr::new("alice")))).0,
            session
        );
        assert_eq!(
            root(&Globals::default(), &inside(Some(OsStr::new("root")))).0,
            system
        );
    }

    #[test]
    fn a_given_root_is_made_absolute_and_clean() {
        let table = [
            ("/run/x", "/run/x"),
            ("state", "/somewhere/else/state"),
            ("./a//b/../c/", "/somewhere/else/a/c"),
            ("", "/somewhere/else"),
            ("/../../etc", "/etc"),
        ];
        for (given, path) in table {
            let globals = Globals {
                root: Some(given.into()),
                ..Globals::default()
            };
            assert_eq!(
                root(&globals, &caller(1000, Some("/run/user/1000"))),
                (path.to_owned(), RootOrigin::Flag),
                "{given}"
            );
        }
    }

    #[test]
    fn slash_is_no_state_directory() {
        for given in ["/", "../..", "//", "/.."] {
            let globals = Globals {
                root: Some(given.into()),
                ..Globals::default()
            };
            assert_eq!(
                globals.state_root(&caller(0, None)),
                Err(RootIsSlash),
                "{given}"
            );
        }
    }
}
