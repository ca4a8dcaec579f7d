//! What a container's unit is called and where its cgroup is. Pure.
//!
//! The rules are runc's: `linux.cgroupsPath` is `slice:prefix:name`; the unit is
//! `prefix-name.scope` in the slice, or `name` itself if that ends in `.slice`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::SystemdError;

/// The prefix of containers that name no cgroup.
const DEFAULT_PREFIX: &str = "kusabi";
/// systemd's own limit (`UNIT_NAME_MAX`).
const MAX_NAME: usize = 255;

/// A unit that systemd made for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its whole name.
    pub name: String,
    /// The slice that it is in, as in `system.slice` or `-.slice`.
    pub slice: String,
    /// Whether the manager is that of the user who called.
    pub user: bool,
}

impl Unit {
    /// Reads `linux.cgroupsPath`. Absent or empty, it is a scope named after the
    /// container; an empty slice is `system.slice`, or `user.slice` in a user's
    /// manager.
    ///
    /// # Errors
    /// Not three parts, or one that systemd would refuse.
    pub fn new(cgroups_path: Option<&str>, id: &str, user: bool) -> Result<Self, SystemdError> {
        let path = cgroups_path.unwrap_or_default();
        let parts: Vec<&str> = match path {
            "" => vec!["", DEFAULT_PREFIX, id],
            _ => path.split(':').collect(),
        };
        let [slice, prefix, name] = parts[..] else {
            return Err(SystemdError::Format { path: path.into() });
        };
        let slice = match (slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            _ => slice,
        };
        let unit = if name.ends_with(".slice") {
            name.to_owned()
        } else {
            format!("{prefix}-{name}.scope")
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if unit.len() > MAX_NAME || name.is_empty() || !unit.chars().all(allowed) {
            return Err(SystemdError::Name { unit });
        }
        let unit = Self {
            name: unit,
            slice: slice.to_owned(),
            user,
        };
        // Refused before anything is made.
        unit.cgroup("/")?;
        Ok(unit)
    }

    /// Whether it is a slice, which systemd makes without a process.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Its cgroup below the hierarchy's root; `manager` is the manager's own,
    /// which is `/` for the system's.
    ///
    /// # Errors
    /// A slice that is no name of one.
    pub fn cgroup(&self, manager: &str) -> Result<PathBuf, SystemdError> {
        let mut path = PathBuf::from("/");
        path.push(manager.trim_start_matches('/'));
        path.extend(expand(&self.slice)?);
        if self.is_slice() {
            // It says itself where it is.
            let mut own = PathBuf::from("/");
            own.push(manager.trim_start_matches('/'));
            own.extend(expand(&self.name)?);
            return Ok(own);
        }
        path.push(&self.name);
        Ok(path)
    }
}

/// The directories of a slice: `a-b.slice` is in `a.slice`, and `-.slice` is the
/// root (systemd.slice(5)).
fn expand(slice: &str) -> Result<Vec<String>, SystemdError> {
    let invalid = || SystemdError::Slice {
        slice: slice.to_owned(),
    };
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(Vec::new());
    }
    let mut directories = Vec::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() || part.contains('/') {
            return Err(invalid());
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        directories.push(format!("{name}.slice"));
    }
    Ok(directories)
}

/// The number in a version such as `252.38-1~deb12u1` or `v245`; 0 when there is
/// none, which is older than everything.
#[must_use]
pub fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(['"', 'v']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, user: bool) -> Result<String, String> {
        let unit = Unit::new(Some(path), "id", user).map_err(|e| e.to_string())?;
        let manager = if user {
            "/user.slice/user@7.service"
        } else {
            "/"
        };
        let cgroup = unit.cgroup(manager).map_err(|e| e.to_string())?;
        Ok(cgroup.display().to_string())
    }

    #[test]
    fn cgroups_are_where_systemd_puts_units() {
        for (path, user, want) in [
            ("", false, "/system.slice/kusabi-id.scope"),
            (":runc:x", false, "/system.slice/runc-x.scope"),
            (
                ":runc:x",
                true,
                "/user.slice/user@7.service/user.slice/runc-x.scope",
            ),
            ("-.slice:p:x", false, "/p-x.scope"),
            ("machine.slice::x", false, "/machine.slice/-x.scope"),
            (
                "a-b-c.slice:p:x.y",
                false,
                "/a.slice/a-b.slice/a-b-c.slice/p-x.y.scope",
            ),
            ("a.slice:p:a-b.slice", false, "/a.slice/a-b.slice"),
        ] {
            assert_eq!(place(path, user).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn what_systemd_would_refuse_is_refused_before() {
        for path in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "x:p:n",
            ".slice:p:n",
            "-a.slice:p:n",
            "a--b.slice:p:n",
            "a/b.slice:p:n",
            "a.slice:p/q:n",
            "a.slice:p:n\n",
            "a.slice:p:../n",
            "a.slice:p:",
            "a.slice:p:-.slice-x/.slice",
        ] {
            assert!(place(path, false).is_err(), "{path:?}");
        }
        assert_eq!(
            place("/a/b", false).unwrap_err(),
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead"
        );
        let long = format!("a.slice:p:{}", "x".repeat(300));
        assert!(place(&long, false).is_err());
    }

    #[test]
    fn versions() {
        for (text, want) in [
            ("252.38-1~deb12u1", 252),
            ("v245.4-1.fc32", 245),
            ("\"239 (239-82.el8)\"", 239),
            ("", 0),
            ("devel", 0),
        ] {
            assert_eq!(version(text), want, "{text}");
        }
    }
}
