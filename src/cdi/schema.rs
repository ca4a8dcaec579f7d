//! What a CDI specification file says, for every version up to 1.1.0.
//!
//! Field names and optionality follow the JSON definition of the CDI
//! specification; what each version allows is in `versions`, what the values
//! may be in `validate`. Serialising gives the JSON form back.

use std::collections::BTreeMap;

use serde::Serialize;

/// A specification: the devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The CDI version that the file follows, as written.
    #[serde(rename = "cdiVersion")]
    pub version: String,
    /// `vendor/class` of all devices.
    pub kind: String,
    /// Free text for whoever reads the file; never reaches a container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// At least one.
    pub devices: Vec<Device>,
    /// Made once, if any of the devices is asked for.
    #[serde(skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

/// One device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Unique in the file.
    pub name: String,
    /// Free text; never reaches a container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Made if this device is asked for; not empty.
    pub container_edits: ContainerEdits,
}

/// Changes to a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEdits {
    /// `NAME=value` entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes, and the right to use them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network interfaces to move into the container (1.1.0).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// Programs to run at the stages of a container's life.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Resource director settings (0.7.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Supplementary groups of the container's process (0.7.0).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

impl ContainerEdits {
    /// Whether nothing is edited, which a device may not say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// Path inside the container.
    pub path: String,
    /// Path on the host, where it differs (0.5.0); empty otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_path: String,
    /// `b`, `c`, `u`, `p`, or empty: whatever the host has.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Major number; 0 is the same as none.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: i64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: i64,
    /// Mode of the node in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Cgroup access: a subset of `rwm`, `none`, or empty for all three.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub permissions: String,
    /// Owner in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

impl DeviceNode {
    /// Where the node is on the host.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.host_path.is_empty() {
            &self.path
        } else {
            &self.host_path
        }
    }
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Source: a host path, or whatever the type takes.
    pub host_path: String,
    /// Destination in the container.
    pub container_path: String,
    /// Options in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// File system type (0.4.0); empty otherwise.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

impl Mount {
    /// Whether the source is a path of the host.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        matches!(self.kind.as_str(), "" | "bind" | "rbind")
            || self.options.iter().any(|o| o == "bind" || o == "rbind")
    }
}

/// A hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The OCI stage.
    pub hook_name: String,
    /// Absolute path of the program.
    pub path: String,
    /// `argv`, with `argv[0]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=value` entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds, greater than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// Intel resource director settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID", skip_serializing_if = "String::is_empty")]
    pub clos_id: String,
    /// L3 cache schema line.
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// Memory bandwidth schema line.
    #[serde(rename = "memBwSchema", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Schemata lines (1.1.0). An empty list is not the same as none: it takes
    /// 1.1.0 to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<Vec<String>>,
    /// A monitoring group of its own (1.1.0).
    #[serde(rename = "enableMonitoring", skip_serializing_if = "is_false")]
    pub enable_monitoring: bool,
    /// Cache monitoring: 0.7.0 to 1.0.0, gone in 1.1.0.
    #[serde(rename = "enableCMT", skip_serializing_if = "is_false")]
    pub enable_cmt: bool,
    /// Bandwidth monitoring: 0.7.0 to 1.0.0, gone in 1.1.0.
    #[serde(rename = "enableMBM", skip_serializing_if = "is_false")]
    pub enable_mbm: bool,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetDevice {
    /// Its name on the host.
    pub host_interface_name: String,
    /// Its name in the container.
    pub name: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !*value
}
