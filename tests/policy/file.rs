//! `config show`, `config check`, and which file counts.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::write;

fn kusabi(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kusabi"))
        .args(args)
        .current_dir(dir.path())
        .env_remove("KUSABI_CONFIG")
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_shown_can_be_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    write(
        &file,
        "[sources]\nmounts = \"allow\"\n[users.\"a b\"]\ndeny = [\"amd.com/*\"]\n",
    );
    let shown = kusabi(&dir, &["config", "show", "p.toml"]);
    assert_eq!(shown.status.code(), Some(0));
    let shown = text(&shown.stdout);
    let line = |key: &str| {
        let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with(key)).collect();
        assert_eq!(lines.len(), 1, "{key}: {shown}");
        lines[0].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("sources.mounts"),
        format!("sources.mounts = \"allow\" # {}:2", file.display())
    );
    assert_eq!(
        line("sources.environment"),
        "sources.environment = \"privileged\" # default"
    );
    assert_eq!(
        line("users"),
        format!(
            "users.\"a b\".deny = [\"amd.com/*\"] # {}:4",
            file.display()
        )
    );
    write(&dir.path().join("again.toml"), &shown);
    let json = |name| -> Value {
        let shown = kusabi(&dir, &["config", "show", "--format", "json", name]);
        serde_json::from_slice(&shown.stdout).unwrap()
    };
    let (one, two) = (json("p.toml"), json("again.toml"));
    let keys = one["keys"].as_object().unwrap();
    assert!(keys.len() > 25, "{one}");
    for (key, value) in keys {
        assert_eq!(value["value"], two["keys"][key]["value"], "{key}");
    }
    assert_eq!(one["version"], 1);
    assert_eq!(one["keys"]["sources.annotations"]["set"], "default");
}

#[test]
fn a_check_names_every_mistake_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join("p.toml"),
        "[sources]\nmount = \"allow\"\n\n[runtime]\nbackend = \"runc\"\n",
    );
    let path = dir.path().join("p.toml").display().to_string();
    let checked = kusabi(&dir, &["config", "check", "p.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(
        text(&checked.stdout),
        format!(
            "{path}:2:1: sources: unknown key \"mount\" (did you mean mounts?)\n{path}:5:11: \
             runtime.backend: expected \"libcontainer\" or a list of programs, as [\"runc\", \
             \"crun\"], found \"runc\"\n"
        )
    );
    let log = text(&checked.stderr);
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("p.toml:2:1: sources: unknown key") && log.contains("(and 1 more)"),
        "{log}"
    );

    let checked = kusabi(&dir, &["config", "check", "--format", "json", "p.toml"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["valid"], false);
    assert_eq!(report["problems"][1]["line"], 5);
    assert_eq!(report["problems"][1]["column"], 11);
    assert_eq!(report["problems"][1]["field"], "runtime.backend");

    write(&dir.path().join("p.toml"), "");
    let checked = kusabi(&dir, &["config", "check", "p.toml"]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(text(&checked.stdout), format!("{path}: valid\n"));
}

#[test]
fn a_file_that_others_could_have_written_is_refused_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let check = || {
        let done = kusabi(&dir, &["config", "check", "p.toml"]);
        assert_eq!(done.status.code(), Some(1));
        text(&done.stdout)
    };
    assert!(check().ends_with("p.toml: no such file or directory\n"));
    write(&file, "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap();
    assert!(check().contains("others may write it (mode 0646"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&file, Some(12345), None).unwrap();
        assert!(check().contains("owned by uid 12345"));
        chown(&file, Some(0), Some(12345)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(check().contains("others may write it (mode 0664, group 12345)"));
    }
    fs::rename(&file, dir.path().join("real.toml")).unwrap();
    symlink("real.toml", &file).unwrap();
    assert!(check().contains("a symbolic link, put the file itself there"));
}

#[test]
fn a_broken_policy_stops_create_and_not_delete() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    write(&file, "x = 1");
    let call = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kusabi"))
            .args(["--root", "state"])
            .args(args)
            .current_dir(dir.path())
            .env("KUSABI_CONFIG", &file)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    for command in [
        &["create", "--bundle", ".", "c"][..],
        &["run", "--bundle", ".", "c"],
        &["explain"],
        &["edit"],
        &["cdi", "list"],
    ] {
        let done = call(command);
        assert_eq!(done.status.code(), Some(1), "{command:?}");
        let log = text(&done.stderr);
        assert!(
            log.contains("p.toml:1:1: unknown key"),
            "{command:?}: {log}"
        );
    }
    // Another runtime may hold it, for all that can be told.
    for command in [&["delete", "--force", "c"][..], &["state", "c"]] {
        let log = text(&call(command).stderr);
        assert!(
            log.contains("p.toml:1:1: unknown key"),
            "{command:?}: {log}"
        );
    }
    for command in [
        &["features"][..],
        &["--version"],
        &["config", "show", "none"],
    ] {
        let done = call(command);
        assert_eq!(done.status.success(), command[0] != "config", "{command:?}");
        assert!(!text(&done.stderr).contains("p.toml"), "{command:?}");
    }
}
