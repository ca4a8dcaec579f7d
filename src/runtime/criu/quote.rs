//! CRIU's own log: its answer is a number, the reason stands there.

use std::collections::VecDeque;
use std::path::Path;

/// Lines shown before one with an error.
const BEFORE: usize = 5;

/// Warns with each line of a log that has an error, and those before it.
pub fn quote_errors(log: &Path) {
    match std::fs::read(log) {
        Err(error) => {
            tracing::warn!("open {}: {}", log.display(), crate::error::reason(&error));
        }
        Ok(bytes) => {
            for line in quote(&log.display().to_string(), &String::from_utf8_lossy(&bytes)) {
                tracing::warn!("{line}");
            }
        }
    }
}

fn quote(name: &str, text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut last = 0;
    let mut before: VecDeque<(usize, &str)> = VecDeque::new();
    for (number, line) in (1..).zip(text.lines()) {
        before.push_back((number, line));
        if before.len() > BEFORE + 1 {
            before.pop_front();
        }
        if !line.contains("Error") {
            continue;
        }
        if last == 0 {
            quoted.push(format!("--- Quoting {name:?}"));
        } else if before.front().is_some_and(|(first, _)| *first > last + 1) {
            quoted.push("...".to_owned());
        }
        for (number, line) in before.drain(..).filter(|(_, line)| !line.is_empty()) {
            quoted.push(format!("{number}:{line}"));
            last = number;
        }
    }
    if last != 0 {
        quoted.push("---".to_owned());
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn errors_are_shown_with_the_lines_before_and_gaps() {
        let mut lines: Vec<String> = (1..=20).map(|n| format!("line {n}")).collect();
        lines[1] = "Error one".into();
        lines[2] = "Error two".into();
        lines[18] = "an Error".into();
        let quoted = quote("dump.log", &lines.join("\n"));
        let wanted = [
            "--- Quoting \"dump.log\"",
            "1:line 1",
            "2:Error one",
            "3:Error two",
            "...",
            "14:line 14",
            "15:line 15",
            "16:line 16",
            "17:line 17",
            "18:line 18",
            "19:an Error",
            "---",
        ];
        assert_eq!(quoted, wanted);
        assert!(quote("x", "all is well\n").is_empty());
    }
}
