//! Requests that come with a container: the values of annotations, variables
//! and mounts, under a policy that believes all of them. The first byte says
//! which place, the rest is its value.

use std::path::Path;

use kusabi::document::Document;
use kusabi::policy::Policy;
use kusabi::request::{Flags, collect};
use serde_json::json;

use super::one_line;

const TRUSTING: &str = "[sources]\nmounts = \"allow\"\nenvironment = \"allow\"\n[cgroup]\nparent-annotation = \"allow\"\n";

const PLACES: &[&str] = &[
    "cdi.k8s.io/x",
    "kusabi.dev/gpus",
    "kusabi.dev/gpu-share",
    "kusabi.dev/distributed",
    "kusabi.dev/cgroup-parent",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_REQUIRE_CUDA",
    "NVIDIA_IMEX_CHANNELS",
    "AMD_VISIBLE_DEVICES",
    "HABANA_VISIBLE_DEVICES",
    "mount",
];

/// Collected twice, the same; decided, or refused in one line.
pub fn run(data: &[u8]) {
    let Some((&place, value)) = data.split_first() else {
        return;
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    let place = PLACES[usize::from(place) % PLACES.len()];
    let mut config = json!({
        "ociVersion": "1.0.2",
        "annotations": {},
        "mounts": [],
        "process": {"args": ["x"], "cwd": "/", "env": [],
            "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
    });
    if place == "mount" {
        let destination = format!("/var/run/nvidia-container-devices/{value}");
        config["mounts"] =
            json!([{"destination": destination, "source": "/dev/null", "type": "bind"}]);
    } else if place.contains('/') {
        config["annotations"][place] = value.into();
    } else {
        config["process"]["env"] = json!([format!("{place}={value}")]);
    }
    let document = match Document::parse(config.to_string().as_bytes()) {
        Ok(document) => document,
        Err(error) => return one_line(error),
    };
    let policy =
        Policy::parse(Path::new("/etc/kusabi/config.toml"), TRUSTING.as_bytes()).expect("a policy");
    let collected = || collect(&document, &Flags::default(), &policy);
    match (collected(), collected()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            if let Err(error) = first.decide() {
                one_line(error);
            }
        }
        (Err(error), Err(_)) => one_line(error),
        _ => panic!("the same question, another answer"),
    }
}
