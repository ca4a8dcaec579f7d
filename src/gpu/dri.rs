//! DRI nodes: of known vendors by device, of everybody else by render node.

use std::path::{Path, PathBuf};

use super::inventory::{Device, name_of, node, number_after};
use super::nodes::Missing;
use super::{GpuError, Profile, Vendor};
use crate::host::facts::Snapshot;

/// Render nodes that no known vendor's driver claims.
pub(super) fn devices(snapshot: &Snapshot, known: &[Device]) -> Vec<Device> {
    let claimed = |path: &PathBuf| known.iter().any(|device| device.dri.contains(path));
    let mut minors: Vec<u32> = snapshot
        .files
        .keys()
        .filter(|path| path.parent() == Some(Path::new("/dev/dri")))
        .filter(|path| !claimed(path) && node(snapshot, path).is_some())
        .filter_map(|path| number_after(&name_of(path), "renderD"))
        .collect();
    minors.sort_unstable();
    let numbered = minors.into_iter().zip(0..);
    numbered
        .map(|(minor, index)| {
            let name = format!("renderD{minor}");
            let vendor = Path::new("/sys/class/drm")
                .join(&name)
                .join("device/vendor");
            let word = snapshot.text(vendor).map_or("dri", pci_vendor);
            let mut device = Device::new(Vendor::Other(word.to_owned()), index);
            device.dri = vec![Path::new("/dev/dri").join(name)];
            device
        })
        .collect()
}

/// Whom a PCI vendor number belongs to, for the user's eyes.
fn pci_vendor(number: &str) -> &'static str {
    match number {
        "0x10de" => "nvidia (nouveau)",
        "0x1002" => "amd (radeon)",
        "0x8086" => "intel",
        "0x1af4" => "virtio",
        "0x1234" => "bochs",
        "0x15ad" => "vmware",
        _ => "dri",
    }
}

/// Adds a device's `card` and `renderD` nodes, also where programs look for
/// them by the device's place on the bus: on a host `by-path` has symbolic links,
/// in a container nodes with the same numbers do.
pub(super) fn nodes(profile: &mut Profile<'_, '_>, device: &Device) -> Result<usize, GpuError> {
    let mut found = 0;
    for path in &device.dri {
        if !profile.node(path, Missing::Noted)? {
            continue;
        }
        found += 1;
        let Some(bus) = device.bus.as_ref().filter(|_| device.owns_bus) else {
            continue;
        };
        let kind = if name_of(path).starts_with("card") {
            "card"
        } else {
            "render"
        };
        let link = format!("/dev/dri/by-path/pci-{bus}-{kind}");
        profile.node_at(Path::new(&link), path, None, Missing::Noted)?;
    }
    Ok(found)
}

/// Render nodes for a vendor that is not known.
pub(super) fn plan(profile: &mut Profile<'_, '_>, vendor: &Vendor) -> Result<(), GpuError> {
    profile.note(format!(
        "{vendor} is no vendor that is known: the container gets DRI render nodes and no \
         environment; a CDI file could say more"
    ));
    let mut found = 0;
    for unit in profile.picked {
        found += nodes(profile, unit.device)?;
    }
    some(profile, found)
}

/// Fails where none of the picked devices has a node.
pub(super) fn some(profile: &Profile<'_, '_>, found: usize) -> Result<(), GpuError> {
    if found > 0 || profile.picked.is_empty() {
        return Ok(());
    }
    Err(GpuError::Node {
        what: profile.origin.rule.to_string(),
        reason: "none of the devices has its nodes in /dev; load the driver".to_owned(),
    })
}
