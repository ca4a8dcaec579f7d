//! Plain data of the edits: what the OCI runtime specification calls devices,
//! mounts, hooks and so on, reduced to what an edit can say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

bitflags::bitflags! {
    /// Device cgroup access: `r`ead, `w`rite, `m`knod.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Access: u8 {
        /// `m`: create the node.
        const MKNOD = 1;
        /// `r`: open for reading.
        const READ = 2;
        /// `w`: open for writing.
        const WRITE = 4;
    }
}

impl Access {
    /// Reads letters of `rwm` in any order, repeats allowed; `None` for any
    /// other letter.
    #[must_use]
    pub fn from_letters(letters: &str) -> Option<Self> {
        letters.bytes().try_fold(Self::empty(), |access, letter| {
            let bit = match letter {
                b'r' => Self::READ,
                b'w' => Self::WRITE,
                b'm' => Self::MKNOD,
                _ => return None,
            };
            Some(access | bit)
        })
    }

    /// The letters in the order `rwm`, as `config.json` and the v1 device
    /// controller write them; empty for no access.
    #[must_use]
    pub fn letters(self) -> &'static str {
        const LETTERS: [&str; 8] = ["", "m", "r", "rm", "w", "wm", "rw", "rwm"];
        LETTERS[usize::from(self.bits() & Self::all().bits())]
    }
}

/// The type letter of a device node or rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// `a`: every device; only valid in rules.
    #[serde(rename = "a")]
    All,
    /// `c`, also written `u`.
    #[serde(rename = "c")]
    Char,
    /// `b`.
    #[serde(rename = "b")]
    Block,
    /// `p`: a FIFO; only valid for nodes.
    #[serde(rename = "p")]
    Fifo,
}

impl DeviceKind {
    /// The letter in `config.json`.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::All => "a",
            Self::Char => "c",
            Self::Block => "b",
            Self::Fifo => "p",
        }
    }
}

/// A rule of `linux.resources.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Whether the access is allowed or denied.
    pub allow: bool,
    /// Which kind of node the rule is about.
    pub kind: DeviceKind,
    /// `None` is any major. At most 12 bits in the kernel.
    pub major: Option<u32>,
    /// `None` is any minor. At most 20 bits in the kernel.
    pub minor: Option<u32>,
    /// Which accesses.
    pub access: Access,
}

/// A node of `linux.devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// Where the node is on the host; differs from `path` for CDI `hostPath`.
    pub host_path: PathBuf,
    /// Character, block or FIFO.
    pub kind: DeviceKind,
    /// Major number, from the host at create.
    pub major: u32,
    /// Minor number, from the host at create.
    pub minor: u32,
    /// Permission bits without the file type.
    pub file_mode: Option<u32>,
    /// Owner; `None` leaves the field out.
    pub uid: Option<u32>,
    /// Group; `None` leaves the field out.
    pub gid: Option<u32>,
}

/// A mount of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside the container.
    pub destination: PathBuf,
    /// File system type; `None` leaves the field out.
    pub kind: Option<String>,
    /// Host path or file system source.
    pub source: Option<PathBuf>,
    /// Options in order.
    pub options: Vec<String>,
}

/// The OCI hook lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookStage {
    /// Deprecated by OCI, run after the namespaces exist, before pivot.
    Prestart,
    /// Runtime namespace, before pivot.
    CreateRuntime,
    /// Container namespace, before pivot.
    CreateContainer,
    /// Container namespace, before the user's process.
    StartContainer,
    /// Runtime namespace, after start.
    Poststart,
    /// Runtime namespace, after delete.
    Poststop,
}

impl HookStage {
    /// The key below `hooks` in `config.json` and the CDI `hookName`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The stage of that key, or `None` for an unknown one.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.key() == key)
    }

    /// All stages, in the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path of the program, in the namespace its stage says.
    pub path: PathBuf,
    /// `argv`, with `argv[0]`.
    pub args: Vec<String>,
    /// `KEY=value` entries; the hook sees nothing else.
    pub env: Vec<String>,
    /// Seconds; `None` waits without limit.
    pub timeout: Option<u32>,
}

/// `linux.intelRdt`, replaced as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntelRdt {
    /// Class of service.
    pub clos_id: Option<String>,
    /// L3 cache schema line.
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema line.
    pub mem_bw_schema: Option<String>,
    /// Schemata lines (CDI 1.1, OCI 1.3).
    pub schemata: Vec<String>,
    /// A monitoring group of its own (CDI 1.1, OCI 1.3).
    pub enable_monitoring: bool,
}

/// One line of `uid_map` or `gid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// The namespaces of `linux.namespaces`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// `pid`
    Pid,
    /// `network`
    Network,
    /// `mount`
    Mount,
    /// `ipc`
    Ipc,
    /// `uts`
    Uts,
    /// `user`
    User,
    /// `cgroup`
    Cgroup,
    /// `time`
    Time,
}

impl NamespaceKind {
    /// The `type` value in `config.json`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The namespace of that `type` value, or `None` for an unknown one.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }

    /// Every namespace that the OCI specification knows.
    pub const ALL: [Self; 8] = [
        Self::Pid,
        Self::Network,
        Self::Mount,
        Self::Ipc,
        Self::Uts,
        Self::User,
        Self::Cgroup,
        Self::Time,
    ];
}

/// A change to `config.json`. Closed and dull on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Set `process.env` NAME, in place of one of the same name, else appended.
    SetEnv {
        /// Variable name.
        name: String,
        /// Value, which may be empty.
        value: String,
    },
    /// Set a variable only where the container has none of that name.
    DefaultEnv {
        /// Variable name.
        name: String,
        /// Value.
        value: String,
    },
    /// Add to `linux.devices`; one of the same path is replaced.
    AddDevice(DeviceNode),
    /// Remove from `linux.devices` (rootless: the node is bound instead; or it is
    /// taken from a running container).
    RemoveDevice {
        /// Absolute path inside the container.
        path: PathBuf,
    },
    /// Append to `linux.resources.devices`, unless the list already allows it.
    AllowDevice(DeviceRule),
    /// Remove the allow rules of `linux.resources.devices` that are about exactly
    /// these devices.
    RevokeDevice(DeviceRule),
    /// Remove every rule of `linux.resources.devices` (rootless: the kernel
    /// would refuse them).
    DropDeviceRules,
    /// Add to `mounts`, in place of one of the same destination; afterwards
    /// mounts are stable-sorted by depth.
    AddMount(Mount),
    /// Remove the mount at this destination (rootless conversion).
    RemoveMount {
        /// Absolute path inside the container.
        destination: PathBuf,
    },
    /// Remove one option of a mount (rootless: `gid=5`).
    RemoveMountOption {
        /// Absolute path inside the container.
        destination: PathBuf,
        /// The whole option, as in `gid=5`.
        option: String,
    },
    /// Append to a hook list, never twice.
    AddHook(HookStage, Hook),
    /// Remove every hook of a list that runs this program.
    RemoveHook {
        /// The list.
        stage: HookStage,
        /// The program, spelled as the list has it.
        path: PathBuf,
    },
    /// Add to `process.user.additionalGids`, once; 0 is skipped.
    AddGid(u32),
    /// Add to `linux.netDevices`: host interface, name inside.
    AddNetDevice {
        /// Interface on the host.
        host: String,
        /// Name inside the container; empty keeps the host's.
        name: String,
    },
    /// Replace `linux.intelRdt`.
    SetRdt(IntelRdt),
    /// Set `linux.uidMappings` and `linux.gidMappings`.
    MapIds {
        /// Lines of `uid_map`.
        uid: Vec<IdMapping>,
        /// Lines of `gid_map`.
        gid: Vec<IdMapping>,
    },
    /// Add a new namespace of this kind, where the list has none.
    AddNamespace(NamespaceKind),
    /// Set `linux.cgroupsPath`.
    SetCgroupsPath(String),
    /// Remove an annotation that was a request, once it has been read.
    RemoveAnnotation {
        /// The whole key.
        key: String,
    },
}
