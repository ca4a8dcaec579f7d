//! Annotations: `cdi.k8s.io/<key>: vendor/class=a,vendor/class=b`, and our own,
//! which say what the flags of the same name say.
//!
//! The key after CDI's prefix only keeps plugins apart, nothing is read from it.

use super::flag::cgroup_parent;
use super::{Collector, RequestError, Trust, malformed, names};
use crate::document::{Document, key_segment};
use crate::edit::Source;
use crate::gpu::Sharing;
use crate::policy::{Place, Resolver};

const OWN_PREFIX: &str = "kusabi.dev/";
const OWN: &str = "gpus, gpu-share, distributed or cgroup-parent";

pub(super) fn read(document: &Document, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let annotations = document.annotations()?;
    let mut own: Vec<(&str, &str)> = Vec::new();
    for (key, value) in annotations {
        let is_cdi = into
            .policy
            .sources
            .cdi_annotation_prefixes
            .iter()
            .any(|prefix| key.starts_with(prefix.as_str()));
        if is_cdi {
            cdi(key, value, into)?;
        } else if let Some(name) = key.strip_prefix(OWN_PREFIX) {
            own.push((name, value));
        }
    }
    own.sort_unstable();
    own.into_iter()
        .try_for_each(|(name, value)| ours(name, value, into))
}

fn cdi(key: &str, value: &str, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let source = source(key, value);
    // The engine has resolved them, maybe from directories of its own: that is
    // nothing to warn of.
    if into.policy.runtime.annotations == Resolver::Engine {
        let key = "runtime.annotations";
        let reason = format!("the engine resolves it ({})", into.policy.where_set(key));
        let allow = into.policy.line(&format!("{key} = \"kusabi\""));
        into.requests.ledger.ignore(&source, &reason, Some(allow));
        return Ok(());
    }
    if !into.counts(Place::CdiAnnotations, &source) {
        return Ok(());
    }
    let value = into.qualified(value);
    for name in names(&place(key), &value)? {
        into.cdi(name, &source, Trust::Engine);
    }
    Ok(())
}

fn ours(name: &str, value: &str, into: &mut Collector<'_>) -> Result<(), RequestError> {
    let key = format!("{OWN_PREFIX}{name}");
    let (source, place) = (source(&key, value), place(&key));
    let wrong = |reason: String| malformed(&place, reason);
    let counted = match name {
        "cgroup-parent" => Place::CgroupParent,
        "gpus" | "gpu-share" | "distributed" => Place::Annotations,
        _ => {
            into.note(
                format!("{place} is not known, expected {OWN_PREFIX} and {OWN}"),
                &source,
            );
            return Ok(());
        }
    };
    if !into.counts(counted, &source) {
        return Ok(());
    }
    match name {
        "gpus" => into.gpus(&place, value, &source, Trust::Engine)?,
        "gpu-share" => {
            let wish: Sharing = value.parse().map_err(wrong)?;
            if wish.names_host_paths() {
                return Err(wrong(
                    "directories and files of the host can be named by --gpu-share and the \
                     policy's request.gpu-share only: whoever writes annotations would choose \
                     what is mounted"
                        .to_owned(),
                ));
            }
            into.keep_first(|all| &mut all.sharing, wish, &source);
        }
        "distributed" => {
            let wish = value.parse().map_err(wrong)?;
            into.keep_first(|all| &mut all.distributed, wish, &source);
        }
        _ => {
            let parent = cgroup_parent(&place, value)?;
            into.keep_first(|all| &mut all.cgroup_parent, parent, &source);
        }
    }
    Ok(())
}

fn source(key: &str, value: &str) -> Source {
    Source::Annotation {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// The annotation in words, on one line whatever the key is.
fn place(key: &str) -> String {
    let plain = key.bytes().all(|byte| byte.is_ascii_graphic()) && key.len() <= 316;
    if plain {
        format!("annotation {key}")
    } else {
        format!("annotation {}", key_segment(key, true))
    }
}
