//! Which version of the CDI specification brought what (its "Released
//! versions" table), and the least version a specification needs.

use std::fmt;

use super::name::parse_kind;
use super::schema::{ContainerEdits, Spec};
use super::validate::Finding;
use crate::yaml::Trail;

/// A version that files may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The first that is supported.
    V0_3_0,
    /// Mount `type`.
    V0_4_0,
    /// `hostPath`; device names may start with a digit.
    V0_5_0,
    /// Annotations; dots in the class.
    V0_6_0,
    /// `intelRdt`, `additionalGids`.
    V0_7_0,
    /// Nothing new in files.
    V0_8_0,
    /// Nothing new in files.
    V1_0_0,
    /// `netDevices`; `intelRdt` changed.
    V1_1_0,
}

impl Version {
    /// The newest that is understood.
    pub const CURRENT: Self = Self::V1_1_0;
    /// The oldest that is supported.
    pub const EARLIEST: Self = Self::V0_3_0;

    const ALL: [Self; 8] = [
        Self::V0_3_0,
        Self::V0_4_0,
        Self::V0_5_0,
        Self::V0_6_0,
        Self::V0_7_0,
        Self::V0_8_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// As a file writes it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_4_0 => "0.4.0",
            Self::V0_5_0 => "0.5.0",
            Self::V0_6_0 => "0.6.0",
            Self::V0_7_0 => "0.7.0",
            Self::V0_8_0 => "0.8.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads `cdiVersion`; one leading `v` is allowed.
    ///
    /// # Errors
    /// What is wrong with it, as one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('v').unwrap_or(text);
        if let Some(version) = Self::ALL.into_iter().find(|v| v.text() == number) {
            return Ok(version);
        }
        match number {
            "0.1.0" | "0.2.0" => Err(format!(
                "version {text:?} is no longer supported, the spec version must be at least v{}",
                Self::EARLIEST
            )),
            _ => Err(format!(
                "invalid version {text:?}, known are {} to {}",
                Self::EARLIEST,
                Self::CURRENT
            )),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The least version whose features cover what `spec` uses.
#[must_use]
pub fn minimum_version(spec: &Spec) -> Version {
    features(spec)
        .into_iter()
        .map(|feature| feature.since)
        .max()
        .unwrap_or(Version::EARLIEST)
}

/// Checks the declared version, and every field against it.
pub(super) fn check(spec: &Spec, findings: &mut Vec<Finding>) {
    let root = Trail::default();
    let declared = match Version::parse(&spec.version) {
        Ok(version) => version,
        Err(reason) => {
            findings.push(Finding::new(root.key("cdiVersion"), reason));
            return;
        }
    };
    let minimum = minimum_version(spec);
    for feature in features(spec) {
        if feature.since > declared {
            let reason = format!(
                "{} needs CDI {}, the file declares {declared}",
                feature.what, feature.since
            );
            findings.push(
                Finding::new(feature.trail, reason)
                    .hint(format!("the spec version must be at least v{minimum}")),
            );
        }
    }
    if declared >= Version::V1_1_0 {
        for (trail, edits) in all_edits(spec) {
            let Some(rdt) = &edits.intel_rdt else {
                continue;
            };
            for (key, used) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
                if used {
                    findings.push(
                        Finding::new(
                            trail.key("intelRdt").key(key),
                            format!("gone since CDI 1.1.0, the file declares {declared}"),
                        )
                        .hint("use enableMonitoring".into()),
                    );
                }
            }
        }
    }
}

/// Something a file uses that not every version has.
struct Feature {
    since: Version,
    trail: Trail,
    what: &'static str,
}

/// The edits of the specification, then those of each device.
pub(super) fn all_edits(spec: &Spec) -> Vec<(Trail, &ContainerEdits)> {
    let root = Trail::default();
    let mut all = vec![(root.key("containerEdits"), &spec.container_edits)];
    for (i, device) in spec.devices.iter().enumerate() {
        let trail = root.key("devices").index(i).key("containerEdits");
        all.push((trail, &device.container_edits));
    }
    all
}

fn features(spec: &Spec) -> Vec<Feature> {
    let mut all = Vec::new();
    let root = Trail::default();
    let mut add = |since, trail, what| all.push(Feature { since, trail, what });

    if parse_kind(&spec.kind).is_ok_and(|(_, class)| class.contains('.')) {
        add(Version::V0_6_0, root.key("kind"), "a dot in the class");
    }
    if !spec.annotations.is_empty() {
        add(Version::V0_6_0, root.key("annotations"), "annotations");
    }
    for (i, device) in spec.devices.iter().enumerate() {
        let trail = root.key("devices").index(i);
        if device.name.starts_with(|c: char| c.is_ascii_digit()) {
            add(
                Version::V0_5_0,
                trail.key("name"),
                "a device name that starts with a digit",
            );
        }
        if !device.annotations.is_empty() {
            add(Version::V0_6_0, trail.key("annotations"), "annotations");
        }
    }
    for (trail, edits) in all_edits(spec) {
        for (i, node) in edits.device_nodes.iter().enumerate() {
            if !node.host_path.is_empty() {
                let trail = trail.key("deviceNodes").index(i).key("hostPath");
                add(Version::V0_5_0, trail, "hostPath");
            }
        }
        for (i, mount) in edits.mounts.iter().enumerate() {
            if !mount.kind.is_empty() {
                let trail = trail.key("mounts").index(i).key("type");
                add(Version::V0_4_0, trail, "a mount type");
            }
        }
        if let Some(rdt) = &edits.intel_rdt {
            let trail = trail.key("intelRdt");
            add(Version::V0_7_0, trail.clone(), "intelRdt");
            if rdt.schemata.is_some() {
                add(Version::V1_1_0, trail.key("schemata"), "schemata");
            }
            if rdt.enable_monitoring {
                add(
                    Version::V1_1_0,
                    trail.key("enableMonitoring"),
                    "enableMonitoring",
                );
            }
        }
        if !edits.additional_gids.is_empty() {
            add(
                Version::V0_7_0,
                trail.key("additionalGids"),
                "additionalGids",
            );
        }
        if !edits.net_devices.is_empty() {
            add(Version::V1_1_0, trail.key("netDevices"), "netDevices");
        }
    }
    all
}
