//! Who wins.

use serde_json::json;

use crate::document::Document;
use crate::policy::{Policy, Use};
use crate::request::{Decided, Flags, collect};

struct Case {
    flags: Flags,
    config: serde_json::Value,
    policy: Policy,
}

impl Case {
    fn new(config: serde_json::Value) -> Self {
        let mut policy = Policy::default();
        policy.sources.mounts = Use::Allow;
        policy.sources.environment = Use::Allow;
        Self {
            flags: Flags::default(),
            config,
            policy,
        }
    }

    fn gpus(mut self, flag: &str) -> Self {
        self.flags.gpus.push(flag.to_owned());
        self
    }

    fn decide(&self) -> Result<Decided, String> {
        let document = Document::parse(self.config.to_string().as_bytes()).unwrap();
        let requests = collect(&document, &self.flags, &self.policy).unwrap();
        requests.decide().map_err(|error| error.to_string())
    }

    #[track_caller]
    fn comes_to(&self, expected: &str, notes: &[&str]) {
        let decided = self.decide().unwrap();
        let mut words: Vec<String> = decided.devices.keys().map(ToString::to_string).collect();
        for wish in &decided.gpus {
            let vendor = wish.request.vendor.as_ref();
            let vendor = vendor.map_or("any".to_owned(), ToString::to_string);
            words.push(format!("{vendor}:{}", wish.request.what));
        }
        assert_eq!(words.join(" "), expected);
        let said: Vec<&str> = decided
            .notes
            .iter()
            .map(|note| note.text.as_str())
            .collect();
        assert_eq!(said, notes);
    }
}

const ENV: &str = "NVIDIA_VISIBLE_DEVICES=all";
const MOUNT: &str = "/var/run/nvidia-container-devices/3";

#[test]
fn the_first_place_decides_for_its_vendor() {
    let config = json!({
        "annotations": {"kusabi.dev/gpus": "nvidia:1"},
        "mounts": [{"source": "/dev/null", "destination": MOUNT}],
        "process": {"env": [ENV, "AMD_VISIBLE_DEVICES=0"]},
    });
    Case::new(config.clone()).gpus("nvidia:2").comes_to(
        "nvidia:2 amd:0",
        &[
            "annotation kusabi.dev/gpus=nvidia:1 is not used: flag --gpus nvidia:2 decides",
            "mount /var/run/nvidia-container-devices/3 is not used: flag --gpus nvidia:2 decides",
            "environment NVIDIA_VISIBLE_DEVICES=all is not used: flag --gpus nvidia:2 decides",
        ],
    );
    let without_flag = Case::new(config.clone());
    without_flag.comes_to(
        "nvidia:1 amd:0",
        &[
            "mount /var/run/nvidia-container-devices/3 is not used: annotation kusabi.dev/gpus=nvidia:1 decides",
            "environment NVIDIA_VISIBLE_DEVICES=all is not used: annotation kusabi.dev/gpus=nvidia:1 decides",
        ],
    );
    let mut without_annotation = config.clone();
    without_annotation["annotations"] = json!({});
    Case::new(without_annotation).comes_to(
        "nvidia:3 amd:0",
        &["environment NVIDIA_VISIBLE_DEVICES=all is not used: mount /var/run/nvidia-container-devices/3 decides"],
    );
    // One that names no vendor stands for all of them.
    Case::new(json!({"process": {"env": [ENV]}}))
        .gpus("1")
        .comes_to(
            "any:1",
            &["environment NVIDIA_VISIBLE_DEVICES=all is not used: flag --gpus 1 decides"],
        );
}

#[test]
fn devices_by_name_add_up_and_silence_the_image() {
    let config = json!({
        "annotations": {"cdi.k8s.io/a": "nvidia.com/gpu=1"},
        "process": {"env": [ENV]},
    });
    let mut case = Case::new(config);
    case.flags.devices.push("nvidia.com/gpu=0".to_owned());
    case.comes_to(
        "nvidia.com/gpu=0 nvidia.com/gpu=1",
        &["environment NVIDIA_VISIBLE_DEVICES=all is not used: flag --device nvidia.com/gpu=0 decides"],
    );
    case.flags.gpus.push("nvidia:0,1".to_owned());
    let decided = case.decide().unwrap();
    assert_eq!((decided.devices.len(), decided.gpus.len()), (2, 1));
}

#[test]
fn the_policy_stands_in_where_nobody_else_asks() {
    let mut case = Case::new(json!({"process": {"env": [ENV]}}));
    case.policy.request.gpus = Some("nvidia:1".to_owned());
    case.policy.request.gpu_share = Some("mps".to_owned());
    case.comes_to(
        "nvidia:1",
        &["environment NVIDIA_VISIBLE_DEVICES=all is not used: policy /etc/kusabi/config.toml request.gpus decides"],
    );
    let case = case.gpus("nvidia:2");
    let decided = case.decide().unwrap();
    assert_eq!(decided.gpus.len(), 1);
    assert!(decided.gpus[0].request.sharing.is_some());
}

#[test]
fn one_place_must_agree_with_itself() {
    let ask = |flags: &[&str]| {
        let case = Case::new(json!({}));
        let case = flags.iter().fold(case, |case, flag| case.gpus(flag));
        case.decide()
            .map(|decided| {
                let what = |wish: &crate::request::GpuWish| wish.request.what.to_string();
                decided.gpus.iter().map(what).collect::<Vec<_>>().join(" ")
            })
            .unwrap_or_else(|error| error)
    };
    assert_eq!(ask(&["2", "2"]), "2");
    assert_eq!(ask(&["nvidia:0,1", "nvidia:device=2"]), "0,1,2");
    assert_eq!(ask(&["nvidia:1", "amd:2"]), "1 2");
    assert_eq!(
        ask(&["nvidia:1", "nvidia:2"]),
        "flag --gpus nvidia:2: excludes flag --gpus nvidia:1, ask for GPUs once"
    );
    assert_eq!(
        ask(&["nvidia:1", "2"]),
        "flag --gpus nvidia:1: excludes flag --gpus 2, ask for GPUs once"
    );
}
