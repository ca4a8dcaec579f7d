//! Capabilities by name.

use std::fmt;

use super::suggest;
use crate::document::quote;

/// A capability of `capabilities(7)`, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// In the kernel's order, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The 14 that Docker gives a container, in the kernel's order.
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability(0),
    Capability(1),
    Capability(3),
    Capability(4),
    Capability(5),
    Capability(6),
    Capability(7),
    Capability(8),
    Capability(10),
    Capability(13),
    Capability(18),
    Capability(27),
    Capability(29),
    Capability(31),
];

impl Capability {
    /// All that this version knows, in the kernel's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(NAMES.len()).map(Self)
    }

    /// Reads `NET_ADMIN`, `CAP_NET_ADMIN` or `cap_net_admin`.
    ///
    /// # Errors
    /// Names the word, and what it may have been meant to be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let found = Self::all().find(|capability| capability.short() == name);
        found.ok_or_else(|| {
            let unknown = format!("unknown capability {}", quote(text));
            match suggest::nearest(name, NAMES) {
                Some(meant) => format!("{unknown}, did you mean {meant}?"),
                None => unknown,
            }
        })
    }

    /// Those of a mask, as `CapBnd` of `proc_pid_status(5)` has it.
    #[must_use]
    pub fn of_mask(mask: u64) -> Vec<Self> {
        Self::all()
            .filter(|capability| mask >> capability.0 & 1 == 1)
            .collect()
    }

    /// The bounding set of the text of a `/proc/PID/status`.
    #[must_use]
    pub fn bounding_of(status: &str) -> Option<Vec<Self>> {
        let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self::of_mask)
    }

    fn short(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// As `config.json` writes it, as in `CAP_NET_ADMIN`.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        // The library's table comes from the kernel's header.
        let known = caps::all();
        assert_eq!(known.len(), 41);
        for capability in Capability::all() {
            let theirs: caps::Capability = capability.to_string().parse().unwrap();
            assert_eq!(theirs.index(), capability.0, "{capability}");
            assert!(known.contains(&theirs));
        }
    }

    #[test]
    fn names_are_read_in_every_usual_spelling() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(
                Capability::parse(text).unwrap().to_string(),
                "CAP_NET_ADMIN"
            );
        }
        for (text, want) in [
            (
                "NET_ADMN",
                "unknown capability \"NET_ADMN\", did you mean NET_ADMIN?",
            ),
            ("ALL", "unknown capability \"ALL\""),
            ("", "unknown capability \"\""),
            ("CAP_", "unknown capability \"CAP_\""),
        ] {
            assert_eq!(Capability::parse(text).unwrap_err(), want);
        }
    }

    #[test]
    fn a_bounding_set_is_read_from_a_status() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000401\n";
        let names: Vec<String> = Capability::bounding_of(status)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
        assert_eq!(Capability::bounding_of("CapBnd: zz"), None);
        assert_eq!(Capability::bounding_of(""), None);
        assert_eq!(Capability::of_mask(u64::MAX).len(), 41);
    }

    #[test]
    fn the_default_is_dockers() {
        let names: Vec<String> = DEFAULT_CAPABILITIES
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_SETGID",
                "CAP_SETUID",
                "CAP_SETPCAP",
                "CAP_NET_BIND_SERVICE",
                "CAP_NET_RAW",
                "CAP_SYS_CHROOT",
                "CAP_MKNOD",
                "CAP_AUDIT_WRITE",
                "CAP_SETFCAP"
            ]
        );
    }
}
