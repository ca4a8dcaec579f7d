//! NVIDIA: what the driver tells in procfs, and what a container needs of it.
//!
//! `/proc/driver/nvidia/gpus/BUS/information` names the devices,
//! `/proc/devices` the major numbers of the driver that is loaded now,
//! `/proc/driver/nvidia/capabilities` the MIG instances that exist, and
//! `/proc/driver/nvidia-caps/mig-minors` which node opens which of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inventory::{Device, Part, bus_id, dri_nodes, name_of, node, numa, number_after};
use super::links::place;
use super::nodes::Missing;
use super::request::{ImexChannels, Selection, Sharing};
use super::{Capability, Feature, GpuError, Profile, Vendor, require};
use crate::edit::{Edit, Mount};
use crate::host::facts::{FileKind, Presence, Snapshot};

const GPUS: &str = "/proc/driver/nvidia/gpus";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const MIG_MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";
const PCI_DRIVER: &str = "/sys/bus/pci/drivers/nvidia";
const IMEX_DIR: &str = "/dev/nvidia-caps-imex-channels";

/// Nodes of the driver itself, with its name in `/proc/devices`. Before 550.40
/// `nvidia` was called `nvidia-frontend`.
const CONTROL: [(&str, &[&str]); 4] = [
    ("/dev/nvidiactl", &["nvidia", "nvidia-frontend"]),
    ("/dev/nvidia-uvm", &["nvidia-uvm"]),
    ("/dev/nvidia-uvm-tools", &["nvidia-uvm"]),
    ("/dev/nvidia-modeset", &["nvidia", "nvidia-frontend"]),
];

/// The devices, in the order of the PCI bus, as NVML counts them. One that the
/// operator excluded is none.
pub(super) fn devices(snapshot: &Snapshot) -> Vec<Device> {
    let mut found: Vec<(u32, Device)> = Vec::new();
    let mut addresses: Vec<&String> = snapshot.names(GPUS).iter().collect();
    addresses.sort_by_key(|name| bus_id(name));
    for address in addresses {
        let information = Path::new(GPUS).join(address).join("information");
        let Some(text) = snapshot.text(information) else {
            continue;
        };
        let fields = fields(text);
        let field = |name: &str| fields.get(name).copied().filter(|value| !value.is_empty());
        let Some(minor) = field("Device Minor").and_then(|minor| minor.parse().ok()) else {
            continue;
        };
        if field("GPU Excluded") == Some("Yes") {
            continue;
        }
        let mut device = Device::new(Vendor::Nvidia, 0);
        // Not known before something has opened the device: `GPU-????????-…`.
        device.uuid = field("GPU UUID")
            .filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?'))
            .map(str::to_owned);
        device.bus = Some(address.to_lowercase());
        device.model = field("Model").map(str::to_owned);
        let sysfs = Path::new(PCI_DRIVER).join(address);
        device.dri = dri_nodes(snapshot, &sysfs.join("drm"));
        device.numa = numa(snapshot, &sysfs);
        device.place = place(snapshot, &sysfs);
        found.push((minor, device));
    }
    if found.is_empty() {
        // A driver that tells nothing (WSL, a virtual machine's): the nodes do.
        found = bare_nodes(snapshot);
    }
    let minors = mig_minors(snapshot);
    let numbered = found.into_iter().zip(0..);
    numbered
        .map(|((minor, device), index)| Device {
            index,
            nodes: vec![format!("/dev/nvidia{minor}").into()],
            parts: parts(snapshot, minor, &minors),
            ..device
        })
        .collect()
}

fn bare_nodes(snapshot: &Snapshot) -> Vec<(u32, Device)> {
    let mut minors: Vec<u32> = snapshot
        .files
        .keys()
        .filter(|path| path.parent() == Some(Path::new("/dev")))
        .filter(|path| node(snapshot, path).is_some())
        .filter_map(|path| number_after(&name_of(path), "nvidia"))
        .collect();
    minors.sort_unstable();
    let device = |minor| (minor, Device::new(Vendor::Nvidia, 0));
    minors.into_iter().map(device).collect()
}

/// `Name: value` lines.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect()
}

/// Which minor number opens which capability, by `gpu0/gi1/ci0/access` and the
/// like.
pub(super) fn mig_minors(snapshot: &Snapshot) -> BTreeMap<&str, u32> {
    let Some(text) = snapshot.text(MIG_MINORS) else {
        return BTreeMap::new();
    };
    text.lines()
        .filter_map(|line| {
            let (name, minor) = line.trim().split_once(' ')?;
            Some((name, minor.trim().parse().ok()?))
        })
        .collect()
}

/// The MIG instances of a device, in the order in which they are numbered.
fn parts(snapshot: &Snapshot, gpu: u32, minors: &BTreeMap<&str, u32>) -> Vec<Part> {
    let mig = Path::new(CAPABILITIES).join(format!("gpu{gpu}/mig"));
    let mut instances = Vec::new();
    for name in snapshot.names(&mig) {
        let Some(gpu_instance) = number_after(name, "gi") else {
            continue;
        };
        for name in snapshot.names(mig.join(name)) {
            if let Some(compute_instance) = number_after(name, "ci") {
                instances.push((gpu_instance, compute_instance));
            }
        }
    }
    instances.sort_unstable();
    let numbered = instances.into_iter().zip(0..);
    numbered
        .map(|((gpu_instance, compute_instance), number)| {
            let names = [
                format!("gpu{gpu}/gi{gpu_instance}/access"),
                format!("gpu{gpu}/gi{gpu_instance}/ci{compute_instance}/access"),
            ];
            let nodes = names
                .iter()
                .filter_map(|name| minors.get(name.as_str()))
                .map(|minor| cap_node(*minor))
                .collect();
            Part {
                number,
                gpu_instance,
                compute_instance,
                nodes,
            }
        })
        .collect()
}

fn cap_node(minor: u32) -> PathBuf {
    format!("/dev/nvidia-caps/nvidia-cap{minor}").into()
}

/// The major number that a driver has now, by any of its names.
fn major(snapshot: &Snapshot, names: &[&str]) -> Option<u32> {
    let mut majors = BTreeMap::new();
    for line in snapshot.text("/proc/devices")?.lines() {
        // Block devices have numbers of their own, and come after.
        if line.starts_with("Block devices") {
            break;
        }
        if let Some((number, name)) = line.trim().split_once(' ') {
            majors.insert(name.trim(), number.parse().ok()?);
        }
    }
    names.iter().find_map(|name| majors.get(name).copied())
}

pub(super) fn plan(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let snapshot = profile.inventory.snapshot();
    requirements(profile)?;
    environment(profile);
    let mut control = 0;
    for (path, driver) in CONTROL {
        let path = Path::new(path);
        let major = major(snapshot, driver);
        if profile.node_at(path, path, major, Missing::Noted)? {
            control += 1;
        }
    }
    devices_of(profile)?;
    features(profile)?;
    imex(profile)?;
    if control == 0 && profile.picked.is_empty() {
        return Err(GpuError::None {
            vendor: Vendor::Nvidia.to_string(),
            looked: "not even /dev/nvidiactl is there; load the driver".to_owned(),
        });
    }
    profile.note(format!(
        "driver libraries ({}) are not injected by the built-in profile: they must come from a \
         CDI file (nvidia-ctk cdi generate) or the image",
        profile.request.extras.capabilities
    ));
    Ok(())
}

/// What is asked for besides devices.
pub(super) fn extras(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    requirements(profile)?;
    features(profile)?;
    imex(profile)
}

fn requirements(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let properties = require::Properties::read(profile.inventory.snapshot());
    for note in require::check(&profile.request.extras.require, &properties)? {
        profile.note(note);
    }
    Ok(())
}

fn environment(profile: &mut Profile<'_, '_>) {
    let units = profile.picked.iter();
    let known = units
        .clone()
        .map(|unit| match unit.part {
            // CUDA's name for an instance whose UUID is not known.
            Some(_) => unit
                .device
                .uuid
                .as_ref()
                .map(|_| format!("MIG-{}", unit.stable_name())),
            None => unit.device.uuid.clone(),
        })
        .collect::<Option<Vec<String>>>();
    let (visible, cuda) = match known {
        Some(names) => (names.join(","), names.join(",")),
        None => {
            let indices: Vec<String> = units.map(super::inventory::Unit::index).collect();
            (indices.join(","), profile.ordinals())
        }
    };
    if profile.request.what == Selection::None {
        profile.set_env("NVIDIA_VISIBLE_DEVICES", "none".to_owned());
        return;
    }
    profile.set_env("NVIDIA_VISIBLE_DEVICES", visible);
    // Time slicing says what is visible.
    if !matches!(profile.request.sharing, Some(Sharing::TimeSlice(_))) {
        profile.set_env("CUDA_VISIBLE_DEVICES", cuda);
    }
}

fn devices_of(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let snapshot = profile.inventory.snapshot();
    let own = major(snapshot, &["nvidia", "nvidia-frontend"]);
    let caps_major = major(snapshot, &["nvidia-caps"]);
    let wanted = &profile.request.extras.capabilities;
    let draws = wanted.any(&[Capability::Graphics, Capability::Display]);
    let mut found = 0;
    for unit in profile.picked {
        for path in &unit.device.nodes {
            if profile.node_at(path, path, own, Missing::Noted)? {
                found += 1;
            }
        }
        if let Some(part) = unit.part {
            if part.nodes.len() < 2 {
                return Err(GpuError::Node {
                    what: profile.origin.rule.to_string(),
                    reason: format!(
                        "{MIG_MINORS} has no number for the instance {}; load the driver's \
                         capabilities with nvidia-modprobe",
                        unit.index()
                    ),
                });
            }
            for path in &part.nodes {
                profile.node_at(path, path, caps_major, Missing::Refused)?;
            }
        }
        if draws && unit.part.is_none() {
            super::dri::nodes(profile, unit.device)?;
        }
    }
    if found == 0 && !profile.picked.is_empty() {
        return Err(GpuError::Node {
            what: profile.origin.rule.to_string(),
            reason: "none of the devices has its node in /dev; make them with nvidia-modprobe, \
                     or run nvidia-smi"
                .to_owned(),
        });
    }
    Ok(())
}

fn features(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let features = profile.request.extras.features.clone();
    for feature in features {
        match feature {
            Feature::Gds => {
                if any(profile, feature, "/dev", &["nvidia-fs"])? {
                    mount(profile, "/run/udev", FileKind::Directory);
                    mount(profile, "/etc/cufile.json", FileKind::File);
                }
            }
            Feature::Mofed => {
                any(profile, feature, "/dev/infiniband", &["uverbs", "rdma_cm"])?;
            }
            Feature::GdrCopy => {
                any(profile, feature, "/dev", &["gdrdrv"])?;
            }
            Feature::NvSwitch => {
                any(profile, feature, "/dev", &["nvidia-nvswitch"])?;
            }
            Feature::MigConfig => capability(profile, "config")?,
            Feature::MigMonitor => capability(profile, "monitor")?,
        }
    }
    Ok(())
}

/// Adds the nodes of a directory whose name is one of these, or one of these
/// and a number or `ctl`.
fn any(
    profile: &mut Profile<'_, '_>,
    feature: Feature,
    dir: &str,
    prefixes: &[&str],
) -> Result<bool, GpuError> {
    let snapshot = profile.inventory.snapshot();
    let is_one = |name: &str| {
        prefixes.iter().any(|prefix| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                rest.is_empty() || rest == "ctl" || rest.bytes().all(|b| b.is_ascii_digit())
            })
        })
    };
    let paths = snapshot
        .files
        .keys()
        .filter(|path| path.parent() == Some(Path::new(dir)))
        .filter(|path| node(snapshot, path).is_some())
        .filter(|path| is_one(&name_of(path)));
    let mut found = false;
    for path in paths {
        found |= profile.node(path, Missing::Noted)?;
    }
    if !found {
        let (variable, value) = feature.variable();
        profile.note(format!(
            "{variable}={value} asks for nodes that are not on the host ({dir}/{}*)",
            prefixes.join("*, ")
        ));
    }
    Ok(found)
}

fn capability(profile: &mut Profile<'_, '_>, name: &str) -> Result<(), GpuError> {
    let snapshot = profile.inventory.snapshot();
    match mig_minors(snapshot).get(name) {
        Some(minor) => {
            let (path, own) = (cap_node(*minor), major(snapshot, &["nvidia-caps"]));
            profile.node_at(&path, &path, own, Missing::Refused)?;
        }
        None => profile.note(format!(
            "{MIG_MINORS} has no {name}: the driver knows no MIG"
        )),
    }
    Ok(())
}

/// Adds a read-only bind mount of what the host has at a path.
fn mount(profile: &mut Profile<'_, '_>, path: &str, kind: FileKind) {
    match profile
        .inventory
        .snapshot()
        .file(path)
        .map(Presence::followed)
    {
        Some(Presence::Present(facts)) if facts.kind == kind => {
            let edit = Edit::AddMount(Mount {
                destination: path.into(),
                kind: None,
                source: Some(path.into()),
                options: ["ro", "nosuid", "nodev", "rbind", "rprivate"]
                    .map(str::to_owned)
                    .to_vec(),
            });
            profile.plan.push(edit, profile.origin.clone());
        }
        _ => profile.note(format!("{path} is not on the host")),
    }
}

fn imex(profile: &mut Profile<'_, '_>) -> Result<(), GpuError> {
    let snapshot = profile.inventory.snapshot();
    let Some(wanted) = &profile.request.extras.imex else {
        return Ok(());
    };
    let mut have: Vec<u32> = snapshot
        .names(IMEX_DIR)
        .iter()
        .filter_map(|name| number_after(name, "channel"))
        .collect();
    have.sort_unstable();
    let wanted: Vec<u32> = match wanted {
        ImexChannels::All => have.clone(),
        ImexChannels::Numbers(numbers) => numbers.iter().copied().collect(),
    };
    let driver = major(snapshot, &["nvidia-caps-imex-channels"]);
    for channel in wanted {
        if !have.contains(&channel) {
            let names: Vec<String> = have.iter().map(ToString::to_string).collect();
            let has = match names.as_slice() {
                [] => "no IMEX channels; the driver makes them (NVreg_CreateImexChannel0)".into(),
                names => format!("the channels {}", names.join(", ")),
            };
            return Err(GpuError::Node {
                what: profile.origin.rule.to_string(),
                reason: format!("no IMEX channel {channel} in {IMEX_DIR}, the host has {has}"),
            });
        }
        let path = Path::new(IMEX_DIR).join(format!("channel{channel}"));
        profile.node_at(&path, &path, driver, Missing::Refused)?;
    }
    Ok(())
}
