//! `[request]` of the policy file: what every container gets.

use super::{Collector, RequestError, Trust, keep_first, malformed};
use crate::edit::Source;

pub(super) fn read(into: &mut Collector<'_>) -> Result<(), RequestError> {
    let policy = into.policy;
    let source = |key: &str| Source::Policy {
        file: policy.file().to_owned(),
        key: key.to_owned(),
    };
    let place = |key: &str| format!("policy {} {key}", policy.where_set(key));
    for name in &policy.request.devices {
        into.cdi(name.clone(), &source("request.devices"), Trust::Operator);
    }
    if let Some(gpus) = &policy.request.gpus {
        let key = "request.gpus";
        into.gpus(&place(key), gpus, &source(key), Trust::Operator)?;
    }
    if let Some(share) = &policy.request.gpu_share {
        let key = "request.gpu-share";
        let wish = share
            .parse()
            .map_err(|reason| malformed(&place(key), reason))?;
        keep_first(&mut into.requests.sharing, wish, &source(key));
    }
    Ok(())
}
