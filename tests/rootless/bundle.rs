//! A bundle that a plain user builds is one that it can run.

use std::fs;

use serde_json::{Value, json};

use crate::common::sandbox::make_rootfs;
use crate::common::{Sandbox, on_host};
use crate::user::{UID, User, give_tree};

on_host!(a_plain_users_bundle_has_its_maps_and_runs);

fn a_plain_users_bundle_has_its_maps_and_runs(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let user = User::new(sandbox);
    let home = user.home();
    make_rootfs(&home.join("rootfs"));
    give_tree(&home.join("rootfs"));
    let script =
        "echo user=$(id -u); cat /proc/self/uid_map; echo x > /scratch/x && cat /scratch/x";
    let service = json!({"version": "v1", "deployment": "demo", "services": {"web": {
        "command": {"entrypoint": ["/bin/sh", "-c", script]},
        "storage": [{"type": "tmpfs", "target": "/scratch", "size": "1Mi"}]}}});
    fs::write(home.join("service.yaml"), service.to_string()).unwrap();
    let spec = user.call([
        "bundle",
        "spec",
        "--service",
        "service.yaml",
        "--rootfs",
        "rootfs",
    ]);
    let spec: Value = serde_json::from_str(&spec.output().succeeded().stdout).unwrap();
    let linux = &spec["linux"];
    let has = |kind: &str| {
        let list = linux["namespaces"].as_array().unwrap();
        list.iter().any(|namespace| namespace["type"] == kind)
    };
    assert!(has("user") && has("cgroup"), "{linux}");
    assert_eq!(
        linux["uidMappings"][0],
        json!({"containerID": 0, "hostID": UID, "size": 1})
    );
    assert_eq!(linux["uidMappings"].as_array().unwrap().len(), 4);
    assert!(
        linux["resources"]["devices"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );

    let run = ["run", "--service", "service.yaml", "--rootfs", "rootfs"];
    let out = user.call(run).output().succeeded().stdout;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..4], ["user=0", "0", &UID.to_string(), "1"], "{out}");
    assert_eq!(words.last(), Some(&"x"), "{out}");
    let bundles = sandbox.root().join("bundles");
    assert_eq!(fs::read_dir(&bundles).unwrap().count(), 0);
    fs::remove_dir(bundles).unwrap();
}
