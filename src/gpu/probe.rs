//! Which files of a host tell what GPUs it has.

use std::collections::BTreeSet;

use super::Vendor;

/// Patterns of absolute paths; `*` stands for any part of one name.
///
/// `host::gpu` follows them from the host's root. For each `*` the names that
/// match are known afterwards (`Snapshot::names`), for each text what it says,
/// for each node what `lstat` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Small text files.
    pub texts: BTreeSet<&'static str>,
    /// Directories whose names count.
    pub names: BTreeSet<&'static str>,
    /// Device nodes, and what else needs no more than `lstat`.
    pub nodes: BTreeSet<&'static str>,
    /// Symbolic links whose targets count.
    pub links: BTreeSet<&'static str>,
}

impl Needs {
    fn add(&mut self, texts: &[&'static str], names: &[&'static str], nodes: &[&'static str]) {
        self.texts.extend(texts);
        self.names.extend(names);
        self.nodes.extend(nodes);
    }
}

/// What is needed to know how devices are connected, besides [`needs`]: only where
/// somebody has to pick.
#[must_use]
pub fn link_needs(vendor: Option<&Vendor>) -> Needs {
    let mut needs = Needs::default();
    let drivers: [(Vendor, &[&'static str]); 4] = [
        (Vendor::Nvidia, &["/sys/bus/pci/drivers/nvidia/*:*"]),
        (Vendor::Amd, &["/sys/module/amdgpu/drivers/pci:amdgpu/*:*"]),
        (
            Vendor::Intel,
            &[
                "/sys/bus/pci/drivers/i915/*:*",
                "/sys/bus/pci/drivers/xe/*:*",
            ],
        ),
        (Vendor::Habana, &["/sys/bus/pci/drivers/habanalabs/*:*"]),
    ];
    for (own, links) in drivers {
        if vendor.is_some_and(|wanted| *wanted != own) {
            continue;
        }
        needs.links.extend(links);
        if own == Vendor::Amd {
            needs
                .texts
                .insert("/sys/class/kfd/kfd/topology/nodes/*/io_links/*/properties");
        }
    }
    needs
}

/// What is needed to know the devices of one vendor, or of all. For a vendor that
/// is not known these are render nodes, whoever else may claim them.
#[must_use]
pub fn needs(vendor: Option<&Vendor>) -> Needs {
    let mut needs = Needs::default();
    let wants = |one: &Vendor| {
        vendor.is_none_or(|wanted| {
            wanted == one || matches!((wanted, one), (Vendor::Other(_), Vendor::Other(_)))
        })
    };
    if wants(&Vendor::Nvidia) {
        needs.add(
            &[
                "/proc/devices",
                "/proc/driver/nvidia/version",
                "/proc/driver/nvidia/gpus/*/information",
                "/proc/driver/nvidia-caps/mig-minors",
                "/sys/bus/pci/drivers/nvidia/*:*/numa_node",
            ],
            &[
                "/proc/driver/nvidia/gpus",
                "/proc/driver/nvidia/capabilities",
                "/proc/driver/nvidia/capabilities/gpu*/mig",
                "/proc/driver/nvidia/capabilities/gpu*/mig/gi*",
                "/sys/bus/pci/drivers/nvidia/*:*/drm",
                "/dev/nvidia-caps-imex-channels",
                "/dev/infiniband",
            ],
            &[
                "/dev/nvidia*",
                "/dev/nvidia-caps/nvidia-cap*",
                "/dev/nvidia-caps-imex-channels/channel*",
                "/dev/infiniband/uverbs*",
                "/dev/infiniband/rdma_cm",
                "/dev/gdrdrv",
                "/dev/dri/*",
                "/run/udev",
                "/etc/cufile.json",
            ],
        );
    }
    if wants(&Vendor::Amd) {
        needs.add(
            &[
                "/sys/class/kfd/kfd/topology/nodes/*/properties",
                "/sys/module/amdgpu/drivers/pci:amdgpu/*:*/current_compute_partition",
                "/sys/module/amdgpu/drivers/pci:amdgpu/*:*/current_memory_partition",
                "/sys/module/amdgpu/drivers/pci:amdgpu/*:*/numa_node",
                "/sys/module/amdgpu/drivers/pci:amdgpu/*:*/unique_id",
            ],
            &[
                "/sys/class/kfd/kfd/topology/nodes",
                "/sys/module/amdgpu/drivers/pci:amdgpu",
                "/sys/module/amdgpu/drivers/pci:amdgpu/*:*/drm",
                "/sys/devices/platform",
                "/sys/devices/platform/amdgpu_xcp*/drm",
            ],
            &["/dev/kfd", "/dev/dri/*"],
        );
    }
    if wants(&Vendor::Intel) {
        needs.add(
            &[
                "/sys/bus/pci/drivers/i915/*:*/numa_node",
                "/sys/bus/pci/drivers/xe/*:*/numa_node",
                "/sys/bus/pci/drivers/intel_vpu/*:*/numa_node",
            ],
            &[
                "/sys/bus/pci/drivers/i915",
                "/sys/bus/pci/drivers/i915/*:*/drm",
                "/sys/bus/pci/drivers/xe",
                "/sys/bus/pci/drivers/xe/*:*/drm",
                "/sys/bus/pci/drivers/intel_vpu",
                "/sys/bus/pci/drivers/intel_vpu/*:*/accel",
            ],
            &["/dev/dri/*", "/dev/accel/accel*"],
        );
    }
    if wants(&Vendor::Habana) {
        needs.add(
            &[
                "/sys/bus/pci/drivers/habanalabs/*:*/module_id",
                "/sys/bus/pci/drivers/habanalabs/*:*/numa_node",
            ],
            &[
                "/sys/bus/pci/drivers/habanalabs",
                "/sys/bus/pci/drivers/habanalabs/*:*/accel",
                "/sys/bus/pci/drivers/habanalabs/*:*/habanalabs",
                "/sys/bus/pci/drivers/habanalabs/*:*/infiniband_verbs",
            ],
            &["/dev/accel/accel*", "/dev/hl*", "/dev/infiniband/uverbs*"],
        );
    }
    if wants(&Vendor::Other(String::new())) {
        needs.add(
            &["/sys/class/drm/renderD*/device/vendor"],
            &["/sys/class/drm"],
            &["/dev/dri/*"],
        );
    }
    needs
}
