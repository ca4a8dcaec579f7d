//! Drivers, libraries, device nodes and the multi-process service.

use std::path::Path;

use super::{Finding, Patterns, Survey};
use crate::gpu::{Inventory, Vendor};
use crate::host::facts::{FileKind, Presence, Snapshot};

pub(super) const NEEDS: Patterns = (
    &[
        "/sys/bus/pci/devices/*:*/vendor",
        "/sys/bus/pci/devices/*:*/class",
    ],
    &["/sys/bus/pci/devices", "/sys/bus/pci/devices/*:*"],
    &[
        "/usr/lib/x86_64-linux-gnu/libcuda.so.*",
        "/usr/lib/aarch64-linux-gnu/libcuda.so.*",
        "/usr/lib64/libcuda.so.*",
        "/usr/lib/libcuda.so.*",
        "/tmp/nvidia-mps",
        "/tmp/nvidia-mps/control",
    ],
);

const DRIVER: &str = "driver";
const NODES: &str = "device nodes";
const MPS: &str = "mps";

pub(super) fn examine(survey: &Survey<'_>) -> Vec<Finding> {
    let snapshot = survey.snapshot;
    let inventory = Inventory::read(snapshot);
    let mut findings = devices(&inventory);
    findings.extend(undriven(snapshot));
    findings.extend(nvidia_driver(snapshot));
    findings.extend(nodes(&inventory));
    if inventory.of(&Vendor::Nvidia).next().is_some() {
        findings.extend(nvidia_control(snapshot));
        findings.extend(mps(snapshot));
    }
    findings
}

fn devices(inventory: &Inventory<'_>) -> Vec<Finding> {
    let vendors = inventory.vendors();
    if vendors.is_empty() {
        let text = "no GPU of which a driver tells";
        let fix = "load the driver if the host has one; containers can still ask for CDI devices";
        return vec![Finding::note(DRIVER, text, fix)];
    }
    let count = |vendor: &Vendor| {
        let units = inventory.units(vendor).count();
        match inventory.of(vendor).count() {
            1 => format!("1 GPU of {vendor}, {units} to be asked for"),
            count => format!("{count} GPUs of {vendor}, {units} to be asked for"),
        }
    };
    vendors
        .iter()
        .map(|v| Finding::fine(DRIVER, count(v)))
        .collect()
}

/// Display controllers and accelerators on the PCI bus without a driver.
fn undriven(snapshot: &Snapshot) -> Vec<Finding> {
    const BUS: &str = "/sys/bus/pci/devices";
    let mut findings = Vec::new();
    for address in snapshot.names(BUS) {
        let dir = Path::new(BUS).join(address);
        let is_gpu = snapshot.text(dir.join("class")).is_some_and(|class| {
            class.starts_with("0x0300")
                || class.starts_with("0x0302")
                || class.starts_with("0x1200")
        });
        let driver = match snapshot.text(dir.join("vendor")) {
            Some("0x10de") => ("NVIDIA", "nvidia"),
            Some("0x1002") => ("AMD", "amdgpu"),
            Some("0x1da3") => ("Habana", "habanalabs"),
            _ => continue,
        };
        if is_gpu && !snapshot.names(&dir).iter().any(|name| name == "driver") {
            findings.push(Finding::problem(
                DRIVER,
                format!("the {} GPU at {address} has no driver", driver.0),
                format!(
                    "modprobe {}, or see why it refuses: dmesg | grep -i {}",
                    driver.1, driver.1
                ),
            ));
        }
    }
    findings
}

/// The version of NVIDIA's kernel module.
pub(super) fn kernel_module(snapshot: &Snapshot) -> Option<&str> {
    let text = snapshot.text("/proc/driver/nvidia/version")?;
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace().find(|word| is_version(word))
}

/// `550.54.15`: at least two numbers.
pub(super) fn is_version(word: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    word.contains('.') && word.split('.').all(number)
}

/// Versions of the libraries that are installed.
fn libraries(snapshot: &Snapshot) -> Vec<&str> {
    let mut versions: Vec<&str> = snapshot
        .files
        .iter()
        .filter(|(_, presence)| matches!(presence, Presence::Present(_)))
        .filter_map(|(path, _)| path.file_name()?.to_str()?.strip_prefix("libcuda.so."))
        .filter(|version| is_version(version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn nvidia_driver(snapshot: &Snapshot) -> Vec<Finding> {
    let libraries = libraries(snapshot);
    match (kernel_module(snapshot), libraries.as_slice()) {
        (None, []) => Vec::new(),
        (None, [version, ..]) => vec![Finding::problem(
            DRIVER,
            format!("libcuda {version} is installed, NVIDIA's kernel module is not loaded"),
            "modprobe nvidia, or install the module of the same version",
        )],
        (Some(module), []) => vec![Finding::fine(
            DRIVER,
            format!("NVIDIA's kernel module is {module}"),
        )],
        (Some(module), versions) if versions.contains(&module) => vec![Finding::fine(
            DRIVER,
            format!("NVIDIA's kernel module and libraries are {module}"),
        )],
        (Some(module), versions) => vec![Finding::problem(
            DRIVER,
            format!(
                "NVIDIA's kernel module is {module}, the libraries are {}: programs will fail with a version mismatch",
                versions.join(" and ")
            ),
            "reboot, or unload the module and load the new one: rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe nvidia",
        )],
    }
}

fn nodes(inventory: &Inventory<'_>) -> Vec<Finding> {
    let snapshot = inventory.snapshot();
    let mut findings = Vec::new();
    let mut count = 0;
    for device in inventory.devices() {
        // A card's node is for displays; to compute, the render node is needed.
        let render = device.dri.iter().filter(|path| is_render(path));
        for path in device.nodes.iter().chain(render) {
            count += 1;
            let what = format!(
                "{} of GPU {} of {}",
                path.display(),
                device.index,
                device.vendor
            );
            match snapshot.file(path) {
                Some(Presence::Present(facts)) => {
                    if facts.kind != FileKind::Char {
                        let text = format!("{what} is {}", facts.kind.noun());
                        let fix = "remove it and load the driver again";
                        findings.push(Finding::problem(NODES, text, fix));
                    }
                }
                Some(Presence::Unknown { reason }) => findings.push(Finding::problem(
                    NODES,
                    format!("{what} cannot be examined: {reason}"),
                    "run as root",
                )),
                _ => findings.push(Finding::problem(
                    NODES,
                    format!("{what} is not there"),
                    match nvidia_minor(path) {
                        Some(minor) => format!("nvidia-modprobe -c {minor}"),
                        None => "udevadm trigger, or load the driver again".to_owned(),
                    },
                )),
            }
        }
    }
    if inventory.of(&Vendor::Amd).next().is_some()
        && !matches!(snapshot.file("/dev/kfd"), Some(Presence::Present(_)))
    {
        let text = "/dev/kfd is not there: ROCm will not start";
        let fix = "udevadm trigger, or modprobe amdgpu; dmesg | grep kfd says why it has none";
        findings.push(Finding::problem(NODES, text, fix));
    }
    if findings.is_empty() && count > 0 {
        let text = format!("all {count} nodes of GPUs are there");
        findings.push(Finding::fine(NODES, text));
    }
    findings
}

/// The minor number of `/dev/nvidiaN`, which need not be the GPU's index.
fn nvidia_minor(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("nvidia")?.parse().ok()
}

fn is_render(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("renderD"))
}

/// NVIDIA's nodes for all GPUs, against the majors that the kernel gives now.
fn nvidia_control(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, driver, fix) in [
        ("/dev/nvidiactl", "nvidia", "nvidia-modprobe -c 255"),
        ("/dev/nvidia-uvm", "nvidia-uvm", "nvidia-modprobe -u -c 0"),
        (
            "/dev/nvidia-uvm-tools",
            "nvidia-uvm",
            "nvidia-modprobe -u -c 0",
        ),
    ] {
        match snapshot.file(path) {
            Some(Presence::Present(facts)) => {
                let majors = majors(snapshot, driver);
                if !majors.is_empty() && !majors.contains(&facts.major) {
                    findings.push(Finding::problem(
                        NODES,
                        format!(
                            "{path} has major {}, the driver has {} now: it was made before the driver was loaded again",
                            facts.major, majors[0]
                        ),
                        format!("rm {path}; {fix}"),
                    ));
                }
            }
            _ => findings.push(Finding::problem(
                NODES,
                format!("{path} is not there: CUDA will not start"),
                fix,
            )),
        }
    }
    findings
}

/// Majors of a driver's character devices (`/proc/devices`).
fn majors(snapshot: &Snapshot, driver: &str) -> Vec<u32> {
    let text = snapshot.text("/proc/devices").unwrap_or_default();
    let characters = text.split("Block devices:").next().unwrap_or_default();
    characters
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, name)| *name == driver || (driver == "nvidia" && *name == "nvidia-frontend"))
        .filter_map(|(major, _)| major.parse().ok())
        .collect()
}

fn mps(snapshot: &Snapshot) -> Vec<Finding> {
    let there = |path: &str| matches!(snapshot.file(path), Some(Presence::Present(_)));
    match (there("/tmp/nvidia-mps"), there("/tmp/nvidia-mps/control")) {
        (_, true) => vec![Finding::fine(
            MPS,
            "the multi-process service has its directory in /tmp/nvidia-mps",
        )],
        (true, false) => vec![Finding::note(
            MPS,
            "/tmp/nvidia-mps is there, and no control daemon in it",
            "nvidia-cuda-mps-control -d, or remove the directory",
        )],
        (false, false) => Vec::new(),
    }
}
