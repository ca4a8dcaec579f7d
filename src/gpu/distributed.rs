//! A container that is one of several: where the first is, and which one it is
//! itself. Never over a value that the container has.

use super::objection::origin_of;
use super::request::Distributed;
use crate::edit::{Edit, Plan, Source};

pub(super) fn plan(wish: &Distributed, sources: &[Source], plan: &mut Plan) {
    let origin = origin_of("distributed", sources);
    let mut variables = vec![
        (
            "MASTER_ADDR",
            wish.master_addr
                .clone()
                .unwrap_or_else(|| "localhost".to_owned()),
        ),
        ("MASTER_PORT", wish.master_port.to_string()),
        ("WORLD_SIZE", wish.world_size.to_string()),
        ("RANK", wish.rank.to_string()),
        ("LOCAL_RANK", wish.local_rank.to_string()),
    ];
    if let Some(name) = wish.backend.interface_variable() {
        variables.push((name, wish.interface.clone()));
    }
    for (name, value) in variables {
        let name = name.to_owned();
        plan.push(Edit::DefaultEnv { name, value }, origin.clone());
    }
}
