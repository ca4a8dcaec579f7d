//! `--version`, `features`, help, completions and the manual page.

use std::process::Command;

use serde_json::{Value, json};

use super::{done, quiet, run, runc};

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
    let policy = &features["linux"]["memoryPolicy"];
    assert_eq!(policy["modes"].as_array().unwrap().len(), 7);
    assert_eq!(policy["modes"][0], "MPOL_BIND");
    assert_eq!(policy["flags"].as_array().unwrap().len(), 3);
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
    // runc has dropped them since: no mount flag can express them.
    let missing = ["acl", "noacl"];
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
