//! Container paths as text: `config.json` holds them as JSON strings, and two
//! spellings of one path must be recognised without a file system.

use std::path::Path;

use super::EditError;

/// The shortest lexical spelling, as Go's `path/filepath.Clean`: no repeated or
/// trailing slash, no `.`, and `..` resolved where something precedes it.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// What two spellings of a path inside the container have in common. A relative
/// one is below the root, as runtimes read it.
pub(super) fn container_key(path: &str) -> String {
    clean(&format!("/{path}"))
}

/// How deep a mount lies, as CDI's reference implementation counts it.
pub(super) fn depth(destination: &str) -> usize {
    clean(destination).matches('/').count()
}

/// A path as JSON can hold it.
pub(super) fn text<'p>(path: &'p Path, field: &str) -> Result<&'p str, EditError> {
    let text = path.to_str().ok_or_else(|| EditError::Invariant {
        field: field.to_owned(),
        reason: format!(
            "{:?} is not UTF-8, which JSON needs",
            path.display().to_string()
        ),
    })?;
    no_nul(text, field)?;
    Ok(text)
}

/// A path inside the container that an edit adds: absolute, and without `..`,
/// which a symlink in the image could lead elsewhere.
pub(super) fn container_path<'p>(path: &'p Path, field: &str) -> Result<&'p str, EditError> {
    let text = text(path, field)?;
    let reason = if !text.starts_with('/') {
        "is not absolute"
    } else if text.split('/').any(|part| part == "..") {
        "must not contain .."
    } else {
        return Ok(text);
    };
    Err(EditError::Invariant {
        field: field.to_owned(),
        reason: format!("path {text:?} {reason}"),
    })
}

/// The kernel's strings end at the first NUL: what follows would be lost.
pub(super) fn no_nul(text: &str, field: &str) -> Result<(), EditError> {
    if text.contains('\0') {
        return Err(EditError::Invariant {
            field: field.to_owned(),
            reason: format!("{text:?} contains a NUL byte"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{clean, container_key, depth};

    /// The table of Go's own test of `filepath.Clean`, by value.
    #[test]
    fn clean_agrees_with_go() {
        for (path, expected) in [
            ("", "."),
            ("abc", "abc"),
            ("abc/def", "abc/def"),
            ("/", "/"),
            ("//", "/"),
            ("/abc", "/abc"),
            ("abc/", "abc"),
            ("/abc/", "/abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc/./def", "abc/def"),
            ("/./abc/def", "/abc/def"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("abc/def/..", "abc"),
            ("abc/def/../..", "."),
            ("/abc/def/../..", "/"),
            ("abc/def/../../..", ".."),
            ("/abc/def/../../..", "/"),
            ("..", ".."),
            ("../..", "../.."),
            ("../../abc", "../../abc"),
            ("/../abc", "/abc"),
            ("abc/../../././../def", "../../def"),
        ] {
            assert_eq!(clean(path), expected, "clean({path:?})");
        }
    }

    #[test]
    fn one_place_has_one_key_and_depth_is_counted_as_in_go() {
        assert_eq!(container_key("dev/"), container_key("/dev/."));
        assert_eq!(container_key("../etc"), "/etc");
        assert_eq!(depth("/"), 1);
        assert_eq!(depth("/dev"), 1);
        assert_eq!(depth("/dev//shm/"), 2);
        assert_eq!(depth("dev"), 0);
    }
}
