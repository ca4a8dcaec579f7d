//! Flags of `create`, `run`, `explain` and `edit`.

use super::{Collector, Flags, RequestError, Trust, malformed, names};
use crate::edit::Source;
use crate::policy::Place;

const DEVICE: &str = "--device";
const GPUS: &str = "--gpus";
const SHARE: &str = "--gpu-share";
const DISTRIBUTED: &str = "--distributed";
const CGROUP_PARENT: &str = "--cgroup-parent";

pub(super) fn read(flags: &Flags, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let source = |flag: &'static str, value: &str| Source::Flag {
        flag,
        value: value.to_owned(),
    };
    for value in &flags.devices {
        let source = source(DEVICE, value);
        if !into.counts(Place::CommandLine, &source) {
            continue;
        }
        for name in names("flag --device", value)? {
            into.cdi(name, &source, Trust::Operator);
        }
    }
    for value in &flags.gpus {
        let source = source(GPUS, value);
        if into.counts(Place::CommandLine, &source) {
            into.gpus("flag --gpus", value, &source, Trust::Operator)?;
        }
    }
    if let Some(value) = &flags.gpu_share {
        let source = source(SHARE, value);
        if into.counts(Place::CommandLine, &source) {
            let wish = value
                .parse()
                .map_err(|reason| malformed("flag --gpu-share", reason))?;
            into.keep_first(|all| &mut all.sharing, wish, &source);
        }
    }
    if let Some(value) = &flags.distributed {
        let source = source(DISTRIBUTED, value);
        if into.counts(Place::CommandLine, &source) {
            let wish = value
                .parse()
                .map_err(|reason| malformed("flag --distributed", reason))?;
            into.keep_first(|all| &mut all.distributed, wish, &source);
        }
    }
    if let Some(value) = &flags.cgroup_parent {
        let source = source(CGROUP_PARENT, value);
        if into.counts(Place::CommandLine, &source) {
            let parent = cgroup_parent("flag --cgroup-parent", value)?;
            into.keep_first(|all| &mut all.cgroup_parent, parent, &source);
        }
    }
    Ok(())
}

/// A cgroup as `linux.cgroupsPath` may begin: a path, or a slice of systemd's.
pub(super) fn cgroup_parent(place: &str, value: &str) -> Result<String, RequestError> {
    let climbs = value.split('/').any(|part| part == "..");
    if value.is_empty() || climbs || value.contains(['\0', ':', '\n']) {
        return Err(malformed(
            place,
            format!("{value:?} is no cgroup, expected a path without .. or a slice"),
        ));
    }
    Ok(value.to_owned())
}
