//! The schemata of a container's resctrl group (Intel RDT, AMD QoS).

use std::path::{Path, PathBuf};

use procfs::FromBufRead as _;
use procfs::process::MountInfos;

use crate::error::{Error, Result};

/// A container's group, by `linux.intelRdt.closID` or the container's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub String);

/// Lines to be written to a group's `schemata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemata {
    path: PathBuf,
    lines: String,
}

impl Schemata {
    /// Writes the lines; the kernel takes all or none.
    ///
    /// # Errors
    /// The kernel refuses, and says why in `info/last_cmd_status`.
    pub fn write(&self) -> Result<()> {
        let result = std::fs::OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, self.lines.as_bytes()));
        result.map_err(|error| {
            let status = self
                .path
                .ancestors()
                .map(|a| a.join("info/last_cmd_status"))
                .find_map(|path| std::fs::read_to_string(path).ok());
            let status = status.map_or_else(String::new, |s| {
                format!(", last_cmd_status: {}", s.trim_end())
            });
            Error::Usage(format!(
                "intelrdt: unable to write {:?}: write {}: {error}{status}",
                self.lines,
                self.path.display()
            ))
        })
    }
}

/// Where resctrl is mounted, if it is.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    let file = std::fs::File::open("/proc/self/mountinfo").ok()?;
    let mounts = MountInfos::from_buf_read(std::io::BufReader::new(file)).ok()?;
    let mount = mounts.0.into_iter().find(|m| m.fs_type == "resctrl")?;
    Some(mount.mount_point)
}

/// What is to be written where, if anything was asked for.
///
/// # Errors
/// In runc's words: the processor lacks the feature, or the container was
/// created without a group.
pub fn schemata(
    resctrl: Option<&Path>,
    group: Option<&Group>,
    l3_cache: Option<&str>,
    memory_bandwidth: Option<&str>,
) -> Result<Option<Schemata>> {
    let enabled = |feature: &str| resctrl.filter(|root| root.join("info").join(feature).is_dir());
    let mut root = None;
    for (asked, feature, refusal) in [
        (
            l3_cache,
            "L3",
            "Intel RDT/CAT: l3 cache schema is not enabled",
        ),
        (
            memory_bandwidth,
            "MB",
            "Intel RDT/MBA: memory bandwidth schema is not enabled",
        ),
    ] {
        if asked.is_some() {
            root = Some(enabled(feature).ok_or_else(|| Error::Usage(refusal.to_owned()))?);
        }
    }
    let Some(root) = root else {
        return Ok(None);
    };
    let group = group.ok_or_else(|| {
        let text = "updating a non-existent Intel RDT configuration is not supported";
        Error::Usage(text.to_owned())
    })?;
    let lines = [l3_cache, memory_bandwidth].into_iter().flatten();
    Ok(Some(Schemata {
        path: root.join(&group.0).join("schemata"),
        lines: lines.map(|line| format!("{line}\n")).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_go_to_the_containers_group() {
        let root = tempfile::tempdir().unwrap();
        let at = Some(root.path());
        let group = Group("ct".to_owned());
        let error = |result: Result<Option<Schemata>>| result.unwrap_err().to_string();
        assert_eq!(schemata(None, None, None, None).unwrap(), None);
        for resctrl in [None, at] {
            assert_eq!(
                error(schemata(resctrl, Some(&group), Some("L3:0=ff"), None)),
                "Intel RDT/CAT: l3 cache schema is not enabled"
            );
            assert_eq!(
                error(schemata(resctrl, Some(&group), None, Some("MB:0=20"))),
                "Intel RDT/MBA: memory bandwidth schema is not enabled"
            );
        }
        for directory in ["info/L3", "info/MB", "ct"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        assert_eq!(
            error(schemata(at, None, Some("L3:0=ff"), None)),
            "updating a non-existent Intel RDT configuration is not supported"
        );
        let all = schemata(at, Some(&group), Some("L3:0=ff"), Some("MB:0=20"));
        let all = all.unwrap().unwrap();
        std::fs::write(root.path().join("info/last_cmd_status"), "no such id\n").unwrap();
        let refused = all.write().unwrap_err().to_string();
        assert!(
            refused.starts_with("intelrdt: unable to write \"L3:0=ff\\nMB:0=20\\n\": write ")
                && refused.ends_with(", last_cmd_status: no such id"),
            "{refused}"
        );
        let file = root.path().join("ct/schemata");
        std::fs::write(&file, "").unwrap();
        all.write().unwrap();
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "L3:0=ff\nMB:0=20\n"
        );
    }
}
