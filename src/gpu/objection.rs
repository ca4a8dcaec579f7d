//! What the ways to share GPUs have in common: a rule to name, and what to do
//! where the host is not as they need it.

use super::{Context, GpuError};
use crate::cdi::Mode;
use crate::edit::{Origin, Plan, Rule, Source};

pub(super) fn origin_of(rule: &'static str, sources: &[Source]) -> Origin {
    Origin {
        rule: Rule::Builtin(rule),
        sources: sources.to_vec(),
    }
}

/// The first objection fails a create; an explanation notes them all.
pub(super) fn refuse(
    kind: &'static str,
    objections: Vec<String>,
    origin: &Origin,
    context: &Context,
    plan: &mut Plan,
) -> Result<(), GpuError> {
    for reason in objections {
        if context.mode == Mode::Create {
            return Err(GpuError::Sharing { kind, reason });
        }
        plan.note(format!("{reason}; create would fail"), origin.clone());
    }
    Ok(())
}
