//! Secrets from a directory of files: `DIRECTORY/DEPLOYMENT/NAME`.

use std::path::{Path, PathBuf};

use super::below;
use super::trust::Trusted;
use crate::service::SecretProvider;

/// The most bytes that one variable may have (`execve(2)`).
const MAX_BYTES: u64 = 128 << 10;

/// A directory with one directory for each deployment. A file's content is the
/// secret, without one line break at its end. Links are followed as long as they
/// stay in the directory, as those that Kubernetes makes do.
#[derive(Debug, Clone)]
pub struct SecretDirectory {
    directory: PathBuf,
    trusted: Trusted,
}

impl SecretDirectory {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            trusted: Trusted::here(),
        }
    }
}

impl SecretProvider for SecretDirectory {
    fn secret(&self, scope: &str, name: &str) -> Result<String, String> {
        let shown = self.directory.join(scope).join(name);
        let wrong = |reason: &str| format!("{}: {reason}", shown.display());
        for part in [scope, name] {
            if part.is_empty() || part.starts_with('.') || part.contains(['/', '\0']) {
                return Err(wrong("not a file's name"));
            }
        }
        let root = below::open(&self.directory)
            .map_err(|reason| format!("{}: {reason}", self.directory.display()))?;
        let path = Path::new(scope).join(name);
        let (bytes, meta) =
            below::read(&root, &path, MAX_BYTES).map_err(|unread| wrong(&unread.reason()))?;
        if let Some(objection) = self.trusted.objection(&meta) {
            return Err(wrong(&objection));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
        if text.ends_with('\n') {
            text.pop();
        }
        if text.contains('\0') {
            return Err(wrong("has a zero byte in it"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_secret_is_a_file_of_its_deployment() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("demo");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("plain"), "a\nb\n").unwrap();
        fs::write(dir.join("open"), "x").unwrap();
        fs::set_permissions(dir.join("open"), Permissions::from_mode(0o666)).unwrap();
        fs::write(dir.join("binary"), b"\xff").unwrap();
        fs::create_dir(dir.join("..data")).unwrap();
        fs::write(dir.join("..data/linked"), "k8s").unwrap();
        symlink("..data/linked", dir.join("linked")).unwrap();
        symlink("/etc/hostname", dir.join("out")).unwrap();
        let provider = SecretDirectory::new(tmp.path().to_owned());
        assert_eq!(provider.secret("demo", "plain").unwrap(), "a\nb");
        assert_eq!(provider.secret("demo", "linked").unwrap(), "k8s");
        for (scope, name, want) in [
            ("demo", "none", "demo/none: no such file or directory"),
            ("other", "plain", "other/plain: no such file or directory"),
            ("demo", "out", "demo/out: no such file or directory"),
            ("demo", "..data", "demo/..data: not a file's name"),
            ("demo", "../x", "demo/../x: not a file's name"),
            ("demo", "binary", "demo/binary: is not UTF-8"),
            (
                "demo",
                "open",
                "demo/open: others may write it (mode 0666, group 0), take it away with chmod go-w",
            ),
        ] {
            let error = provider.secret(scope, name).unwrap_err();
            let shown = error.strip_prefix(&format!("{}/", tmp.path().display()));
            let gid = nix::unistd::getegid();
            assert_eq!(
                shown,
                Some(want.replace("group 0", &format!("group {gid}")).as_str())
            );
        }
    }
}
