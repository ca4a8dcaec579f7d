//! Intel: GPUs (`i915`, `xe`) by `card` and `renderD`, and NPUs (`intel_vpu`) by
//! `accel` nodes, numbered after the GPUs.

use std::path::{Path, PathBuf};

use super::inventory::{Device, addresses, bus_id, dri_nodes, name_of, numa, number_after};
use super::nodes::Missing;
use super::{GpuError, Profile, Vendor, dri};
use crate::host::facts::Snapshot;

/// Drivers in sysfs, and whether they are for GPUs.
const DRIVERS: [(&str, bool); 3] = [
    ("/sys/bus/pci/drivers/i915", true),
    ("/sys/bus/pci/drivers/xe", true),
    ("/sys/bus/pci/drivers/intel_vpu", false),
];

pub(super) fn devices(snapshot: &Snapshot) -> Vec<Device> {
    let mut found = Vec::new();
    for (driver, is_gpu) in DRIVERS {
        for address in addresses(snapshot, driver) {
            let sysfs = Path::new(driver).join(address);
            let mut device = Device::new(Vendor::Intel, 0);
            device.bus = Some(address.to_lowercase());
            device.numa = numa(snapshot, &sysfs);
            device.place = super::links::place(snapshot, &sysfs);
            device.dri = dri_nodes(snapshot, &sysfs.join("drm"));
            device.nodes = accel_nodes(snapshot, &sysfs.join("accel"));
            let renders = |path: &PathBuf| name_of(path).starts_with("renderD");
            // A display without a render engine is nothing to compute with.
            if device.nodes.is_empty() && !device.dri.iter().any(renders) {
                continue;
            }
            found.push((!is_gpu, bus_id(address), device));
        }
    }
    found.sort_by_key(|(is_other, bus, _)| (*is_other, *bus));
    let numbered = found.into_iter().zip(0..);
    numbered
        .map(|((_, _, device), index)| Device { index, ..device })
        .collect()
}

fn accel_nodes(snapshot: &Snapshot, dir: &Path) -> Vec<PathBuf> {
    let is_node = |name: &&String| number_after(name, "accel").is_some();
    let names = snapshot.names(dir).iter().filter(is_node);
    names
        .map(|name| Path::new("/dev/accel").join(name))
        .collect()
}

pub(super) fn plan(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let gpus = profile
        .picked
        .iter()
        .filter(|unit| !unit.device.dri.is_empty());
    let ordinals: Vec<String> = (0..gpus.count()).map(|n| n.to_string()).collect();
    if !ordinals.is_empty() {
        // Level Zero counts what it can open.
        profile.set_env("ZE_AFFINITY_MASK", ordinals.join(","));
    }
    let mut found = 0;
    for unit in profile.picked {
        for path in &unit.device.nodes {
            found += usize::from(profile.node(path, Missing::Noted)?);
        }
        found += dri::nodes(profile, unit.device)?;
    }
    dri::some(profile, found)?;
    profile.note(
        "driver libraries (Level Zero, OpenCL, media) are not injected by the built-in profile: \
         they must come from the image or a CDI file",
    );
    Ok(())
}
