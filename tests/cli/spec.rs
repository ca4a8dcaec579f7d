//! `spec`, beside runc's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{done, kusabi, names, quiet, run, runc, timeless};

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
