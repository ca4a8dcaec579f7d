//! `[request]` of the policy file: what every container gets.

use super::{Collector, RequestError, Trust, malformed};
use crate::edit::Source;

pub(super) fn read(into: &mut Collector<'_>) -> Result<(), RequestError> {
    let policy = into.policy;
    let source = |key: &str| Source::Policy {
        file: policy.file().to_owned(),
        key: key.to_owned(),
    };
    let place = |key: &str| format!("policy {} {key}", policy.where_set(key));
    for key in [
        (!policy.request.devices.is_empty()).then_some("request.devices"),
        policy.request.gpus.as_ref().map(|_| "request.gpus"),
        policy
            .request
            .gpu_share
            .as_ref()
            .map(|_| "request.gpu-share"),
    ]
    .into_iter()
    .flatten()
    {
        into.requests.ledger.ask(&source(key));
    }
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
        into.keep_first(|all| &mut all.sharing, wish, &source(key));
    }
    Ok(())
}
