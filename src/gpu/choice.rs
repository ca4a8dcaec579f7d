//! From names and counts to devices.

use std::path::PathBuf;

use super::inventory::{Inventory, Unit, bus_id, units_of};
use super::{Device, GpuError, GpuRequest, Selection, Vendor};
use crate::cdi::QualifiedName;

/// The devices that a request could mean.
#[derive(Debug, Clone)]
pub struct Choice<'i> {
    /// Whose they are.
    pub vendor: Vendor,
    /// In order; all different.
    pub among: Vec<Unit<'i>>,
    /// How many of them the container gets.
    pub count: usize,
}

impl Choice<'_> {
    /// Whether somebody has to pick.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.count < self.among.len()
    }
}

/// Those with the lowest numbers.
#[must_use]
pub fn lowest_first<'i>(choice: &Choice<'i>) -> Vec<Unit<'i>> {
    choice.among.iter().take(choice.count).copied().collect()
}

/// Somebody who picks so many of some units; `E` is why they may not.
pub trait Pick<E> {
    /// Picks [`Choice::count`] of [`Choice::among`].
    ///
    /// # Errors
    /// Not so many can be had.
    fn pick<'i>(&mut self, choice: &Choice<'i>) -> Result<Vec<Unit<'i>>, E>;

    /// Picks `count` of some CDI devices of which the host itself tells nothing,
    /// each with the nodes that are its own; returns their places.
    ///
    /// # Errors
    /// Not so many can be had.
    fn pick_named(
        &mut self,
        among: &[(QualifiedName, Vec<PathBuf>)],
        count: usize,
    ) -> Result<Vec<usize>, E>;
}

/// Picks those with the lowest numbers, whoever else has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowestFirst;

impl<E> Pick<E> for LowestFirst {
    fn pick<'i>(&mut self, choice: &Choice<'i>) -> Result<Vec<Unit<'i>>, E> {
        Ok(lowest_first(choice))
    }

    fn pick_named(
        &mut self,
        among: &[(QualifiedName, Vec<PathBuf>)],
        count: usize,
    ) -> Result<Vec<usize>, E> {
        Ok((0..count.min(among.len())).collect())
    }
}

/// Finds the devices that a request means.
///
/// A GPU in MIG mode stands for all its instances, and a count takes only GPUs
/// that are whole.
///
/// # Errors
/// A name that is not there, more than there are, or several vendors that could
/// be meant; each says what the host has.
pub fn choose<'i>(
    request: &GpuRequest,
    inventory: &'i Inventory<'_>,
) -> Result<Choice<'i>, GpuError> {
    let vendor = vendor(request, inventory)?;
    let all: Vec<Unit<'i>> = inventory.units(&vendor).collect();
    let (among, count) = match &request.what {
        Selection::None => (Vec::new(), 0),
        _ if all.is_empty() => return Err(none(&vendor)),
        Selection::All => {
            let count = all.len();
            (all, count)
        }
        Selection::Count(wanted) => {
            let whole: Vec<Unit<'i>> = all.iter().filter(|u| u.part.is_none()).copied().collect();
            let count = usize::try_from(*wanted).unwrap_or(usize::MAX);
            if count > whole.len() {
                return Err(GpuError::TooMany {
                    vendor: vendor.to_string(),
                    wanted: *wanted,
                    count: whole.len(),
                    have: list(&all),
                });
            }
            (whole, count)
        }
        Selection::Ids(ids) => {
            let mut found = Vec::new();
            for id in ids {
                found.extend(find(id, &vendor, inventory)?);
            }
            found.sort_by_key(Unit::key);
            found.dedup();
            let count = found.len();
            (found, count)
        }
    };
    Ok(Choice {
        vendor,
        among,
        count,
    })
}

fn vendor(request: &GpuRequest, inventory: &Inventory<'_>) -> Result<Vendor, GpuError> {
    if let Some(vendor) = &request.vendor {
        return Ok(vendor.clone());
    }
    let mut vendors = inventory.vendors();
    match vendors.len() {
        0 => Err(GpuError::None {
            vendor: "known".to_owned(),
            looked: "neither a driver of NVIDIA, AMD, Intel or Habana nor a DRI render node is \
                     there; load the driver, or ask for a CDI device by name"
                .to_owned(),
        }),
        1 => Ok(vendors.remove(0)),
        _ => Err(GpuError::Ambiguous {
            first: vendors.first().map(ToString::to_string).unwrap_or_default(),
            vendors: vendors.iter().map(ToString::to_string).collect(),
            what: request.what.to_string(),
        }),
    }
}

fn none(vendor: &Vendor) -> GpuError {
    let looked = match vendor {
        Vendor::Nvidia => {
            "/proc/driver/nvidia/gpus lists none and there is no /dev/nvidiaN; load the driver \
             (nvidia-smi shows whether it works)"
        }
        Vendor::Amd => {
            "/sys/module/amdgpu/drivers/pci:amdgpu lists none with a render node; load amdgpu"
        }
        Vendor::Intel => {
            "the drivers i915, xe and intel_vpu have none with a DRI or accel node; load the driver"
        }
        Vendor::Habana => "the driver habanalabs has none with an accel node; load the driver",
        Vendor::Other(_) => "there is no render node in /dev/dri; load the driver",
    };
    GpuError::None {
        vendor: vendor.to_string(),
        looked: looked.to_owned(),
    }
}

fn list(units: &[Unit<'_>]) -> String {
    if units.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = units.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Everything that goes by a name.
fn find<'i>(
    id: &str,
    vendor: &Vendor,
    inventory: &'i Inventory<'_>,
) -> Result<Vec<Unit<'i>>, GpuError> {
    let unknown = |reason: String| {
        let all: Vec<Unit<'_>> = inventory.units(vendor).collect();
        GpuError::Unknown {
            vendor: vendor.to_string(),
            id: id.to_owned(),
            reason,
            have: list(&all),
        }
    };
    if let Some(part) = part(id, vendor, inventory) {
        return part
            .map(|unit| vec![unit])
            .ok_or_else(|| unknown("it has no such instance".to_owned()));
    }
    let whole: Vec<&Device> = inventory.of(vendor).filter(|d| is_named(d, id)).collect();
    if !whole.is_empty() {
        return Ok(whole.into_iter().flat_map(units_of).collect());
    }
    let prefix: Vec<&Device> = inventory.of(vendor).filter(|d| starts(d, id)).collect();
    match prefix.as_slice() {
        [] => Err(unknown(why_unknown(id, vendor).to_owned())),
        [one] => Ok(units_of(one)),
        _ => Err(unknown("several UUIDs start so".to_owned())),
    }
}

fn why_unknown(id: &str, vendor: &Vendor) -> &'static str {
    if *vendor == Vendor::Nvidia && id.starts_with("MIG-") && !id.starts_with("MIG-GPU-") {
        "the kernel does not tell the UUIDs of MIG instances, only NVIDIA's library does; use one \
         of the host's names, or a CDI file that has it"
    } else {
        "no device goes by that name"
    }
}

/// A part by `GPU:MIG` or `MIG-GPU-…/GI/CI`; `None` if it is another form.
fn part<'i>(id: &str, vendor: &Vendor, inventory: &'i Inventory<'_>) -> Option<Option<Unit<'i>>> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let mut units = inventory.units(vendor);
    if let Some(rest) = id.strip_prefix("MIG-GPU-") {
        let mut parts = rest.splitn(3, '/');
        let uuid = format!("GPU-{}", parts.next()?);
        let (gpu, compute) = (number(parts.next()?)?, number(parts.next()?)?);
        return Some(units.find(|unit| {
            let same = |own: &String| own.eq_ignore_ascii_case(&uuid);
            unit.device.uuid.as_ref().is_some_and(same)
                && unit.part.is_some_and(|part| {
                    (part.gpu_instance, part.compute_instance) == (gpu, compute)
                })
        }));
    }
    let (device, part) = id.split_once(':')?;
    let key = (number(device)?, Some(number(part)?));
    Some(units.find(|unit| unit.key() == key))
}

/// Whether a device goes by this name: index, UUID or bus id.
fn is_named(device: &Device, id: &str) -> bool {
    if id == device.index.to_string() {
        return true;
    }
    if let (Some(bus), Some(wanted)) = (&device.bus, bus_id(id))
        && bus_id(bus) == Some(wanted)
    {
        return true;
    }
    let Some(uuid) = &device.uuid else {
        return false;
    };
    if uuid.eq_ignore_ascii_case(id) {
        return true;
    }
    // AMD's tools write a device's own number as 0xHEX, HEX or GPU-HEX.
    let bare = id
        .strip_prefix("0x")
        .or_else(|| id.strip_prefix("0X"))
        .or_else(|| id.strip_prefix("GPU-"))
        .unwrap_or(id);
    device.vendor == Vendor::Amd
        && bare.len() > 8
        && bare
            .trim_start_matches('0')
            .eq_ignore_ascii_case(uuid.trim_start_matches('0'))
}

/// Whether the name is the beginning of the device's UUID, and long enough that
/// this is no accident: NVIDIA's tools accept that, too.
fn starts(device: &Device, id: &str) -> bool {
    let long = id.len() >= "GPU-12345678".len() && id.starts_with("GPU-");
    let prefix = |uuid: &String| {
        uuid.get(..id.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(id))
    };
    device.vendor == Vendor::Nvidia && long && device.uuid.as_ref().is_some_and(prefix)
}
