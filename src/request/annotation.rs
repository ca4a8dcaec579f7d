//! CDI annotations: `cdi.k8s.io/<key>: vendor/class=a,vendor/class=b`.
//!
//! The key after the prefix only keeps plugins apart, nothing is read from it.

use super::{Request, RequestError, Trust, names};
use crate::document::key_segment;
use crate::edit::Source;

/// What a key starts with that asks for CDI devices: `AnnotationPrefix` of the
/// reference implementation, which containerd and CRI-O share.
const CDI_PREFIX: &str = "cdi.k8s.io/";

pub(super) fn devices(annotations: &[(&str, &str)]) -> Result<Vec<Request>, RequestError> {
    let mut requests = Vec::new();
    for (key, value) in annotations {
        if !key.starts_with(CDI_PREFIX) {
            continue;
        }
        for what in names(&place(key), value)? {
            requests.push(Request {
                what,
                source: Source::Annotation {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                },
                trust: Trust::Engine,
            });
        }
    }
    Ok(requests)
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
