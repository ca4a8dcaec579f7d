//! Where state is kept, for root and for others.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{done, kusabi, names, objects, run, timeless};

/// Someone who is not root: the caller, or `nobody` with a copy that it can reach.
fn unprivileged(dir: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return kusabi();
    }
    let copy = dir.join("kusabi");
    fs::copy(env!("CARGO_BIN_EXE_kusabi"), &copy).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.stdin(Stdio::null()).uid(65534).gid(65534);
    command
}

#[test]
fn state_of_others_than_root_lives_in_their_runtime_dir() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    fs::create_dir(&session).unwrap();
    let mut command = unprivileged(dir.path());
    if nix::unistd::geteuid().is_root() {
        chown(&session, Some(65534), Some(65534)).unwrap();
    }
    let listed = done(
        command
            .env("XDG_RUNTIME_DIR", &session)
            .args(["list", "-q"]),
    );
    assert_eq!(
        (listed.code, listed.stdout.as_str(), listed.stderr.as_str()),
        (0, "", "")
    );
    let mode = fs::metadata(session.join("kusabi"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o1700, "{mode:o}");
}

#[test]
fn a_runtime_dir_of_others_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("file");
    fs::write(&session, "").unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let failed = done(
        unprivileged(dir.path())
            .env("XDG_RUNTIME_DIR", &session)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json", "list"]),
    );
    let message = format!("mkdir {}/kusabi: not a directory", session.display());
    assert_eq!((failed.code, failed.stderr), (1, format!("{message}\n")));
    // The hint that goes with it does not make a second object.
    let lines = objects(&log);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["msg"], message);
    assert_eq!(
        lines[0]["warnings"],
        json!(["you should check permission of the path in $XDG_RUNTIME_DIR"])
    );
}

#[test]
fn root_has_its_state_elsewhere_whatever_the_session_says() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP root_has_its_state_elsewhere_whatever_the_session_says: not root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for value in [dir.path().as_os_str(), "".as_ref()] {
        let listed = done(kusabi().env("XDG_RUNTIME_DIR", value).args(["list", "-q"]));
        assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn slash_is_no_root() {
    for root in ["/", "/..", "//"] {
        let done = run(&["--root", root, "list"]);
        assert_eq!(done.code, 1);
        assert_eq!(
            timeless(&done.stderr),
            "level=error msg=\"Option --root argument should not be set to /\"\n"
        );
    }
}
