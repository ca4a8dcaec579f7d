//! What `bundle build`, `spec` and `write-config` write, and where.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::support::{Workspace, json, web};

fn entries(workspace: &Workspace, directory: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(workspace.path().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn service(lines: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("service.yaml", web(lines));
    workspace
}

const BUILD: [&str; 4] = ["bundle", "build", "--service", "service.yaml"];

#[test]
fn spec_touches_nothing() {
    let workspace = service("");
    let before = entries(&workspace, ".");
    let spec = [
        "bundle",
        "spec",
        "--service",
        "service.yaml",
        "--rootfs",
        "rootfs",
    ];
    let printed = json(&workspace.call(&spec).quiet());
    assert_eq!(printed["hostname"], "web-rep-1");
    assert_eq!(entries(&workspace, "."), before);
}

#[test]
fn a_bundle_is_its_owners_and_its_root_a_link() {
    let workspace = service("");
    let args = [&BUILD[..], &["--rootfs", "rootfs", "out"]].concat();
    workspace.call(&args).quiet();
    let out = workspace.path().join("out");
    assert_eq!(
        entries(&workspace, "out"),
        [".kusabi-bundle.json", "config.json", "rootfs"]
    );
    let real = fs::canonicalize(workspace.path().join("rootfs")).unwrap();
    assert_eq!(fs::read_link(out.join("rootfs")).unwrap(), real);
    // What secrets were resolved to is in it.
    let mode = |path: &str| fs::metadata(out.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("config.json"), mode(".")), (0o600, 0o711));
    let written = fs::read_to_string(out.join("config.json")).unwrap();
    let spec = [
        "bundle",
        "spec",
        "--service",
        "service.yaml",
        "--rootfs",
        "rootfs",
    ];
    assert_eq!(workspace.call(&spec).quiet(), written);
    assert_eq!(json(&written)["root"]["path"], real.to_str().unwrap());
}

#[test]
fn without_a_directory_it_is_below_the_state_root() {
    let workspace = service("");
    let args = [&BUILD[..], &["--replica", "3"]].concat();
    let path = workspace.path().join("state/bundles/web-rep-3");
    assert_eq!(
        workspace.call(&args).quiet(),
        format!("{}\n", path.display())
    );
    assert_eq!(
        entries(&workspace, "state/bundles/web-rep-3"),
        [".kusabi-bundle.json", "config.json", "rootfs"]
    );
    assert!(entries(&workspace, "state/bundles/web-rep-3/rootfs").is_empty());
    // It is no container, under whatever command.
    let list = workspace.call(&["list", "-q"]).quiet();
    assert_eq!(list, "");
    for command in [
        &["delete", "bundles"][..],
        &["delete", "bundles"],
        &["state", "bundles"],
    ] {
        let error = workspace.call(command).error();
        assert!(error.contains("does not exist"), "{error}");
    }
    workspace.call(&["delete", "--force", "bundles"]);
    assert!(path.join("config.json").exists());
}

#[test]
fn a_bundle_of_ours_is_replaced_with_its_root() {
    let workspace = service("");
    let build = |args: &[&str]| workspace.call(&[&BUILD[..], args, &["out"]].concat());
    let rootfs = workspace.path().join("out/rootfs");
    build(&[]).quiet();
    assert!(rootfs.symlink_metadata().unwrap().is_dir());
    build(&["--rootfs", "rootfs"]).quiet();
    assert!(rootfs.symlink_metadata().unwrap().is_symlink());
    build(&["--rootfs", "host", "--hostname", "new"]).quiet();
    assert!(rootfs.join("srv").exists());
    let config = fs::read_to_string(workspace.path().join("out/config.json")).unwrap();
    assert_eq!(json(&config)["hostname"], "new");
    build(&[]).quiet();
    assert!(rootfs.symlink_metadata().unwrap().is_dir());
    // A directory that was filled since is kept, and is in the way of a link.
    workspace.write("out/rootfs/bin/sh", "");
    build(&[]).quiet();
    assert!(rootfs.join("bin/sh").exists());
    assert_eq!(
        build(&["--rootfs", "rootfs"]).error(),
        "out/rootfs: is not empty, \"bin\" is in it"
    );
    assert!(rootfs.join("bin/sh").exists());
}

#[test]
fn what_is_not_ours_is_not_replaced() {
    let workspace = service("");
    let build = |out: &str| workspace.call(&[&BUILD[..], &[out]].concat()).error();
    assert_eq!(
        build("rootfs"),
        "rootfs: is not empty and is no bundle that kusabi made; choose another directory, or write just the configuration with bundle write-config"
    );
    assert_eq!(entries(&workspace, "rootfs"), ["etc"]);
    symlink("none", workspace.path().join("link")).unwrap();
    assert_eq!(
        build("link"),
        "link: is a symbolic link, name the directory itself"
    );
    assert_eq!(build("image.json"), "open image.json: not a directory");
    assert_eq!(
        build("none/out"),
        "mkdir none/out: no such file or directory"
    );
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let workspace = service("env: {A: $E:NONE}");
    let before = entries(&workspace, ".");
    workspace.call(&[&BUILD[..], &["out"]].concat()).error();
    workspace
        .call(&[&BUILD[..], &["--rootfs", "none", "out"]].concat())
        .error();
    assert_eq!(entries(&workspace, "."), before);
}

#[test]
fn what_a_killed_build_leaves_can_be_built_on() {
    let workspace = service("");
    fs::create_dir_all(workspace.path().join("out/rootfs")).unwrap();
    let args = [&BUILD[..], &["--rootfs", "rootfs", "out"]].concat();
    workspace.call(&args).quiet();
    assert!(workspace.path().join("out/rootfs/etc/passwd").exists());
}

#[test]
fn write_config_writes_one_file() {
    let workspace = service("");
    let write = ["bundle", "write-config", "--service", "service.yaml"];
    let call = |args: &[&str]| workspace.call(&[&write[..], args].concat());
    assert_eq!(
        call(&["none"]).error(),
        "open none: no such file or directory"
    );
    fs::create_dir(workspace.path().join("out")).unwrap();
    let config = || json(&fs::read_to_string(workspace.path().join("out/config.json")).unwrap());
    call(&["out"]).quiet();
    assert_eq!(entries(&workspace, "out"), ["config.json"]);
    assert_eq!(config()["root"]["path"], "rootfs");
    // As umoci leaves it: a configuration and the root file system.
    symlink("../rootfs", workspace.path().join("out/rootfs")).unwrap();
    call(&["--user", "app", "out"]).quiet();
    assert_eq!(config()["process"]["user"]["uid"], 1001);
    call(&["--rootfs", "rootfs", "out"]).quiet();
    let real = fs::canonicalize(workspace.path().join("rootfs")).unwrap();
    assert_eq!(config()["root"]["path"], real.to_str().unwrap());
    assert_eq!(entries(&workspace, "out"), ["config.json", "rootfs"]);
    fs::remove_file(workspace.path().join("out/config.json")).unwrap();
    symlink("../image.json", workspace.path().join("out/config.json")).unwrap();
    assert_eq!(
        call(&["out"]).error(),
        "out/config.json: is not a regular file"
    );
}

#[test]
fn flags_of_a_service_mean_nothing_without_one() {
    let workspace = Workspace::new();
    assert_eq!(
        workspace.call(&["bundle", "build", "out"]).error(),
        "no service file was named, give it with --service FILE"
    );
    for (flag, value) in [
        ("--name", "a"),
        ("--replica", "1"),
        ("--rootfs", "a"),
        ("--image", "a"),
        ("--platform", "a"),
        ("--arg", "a"),
        ("--cwd", "a"),
        ("--user", "a"),
        ("--hostname", "a"),
        ("--env", "a=b"),
        ("--secrets", "a"),
        ("--volume", "a=b"),
        ("--socket", "a"),
    ] {
        assert_eq!(
            workspace.call(&["run", flag, value, "id"]).error(),
            format!("{flag}: means nothing without --service")
        );
    }
    assert_eq!(
        workspace.call(&["run", "--terminal", "id"]).error(),
        "--terminal: means nothing without --service"
    );
}

#[test]
fn run_without_a_service_still_needs_an_id() {
    let done = Workspace::new().call(&["run"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .contains("\\\"run\\\" requires exactly 1 argument(s)"),
        "{}",
        done.stderr
    );
}
