//! What commands about containers are given: ids, signals, limits, processes,
//! and the state that another hand has changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::common::view::is_unified;
use crate::common::{Config, Container, Sandbox, on_host};
use crate::table::{LOG, each};

fn ids(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    each("ids", sandbox, 1, |given| {
        let words = given[0].split(' ');
        let call = sandbox.call(LOG).args(words).current_dir(&bundle.path);
        let call = call.arg(&given[1]);
        match given[0].as_str() {
            "kill" => call.arg("KILL"),
            _ => call,
        }
        .output()
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn processes_of_unknown_containers(sandbox: &Sandbox) {
    for (id, words) in [
        ("../x", "invalid container ID format: \\\"../x\\\": "),
        ("none", "container does not exist"),
    ] {
        let out = sandbox.call(["exec", id, "true"]).output().exited(255);
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
        assert!(out.stderr.contains(words), "{out}");
    }
}

/// The container is afterwards as it was, and its limits can be set.
fn signals_and_limits(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    each("signals", sandbox, 1, |given| {
        let kill = sandbox.call(LOG).args(["kill", &container.id]);
        kill.arg(&given[0]).output()
    });
    let file = sandbox.dir().join("resources.json");
    let update = |given: &[String]| {
        fs::write(&file, &given[0]).expect("write");
        let update = sandbox.call(LOG).args(["update", "--resources"]);
        update.arg(&file).arg(&container.id).output()
    };
    each("resources", sandbox, 1, update);
    // What the kernel refuses, it refuses by the names of its files.
    if !is_unified() {
        each("resources-v1", sandbox, 1, update);
    }
    assert_eq!(container.status(), "created");
    fs::write(&file, r#"{"pids":{"limit":50}}"#).expect("write");
    let update = container.call("update", &["--resources", file.to_str().unwrap()]);
    update.output().succeeded();
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// With runc's exit code of an exec that fails.
fn processes(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let file = sandbox.dir().join("process.json");
    each("process", sandbox, 255, |given| {
        fs::write(&file, &given[0]).expect("write");
        let exec = sandbox.call(LOG).args(["exec", "--process"]);
        exec.arg(&file).arg(&container.id).output()
    });
    let listed = container.call("ps", &["--format", "json"]).output();
    let pids: Vec<i32> = serde_json::from_str(&listed.succeeded().stdout).expect("pids");
    assert_eq!(pids, [container.pid()], "processes are left in it");
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// Each command says so; the container can be had back, and others are not in
/// the way of its being deleted.
fn state_files(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let file = sandbox.root().join(&container.id).join("state.json");
    let good = fs::read_to_string(&file).expect("read");
    each("state", sandbox, 1, |given| {
        spoil(&file, &good, &given[0]);
        let words = said(sandbox, &container, "state", &[]);
        // A directory without a record is what a killed create leaves, and may
        // be deleted.
        let absent = ["missing", "link-to-nowhere"].contains(&given[0].as_str());
        // Nothing that changes a container goes by what cannot be read.
        for (command, flags) in [
            ("start", &[][..]),
            ("kill", &["KILL"]),
            ("pause", &[]),
            ("ps", &[]),
            ("delete", &[]),
        ] {
            if command == "delete" && absent {
                continue;
            }
            let other = said(sandbox, &container, command, flags);
            assert_ne!(other.code, Some(0), "{command} after {given:?}: {other}");
        }
        // The list of the others does not fail of it.
        let list = sandbox.call(["list", "--quiet"]).output();
        assert_eq!(list.code, Some(0), "{given:?}: {list}");
        mend(&file, &good);
        words
    });
    assert_eq!(container.status(), "created");
    container.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn said(
    sandbox: &Sandbox,
    container: &Container<'_>,
    command: &str,
    after: &[&str],
) -> crate::common::Output {
    let call = sandbox.call(LOG).args([command, &container.id]);
    call.args(after).output()
}

fn spoil(file: &Path, good: &str, how: &str) {
    match how {
        // Always at the same place: what is missing is part of the message.
        "truncated" => {
            let end = good.find(':').expect("a field") + 1;
            fs::write(file, &good[..end]).expect("write");
        }
        "garbage-after" => fs::write(file, format!("{good}x")).expect("write"),
        "unreadable-utf8" => {
            fs::write(file, [good.as_bytes(), b"\xff"].concat()).expect("write");
        }
        "missing" => fs::remove_file(file).expect("remove"),
        "directory" => {
            fs::remove_file(file).expect("remove");
            fs::create_dir(file).expect("mkdir");
        }
        "link-to-nowhere" | "link-to-zero" => {
            let to = if how == "link-to-zero" {
                "/dev/zero"
            } else {
                "/no/such"
            };
            fs::remove_file(file).expect("remove");
            symlink(to, file).expect("link");
        }
        "other-id" => {
            let mut state: Value = serde_json::from_str(good).expect("JSON");
            state["id"] = "another".into();
            fs::write(file, state.to_string()).expect("write");
        }
        text => match text.split_once('=') {
            Some((field, value)) if !text.starts_with('{') => {
                let mut state: Value = serde_json::from_str(good).expect("JSON");
                state[field] = serde_json::from_str(value).expect("a JSON value");
                fs::write(file, state.to_string()).expect("write");
            }
            _ => fs::write(file, text).expect("write"),
        },
    }
}

fn mend(file: &Path, good: &str) {
    if fs::remove_file(file).is_err() {
        let _ = fs::remove_dir(file);
    }
    fs::write(file, good).expect("write");
}

on_host!(
    ids,
    processes_of_unknown_containers,
    signals_and_limits,
    processes,
    state_files,
);
