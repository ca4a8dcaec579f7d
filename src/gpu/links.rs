//! How well two devices of a host are connected, as far as files tell.
//!
//! AMD's driver tells its Infinity Fabric links in the topology of KFD. Of others
//! only their places on the PCI bus are known: NVIDIA's driver tells of NVLink to
//! its own library alone, so that two GPUs count as close where one switch has
//! both, which is also where bridges are put.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::Device;
use crate::host::facts::Snapshot;

/// The kernel's `CRAT_IOLINK_TYPE_XGMI`
/// (`drivers/gpu/drm/amd/amdkfd/kfd_crat.h`).
const XGMI: &str = "11";

/// The weight of one hop over Infinity Fabric, as KFD gives it.
const HOP: u32 = 15;

/// How two devices are connected, the best way last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// By the host bridge that both are below.
    HostBridge,
    /// Through several PCI bridges, or switches.
    Bridges,
    /// Through one PCI switch.
    Switch,
    /// By Infinity Fabric, over so many hops.
    Xgmi {
        /// At least 1.
        hops: u32,
    },
    /// They are parts of one chip.
    Chip,
}

impl Link {
    /// How much better it is than none: what picking adds up.
    #[must_use]
    pub fn strength(self) -> u32 {
        match self {
            Self::HostBridge => 1,
            Self::Bridges => 3,
            Self::Switch => 4,
            Self::Xgmi { hops } => 20 + 20 / hops.max(1),
            Self::Chip => 60,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostBridge => "host-bridge",
            Self::Bridges => "bridges",
            Self::Switch => "switch",
            Self::Xgmi { .. } => "xgmi",
            Self::Chip => "chip",
        })
    }
}

/// The best way between two devices; `None` where no file tells one.
#[must_use]
pub fn between(one: &Device, other: &Device) -> Option<Link> {
    if one.bus.is_some() && one.bus == other.bus && one.vendor == other.vendor {
        return Some(Link::Chip);
    }
    let fabric = |from: &Device, to: &Device| from.fabric.get(&to.topology?).copied();
    let ways = [fabric(one, other), fabric(other, one)];
    let hops = |weight: u32| weight.div_ceil(HOP).max(1);
    match ways.into_iter().flatten().min() {
        Some(weight) => Some(Link::Xgmi { hops: hops(weight) }),
        None => bridges(&one.place, &other.place),
    }
}

/// What is between two places on the PCI bus.
fn bridges(one: &[String], other: &[String]) -> Option<Link> {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let below = one.len().max(other.len()) - common;
    match common {
        0 => None,
        1 => Some(Link::HostBridge),
        // A switch has a port above both, and one above each.
        _ if below <= 2 => Some(Link::Switch),
        _ => Some(Link::Bridges),
    }
}

/// The place of a PCI device: its host bridge, the bridges from there, itself.
/// Empty where the link of its driver does not tell.
pub(super) fn place(snapshot: &Snapshot, device: &Path) -> Vec<String> {
    let Some(target) = snapshot.links.get(device) else {
        return Vec::new();
    };
    let names = target
        .components()
        .map(|part| part.as_os_str().to_string_lossy());
    names
        .skip_while(|name| !is_host_bridge(name))
        .map(std::borrow::Cow::into_owned)
        .collect()
}

fn is_host_bridge(name: &str) -> bool {
    name.strip_prefix("pci")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()))
}

/// The nodes of KFD's topology that one of them reaches by Infinity Fabric, with
/// the weight of the way.
pub(super) fn fabric(snapshot: &Snapshot, node: &Path) -> BTreeMap<u32, u32> {
    let links = node.join("io_links");
    let mut reached = BTreeMap::new();
    for name in snapshot.names(&links) {
        let Some(text) = snapshot.text(links.join(name).join("properties")) else {
            continue;
        };
        let property = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once(' '))
                .find_map(|(own, value)| (own == name).then_some(value.trim()))
        };
        if property("type") != Some(XGMI) {
            continue;
        }
        let number = |name: &str| property(name)?.parse::<u32>().ok();
        if let (Some(to), Some(weight)) = (number("node_to"), number("weight")) {
            let best = reached.entry(to).or_insert(weight);
            *best = weight.min(*best);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Vendor;

    fn at(place: &str) -> Device {
        let mut device = Device::new(Vendor::Nvidia, 0);
        device.bus = Some(place.rsplit('/').next().unwrap().to_owned());
        device.place = place.split('/').map(str::to_owned).collect();
        device
    }

    #[test]
    fn the_way_over_the_bus_is_what_is_not_common() {
        let switch = "pci0000:00/0000:00:01.0/0000:01:00.0";
        let gpu = |rest: &str| at(&format!("{switch}/{rest}"));
        let link = |one: &Device, other: &Device| between(one, other);
        let (a, b) = (
            gpu("0000:02:00.0/0000:03:00.0"),
            gpu("0000:02:01.0/0000:04:00.0"),
        );
        assert_eq!(link(&a, &b), Some(Link::Switch));
        let deep = gpu("0000:02:02.0/0000:05:00.0/0000:06:00.0/0000:07:00.0");
        assert_eq!(link(&a, &deep), Some(Link::Bridges));
        let port = at("pci0000:00/0000:00:02.0/0000:08:00.0");
        assert_eq!(link(&a, &port), Some(Link::HostBridge));
        let far = at("pci0000:80/0000:80:01.0/0000:81:00.0");
        assert_eq!(link(&a, &far), None);
        assert_eq!(link(&a, &a), Some(Link::Chip));
        // Nothing is known of two that tell nothing.
        let unknown = |bus: &str| {
            let mut device = at(bus);
            device.place.clear();
            device
        };
        assert_eq!(
            link(&unknown("0000:01:00.0"), &unknown("0000:02:00.0")),
            None
        );
    }

    #[test]
    fn fabric_is_better_than_any_bus_and_fewer_hops_are_better() {
        let amd = |node: u32, reaches: &[(u32, u32)], bus: &str| {
            let mut device = at(&format!("pci0000:00/0000:00:01.0/{bus}"));
            device.vendor = Vendor::Amd;
            device.topology = Some(node);
            device.fabric = reaches.iter().copied().collect();
            device
        };
        let one = amd(1, &[(2, 15), (3, 30)], "0000:01:00.0");
        let two = amd(2, &[(1, 15)], "0000:02:00.0");
        let three = amd(3, &[], "0000:03:00.0");
        assert_eq!(between(&one, &two), Some(Link::Xgmi { hops: 1 }));
        // One end is enough.
        assert_eq!(between(&three, &one), Some(Link::Xgmi { hops: 2 }));
        let mut order = [
            Link::Chip,
            Link::Xgmi { hops: 1 },
            Link::Xgmi { hops: 4 },
            Link::Switch,
            Link::Bridges,
            Link::HostBridge,
        ]
        .map(Link::strength);
        assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "{order:?}");
        order.sort_unstable();
        assert!(order[0] > 0);
    }
}
