//! `--device vendor/class=name`: repeatable, and a value may be a list with
//! commas.

use super::{Request, RequestError, Trust, names};
use crate::edit::Source;

const DEVICE: &str = "--device";

pub(super) fn devices(values: &[String]) -> Result<Vec<Request>, RequestError> {
    let mut requests = Vec::new();
    for value in values {
        for what in names("flag --device", value)? {
            requests.push(Request {
                what,
                source: Source::Flag {
                    flag: DEVICE,
                    value: value.clone(),
                },
                trust: Trust::Operator,
            });
        }
    }
    Ok(requests)
}
