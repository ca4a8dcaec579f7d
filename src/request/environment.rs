//! Variables of the container. An image makes them, so they count only where the
//! policy says; what narrows or describes what somebody else asked for
//! (`NVIDIA_DRIVER_CAPABILITIES`, `NVIDIA_REQUIRE_*`) always does.

use std::collections::BTreeSet;

use super::{Collector, RequestError, Trust, What, malformed, name};
use crate::cdi::QualifiedName;
use crate::document::Document;
use crate::edit::Source;
use crate::gpu::request::{Capabilities, Feature, ImexChannels, Requirement, check_id, range};
use crate::gpu::{Selection, Vendor};
use crate::policy::Place;

const NVIDIA: &str = "NVIDIA_VISIBLE_DEVICES";
const REQUIRE: &str = "NVIDIA_REQUIRE_";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const IMEX: &str = "NVIDIA_IMEX_CHANNELS";

/// The largest number of a channel: minor numbers have 20 bits.
const MAX_CHANNEL: u32 = (1 << 20) - 1;

/// Far above any list that a device plugin writes.
const MAX_BYTES: usize = 64 << 10;

struct Environment<'e>(Vec<(&'e str, &'e str)>);

impl<'e> Environment<'e> {
    /// The value that a program would see: the last of several.
    fn get(&self, name: &str) -> Option<&'e str> {
        let mut entries = self.0.iter().rev();
        entries
            .find(|(own, _)| *own == name)
            .map(|(_, value)| *value)
    }
}

pub(super) fn read(document: &Document, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let entries = document.env()?;
    let pairs = entries.iter().filter_map(|entry| entry.split_once('='));
    let environment = Environment(pairs.collect());
    nvidia(&environment, into)?;
    for (variable, vendor) in [
        ("AMD_VISIBLE_DEVICES", Vendor::Amd),
        ("HABANA_VISIBLE_DEVICES", Vendor::Habana),
    ] {
        if let Some(value) = environment.get(variable) {
            visible(variable, value, &vendor, into)?;
        }
    }
    if into.requests.may_ask_nvidia() {
        describe(&environment, into)?;
    }
    Ok(())
}

fn nvidia(environment: &Environment<'_>, into: &mut Collector<'_>) -> Result<(), RequestError> {
    // Where a scheduler sets a variable of its own, the image's says nothing.
    let swarm = &into.policy.nvidia.swarm_resource;
    let mut names: Vec<String> = swarm.clone();
    names.retain(|name| environment.get(name).is_some());
    match (names.first(), environment.get(NVIDIA)) {
        (None, _) => names.push(NVIDIA.to_owned()),
        (Some(winner), Some(value)) if !names.iter().any(|name| name == NVIDIA) => {
            let variable = |name: &str, value: &str| Source::Environment {
                name: name.to_owned(),
                value: value.to_owned(),
            };
            let winner = variable(winner, environment.get(winner).unwrap_or_default());
            into.lost(&variable(NVIDIA, value), &winner);
        }
        _ => {}
    }
    for name in names {
        if let Some(value) = environment.get(&name) {
            visible(&name, value, &Vendor::Nvidia, into)?;
        }
    }
    Ok(())
}

/// One variable that lists devices.
fn visible(
    variable: &str,
    value: &str,
    vendor: &Vendor,
    into: &mut Collector<'_>,
) -> Result<(), RequestError> {
    let place = format!("environment {variable}");
    if value.len() > MAX_BYTES {
        let reason = format!("{} bytes, at most {MAX_BYTES} are read", value.len());
        return Err(malformed(&place, reason));
    }
    let entries: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    if entries.is_empty() || entries.contains(&"void") {
        return Ok(());
    }
    let source = Source::Environment {
        name: variable.to_owned(),
        value: value.to_owned(),
    };
    if !into.counts(Place::Environment, &source) {
        return Ok(());
    }
    let mut ids = BTreeSet::new();
    let mut special = None;
    let mut named: Vec<QualifiedName> = Vec::new();
    for entry in entries {
        match entry {
            "all" => {
                special.get_or_insert(Selection::All);
            }
            // AMD's own runtime reads it so.
            "All" | "ALL" if *vendor == Vendor::Amd => {
                special.get_or_insert(Selection::All);
            }
            "none" => {
                special.get_or_insert(Selection::None);
            }
            _ if entry.contains('=') => named.push(name(&place, entry)?),
            _ => match range(entry).map_err(|reason| malformed(&place, reason))? {
                Some(range) => ids.extend(range.map(|index| index.to_string())),
                None => {
                    check_id(entry).map_err(|reason| malformed(&place, reason))?;
                    ids.insert(entry.to_owned());
                }
            },
        }
    }
    let which = match special {
        Some(special) => Some(special),
        None if ids.is_empty() => None,
        None => Some(Selection::Ids(ids)),
    };
    for name in named {
        into.cdi(name, &source, Trust::Image);
    }
    if let Some(which) = which {
        let vendor = Some(vendor.clone());
        into.device(What::Gpus { vendor, which }, &source, Trust::Image);
    }
    Ok(())
}

/// What NVIDIA's variables say of devices that somebody asked for.
fn describe(environment: &Environment<'_>, into: &mut Collector<'_>) -> Result<(), RequestError> {
    if let Some(value) = environment.get(CAPABILITIES) {
        into.requests.extras.capabilities = Capabilities::parse(value)
            .map_err(|reason| malformed(&format!("environment {CAPABILITIES}"), reason))?;
    }
    requirements(environment, into);
    for feature in Feature::ALL {
        let (variable, wanted) = feature.variable();
        if environment.get(variable) != Some(wanted) {
            continue;
        }
        let source = Source::Environment {
            name: variable.to_owned(),
            value: wanted.to_owned(),
        };
        if into.counts(Place::Environment, &source) {
            into.requests.extras.features.insert(feature);
        }
    }
    match environment.get(IMEX) {
        Some(value) => imex(value, into),
        None => Ok(()),
    }
}

fn requirements(environment: &Environment<'_>, into: &mut Collector<'_>) {
    let disabled = environment
        .get("NVIDIA_DISABLE_REQUIRE")
        .is_some_and(is_true);
    if disabled || into.policy.nvidia.disable_require {
        return;
    }
    let mut found: Vec<Requirement> = Vec::new();
    for (variable, _) in &environment.0 {
        // Jetson's is about something else.
        let is_one =
            variable.starts_with(REQUIRE) && !variable.starts_with("NVIDIA_REQUIRE_JETPACK");
        if let (true, Some(value)) = (is_one, environment.get(variable)) {
            found.push(Requirement {
                variable: (*variable).to_owned(),
                value: value.to_owned(),
            });
        }
    }
    // Images from before there were requirements.
    let cuda = environment.get("CUDA_VERSION").filter(|v| !v.is_empty());
    if let (Some(version), None) = (cuda, environment.get("NVIDIA_REQUIRE_CUDA")) {
        let numbers: Vec<&str> = version.split('.').take(2).collect();
        found.push(Requirement {
            variable: "CUDA_VERSION".to_owned(),
            value: format!("cuda>={}", numbers.join(".")),
        });
    }
    found.sort();
    found.dedup();
    into.requests.extras.require = found;
}

/// As Go's `strconv.ParseBool`, which is what images are written for.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn imex(value: &str, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let entries: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    let nothing = entries.is_empty() || entries.iter().any(|e| matches!(*e, "void" | "none"));
    if nothing {
        return Ok(());
    }
    let source = Source::Environment {
        name: IMEX.to_owned(),
        value: value.to_owned(),
    };
    if !into.counts(Place::Environment, &source) || !into.imex_counts(&source) {
        return Ok(());
    }
    // Mounts come first, as for devices.
    if into.requests.extras.imex.is_some() {
        let reason = "mounts ask for channels";
        into.note(format!("{source} is not used: {reason}"), &source);
        into.requests.ledger.ignore(&source, reason, None);
        return Ok(());
    }
    if entries.contains(&"all") {
        into.requests.extras.imex = Some(ImexChannels::All);
        return Ok(());
    }
    let mut numbers = BTreeSet::new();
    for entry in entries {
        let number = channel(entry).ok_or_else(|| {
            malformed(
                &format!("environment {IMEX}"),
                format!("{entry:?} is no number of a channel, at most {MAX_CHANNEL}"),
            )
        })?;
        numbers.insert(number);
    }
    into.requests.extras.imex = Some(ImexChannels::Numbers(numbers));
    Ok(())
}

/// `N` or `channelN`.
pub(super) fn channel(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("channel").unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok()).flatten()?;
    (number <= MAX_CHANNEL).then_some(number)
}
