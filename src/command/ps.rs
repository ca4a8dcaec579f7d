//! `ps`: the processes of a container.

use std::process::Command;

use super::context::Context;
use super::output;
use crate::cli::{Ps, TableFormat};
use crate::error::{Error, Result};
use crate::runtime::state::Store;
use crate::runtime::{RuntimeError, population};

/// Prints pids as JSON, or the matching lines of `ps`.
///
/// # Errors
/// A container that does not exist; a `ps` that fails, or shows no PID column.
pub fn run(context: &Context<'_>, arguments: &Ps) -> Result<()> {
    let state = Store::new(context.root.path.clone()).load(arguments.id.as_str())?;
    let mut pids = population::processes(&state)?;
    pids.sort_unstable();
    if arguments.format == TableFormat::Json {
        return output::print(&format!("{}\n", serde_json::json!(pids)));
    }
    let mut command = Command::new("ps");
    if arguments.options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(&arguments.options);
    }
    let done = command
        .output()
        .map_err(|e| Error::io("execute", "ps", e))?;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr)
            .trim()
            .replace('\n', "; ");
        return Err(RuntimeError::Refused(format!("ps: {}: {words}", done.status)).into());
    }
    output::print(&select(&text, &pids)?)
}

/// The title line and the lines of the given processes.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| RuntimeError::Refused("couldn't find PID field in ps output".into()))?;
    let mut out = format!("{title}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_pid_column() {
        let text = "UID PID CMD\nroot 1 2\nroot 2 1\n";
        assert_eq!(select(text, &[2]).unwrap(), "UID PID CMD\nroot 2 1\n");
        assert!(select("A B\n", &[1]).is_err());
    }
}
