//! Mounts that stand for requests: `/dev/null` at a place below [`ROOT`] whose
//! path names a device. What a container may mount is the engine's to say, and
//! not the image's; that is what this form is for.
//!
//! Such a mount is taken out of the document once it is read: nothing is to be
//! mounted there.

use std::path::Path;

use super::{Collector, RequestError, Trust, What, malformed, name};
use crate::document::Document;
use crate::edit::path::clean;
use crate::edit::{Edit, Origin, PlannedEdit, Rule, Source};
use crate::gpu::request::{ImexChannels, check_id};
use crate::gpu::{Selection, Vendor};
use crate::policy::Place;

/// Below which the destination names a device.
pub const ROOT: &str = "/var/run/nvidia-container-devices";

pub(super) fn read(document: &Document, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let mut seen = Vec::new();
    for mount in document.mounts()? {
        let source = mount.source.as_deref().and_then(Path::to_str);
        if source.map(clean).as_deref() != Some("/dev/null") {
            continue;
        }
        let Some(destination) = mount.destination.to_str().map(clean) else {
            continue;
        };
        let Some(device) = destination
            .strip_prefix(ROOT)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        if device.is_empty() || seen.contains(&destination) {
            continue;
        }
        let source = Source::Mount {
            destination: destination.clone().into(),
        };
        if into.counts(Place::Mounts, &source) {
            let place = format!("mount {destination:?}");
            request(&place, device, &source, into)?;
            into.requests.read.push(PlannedEdit {
                edit: Edit::RemoveMount {
                    destination: destination.clone().into(),
                },
                origin: Origin {
                    rule: Rule::Builtin("mount request"),
                    sources: vec![source],
                },
            });
        }
        seen.push(destination);
    }
    Ok(())
}

fn request(
    place: &str,
    device: &str,
    source: &Source,
    into: &mut Collector<'_>,
) -> Result<(), RequestError> {
    if let Some(channel) = device.strip_prefix("imex/") {
        let number = super::environment::channel(channel)
            .ok_or_else(|| malformed(place, format!("{channel:?} is no number of a channel")))?;
        if !into.imex_counts(source) {
            return Ok(());
        }
        match into
            .requests
            .extras
            .imex
            .get_or_insert(ImexChannels::Numbers([].into()))
        {
            ImexChannels::Numbers(numbers) => {
                numbers.insert(number);
            }
            ImexChannels::All => {}
        }
        return Ok(());
    }
    if let Some(device) = device.strip_prefix("cdi/") {
        let text = match device.split('/').collect::<Vec<_>>().as_slice() {
            [vendor, class, device] if !class.contains('=') => {
                format!("{vendor}/{class}={device}")
            }
            _ => device.to_owned(),
        };
        into.cdi(name(place, &text)?, source, Trust::Engine);
        return Ok(());
    }
    // NVIDIA's runtime takes a qualified name here as well.
    if device.contains('=') {
        into.cdi(name(place, device)?, source, Trust::Engine);
        return Ok(());
    }
    let which = match device {
        "all" => Selection::All,
        "none" => Selection::None,
        "void" => return Ok(()),
        id => {
            check_id(id).map_err(|reason| malformed(place, reason))?;
            Selection::Ids([id.to_owned()].into())
        }
    };
    let vendor = Some(Vendor::Nvidia);
    into.device(What::Gpus { vendor, which }, source, Trust::Engine);
    Ok(())
}
