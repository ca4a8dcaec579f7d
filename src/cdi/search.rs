//! In which directories specifications are looked for.

use std::path::{Path, PathBuf};

/// Where specifications are by default: static ones, then generated ones.
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The directories to read, lowest priority first: the defaults, the user's own
/// for rootless callers, `CDI_SPEC_DIRS` (separated by colons), and those that
/// the policy configures. One named twice counts where it is named last.
///
/// With `explicit` directories (`--cdi-dir`), these and no others.
#[must_use]
pub fn search_path(
    explicit: &[PathBuf],
    user: Option<&Path>,
    spec_dirs: Option<&str>,
    configured: &[PathBuf],
) -> Vec<PathBuf> {
    let all: Vec<PathBuf> = if explicit.is_empty() {
        let defaults = DEFAULT_DIRS.iter().map(PathBuf::from);
        let from_env = spec_dirs.unwrap_or_default().split(':').map(PathBuf::from);
        defaults
            .chain(user.map(Path::to_owned))
            .chain(from_env)
            .chain(configured.iter().cloned())
            .collect()
    } else {
        explicit.to_vec()
    };
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in all.into_iter().filter(|dir| !dir.as_os_str().is_empty()) {
        dirs.retain(|other| *other != dir);
        dirs.push(dir);
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dirs: &[PathBuf]) -> String {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        dirs.join(" ")
    }

    #[test]
    fn later_places_have_higher_priority() {
        assert_eq!(
            text(&search_path(&[], None, None, &[])),
            "/etc/cdi /var/run/cdi"
        );
        let user = Path::new("/home/u/.config/cdi");
        let configured = [PathBuf::from("/opt/cdi")];
        assert_eq!(
            text(&search_path(&[], Some(user), Some("/a::/b"), &configured)),
            "/etc/cdi /var/run/cdi /home/u/.config/cdi /a /b /opt/cdi"
        );
        assert_eq!(
            text(&search_path(&[], None, Some("/b:/etc/cdi"), &[])),
            "/var/run/cdi /b /etc/cdi"
        );
    }

    #[test]
    fn explicit_directories_stand_alone() {
        let explicit = [PathBuf::from("/x"), PathBuf::from("/y")];
        let configured = [PathBuf::from("/opt/cdi")];
        assert_eq!(
            text(&search_path(&explicit, None, Some("/a"), &configured)),
            "/x /y"
        );
    }
}
