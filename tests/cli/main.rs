//! The command line as others use it: what goes to stdout, to stderr, to the log
//! and into the exit code, for what needs no container.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod errors;
mod information;
mod spec;
mod state_root;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a command did.
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

fn kusabi() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kusabi"));
    command.stdin(Stdio::null()).env_remove("XDG_RUNTIME_DIR");
    command
}

fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> Done {
    done(kusabi().args(args))
}

/// Runs something that must succeed without a word on stderr.
fn quiet(args: &[&str]) -> String {
    let done = run(args);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
    done.stdout
}

/// A log line without its time, after a look at the time.
fn timeless(line: &str) -> String {
    let rest = line
        .strip_prefix("time=\"")
        .unwrap_or_else(|| panic!("{line}"));
    let (time, rest) = rest.split_once("\" ").unwrap();
    assert_rfc3339(time);
    rest.to_owned()
}

/// `2026-01-02T03:04:05Z`, which Go's RFC 3339 reads.
fn assert_rfc3339(time: &str) {
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{time}");
}

fn objects(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// A peer from Debian; its absence is said, not hidden.
fn runc() -> Option<PathBuf> {
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIP comparison: no runc on this machine");
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
