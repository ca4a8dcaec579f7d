//! The GPUs of a host, with all the names they go by.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Vendor, amd, dri, habana, intel, nvidia};
use crate::host::facts::{FileFacts, FileKind, Presence, Snapshot};

/// One device that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Who made it.
    pub vendor: Vendor,
    /// Its number, as the vendor's tools count.
    pub index: u32,
    /// A name that stays, whatever else is plugged in: `GPU-…` for NVIDIA, 16
    /// hexadecimal digits for AMD, where the driver tells it.
    pub uuid: Option<String>,
    /// Address on the PCI bus, as in `0000:06:00.0`.
    pub bus: Option<String>,
    /// What it says on the box.
    pub model: Option<String>,
    /// Nodes without which it is of no use.
    pub nodes: Vec<PathBuf>,
    /// `card` and `renderD` nodes.
    pub dri: Vec<PathBuf>,
    /// Whether the nodes in [`Device::dri`] are those of the address on the bus;
    /// several partitions share one.
    pub owns_bus: bool,
    /// Nodes of its network ports.
    pub uverbs: Vec<PathBuf>,
    /// The NUMA node that it is close to.
    pub numa: Option<u32>,
    /// Its host bridge, the PCI bridges from there, and itself; empty where that
    /// was not looked at.
    pub place: Vec<String>,
    /// Its node in KFD's topology.
    pub topology: Option<u32>,
    /// The nodes that it reaches by Infinity Fabric, with KFD's weight of the way.
    pub fabric: BTreeMap<u32, u32>,
    /// How the vendor's runtime numbers the same device, where that differs.
    pub module: Option<u32>,
    /// How it is divided; empty if it is used as a whole.
    pub parts: Vec<Part>,
}

/// A part that can be asked for by itself: a MIG compute instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Its number on the device.
    pub number: u32,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
    /// Nodes that open it, besides the whole device's.
    pub nodes: Vec<PathBuf>,
}

/// What a container is given: a whole device, or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'i> {
    /// The device.
    pub device: &'i Device,
    /// The part; `None` is all of it.
    pub part: Option<&'i Part>,
}

impl Unit<'_> {
    /// What orders units.
    #[must_use]
    pub fn key(&self) -> (u32, Option<u32>) {
        (self.device.index, self.part.map(|part| part.number))
    }

    /// A name that no other unit of this host has, and that survives a restart
    /// where the driver tells one: what leases are kept under.
    #[must_use]
    pub fn stable_name(&self) -> String {
        let device = self.device;
        let word = device.vendor.word();
        // The parts of a partitioned AMD device share the device's own name.
        let whole = match (&device.uuid, &device.bus) {
            (Some(uuid), _) if device.vendor == Vendor::Nvidia => uuid.clone(),
            (_, Some(bus)) => match device.dri.last() {
                Some(node) if device.vendor == Vendor::Amd => {
                    format!("{word}-{bus}-{}", name_of(node))
                }
                _ => format!("{word}-{bus}"),
            },
            _ => format!("{word}-{}", device.index),
        };
        match self.part {
            Some(part) => format!("{whole}/{}/{}", part.gpu_instance, part.compute_instance),
            None => whole,
        }
    }

    /// The index of the device, or `GPU:MIG`.
    #[must_use]
    pub fn index(&self) -> String {
        match self.part {
            Some(part) => format!("{}:{}", self.device.index, part.number),
            None => self.device.index.to_string(),
        }
    }
}

impl fmt::Display for Unit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.index())?;
        let mut names = Vec::new();
        match (self.part, &self.device.uuid) {
            (Some(_), Some(_)) => names.push(format!("MIG-{}", self.stable_name())),
            (None, Some(uuid)) => names.push(uuid.clone()),
            _ => {}
        }
        names.extend(self.device.bus.clone());
        if names.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", names.join(", "))
    }
}

/// The devices of a host.
#[derive(Debug)]
pub struct Inventory<'s> {
    snapshot: &'s Snapshot,
    devices: Vec<Device>,
}

impl<'s> Inventory<'s> {
    /// Finds every device of which the snapshot tells.
    #[must_use]
    pub fn read(snapshot: &'s Snapshot) -> Self {
        let mut devices = nvidia::devices(snapshot);
        devices.extend(amd::devices(snapshot));
        devices.extend(intel::devices(snapshot));
        devices.extend(habana::devices(snapshot));
        let others = dri::devices(snapshot, &devices);
        devices.extend(others);
        Self { snapshot, devices }
    }

    /// What it was read from.
    #[must_use]
    pub fn snapshot(&self) -> &'s Snapshot {
        self.snapshot
    }

    /// All devices, by vendor and index.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The devices of one vendor. Whoever is not known is everybody with a
    /// render node.
    pub fn of<'i>(&'i self, vendor: &Vendor) -> impl Iterator<Item = &'i Device> + use<'i> {
        let vendor = vendor.clone();
        self.devices.iter().filter(move |device| {
            matches!(
                (&device.vendor, &vendor),
                (Vendor::Other(_), Vendor::Other(_))
            ) || device.vendor == vendor
        })
    }

    /// Everything that can be given to a container by itself: devices, or the
    /// parts of those that are divided.
    pub fn units<'i>(&'i self, vendor: &Vendor) -> impl Iterator<Item = Unit<'i>> + use<'i> {
        self.of(vendor).flat_map(units_of)
    }

    /// The major and minor numbers of the nodes that a unit has for itself, as far
    /// as they are on the host.
    #[must_use]
    pub fn numbers(&self, unit: &Unit<'_>) -> Vec<(u32, u32)> {
        let device = unit.device;
        let own: Vec<&PathBuf> = match unit.part {
            Some(part) => part.nodes.iter().collect(),
            None => device.nodes.iter().chain(&device.dri).collect(),
        };
        own.into_iter()
            .filter_map(|path| node(self.snapshot, path))
            .map(|facts| (facts.major, facts.minor))
            .collect()
    }

    /// The vendors whose devices the host has; those that are not known count
    /// only where no other is.
    #[must_use]
    pub fn vendors(&self) -> Vec<Vendor> {
        let mut vendors: Vec<Vendor> = Vendor::KNOWN
            .into_iter()
            .filter(|vendor| self.of(vendor).next().is_some())
            .collect();
        if vendors.is_empty() && !self.devices.is_empty() {
            vendors.push(Vendor::Other("dri".to_owned()));
        }
        vendors
    }
}

/// A device, or its parts.
pub(super) fn units_of(device: &Device) -> Vec<Unit<'_>> {
    if device.parts.is_empty() {
        return vec![Unit { device, part: None }];
    }
    let parts = device.parts.iter();
    parts
        .map(|part| Unit {
            device,
            part: Some(part),
        })
        .collect()
}

impl Device {
    /// A device of which nothing is known yet.
    pub(super) fn new(vendor: Vendor, index: u32) -> Self {
        Self {
            vendor,
            index,
            uuid: None,
            bus: None,
            model: None,
            nodes: Vec::new(),
            dri: Vec::new(),
            owns_bus: true,
            uverbs: Vec::new(),
            numa: None,
            place: Vec::new(),
            topology: None,
            fabric: BTreeMap::new(),
            module: None,
            parts: Vec::new(),
        }
    }
}

/// The facts of a device node, if there is one at the path.
pub(super) fn node<'s>(snapshot: &'s Snapshot, path: &Path) -> Option<&'s FileFacts> {
    match snapshot.file(path) {
        Some(Presence::Present(facts)) if facts.kind == FileKind::Char => Some(facts),
        _ => None,
    }
}

/// The last part of a path, for names that are known to be text.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The number after a prefix; `None` if anything else follows.
pub(super) fn number_after(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The `card` and `renderD` nodes that a `drm` directory of sysfs names.
pub(super) fn dri_nodes(snapshot: &Snapshot, drm: &Path) -> Vec<PathBuf> {
    let is_node = |name: &&String| {
        number_after(name, "card").is_some() || number_after(name, "renderD").is_some()
    };
    let names = snapshot.names(drm).iter().filter(is_node);
    names.map(|name| Path::new("/dev/dri").join(name)).collect()
}

/// What `numa_node` says; the kernel's `-1` is none.
pub(super) fn numa(snapshot: &Snapshot, device: &Path) -> Option<u32> {
    snapshot.text(device.join("numa_node"))?.parse().ok()
}

/// The addresses of the devices that a PCI driver has, in the bus's order.
pub(super) fn addresses<'s>(snapshot: &'s Snapshot, driver: &str) -> Vec<&'s str> {
    let mut found: Vec<&str> = snapshot
        .names(driver)
        .iter()
        .map(String::as_str)
        .filter(|name| bus_id(name).is_some())
        .collect();
    found.sort_by_key(|name| bus_id(name));
    found
}

/// Domain, bus, device and function of `[DOMAIN:]BUS:DEVICE.FUNCTION`,
/// whichever way tools write it.
pub(super) fn bus_id(text: &str) -> Option<(u32, u32, u32, u32)> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let hex = |text: &str, most: usize| {
        let plain = !text.is_empty()
            && text.len() <= most
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    let device = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
    if parts.next().is_some() {
        return None;
    }
    Some((domain, bus, device, hex(function, 1)?))
}

#[cfg(test)]
mod tests {
    use super::{bus_id, number_after};

    #[test]
    fn bus_ids_are_one_however_written() {
        let wanted = Some((0, 6, 0, 0));
        for text in ["0000:06:00.0", "00000000:06:00.0", "06:00.0", "6:0.0"] {
            assert_eq!(bus_id(text), wanted, "{text}");
        }
        assert_eq!(bus_id("ABCD:Af:1F.7"), Some((0xabcd, 0xaf, 0x1f, 7)));
        for text in [
            "",
            "0",
            "0:1",
            "00.0",
            ":00.0",
            "0:0:0:0.0",
            "g0:00.0",
            "06:00.",
            "+6:00.0",
        ] {
            assert_eq!(bus_id(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_a_number_only_if_nothing_else_follows() {
        assert_eq!(number_after("nvidia10", "nvidia"), Some(10));
        for name in [
            "nvidia",
            "nvidia0x",
            "nvidiactl",
            "nvidia-1",
            "nvidia+1",
            "x0",
        ] {
            assert_eq!(number_after(name, "nvidia"), None, "{name}");
        }
        assert_eq!(number_after("nvidia99999999999", "nvidia"), None);
    }
}
