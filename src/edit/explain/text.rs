//! The form for people.

use std::fmt::Write as _;

use super::Explanation;
use crate::edit::describe::one_line;
use crate::edit::{Origin, Outcome};

pub(super) fn render(explanation: &Explanation<'_>) -> String {
    let Explanation { plan, applied, .. } = explanation;
    let mut out = String::new();
    let _ = writeln!(out, "{}", summary(&applied.outcomes));

    let width = plan
        .edits
        .iter()
        .map(|planned| planned.edit.field().len())
        .max()
        .unwrap_or(0);
    let mut last: Option<&Origin> = None;
    for (planned, outcome) in plan.edits.iter().zip(&applied.outcomes) {
        if last != Some(&planned.origin) {
            origin(&mut out, &planned.origin);
            last = Some(&planned.origin);
        }
        let sign = match outcome {
            Outcome::Unchanged => '=',
            Outcome::Changed if planned.edit.removes() => '-',
            Outcome::Changed => '+',
        };
        let field = planned.edit.field();
        let _ = writeln!(out, "  {sign} {field:width$}  {}", planned.edit);
    }

    if !plan.notes.is_empty() {
        let _ = writeln!(out, "\nnotes");
        for note in &plan.notes {
            let rule = one_line(&note.origin.rule.to_string());
            let _ = writeln!(out, "  ! {} ({rule})", one_line(&note.text));
        }
    }
    out
}

fn summary(outcomes: &[Outcome]) -> String {
    let changed = outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Changed)
        .count();
    let same = outcomes.len() - changed;
    let edits = |count: usize| match count {
        1 => "1 edit".to_owned(),
        count => format!("{count} edits"),
    };
    match (changed, same) {
        (0, 0) => "no edits".to_owned(),
        (changed, 0) => edits(changed),
        (0, same) => format!("{}, already made", edits(same)),
        (changed, same) => format!("{}, and {same} already made", edits(changed)),
    }
}

fn origin(out: &mut String, origin: &Origin) {
    let _ = writeln!(out, "\n{}", one_line(&origin.rule.to_string()));
    for source in &origin.sources {
        let _ = writeln!(out, "  for {}", one_line(&source.to_string()));
    }
}
