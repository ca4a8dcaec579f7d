//! Every step of making and removing a bundle, failing and killed: what is left
//! can always be built on and cleaned, and what was not kusabi's stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kusabi::runtime::fault::Step;
use tempfile::TempDir;

use super::{Operation, each};

/// A service file, two root file systems, and a place for a bundle.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), "content").unwrap();
        }
        let service = "version: v1\ndeployment: d\nservices: {web: {}}\n";
        fs::write(dir.path().join("service.yaml"), service).unwrap();
        Self(dir)
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn call(&self, args: &[&str], fault: Option<(Step, &str)>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kusabi"));
        if let Some((step, what)) = fault {
            command.env("KUSABI_FAULT", format!("{}={what}", step.name()));
        }
        command
            .arg("bundle")
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) {
        let done = self.call(args, None);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
    }

    /// Killed at `step`, which must have been reached; or failed there.
    #[track_caller]
    fn breaks(&self, args: &[&str], step: Step, what: &str) {
        let done = self.call(args, Some((step, what)));
        let said = String::from_utf8_lossy(&done.stderr);
        if what == "kill" {
            assert_eq!(done.status.signal(), Some(libc::SIGKILL), "{said}");
        } else {
            let wanted = format!("injected failure at {}", step.name());
            assert!(said.contains(&wanted), "{said}");
        }
    }

    /// Inode, size and time of all there is but the bundle.
    fn rest(&self) -> BTreeMap<PathBuf, (u64, u64, i64)> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.0.path().to_owned()];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path == self.out() {
                    continue;
                }
                let meta = path.symlink_metadata().unwrap();
                if meta.is_dir() {
                    todo.push(path.clone());
                }
                found.insert(path, (meta.ino(), meta.size(), meta.mtime_nsec()));
            }
        }
        found
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const WHOLE: [&str; 3] = [".kusabi-bundle.json", "config.json", "rootfs"];
const BUILD: [&str; 4] = ["build", "--service", "service.yaml", "out"];

/// Only where something is replaced.
fn is_beside(step: Step) -> bool {
    matches!(step, Step::BuildNewMarker | Step::BuildNewConfig)
}

#[test]
fn a_first_build_that_fails_leaves_nothing() {
    let workshop = Workshop::new();
    let before = workshop.rest();
    for rootfs in [&[][..], &["--rootfs", "one"]] {
        each(Operation::Build, |step| {
            if is_beside(step) {
                return;
            }
            workshop.breaks(&[&BUILD[..], rootfs].concat(), step, "error");
            assert!(!workshop.out().exists(), "{}", step.name());
            // A directory that was there stays.
            fs::create_dir(workshop.out()).unwrap();
            workshop.breaks(&[&BUILD[..], rootfs].concat(), step, "error");
            assert_eq!(names(&workshop.out()), Vec::<String>::new());
            fs::remove_dir(workshop.out()).unwrap();
        });
    }
    assert_eq!(workshop.rest(), before);
}

#[test]
fn a_first_build_that_is_killed_can_be_built_on_and_cleaned() {
    let workshop = Workshop::new();
    let before = workshop.rest();
    for rootfs in [&[][..], &["--rootfs", "one"]] {
        let build = [&BUILD[..], rootfs].concat();
        each(Operation::Build, |step| {
            if is_beside(step) {
                return;
            }
            workshop.breaks(&build, step, "kill");
            workshop.succeeds(&build);
            assert_eq!(names(&workshop.out()), WHOLE);
            workshop.succeeds(&["clean", "out"]);
            // A directory without a marker counts as somebody else's.
            let stays = step == Step::BuildDirectory;
            assert_eq!(workshop.out().exists(), stays, "{}", step.name());
            if stays {
                fs::remove_dir(workshop.out()).unwrap();
                return;
            }
            workshop.breaks(&build, step, "kill");
            workshop.succeeds(&["clean", "out"]);
            assert!(!workshop.out().exists(), "{}", step.name());
        });
    }
    assert_eq!(workshop.rest(), before);
}

#[test]
fn a_build_in_the_place_of_another_that_breaks_can_be_built_on_and_cleaned() {
    let workshop = Workshop::new();
    let before = workshop.rest();
    let roots = [&[][..], &["--rootfs", "one"], &["--rootfs", "two"]];
    for (old, new) in [(0, 1), (1, 2), (1, 0), (0, 0)] {
        let first = [&BUILD[..], roots[old]].concat();
        let second = [&BUILD[..], roots[new], &["--hostname", "other"]].concat();
        each(Operation::Build, |step| {
            for what in ["error", "kill"] {
                for then in [&second, &vec!["clean", "out"]] {
                    workshop.succeeds(&first);
                    workshop.breaks(&second, step, what);
                    if what == "error" || !is_beside(step) {
                        assert!(names(&workshop.out()).len() <= 3);
                    } else {
                        let beside = names(&workshop.out());
                        assert!(beside.iter().any(|name| name.len() > 64), "{beside:?}");
                    }
                    workshop.succeeds(then);
                    if then == &second {
                        assert_eq!(names(&workshop.out()), WHOLE);
                        workshop.succeeds(&["clean", "out"]);
                    }
                    assert!(!workshop.out().exists(), "{}", step.name());
                }
            }
        });
    }
    assert_eq!(workshop.rest(), before);
}

#[test]
fn a_configuration_that_is_not_written_whole_does_not_replace_one() {
    let workshop = Workshop::new();
    let write = ["write-config", "--service", "service.yaml", "out"];
    let other = [&write[..], &["--hostname", "other"]].concat();
    let config = || fs::read_to_string(workshop.out().join("config.json")).unwrap();
    let step = Step::BuildNewConfig;
    // In a directory that somebody else made, and in a bundle.
    for ours in [false, true] {
        if ours {
            workshop.succeeds(&BUILD);
        } else {
            fs::create_dir(workshop.out()).unwrap();
            fs::write(workshop.out().join("notes"), "mine").unwrap();
            workshop.succeeds(&write);
        }
        let (old, whole) = (config(), names(&workshop.out()));
        workshop.breaks(&other, step, "error");
        assert_eq!(
            (config(), names(&workshop.out())),
            (old.clone(), whole.clone())
        );
        workshop.breaks(&other, step, "kill");
        assert_eq!(config(), old);
        let left = names(&workshop.out());
        assert_eq!(left.len(), whole.len() + 1, "{left:?}");
        if ours {
            // It is known for what it is.
            workshop.succeeds(&["clean", "out"]);
            assert!(!workshop.out().exists());
        } else {
            // The next one takes it along.
            workshop.succeeds(&other);
            assert_eq!(names(&workshop.out()), whole);
            assert!(config().contains("\"other\""));
            assert_eq!(
                fs::read_to_string(workshop.out().join("notes")).unwrap(),
                "mine"
            );
            fs::remove_dir_all(workshop.out()).unwrap();
        }
    }
}

#[test]
fn what_is_only_named_like_a_leftover_stays() {
    let workshop = Workshop::new();
    workshop.succeeds(&BUILD);
    let name = format!(".config.json.{}", "0".repeat(64));
    let path = workshop.out().join(&name);
    fs::write(&path, "mine").unwrap();
    let refused = || {
        let done = workshop.call(&["clean", "out"], None);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            said.contains("not whole or not kusabi's, remove it first"),
            "{said}"
        );
    };
    refused();
    workshop.succeeds(&BUILD);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("config.json", &path).unwrap();
    refused();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    workshop.succeeds(&["clean", "out"]);
}

#[test]
fn a_clean_that_breaks_can_be_cleaned_and_built_on() {
    let workshop = Workshop::new();
    let before = workshop.rest();
    for rootfs in [&[][..], &["--rootfs", "one"]] {
        let build = [&BUILD[..], rootfs].concat();
        each(Operation::Clean, |step| {
            for what in ["error", "kill"] {
                for then in [&build, &vec!["clean", "out"]] {
                    workshop.succeeds(&build);
                    workshop.breaks(&["clean", "out"], step, what);
                    workshop.succeeds(then);
                    if then == &build {
                        assert_eq!(names(&workshop.out()), WHOLE);
                        workshop.succeeds(&["clean", "out"]);
                    }
                    assert!(!workshop.out().exists(), "{}", step.name());
                }
            }
        });
    }
    assert_eq!(workshop.rest(), before);
}
