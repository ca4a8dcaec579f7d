//! The configuration in `hack/contrib`, as its engine reads it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::runtime::which;
use crate::common::{Sandbox, on_host, skip};
use crate::ground::{Ground, path};

fn contrib(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("hack/contrib")
        .join(file)
}

/// Where the files say that the runtime is.
const INSTALLED: &str = "/usr/local/bin/kusabi";

fn podman_knows_the_runtime_by_name(sandbox: &Sandbox) {
    if which("podman").is_none() {
        skip!("this host has no podman");
    }
    let ground = Ground::new(sandbox);
    let text = fs::read_to_string(contrib("podman/containers.conf")).expect("read");
    assert!(text.contains(INSTALLED));
    let file = ground.path("containers.conf");
    fs::write(&file, text.replace(INSTALLED, path(&ground.runtime))).expect("write");
    let storage = ground.path("storage");
    let out = ground
        .call("podman")
        .env("CONTAINERS_CONF", &file)
        .env("TMPDIR", ground.sandbox.dir())
        .args([
            "--root",
            path(&storage),
            "--runroot",
            path(&ground.path("runroot")),
        ])
        .args([
            "--tmpdir",
            path(&ground.path("tmp")),
            "--storage-driver=vfs",
        ])
        .args([
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--runtime=kusabi",
        ])
        .args([
            "info",
            "--format={{.Host.OCIRuntime.Path}} {{.Host.OCIRuntime.Version}}",
        ])
        .output()
        .succeeded();
    assert!(out.stdout.starts_with(path(&ground.runtime)), "{out}");
    assert!(
        out.stdout.contains("kusabi version") || out.stdout.contains("runc version"),
        "{out}"
    );
}

fn containerd_knows_the_handler(sandbox: &Sandbox) {
    if which("containerd").is_none() {
        skip!("this host has no containerd");
    }
    let ground = Ground::new(sandbox);
    let file = contrib("containerd/config.toml");
    let out = ground
        .run("containerd", ["--config", path(&file), "config", "dump"])
        .succeeded();
    let handler = out
        .stdout
        .split("containerd.runtimes.kusabi]")
        .nth(1)
        .unwrap_or_else(|| panic!("no handler in {out}"));
    assert!(
        handler.contains(&format!("BinaryName = \"{INSTALLED}\"")),
        "{out}"
    );
    assert!(
        handler.contains("pod_annotations = [\"cdi.k8s.io/*\"]"),
        "{out}"
    );
}

fn the_other_files_name_the_same_program(_: &Sandbox) {
    let docker: Value =
        serde_json::from_str(&fs::read_to_string(contrib("docker/daemon.json")).expect("read"))
            .expect("JSON");
    assert_eq!(docker["runtimes"]["kusabi"]["path"], INSTALLED);
    let crio = fs::read_to_string(contrib("cri-o/99-kusabi.conf")).expect("read");
    let section = "[crio.runtime.runtimes.kusabi]\nruntime_path = ";
    assert!(
        crio.contains(&format!("{section}\"{INSTALLED}\"\n")),
        "{crio}"
    );
    let class = fs::read_to_string(contrib("kubernetes/runtimeclass.yaml")).expect("read");
    assert!(class.contains("\nhandler: kusabi\n"));
}

on_host!(
    podman_knows_the_runtime_by_name,
    containerd_knows_the_handler,
    the_other_files_name_the_same_program,
);
