//! From a plan's device nodes to the keys of leases. Pure.
//!
//! A vendor's tools, a CDI file and a profile of ours may name one GPU in three
//! ways; its device numbers are the same in all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Mode, Wanted};
use crate::edit::{DeviceKind, DeviceNode, Edit, Plan, Rule};
use crate::host::facts::{FileKind, Presence, Snapshot};

/// Classes of CDI devices that are GPUs, or parts of them.
const CLASSES: &[&str] = &["gpu", "mig", "gaudi", "accel", "accelerator"];

/// Nodes that every container with a device of that driver has.
const COMMON: &[&str] = &[
    "/dev/nvidiactl",
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/kfd",
];

/// Directories of such nodes.
const COMMON_DIRS: &[&str] = &["/dev/nvidia-caps-imex-channels", "/dev/infiniband"];

/// Where NVIDIA's driver has the nodes of MIG instances. Whoever has one of them
/// also has the node of the whole GPU, which others have, too.
const INSTANCES: &str = "/dev/nvidia-caps";

/// The key of a device by its numbers, as `c195:0`.
#[must_use]
pub fn node_key(kind: DeviceKind, major: u32, minor: u32) -> String {
    format!("{}{major}:{minor}", kind.letter())
}

/// The GPUs that a plan injects from CDI files, each to be held in shares: who
/// asks for a device by its name does not ask to have it alone.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<Wanted> {
    let mut devices: BTreeMap<String, Vec<&DeviceNode>> = BTreeMap::new();
    for planned in &plan.edits {
        if let (Edit::AddDevice(node), Rule::CdiDevice { name, .. }) =
            (&planned.edit, &planned.origin.rule)
            && CLASSES.contains(&name.class())
            && !is_common(&node.host_path)
        {
            devices.entry(name.to_string()).or_default().push(node);
        }
    }
    devices
        .into_iter()
        .map(|(device, nodes)| {
            let instance = |node: &&&DeviceNode| node.host_path.starts_with(INSTANCES);
            let parts: Vec<_> = nodes.iter().filter(instance).collect();
            let own = if parts.is_empty() {
                nodes.iter().collect()
            } else {
                parts
            };
            Wanted {
                device,
                keys: own
                    .into_iter()
                    .map(|node| key(node))
                    .collect::<BTreeSet<_>>(),
                mode: Mode::Shared,
            }
        })
        .collect()
}

/// The keys of a device by its nodes, as far as they are its own.
#[must_use]
pub fn keys_of_nodes(facts: &Snapshot, paths: &[PathBuf]) -> BTreeSet<String> {
    let own = paths.iter().filter(|path| !is_common(path));
    own.filter_map(|path| match facts.file(path) {
        Some(Presence::Present(node)) => {
            let kind = match node.kind {
                FileKind::Char => DeviceKind::Char,
                FileKind::Block => DeviceKind::Block,
                _ => return None,
            };
            Some(node_key(kind, node.major, node.minor))
        }
        _ => None,
    })
    .collect()
}

fn key(node: &DeviceNode) -> String {
    node_key(node.kind, node.major, node.minor)
}

fn is_common(path: &Path) -> bool {
    COMMON.iter().any(|common| path == Path::new(common))
        || COMMON_DIRS.iter().any(|dir| path.starts_with(dir))
        || path
            .to_str()
            .is_some_and(|path| path.starts_with("/dev/nvidia-nvswitch"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::QualifiedName;
    use crate::edit::Origin;

    fn plan(nodes: &[(&str, &str, u32, u32)]) -> Plan {
        let mut plan = Plan::default();
        for (device, path, major, minor) in nodes {
            let node = DeviceNode {
                path: path.into(),
                host_path: path.into(),
                kind: DeviceKind::Char,
                major: *major,
                minor: *minor,
                file_mode: None,
                uid: None,
                gid: None,
            };
            let origin = Origin {
                rule: Rule::CdiDevice {
                    name: QualifiedName::parse(device).unwrap(),
                    file: "/etc/cdi/x.json".into(),
                },
                sources: Vec::new(),
            };
            plan.push(Edit::AddDevice(node), origin);
        }
        plan
    }

    fn told(plan: &Plan) -> Vec<String> {
        of_plan(plan)
            .iter()
            .map(|wanted| {
                assert_eq!(wanted.mode, Mode::Shared);
                let keys: Vec<&str> = wanted.keys.iter().map(String::as_str).collect();
                format!("{} {}", wanted.device, keys.join(","))
            })
            .collect()
    }

    #[test]
    fn a_gpu_is_its_own_nodes_and_an_instance_its_capabilities() {
        let plan = plan(&[
            ("nvidia.com/gpu=0", "/dev/nvidia0", 195, 0),
            ("nvidia.com/gpu=0", "/dev/nvidiactl", 195, 255),
            ("nvidia.com/gpu=0", "/dev/dri/renderD128", 226, 128),
            ("nvidia.com/gpu=1:0", "/dev/nvidia1", 195, 1),
            ("nvidia.com/gpu=1:0", "/dev/nvidia-caps/nvidia-cap3", 234, 3),
            ("amd.com/gpu=0", "/dev/kfd", 235, 0),
            ("amd.com/gpu=0", "/dev/dri/renderD129", 226, 129),
            ("vendor.com/nic=0", "/dev/nic0", 60, 0),
        ]);
        assert_eq!(
            told(&plan),
            [
                "amd.com/gpu=0 c226:129",
                "nvidia.com/gpu=0 c195:0,c226:128",
                "nvidia.com/gpu=1:0 c234:3",
            ]
        );
    }
}
