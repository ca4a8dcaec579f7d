//! One error, once, where the caller looks for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use super::{assert_rfc3339, done, kusabi, objects, quiet, run, timeless};

#[test]
fn an_error_without_a_log_is_one_line_on_stderr() {
    let text = run(&["kill", "x", "NOPE"]);
    assert_eq!(text.code, 1);
    assert_eq!(text.stdout, "");
    assert_eq!(
        timeless(&text.stderr),
        "level=error msg=\"unknown signal \\\"NOPE\\\"\"\n"
    );

    let json = run(&["--log-format", "json", "kill", "x", "NOPE"]);
    assert_eq!((json.code, json.stderr.lines().count()), (1, 1));
    let object: Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(object["msg"], "unknown signal \"NOPE\"");
}

#[test]
fn an_error_with_a_log_is_one_object_there_and_the_message_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.json");
    let name = log.to_str().unwrap();
    let one = run(&["--log", name, "--log-format", "json", "kill", "x", "NOPE"]);
    assert_eq!(one.code, 1);
    assert_eq!(one.stdout, "");
    assert_eq!(one.stderr, "unknown signal \"NOPE\"\n");
    let lines = objects(&log);
    assert_eq!(lines.len(), 1);
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["level", "msg", "time"]);
    assert_eq!(lines[0]["level"], "error");
    assert_eq!(lines[0]["msg"], "unknown signal \"NOPE\"");
    assert_rfc3339(lines[0]["time"].as_str().unwrap());

    // The next call adds to it.
    run(&["--log", name, "--log-format", "json", "delete", "../x"]);
    let lines = objects(&log);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1]["msg"]
            .as_str()
            .unwrap()
            .starts_with("invalid container ID format")
    );
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777 & !0o644, 0, "{mode:o}");
}

#[test]
fn a_text_log_has_runcs_text() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let done = run(&["--log", log.to_str().unwrap(), "state", "a b"]);
    assert!(done.stderr.starts_with("invalid container ID format"));
    let text = fs::read_to_string(&log).unwrap();
    let line = timeless(&text);
    assert!(
        line.starts_with("level=error msg=\"invalid container ID format: "),
        "{line}"
    );
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn an_error_in_the_flags_reaches_the_log_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    for (number, args) in [
        &["--log-format=json", "create", "--bogus", "x"][..],
        &["--log-format=json", "create"],
        &["--log-format=json", "frobnicate"],
        &["--log-format=json", "exec", "-u", "root", "x", "sh"],
    ]
    .iter()
    .enumerate()
    {
        let log = dir.path().join(number.to_string());
        let done = done(kusabi().arg("--log").arg(&log).args(*args));
        let lines = objects(&log);
        assert_eq!(lines.len(), 1, "{args:?}");
        assert_eq!(
            format!("{}\n", lines[0]["msg"].as_str().unwrap()),
            done.stderr
        );
    }
}

#[test]
fn nothing_is_said_twice_when_the_log_is_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stderr");
    let file = fs::File::create(&path).unwrap();
    let status = kusabi()
        .args(["--log", "/dev/stderr", "kill", "x", "NOPE"])
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(timeless(&text).starts_with("level=error msg="));
}

#[test]
fn a_log_that_cannot_be_opened_is_the_error() {
    let done = run(&["--log", "/nonexistent/log", "features"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert_eq!(
        timeless(&done.stderr),
        "level=error msg=\"open /nonexistent/log: no such file or directory\"\n"
    );
    let format = run(&["--log-format", "yaml", "features"]);
    assert_eq!(
        timeless(&format.stderr),
        "level=error msg=\"invalid log-format: yaml\"\n"
    );
}

#[test]
fn a_success_writes_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    quiet(&[
        "--log",
        log.to_str().unwrap(),
        "--log-format=json",
        "features",
    ]);
    assert_eq!(fs::read(&log).unwrap(), b"");
}

#[test]
fn exit_codes() {
    for (args, code) in [
        (&["features"][..], 0),
        (&["create"], 1),
        (&["create", "--bogus", "x"], 1),
        (&["kill", "x", "NOPE"], 1),
        (&["frobnicate"], 3),
        (&["exec", "-u", "root", "x", "sh"], 255),
        (&["exec", "../x", "sh"], 255),
        (&["exec"], 1),
    ] {
        assert_eq!(run(args).code, code, "{args:?}");
    }
}

#[test]
fn the_wrong_number_of_arguments_is_named_with_help_on_stdout() {
    let done = run(&["create"]);
    assert!(
        done.stdout
            .starts_with("Incorrect Usage.\n\nNAME:\n   kusabi create - ")
    );
    assert_eq!(
        timeless(&done.stderr),
        format!(
            "level=error msg=\"{}: \\\"create\\\" requires exactly 1 argument(s)\"\n",
            env!("CARGO_BIN_EXE_kusabi")
        )
    );
}

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = kusabi()
        .arg("features")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        timeless(&String::from_utf8(output.stderr).unwrap()),
        "level=error msg=\"write stdout: no space left on device\"\n"
    );
}
