//! What a valid shape can still get wrong: values that contradict each other.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{Gpu, Service, ServiceFile};
use crate::yaml::{Node, Report, Trail};

/// Mounts of the builder that a storage may replace, as in a larger `/dev/shm`.
const REPLACEABLE: &[&str] = &["/dev/shm", "/dev/mqueue"];

/// Mounts of the builder that nothing may replace.
const FIXED: &[&str] = &["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup"];

/// Reports contradictions; places are found in `root`.
pub(super) fn check(file: &ServiceFile, root: &Node, report: &Report) {
    let report = |trail: &Trail, reason: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        report.add(trail.locate(root), trail, reason, hint);
    };
    let services = Trail::default().key("services");
    if file.services.is_empty() {
        report(&services, "there are none".to_owned(), None);
    }
    for (name, service) in &file.services {
        let trail = services.key(name);
        targets(service, &trail, &report);
        devices(service, &trail, &report);
        if let Some(gpu) = &service.resources.gpu {
            ranks(gpu, &trail.key("resources").key("gpu"), &report);
        }
    }
}

fn targets(service: &Service, trail: &Trail, report: &dyn Fn(&Trail, String, Option<&str>)) {
    let mut seen = BTreeMap::new();
    for (index, storage) in service.storage.iter().enumerate() {
        let trail = trail.key("storage").index(index).key("target");
        let target = storage.target.as_path();
        let shown = target.display();
        if let Some(first) = seen.insert(target, index) {
            report(
                &trail,
                format!("{shown} is the target of storage[{first}], too"),
                None,
            );
        }
        if FIXED.iter().any(|fixed| target == Path::new(fixed)) {
            let reason = format!("{shown} is mounted for every container");
            report(&trail, reason, Some("choose another target"));
            continue;
        }
        // What the container must not be able to make up, and what no runtime
        // lets anything be mounted over.
        let covered = ["/proc", "/sys"].iter().find(|top| target.starts_with(top));
        if let Some(top) = covered {
            report(
                &trail,
                format!("{shown} is below {top}"),
                Some("choose another target"),
            );
        }
    }
}

/// Whether a storage takes the place of a default mount.
pub(super) fn replaces_default(target: &Path) -> bool {
    REPLACEABLE.iter().any(|path| target == Path::new(path))
}

fn devices(service: &Service, trail: &Trail, report: &dyn Fn(&Trail, String, Option<&str>)) {
    let mut seen = BTreeMap::new();
    for (index, device) in service.devices.iter().enumerate() {
        let trail = trail.key("devices").index(index);
        if let Some(first) = seen.insert(device.path.as_path(), index) {
            let reason = format!("{} is devices[{first}], too", device.path.display());
            report(&trail.key("path"), reason, None);
        }
        if device.access.is_empty() {
            report(
                &trail,
                "nothing may be done with it".to_owned(),
                Some("leave it out, or set read, write or mknod"),
            );
        }
    }
}

fn ranks(gpu: &Gpu, trail: &Trail, report: &dyn Fn(&Trail, String, Option<&str>)) {
    let Some(distributed) = &gpu.distributed else {
        return;
    };
    let size = distributed.world_size.unwrap_or(1);
    let trail = trail.key("distributed");
    for (key, rank) in [
        ("rank", distributed.rank),
        ("local_rank", distributed.local_rank),
    ] {
        if let Some(rank) = rank.filter(|rank| *rank >= size) {
            report(
                &trail.key(key),
                format!("{rank} is not below world_size, which is {size}"),
                None,
            );
        }
    }
    if distributed.interface.is_some() && distributed.backend.is_none() {
        report(
            &trail.key("interface"),
            "does not go without backend".to_owned(),
            Some("add backend: nccl or backend: gloo"),
        );
    }
}
