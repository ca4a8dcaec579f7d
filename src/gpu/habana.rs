//! Habana's Gaudi: each device has an `accel` and a control node, and the nodes
//! of its network ports.
//!
//! Since Linux 6.2 the nodes are `/dev/accel/accelN` and
//! `/dev/accel/accel_controlDN`, before `/dev/hlN` and `/dev/hl_controlDN`.

use std::path::{Path, PathBuf};

use super::inventory::{Device, addresses, numa, number_after};
use super::nodes::Missing;
use super::{GpuError, Profile, Vendor, dri};
use crate::host::facts::Snapshot;

const PCI_DRIVER: &str = "/sys/bus/pci/drivers/habanalabs";

/// Directory in sysfs, directory in `/dev`, the node's name and its control
/// node's.
const NAMES: [(&str, &str, &str, &str); 2] = [
    ("accel", "/dev/accel", "accel", "accel_controlD"),
    ("habanalabs", "/dev", "hl", "hl_controlD"),
];

pub(super) fn devices(snapshot: &Snapshot) -> Vec<Device> {
    let mut found = Vec::new();
    for address in addresses(snapshot, PCI_DRIVER) {
        let sysfs = Path::new(PCI_DRIVER).join(address);
        let Some((index, nodes)) = nodes(snapshot, &sysfs) else {
            continue;
        };
        let mut device = Device::new(Vendor::Habana, index);
        device.nodes = nodes;
        device.bus = Some(address.to_lowercase());
        device.numa = numa(snapshot, &sysfs);
        device.place = super::links::place(snapshot, &sysfs);
        device.module = snapshot
            .text(sysfs.join("module_id"))
            .and_then(|text| text.parse().ok());
        device.uverbs = snapshot
            .names(sysfs.join("infiniband_verbs"))
            .iter()
            .filter(|name| number_after(name, "uverbs").is_some())
            .map(|name| Path::new("/dev/infiniband").join(name))
            .collect();
        found.push(device);
    }
    found.sort_by_key(|device| device.index);
    found
}

fn nodes(snapshot: &Snapshot, sysfs: &Path) -> Option<(u32, Vec<PathBuf>)> {
    NAMES.into_iter().find_map(|(class, dev, name, control)| {
        let index = snapshot
            .names(sysfs.join(class))
            .iter()
            .find_map(|entry| number_after(entry, name))?;
        let nodes = [name, control].map(|name| Path::new(dev).join(format!("{name}{index}")));
        Some((index, nodes.to_vec()))
    })
}

pub(super) fn plan(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let list = |number: fn(&Device) -> Option<u32>| {
        let numbers = profile.picked.iter().map(|unit| number(unit.device));
        let numbers = numbers.map(|number| number.map(|n| n.to_string()));
        numbers.collect::<Option<Vec<String>>>()
    };
    let (indices, modules) = (
        list(|device| Some(device.index)),
        list(|device| device.module),
    );
    if let Some(indices) = indices.filter(|list| !list.is_empty()) {
        profile.set_env("HABANA_VISIBLE_DEVICES", indices.join(","));
    }
    if let Some(modules) = modules.filter(|list| !list.is_empty()) {
        profile.set_env("HABANA_VISIBLE_MODULES", modules.join(","));
    }
    let mut found = 0;
    for unit in profile.picked {
        for path in &unit.device.nodes {
            found += usize::from(profile.node(path, Missing::Noted)?);
        }
        for path in &unit.device.uverbs {
            profile.node(path, Missing::Noted)?;
        }
    }
    dri::some(profile, found)?;
    profile.note(
        "driver libraries (SynapseAI) are not injected by the built-in profile: they must come \
         from the image or a CDI file",
    );
    Ok(())
}
