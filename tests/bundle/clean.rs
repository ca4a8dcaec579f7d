//! `bundle clean` removes what `bundle build` made and nothing else, whatever is
//! put in its way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::support::{Workspace, web};

const MARKER: &str = ".kusabi-bundle.json";

/// Everything below a directory: names, kinds and contents.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            found.extend(listing(&path));
            "/".to_owned()
        } else {
            fs::read_to_string(&path).unwrap_or_default()
        };
        found.push(format!("{} {what}", path.display()));
    }
    found.sort();
    found
}

fn built(args: &[&str]) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("service.yaml", web(""));
    let base = ["bundle", "build", "--service", "service.yaml", "--no-probe"];
    let done = workspace.call(&[&base, args, &["out"]].concat());
    assert_eq!(
        done.quiet(),
        format!("{}\n", workspace.path().join("out").display())
    );
    workspace
}

/// `clean` refuses with `wanted`, and everything is as it was.
#[track_caller]
fn refused(workspace: &Workspace, args: &[&str], wanted: &str) {
    let before = listing(workspace.path());
    let done = workspace.call(&[&["bundle", "clean"], args].concat());
    assert_eq!(done.error(), wanted);
    assert_eq!(listing(workspace.path()), before);
}

#[test]
fn what_was_built_is_removed_and_what_it_names_is_not() {
    for args in [&["--rootfs", "rootfs"][..], &[]] {
        let workspace = built(args);
        assert!(workspace.path().join("out/config.json").exists());
        assert_eq!(workspace.call(&["bundle", "clean", "out"]).quiet(), "");
        assert!(!workspace.path().join("out").exists());
        assert!(workspace.path().join("rootfs/etc/passwd").exists());
    }
}

#[test]
fn a_directory_that_was_there_stays() {
    let workspace = Workspace::new();
    workspace.write("service.yaml", web(""));
    fs::create_dir(workspace.path().join("out")).unwrap();
    let args = ["bundle", "build", "--service", "service.yaml", "out/"];
    workspace.call(&args).quiet();
    workspace.call(&["bundle", "clean", "out/"]).quiet();
    assert!(listing(&workspace.path().join("out")).is_empty());
}

#[test]
fn it_works_from_inside_and_through_dots() {
    let workspace = built(&[]);
    assert_eq!(
        workspace
            .call(&["bundle", "clean", "./out/../out/."])
            .quiet(),
        ""
    );
    assert!(!workspace.path().join("out").exists());
}

#[test]
fn foreign_directories_are_refused() {
    let workspace = built(&[]);
    refused(
        &workspace,
        &["rootfs"],
        "rootfs: is no bundle that kusabi made",
    );
    refused(
        &workspace,
        &["none"],
        "open none: no such file or directory",
    );
    refused(
        &workspace,
        &["image.json"],
        "open image.json: not a directory",
    );
    symlink("out", workspace.path().join("link")).unwrap();
    refused(
        &workspace,
        &["link"],
        "link: is a symbolic link, name the directory itself",
    );
}

#[test]
fn foreign_contents_are_refused() {
    let workspace = built(&["--rootfs", "rootfs"]);
    let file = workspace.write("out/notes.txt", "mine");
    refused(
        &workspace,
        &["out"],
        "out/notes.txt: is not kusabi's, remove it first",
    );
    // Not even by force.
    refused(
        &workspace,
        &["--force", "out"],
        "out/notes.txt: is not kusabi's, remove it first",
    );
    fs::remove_file(file).unwrap();
    symlink("/etc", workspace.path().join("out/etc")).unwrap();
    refused(
        &workspace,
        &["out"],
        "out/etc: is not kusabi's, remove it first",
    );
}

#[test]
fn a_changed_configuration_needs_force() {
    let workspace = built(&[]);
    workspace.write("out/config.json", "{}");
    refused(
        &workspace,
        &["out"],
        "out/config.json: was changed after it was built, remove it, or give --force",
    );
    workspace
        .call(&["bundle", "clean", "--force", "out"])
        .quiet();
    assert!(!workspace.path().join("out").exists());
}

#[test]
fn a_configuration_that_is_no_file_is_refused() {
    let workspace = built(&[]);
    let config = workspace.path().join("out/config.json");
    fs::remove_file(&config).unwrap();
    symlink("../image.json", &config).unwrap();
    refused(
        &workspace,
        &["out"],
        "out/config.json: is not a regular file",
    );
    refused(
        &workspace,
        &["--force", "out"],
        "out/config.json: is not a regular file",
    );
}

#[test]
fn a_root_file_system_that_was_filled_or_exchanged_stays() {
    let workspace = built(&[]);
    workspace.write("out/rootfs/bin/sh", "");
    refused(
        &workspace,
        &["out"],
        "out/rootfs: is not empty, \"bin\" is in it",
    );

    let workspace = built(&[]);
    let rootfs = workspace.path().join("out/rootfs");
    fs::rename(&rootfs, workspace.path().join("kept")).unwrap();
    fs::create_dir(&rootfs).unwrap();
    refused(
        &workspace,
        &["out"],
        "out/rootfs: is another directory than the one that was made, or has something mounted on it",
    );
    fs::remove_dir(&rootfs).unwrap();
    symlink("../kept", &rootfs).unwrap();
    refused(
        &workspace,
        &["out"],
        "out/rootfs: is not what was made there",
    );

    let workspace = built(&["--rootfs", "rootfs"]);
    let rootfs = workspace.path().join("out/rootfs");
    fs::remove_file(&rootfs).unwrap();
    symlink("/etc", &rootfs).unwrap();
    refused(
        &workspace,
        &["out"],
        "out/rootfs: leads somewhere else than when it was made",
    );
}

#[test]
fn a_marker_counts_only_where_it_was_made() {
    let workspace = built(&["--rootfs", "rootfs"]);
    let copy = workspace.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in [MARKER, "config.json"] {
        fs::copy(workspace.path().join("out").join(name), copy.join(name)).unwrap();
    }
    let wanted = format!(
        "copy/{MARKER}: was made in another directory: this one is a copy of a bundle, or was put in its place"
    );
    refused(&workspace, &["copy"], &wanted);
    for text in ["", "{}", "[]", "{\"version\": 2}"] {
        workspace.write(&format!("copy/{MARKER}"), text);
        let wanted = format!("copy/{MARKER}: is no marker that this version of kusabi wrote");
        refused(&workspace, &["copy"], &wanted);
    }
    fs::remove_file(copy.join(MARKER)).unwrap();
    symlink("../out/.kusabi-bundle.json", copy.join(MARKER)).unwrap();
    let wanted = format!("copy/{MARKER}: is not a regular file");
    refused(&workspace, &["copy"], &wanted);
}

#[test]
fn a_moved_bundle_is_still_one() {
    let workspace = built(&[]);
    fs::rename(workspace.path().join("out"), workspace.path().join("moved")).unwrap();
    workspace.call(&["bundle", "clean", "moved"]).quiet();
    assert!(!workspace.path().join("moved").exists());
}

#[test]
fn what_is_missing_already_is_no_failure() {
    let workspace = built(&["--rootfs", "rootfs"]);
    for name in ["rootfs", "config.json"] {
        fs::remove_file(workspace.path().join("out").join(name)).unwrap();
    }
    workspace.call(&["bundle", "clean", "out"]).quiet();
    assert!(!workspace.path().join("out").exists());
}

/// Mounts need root, and a mount namespace of this thread alone.
#[test]
fn what_is_mounted_inside_is_never_reached() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    if !nix::unistd::geteuid().is_root() {
        super::common::skip!("needs root");
    }
    let ended = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let workspace = built(&[]);
        let bait = workspace.path().join("bait");
        fs::create_dir(&bait).unwrap();
        let rootfs = workspace.path().join("out/rootfs");
        let bind = |from: &Path, to: &Path| {
            mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
        };
        // Another directory, empty: its inode tells.
        bind(&bait, &rootfs);
        refused(
            &workspace,
            &["out"],
            "out/rootfs: is another directory than the one that was made, or has something mounted on it",
        );
        umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
        // Itself: only the kernel tells.
        bind(&rootfs, &rootfs);
        refused(
            &workspace,
            &["out"],
            "remove out/rootfs: device or resource busy",
        );
        umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
        // A file over the configuration, with other content.
        let config = workspace.path().join("out/config.json");
        bind(&workspace.path().join("image.json"), &config);
        refused(
            &workspace,
            &["out"],
            "out/config.json: was changed after it was built, remove it, or give --force",
        );
        umount2(&config, MntFlags::MNT_DETACH).unwrap();
        workspace.call(&["bundle", "clean", "out"]).quiet();
        assert!(bait.is_dir());
    });
    ended.join().unwrap();
}

/// An editor that saves while the bundle is being removed: its file is there
/// afterwards, whatever became of the bundle.
#[test]
fn what_is_put_in_the_place_of_ours_meanwhile_is_never_lost() {
    let workspace = Workspace::new();
    workspace.write("service.yaml", web(""));
    let out = workspace.path().join("out");
    let mine = workspace.path().join("mine");
    let mut met = 0;
    for round in 0..100_u32 {
        let args = ["bundle", "build", "--service", "service.yaml", "--no-probe"];
        workspace
            .call(&[&args[..], &["--rootfs", "rootfs", "out"]].concat())
            .quiet();
        fs::write(&mine, "mine").unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let editor = std::thread::spawn({
            let (ended, mine, config) = (ended.clone(), mine.clone(), out.join("config.json"));
            // `rootfs` is the first to go.
            let first = out.join(if round % 2 == 0 {
                "rootfs"
            } else {
                "config.json"
            });
            move || {
                while first.symlink_metadata().is_ok() && !ended.load(Ordering::Acquire) {}
                (0..round).for_each(|_| std::hint::spin_loop());
                fs::rename(mine, config).is_ok() && !ended.load(Ordering::Acquire)
            }
        });
        let done = workspace.call(&["bundle", "clean", "out"]);
        ended.store(true, Ordering::Release);
        met += u32::from(editor.join().unwrap());
        let kept = || listing(&out).iter().any(|line| line.ends_with(" mine"));
        assert!(mine.exists() || kept(), "round {round}: {done:?}");
        let _ = fs::remove_dir_all(&out);
    }
    assert!(met > 0, "the editor was never in time");
}
