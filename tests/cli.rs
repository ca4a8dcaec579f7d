//! The command line as others use it: what goes to stdout, to stderr, to the log
//! and into the exit code, for the commands that need no container.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

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

#[test]
fn version_is_what_dockerd_takes_apart() {
    for flag in ["--version", "-v", "-version"] {
        let text = quiet(&[flag]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            concat!("kusabi version ", env!("CARGO_PKG_VERSION"))
        );
        assert!(
            lines[1].starts_with("commit: ") && lines[1].len() > 8,
            "{text}"
        );
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(lines[3].starts_with("libseccomp: 2."), "{text}");
        assert_eq!(lines.len(), 4);
        // dockerd: the last line with the word, split at the word.
        let version = lines.iter().rfind(|line| line.contains("version")).unwrap();
        assert_eq!(
            version.rsplit("version").next().unwrap().trim(),
            env!("CARGO_PKG_VERSION")
        );
    }
}

#[test]
fn features_are_json_and_nothing_else() {
    let features: Value = serde_json::from_str(&quiet(&["features"])).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert!(
        features["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!("user"))
    );
    assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    let supported = features["linux"]["seccomp"]["supportedFlags"]
        .as_array()
        .unwrap();
    let known = features["linux"]["seccomp"]["knownFlags"]
        .as_array()
        .unwrap();
    assert!(supported.iter().all(|flag| known.contains(flag)));
    assert_eq!(
        features["annotations"]["dev.kusabi.version"],
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn features_hold_what_runcs_hold() {
    let Some(runc) = runc() else { return };
    let theirs: Value =
        serde_json::from_str(&done(Command::new(runc).arg("features")).stdout).unwrap();
    let ours: Value = serde_json::from_str(&quiet(&["features"])).unwrap();
    for pointer in [
        "/hooks",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
    ] {
        assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{pointer}");
    }
    // runc has dropped the first two since: no mount flag can express them. The
    // others are refused when a container asks for them.
    let missing = [
        "acl",
        "noacl",
        "dirsync",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noiversion",
        "nolazytime",
        "nosymfollow",
        "remount",
        "silent",
        "symfollow",
        "sync",
        "tmpcopyup",
    ];
    for pointer in ["/linux/namespaces", "/linux/seccomp/archs", "/mountOptions"] {
        let ours = ours.pointer(pointer).unwrap().as_array().unwrap();
        for word in theirs.pointer(pointer).unwrap().as_array().unwrap() {
            let listed = ours.contains(word);
            let expected = !missing.contains(&word.as_str().unwrap());
            assert_eq!(listed, expected, "{pointer}: {word}");
        }
    }
}

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
fn every_command_has_help_without_a_container() {
    let commands = [
        "checkpoint",
        "create",
        "delete",
        "events",
        "exec",
        "kill",
        "list",
        "pause",
        "ps",
        "restore",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
        "features",
        "explain",
        "edit",
        "cdi",
        "completions",
        "man",
    ];
    let root = quiet(&["--help"]);
    assert_eq!(root, quiet(&["-h"]));
    assert_eq!(root, quiet(&[]));
    for command in commands {
        assert!(root.contains(&format!("\n  {command} ")), "{command}");
        for flag in ["-h", "--help"] {
            let text = quiet(&[command, flag]);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "NAME:");
            assert!(
                lines[1].starts_with(&format!("   kusabi {command} - ")),
                "{text}"
            );
        }
    }
    let unknown = run(&["foo", "-h"]);
    assert_eq!(unknown.code, 3);
    assert!(unknown.stderr.contains("No help topic for 'foo'"));
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

fn config(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    assert!(
        text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\"")
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn spec_is_runcs() {
    let Some(runc) = runc() else { return };
    for rootless in [&[][..], &["--rootless"]] {
        let ours = tempfile::tempdir().unwrap();
        let theirs = tempfile::tempdir().unwrap();
        let done = done(kusabi().arg("spec").args(rootless).current_dir(ours.path()));
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (0, "", "")
        );
        let peer = Command::new(&runc)
            .arg("spec")
            .args(rootless)
            .current_dir(theirs.path())
            .status()
            .unwrap();
        assert!(peer.success());
        let ours = config(ours.path());
        let text = fs::read_to_string(theirs.path().join("config.json")).unwrap();
        let mut theirs: Value = serde_json::from_str(&text).unwrap();
        // Since 1.2 runc gives no ambient capabilities; the version moves on.
        theirs["ociVersion"] = json!("1.3.0");
        theirs["process"]["capabilities"]
            .as_object_mut()
            .unwrap()
            .remove("ambient");
        assert_eq!(ours, theirs, "{rootless:?}");
    }
}

#[test]
fn spec_goes_into_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    quiet(&["spec", "-b", dir.path().to_str().unwrap()]);
    assert_eq!(config(dir.path())["hostname"], "runc");
    assert_eq!(names(dir.path()), ["config.json"]);
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn spec_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().to_str().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, "mine").unwrap();
    let refused = || {
        let done = run(&["spec", "--bundle", bundle]);
        assert_eq!(done.code, 1);
        assert_eq!(
            timeless(&done.stderr),
            "level=error msg=\"File config.json exists. Remove it first\"\n"
        );
        assert_eq!(names(dir.path()), ["config.json"]);
    };
    refused();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    // Not even a link that leads nowhere: writing would go where it points.
    fs::remove_file(&path).unwrap();
    symlink(dir.path().join("elsewhere"), &path).unwrap();
    refused();
}

#[test]
fn spec_needs_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (bundle, why) in [
        ("/nonexistent/bundle", "no such file or directory"),
        (file.to_str().unwrap(), "not a directory"),
    ] {
        let done = run(&["spec", "-b", bundle]);
        assert_eq!(done.code, 1);
        assert_eq!(
            timeless(&done.stderr),
            format!("level=error msg=\"chdir {bundle}: {why}\"\n")
        );
    }
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = quiet(&["completions", shell]);
        for word in ["kusabi", "checkpoint", "preserve-fds", "systemd-cgroup"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let script = quiet(&["completions", "bash"]);
    let mut bash = Command::new("bash");
    let checked = bash
        .arg("-c")
        .arg(format!(
            "{script}\nCOMP_WORDS=(kusabi upd); COMP_CWORD=1; _kusabi kusabi upd kusabi; echo \"${{COMPREPLY[@]}}\""
        ));
    assert_eq!(done(checked).stdout, "update\n");
}

#[test]
fn the_manual_names_every_command_and_flag() {
    let manual = quiet(&["man"]);
    assert!(manual.contains(".TH kusabi 1"));
    for command in ["create", "exec", "update", "cdi validate"] {
        let title = format!(".TH kusabi-{} 1", command.replace(' ', "-"));
        assert!(manual.contains(&title), "{title}");
    }
    for flag in [
        "preserve\\-fds",
        "cdi\\-dir",
        "systemd\\-cgroup",
        "ignore\\-paused",
    ] {
        assert!(manual.contains(flag), "{flag}");
    }
}
