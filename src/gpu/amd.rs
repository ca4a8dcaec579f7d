//! AMD: `/dev/kfd` for everybody, `renderD` and `card` nodes by device.
//!
//! PCI devices come from the driver's directory in sysfs; the partitions of one
//! are platform devices (`amdgpu_xcp_N`), which only the topology of KFD relates
//! to it. Devices are numbered as AMD's own tools do: by bus, then by render
//! minor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inventory::{Device, addresses, bus_id, dri_nodes, name_of, numa, number_after};
use super::nodes::Missing;
use super::{GpuError, Profile, Vendor, dri, links};
use crate::host::facts::Snapshot;

const PCI_DRIVER: &str = "/sys/module/amdgpu/drivers/pci:amdgpu";
const PLATFORM: &str = "/sys/devices/platform";
const TOPOLOGY: &str = "/sys/class/kfd/kfd/topology/nodes";
const KFD: &str = "/dev/kfd";

/// What KFD says of one of its nodes.
struct Node {
    /// Domain, bus and device.
    place: (u32, u32, u32),
    /// 0 where the device has none of its own.
    unique_id: u64,
    /// Its number.
    number: Option<u32>,
    /// What it reaches by Infinity Fabric.
    fabric: BTreeMap<u32, u32>,
}

impl Node {
    fn links(&self, device: &mut Device) {
        device.topology = self.number;
        device.fabric.clone_from(&self.fabric);
    }
}

/// KFD's nodes by render minor.
fn topology(snapshot: &Snapshot) -> BTreeMap<u32, Node> {
    let mut nodes = BTreeMap::new();
    for name in snapshot.names(TOPOLOGY) {
        let path = Path::new(TOPOLOGY).join(name);
        let Some(text) = snapshot.text(path.join("properties")) else {
            continue;
        };
        let property = |name: &str| -> Option<u64> {
            let value = text.lines().find_map(|line| {
                let (own, value) = line.trim().split_once(' ')?;
                (own == name).then_some(value)
            })?;
            value.trim().parse().ok()
        };
        let minor = property("drm_render_minor").and_then(|minor| u32::try_from(minor).ok());
        let Some(minor @ 1..) = minor else {
            continue;
        };
        let location = property("location_id").unwrap_or(0);
        let field = |shift: u32, mask: u64| u32::try_from(location >> shift & mask).unwrap_or(0);
        let domain = property("domain").and_then(|domain| u32::try_from(domain).ok());
        nodes.insert(
            minor,
            Node {
                place: (domain.unwrap_or(0), field(8, 0xff), field(3, 0x1f)),
                unique_id: property("unique_id").unwrap_or(0),
                number: name.parse().ok(),
                fabric: links::fabric(snapshot, &path),
            },
        );
    }
    nodes
}

fn render_minor(nodes: &[PathBuf]) -> Option<u32> {
    nodes
        .iter()
        .find_map(|path| number_after(&name_of(path), "renderD"))
}

pub(super) fn devices(snapshot: &Snapshot) -> Vec<Device> {
    let topology = topology(snapshot);
    // By place on the bus, then by render minor.
    let mut found: BTreeMap<((u32, u32, u32), u32), Device> = BTreeMap::new();
    let mut buses = BTreeMap::new();
    for address in addresses(snapshot, PCI_DRIVER) {
        let sysfs = Path::new(PCI_DRIVER).join(address);
        let nodes = dri_nodes(snapshot, &sysfs.join("drm"));
        let (Some(minor), Some((domain, bus, slot, _))) = (render_minor(&nodes), bus_id(address))
        else {
            continue;
        };
        let place = (domain, bus, slot);
        let mut device = Device::new(Vendor::Amd, 0);
        device.bus = Some(address.to_lowercase());
        device.dri = nodes;
        device.numa = numa(snapshot, &sysfs);
        device.place = links::place(snapshot, &sysfs);
        if let Some(node) = topology.get(&minor) {
            node.links(&mut device);
        }
        device.uuid = topology
            .get(&minor)
            .and_then(|node| hex(node.unique_id))
            .or_else(|| {
                let text = snapshot.text(sysfs.join("unique_id"))?;
                hex(u64::from_str_radix(text, 16).ok()?)
            });
        device.model = mode(snapshot, &sysfs);
        buses.insert(
            place,
            (device.bus.clone(), device.numa, device.model.clone()),
        );
        found.insert((place, minor), device);
    }
    for name in snapshot.names(PLATFORM) {
        if !name.starts_with("amdgpu_xcp") {
            continue;
        }
        let nodes = dri_nodes(snapshot, &Path::new(PLATFORM).join(name).join("drm"));
        let Some(minor) = render_minor(&nodes) else {
            continue;
        };
        // One that KFD does not know cannot compute.
        let Some(node) = topology.get(&minor) else {
            continue;
        };
        let mut device = Device::new(Vendor::Amd, 0);
        if let Some((bus, numa, model)) = buses.get(&node.place) {
            device.bus.clone_from(bus);
            device.numa = *numa;
            device.model.clone_from(model);
        }
        device.dri = nodes;
        device.owns_bus = false;
        node.links(&mut device);
        device.uuid = hex(node.unique_id);
        found.insert((node.place, minor), device);
    }
    let numbered = found.into_values().zip(0..);
    numbered
        .map(|(device, index)| Device { index, ..device })
        .collect()
}

fn hex(unique_id: u64) -> Option<String> {
    (unique_id != 0).then(|| format!("{unique_id:016x}"))
}

/// How the device is divided, as in `CPX/NPS1`.
fn mode(snapshot: &Snapshot, sysfs: &Path) -> Option<String> {
    let read = |name: &str| {
        snapshot
            .text(sysfs.join(name))
            .filter(|text| !text.is_empty())
    };
    let compute = read("current_compute_partition")?;
    Some(match read("current_memory_partition") {
        Some(memory) => format!("{compute}/{memory}"),
        None => compute.to_owned(),
    })
}

pub(super) fn plan(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    if !profile.picked.is_empty() {
        let rocr = visible(profile);
        let hip = profile.ordinals();
        profile.set_env("ROCR_VISIBLE_DEVICES", rocr);
        profile.set_env("HIP_VISIBLE_DEVICES", hip);
    }
    let kfd = profile.node(Path::new(KFD), Missing::Noted)?;
    let mut found = 0;
    for unit in profile.picked {
        found += dri::nodes(profile, unit.device)?;
    }
    dri::some(profile, found)?;
    if profile.picked.is_empty() && !kfd {
        return Err(GpuError::None {
            vendor: Vendor::Amd.to_string(),
            looked: "not even /dev/kfd is there; load amdgpu".to_owned(),
        });
    }
    profile.note(
        "driver libraries (ROCm) are not injected by the built-in profile: they must come from \
         the image or a CDI file (amd-ctk cdi generate)",
    );
    Ok(())
}

/// `GPU-` and the device's own number, or, since partitions share one, their
/// order inside the container.
fn visible(profile: &Profile<'_, '_>) -> String {
    let mut names = Vec::new();
    for unit in profile.picked {
        match &unit.device.uuid {
            Some(uuid) => names.push(format!("GPU-{uuid}")),
            None => return profile.ordinals(),
        }
    }
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() == names.len() {
        names.join(",")
    } else {
        profile.ordinals()
    }
}
