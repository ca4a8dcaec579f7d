//! What can be asked for.
//!
//! Each form has a text of its own that flags, annotations, the policy and the
//! service file share; see the `FromStr` implementations.

mod list;
mod sharing;

use std::collections::BTreeSet;
use std::fmt;

pub use super::require::Requirement;
pub(crate) use list::{check as check_id, range};
pub use sharing::{Backend, Distributed, Mps, PinnedMemory, Sharing, TimeSlice};

/// Who made a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel, but for Gaudi.
    Intel,
    /// Habana Labs: Gaudi.
    Habana,
    /// Anybody else, by the word that was used: whatever has a DRI render node.
    Other(String),
}

impl Vendor {
    /// Those whose devices are known.
    pub const KNOWN: [Self; 4] = [Self::Nvidia, Self::Amd, Self::Intel, Self::Habana];

    /// The vendor of a word as in `nvidia`, or of a CDI vendor as in
    /// `nvidia.com`.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "nvidia" | "nvidia.com" => Self::Nvidia,
            "amd" | "amd.com" => Self::Amd,
            "intel" | "intel.com" => Self::Intel,
            "habana" | "habana.ai" | "habanalabs" | "habana.com" => Self::Habana,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// The vendor of a CDI kind: Gaudi is Habana's, whoever's name it carries.
    #[must_use]
    pub fn of_kind(vendor: &str, class: &str) -> Self {
        match (vendor, class) {
            ("intel.com", "gaudi") => Self::Habana,
            _ => Self::from_word(vendor),
        }
    }

    /// The word; every vendor that is not known has the same.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Habana => "habana",
            Self::Other(_) => "dri",
        }
    }

    /// The CDI kind that this vendor's own tools write.
    #[must_use]
    pub fn cdi_kind(&self) -> Option<&'static str> {
        match self {
            Self::Nvidia => Some("nvidia.com/gpu"),
            Self::Amd => Some("amd.com/gpu"),
            Self::Intel => Some("intel.com/gpu"),
            Self::Habana => Some("intel.com/gaudi"),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(word) => f.write_str(word),
            known => f.write_str(known.word()),
        }
    }
}

/// Which devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// So many, whichever are free.
    Count(u32),
    /// All of them.
    All,
    /// The driver without a GPU.
    None,
    /// Those that go by these names: index, UUID, bus id, `GPU:MIG`. The order
    /// is kept for the user's eyes only.
    Ids(BTreeSet<String>),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Ids(ids) => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                f.write_str(&ids.join(","))
            }
        }
    }
}

/// A part of NVIDIA's driver (`NVIDIA_DRIVER_CAPABILITIES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// CUDA and OpenCL.
    Compute,
    /// 32-bit libraries.
    Compat32,
    /// OpenGL and Vulkan.
    Graphics,
    /// `nvidia-smi` and NVML.
    Utility,
    /// The video codec SDK.
    Video,
    /// X11.
    Display,
    /// NGX.
    Ngx,
}

impl Capability {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Compute,
        Self::Compat32,
        Self::Graphics,
        Self::Utility,
        Self::Video,
        Self::Display,
        Self::Ngx,
    ];

    /// The word in the variable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Compat32 => "compat32",
            Self::Graphics => "graphics",
            Self::Utility => "utility",
            Self::Video => "video",
            Self::Display => "display",
            Self::Ngx => "ngx",
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capabilities(pub BTreeSet<Capability>);

impl Default for Capabilities {
    /// What a container gets that does not say: utility and compute.
    fn default() -> Self {
        Self([Capability::Utility, Capability::Compute].into())
    }
}

impl Capabilities {
    /// Whether any of these is in the set.
    #[must_use]
    pub fn any(&self, wanted: &[Capability]) -> bool {
        wanted.iter().any(|one| self.0.contains(one))
    }

    /// Reads the variable. An empty value is the default; white space around a
    /// word does not count; `all` is every one.
    ///
    /// # Errors
    /// The word that is none, and those that are.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut set = BTreeSet::new();
        for word in value.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            if word == "all" {
                set.extend(Capability::ALL);
                continue;
            }
            let known = Capability::ALL.into_iter().find(|one| one.word() == word);
            set.insert(known.ok_or_else(|| {
                let words: Vec<&str> = Capability::ALL.iter().map(|one| one.word()).collect();
                format!(
                    "{word:?} is no driver capability, expected all or some of {}",
                    words.join(",")
                )
            })?);
        }
        if set.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(set))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|one| one.word()).collect();
        f.write_str(&words.join(","))
    }
}

/// Driver features with nodes of their own, each with a variable that is
/// `enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `NVIDIA_GDS`: GPUDirect Storage.
    Gds,
    /// `NVIDIA_MOFED`: InfiniBand verbs.
    Mofed,
    /// `NVIDIA_GDRCOPY`
    GdrCopy,
    /// `NVIDIA_NVSWITCH`
    NvSwitch,
    /// `NVIDIA_MIG_CONFIG_DEVICES=all`: make and remove MIG instances.
    MigConfig,
    /// `NVIDIA_MIG_MONITOR_DEVICES=all`: watch all MIG instances.
    MigMonitor,
}

impl Feature {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Gds,
        Self::Mofed,
        Self::GdrCopy,
        Self::NvSwitch,
        Self::MigConfig,
        Self::MigMonitor,
    ];

    /// The variable, and the value that asks for it.
    #[must_use]
    pub fn variable(self) -> (&'static str, &'static str) {
        match self {
            Self::Gds => ("NVIDIA_GDS", "enabled"),
            Self::Mofed => ("NVIDIA_MOFED", "enabled"),
            Self::GdrCopy => ("NVIDIA_GDRCOPY", "enabled"),
            Self::NvSwitch => ("NVIDIA_NVSWITCH", "enabled"),
            Self::MigConfig => ("NVIDIA_MIG_CONFIG_DEVICES", "all"),
            Self::MigMonitor => ("NVIDIA_MIG_MONITOR_DEVICES", "all"),
        }
    }
}

/// What only NVIDIA's driver has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Parts of the driver.
    pub capabilities: Capabilities,
    /// IMEX channels by number.
    pub imex: Option<ImexChannels>,
    /// Features with nodes of their own.
    pub features: BTreeSet<Feature>,
    /// What the image needs of the driver: `NVIDIA_REQUIRE_*` by name.
    pub require: Vec<Requirement>,
}

/// Which IMEX channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImexChannels {
    /// Every one that the host has.
    All,
    /// These.
    Numbers(BTreeSet<u32>),
}

/// A wish for GPUs, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRequest {
    /// Whose; `None` is the only vendor that the host has.
    pub vendor: Option<Vendor>,
    /// Which.
    pub what: Selection,
    /// How they are shared with other containers; `None` is not at all.
    pub sharing: Option<Sharing>,
    /// Whether the container is one of several that work together.
    pub distributed: Option<Distributed>,
    /// Only for NVIDIA.
    pub extras: Extras,
}

impl GpuRequest {
    /// A request for devices and nothing else.
    #[must_use]
    pub fn new(vendor: Option<Vendor>, what: Selection) -> Self {
        Self {
            vendor,
            what,
            sharing: None,
            distributed: None,
            extras: Extras::default(),
        }
    }
}

#[cfg(test)]
mod tests;
