//! The form for people.

use std::fmt::Write as _;

use super::one_line;
use super::report::{OriginRow, Report, RequestRow};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", summary(report));
    requests(&mut out, &report.requests);

    let lengths = report.edits.iter().map(|edit| edit.field.len());
    let width = lengths.max().unwrap_or(0);
    let mut last: Option<&OriginRow> = None;
    for edit in &report.edits {
        if last != Some(&edit.origin) {
            origin(&mut out, &edit.origin);
            last = Some(&edit.origin);
        }
        let (sign, field) = (edit.sign, one_line(&edit.field));
        let _ = writeln!(out, "  {sign} {field:width$}  {}", one_line(&edit.text));
    }

    let mut notes = report
        .notes
        .iter()
        .filter(|note| !is_said(&note.text, report))
        .peekable();
    if notes.peek().is_some() {
        let _ = writeln!(out, "\nnotes");
    }
    for note in notes {
        let rule = one_line(&note.origin.text);
        let _ = writeln!(out, "  ! {} ({rule})", one_line(&note.text));
    }

    if let Some(diff) = report.diff.as_deref().filter(|diff| !diff.is_empty()) {
        let _ = writeln!(out, "\nconfig.json");
        for line in diff.lines() {
            let _ = writeln!(out, "  {}", one_line(&line.replace('\t', "  ")));
        }
    }
    out
}

fn summary(report: &Report) -> String {
    if report.error.is_some() {
        return "refused".to_owned();
    }
    let changed = report.edits.iter().filter(|edit| edit.sign != '=').count();
    let same = report.edits.len() - changed;
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

fn requests(out: &mut String, rows: &[RequestRow]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nrequests");
    for row in rows {
        let (decision, trust) = (one_line(&row.decision), one_line(&row.trust));
        let mut line = format!("{} ({trust})", one_line(&row.text));
        let more = match &row.reason {
            Some(reason) => reason.clone(),
            None => row.devices.join(", "),
        };
        if !more.is_empty() {
            let _ = write!(line, ": {}", one_line(&more));
        }
        let _ = writeln!(out, "  {decision:9}  {line}");
        if let Some(allow) = &row.allow {
            let (line, file) = (one_line(&allow.line), one_line(&allow.file));
            let _ = writeln!(out, "{:13}{line} in {file} would allow it", "");
        }
    }
}

/// Whether a note is about a request that does not count, which is listed.
fn is_said(note: &str, report: &Report) -> bool {
    let ignored = report
        .requests
        .iter()
        .filter(|row| row.decision == "ignored");
    ignored
        .filter_map(|row| Some((row, row.reason.as_ref()?)))
        .any(|(row, reason)| {
            note.contains(reason.as_str())
                && (note.starts_with(&format!("{} is not used", row.text))
                    || note.starts_with(&format!("ignored {}", row.text)))
        })
}

fn origin(out: &mut String, origin: &OriginRow) {
    let _ = writeln!(out, "\n{}", one_line(&origin.text));
    for source in &origin.sources {
        let _ = writeln!(out, "  for {}", one_line(&source.text));
    }
}
