//! Every form in every place, re-expressed from the tables of NVIDIA's own tests
//! (`cuda_image_test.go`, `devices` and `mounts`) where they have one.

use serde_json::json;

use crate::document::Document;
use crate::gpu::ImexChannels;
use crate::policy::{Policy, Use};
use crate::request::{Flags, Requests, What, collect};

/// A policy under which every place counts.
fn open() -> Policy {
    let mut policy = Policy::default();
    policy.sources.mounts = Use::Allow;
    policy.sources.environment = Use::Allow;
    policy.cgroup.parent_annotation = Use::Allow;
    policy
}

fn ask(config: &serde_json::Value, policy: &Policy) -> Result<Requests, String> {
    let document = Document::parse(config.to_string().as_bytes()).unwrap();
    collect(&document, &Flags::default(), policy).map_err(|error| error.to_string())
}

fn env(list: &[&str]) -> Result<Requests, String> {
    ask(&json!({"process": {"env": list}}), &open())
}

/// What is asked for, in words.
pub(super) fn words(requests: &Requests) -> String {
    let words: Vec<String> = requests
        .devices
        .iter()
        .map(|request| match &request.what {
            What::Cdi(name) => name.to_string(),
            What::Gpus { vendor, which } => match vendor {
                Some(vendor) => format!("{vendor}:{which}"),
                None => format!("any:{which}"),
            },
        })
        .collect();
    words.join(" ")
}

fn asked(list: &[&str]) -> String {
    env(list).map_or_else(|error| error, |requests| words(&requests))
}

#[test]
fn every_form_of_visible_devices() {
    for (value, expected) in [
        ("", ""),
        (" , ", ""),
        ("void", ""),
        ("0,void", ""),
        ("all,void", ""),
        ("none", "nvidia:none"),
        ("all", "nvidia:all"),
        ("0,all", "nvidia:all"),
        ("0", "nvidia:0"),
        ("1,0,1", "nvidia:0,1"),
        (" 0 , 1 ", "nvidia:0,1"),
        ("0:1", "nvidia:0:1"),
        ("GPU-fef8089b", "nvidia:GPU-fef8089b"),
        (
            "GPU-edfee158-11c1-52b8-0517-92f30e7fac88",
            "nvidia:GPU-edfee158-11c1-52b8-0517-92f30e7fac88",
        ),
        (
            "MIG-GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5/1/5",
            "nvidia:MIG-GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5/1/5",
        ),
        ("nvidia.com/gpu=0", "nvidia.com/gpu=0"),
        ("nvidia.com/gpu=0,1", "nvidia.com/gpu=0 nvidia:1"),
        ("nvidia.com/gpu=all", "nvidia.com/gpu=all"),
        ("runtime.nvidia.com/gpu=all", "nvidia:all"),
        ("runtime.nvidia.com/gpu=0:1", "nvidia:0:1"),
        ("0-2", "nvidia:0,1,2"),
        (
            "/dev/nvidia0;rm",
            "environment NVIDIA_VISIBLE_DEVICES: \"/dev/nvidia0;rm\" contains ';', which no \
             device's name has",
        ),
        (
            "a/b=",
            "environment NVIDIA_VISIBLE_DEVICES: invalid CDI device name \"a/b=\": the device \
             name is empty",
        ),
    ] {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={value}");
        assert_eq!(asked(&[&variable]), expected, "{value:?}");
    }
    assert_eq!(asked(&["NVIDIA_VISIBLE_DEVICES"]), "", "without a value");
    // As a program sees it, the last counts.
    let twice = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=1"];
    assert_eq!(asked(&twice), "nvidia:1");
    // An old image without the variable asks for nothing.
    assert_eq!(asked(&["CUDA_VERSION=9.0"]), "");
}

#[test]
fn every_form_of_the_others() {
    for (variable, expected) in [
        ("AMD_VISIBLE_DEVICES=all", "amd:all"),
        ("AMD_VISIBLE_DEVICES=All", "amd:all"),
        ("AMD_VISIBLE_DEVICES=ALL", "amd:all"),
        ("AMD_VISIBLE_DEVICES=0-3,5", "amd:0,1,2,3,5"),
        (
            "AMD_VISIBLE_DEVICES=0xEF2C1799A1F3E2ED",
            "amd:0xEF2C1799A1F3E2ED",
        ),
        (
            "AMD_VISIBLE_DEVICES=EF2C1799A1F3E2ED",
            "amd:EF2C1799A1F3E2ED",
        ),
        ("AMD_VISIBLE_DEVICES=void", ""),
        (
            "AMD_VISIBLE_DEVICES=3-0",
            "environment AMD_VISIBLE_DEVICES: range 3-0 runs backwards, expected 0-3",
        ),
        ("HABANA_VISIBLE_DEVICES=all", "habana:all"),
        ("HABANA_VISIBLE_DEVICES=0,7", "habana:0,7"),
        ("HABANA_VISIBLE_DEVICES=", ""),
        ("INTEL_VISIBLE_DEVICES=0", ""),
    ] {
        assert_eq!(asked(&[variable]), expected, "{variable}");
    }
    let all = [
        "NVIDIA_VISIBLE_DEVICES=0",
        "HABANA_VISIBLE_DEVICES=1",
        "AMD_VISIBLE_DEVICES=2",
    ];
    assert_eq!(asked(&all), "nvidia:0 amd:2 habana:1");
}

#[test]
fn requirements_come_from_every_variable_of_the_name() {
    let require = |list: &[&str]| -> Vec<String> {
        let list = [list, &["NVIDIA_VISIBLE_DEVICES=all"]].concat();
        let extras = env(&list).unwrap().extras;
        let one = |r: &crate::gpu::Requirement| format!("{}: {}", r.variable, r.value);
        extras.require.iter().map(one).collect()
    };
    for (list, expected) in [
        (&[][..], &[][..]),
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=11.6"],
            &["NVIDIA_REQUIRE_CUDA: cuda>=11.6"],
        ),
        (
            &[
                "CUDA_VERSION=11.6.1",
                "NVIDIA_REQUIRE_CUDA=cuda>=10.2",
                "NVIDIA_REQUIRE_DRIVER=driver>470",
                "NVIDIA_REQUIRE_JETPACK=csv-mounts=all",
            ],
            &[
                "NVIDIA_REQUIRE_CUDA: cuda>=10.2",
                "NVIDIA_REQUIRE_DRIVER: driver>470",
            ],
        ),
        (&["CUDA_VERSION=11.6.1"], &["CUDA_VERSION: cuda>=11.6"]),
        (&["CUDA_VERSION="], &[]),
        (
            &[
                "NVIDIA_REQUIRE_CUDA=cuda>=99",
                "NVIDIA_DISABLE_REQUIRE=true",
            ],
            &[],
        ),
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=1"],
            &[],
        ),
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=yes"],
            &["NVIDIA_REQUIRE_CUDA: cuda>=99"],
        ),
        (
            &[
                "NVIDIA_REQUIRE_CUDA=cuda>=99",
                "NVIDIA_DISABLE_REQUIRE=false",
            ],
            &["NVIDIA_REQUIRE_CUDA: cuda>=99"],
        ),
    ] {
        assert_eq!(require(list), expected, "{list:?}");
    }
    let mut policy = open();
    policy.nvidia.disable_require = true;
    let config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=x"]}});
    assert_eq!(ask(&config, &policy).unwrap().extras.require, []);
}

#[test]
fn imex_channels() {
    let channels = |value: &str| {
        let variable = format!("NVIDIA_IMEX_CHANNELS={value}");
        env(&["NVIDIA_VISIBLE_DEVICES=0", &variable]).map(|requests| requests.extras.imex)
    };
    let numbers = |list: &[u32]| Ok(Some(ImexChannels::Numbers(list.iter().copied().collect())));
    assert_eq!(channels(""), Ok(None));
    assert_eq!(channels("void"), Ok(None));
    assert_eq!(channels("none"), Ok(None));
    assert_eq!(channels("all"), Ok(Some(ImexChannels::All)));
    assert_eq!(channels("0"), numbers(&[0]));
    assert_eq!(channels("channel3, 2047"), numbers(&[3, 2047]));
    assert_eq!(channels("1048575"), numbers(&[1_048_575]));
    for wrong in ["1048576", "x", "channel", "-1", "0x1"] {
        assert_eq!(
            channels(wrong),
            Err(format!(
                "environment NVIDIA_IMEX_CHANNELS: {wrong:?} is no number of a channel, at most 1048575"
            ))
        );
    }
    let mut policy = open();
    policy.nvidia.ignore_imex_channels = true;
    let config =
        json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=0"]}});
    assert_eq!(ask(&config, &policy).unwrap().extras.imex, None);
}

pub(super) fn mounts(destinations: &[&str]) -> serde_json::Value {
    let list: Vec<_> = destinations
        .iter()
        .map(|destination| json!({"source": "/dev/null", "destination": destination}))
        .collect();
    json!({ "mounts": list })
}

#[test]
fn mounts_name_devices_and_are_taken_out() {
    let root = super::super::MOUNT_ROOT;
    let asked = |devices: &[&str]| {
        let paths: Vec<String> = devices.iter().map(|d| format!("{root}{d}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        ask(&mounts(&paths), &open())
    };
    for (devices, expected, removed) in [
        (&["/all"][..], "nvidia:all", 1),
        (&["/none"], "nvidia:none", 1),
        (&["/void"], "", 1),
        (&["/0", "/1"], "nvidia:0 nvidia:1", 2),
        (&["/0", "/./0/"], "nvidia:0", 1),
        (&["/GPU-0123/"], "nvidia:GPU-0123", 1),
        (&["/cdi/nvidia.com/gpu/all"], "nvidia.com/gpu=all", 1),
        (&["/cdi/nvidia.com/gpu=0"], "nvidia.com/gpu=0", 1),
        (&["/cdi/acme.org/card/a.b"], "acme.org/card=a.b", 1),
        (&["", "/", "-other/0"], "", 0),
    ] {
        let requests = asked(devices).unwrap();
        assert_eq!(words(&requests), expected, "{devices:?}");
        assert_eq!(requests.read.len(), removed, "{devices:?}");
    }
    assert_eq!(
        asked(&["/imex/0", "/imex/channel7"]).unwrap().extras.imex,
        Some(ImexChannels::Numbers([0, 7].into()))
    );
    for (device, reason) in [
        ("/imex/x", "\"x\" is no number of a channel"),
        (
            "/cdi/nvidia.com",
            "invalid CDI device name \"nvidia.com\": it has no '=', expected vendor/class=device",
        ),
        (
            "/cdi/nvidia.com/gpu/0/1",
            "invalid CDI device name \"nvidia.com/gpu/0/1\": it has no '=', expected vendor/class=device",
        ),
        ("/a b", "\"a b\" contains ' ', which no device's name has"),
    ] {
        assert_eq!(
            asked(&[device]).unwrap_err(),
            format!("mount {:?}: {reason}", format!("{root}{device}"))
        );
    }
    // Only /dev/null stands for a request.
    let config = json!({"mounts": [{"source": "/dev/zero", "destination": format!("{root}/0")}]});
    assert_eq!(words(&ask(&config, &open()).unwrap()), "");
}

#[test]
fn our_own_annotations_say_what_flags_say() {
    let asked = |key: &str, value: &str| {
        ask(
            &json!({"annotations": {format!("kusabi.dev/{key}"): value}}),
            &open(),
        )
    };
    assert_eq!(words(&asked("gpus", "amd:2").unwrap()), "amd:2");
    assert!(
        asked("gpu-share", "mps,threads=5")
            .unwrap()
            .sharing
            .is_some()
    );
    assert!(asked("distributed", "gloo").unwrap().distributed.is_some());
    let parent = asked("cgroup-parent", "/gpus").unwrap().cgroup_parent;
    assert_eq!(parent.unwrap().0, "/gpus");
    for (key, value, reason) in [
        ("gpus", "0", "0 asks for nothing, leave it out or say none"),
        (
            "gpu-share",
            "mig",
            "\"mig\" is no way to share, expected mps or time-slice",
        ),
        (
            "distributed",
            "x",
            "\"x\" is no backend, expected nccl, gloo or mpi",
        ),
        (
            "cgroup-parent",
            "/a/../b",
            "\"/a/../b\" is no cgroup, expected a path without .. or a slice",
        ),
    ] {
        assert_eq!(
            asked(key, value).unwrap_err(),
            format!("annotation kusabi.dev/{key}: {reason}")
        );
    }
    // An annotation is a wish, and no way to mount the host's files.
    for value in [
        "mps,pipe-dir=/root",
        "mps,log-dir=/etc",
        "mps,shm-dir=/",
        "time-slice,config=/etc/shadow",
    ] {
        let error = asked("gpu-share", value).unwrap_err();
        assert!(
            error.starts_with("annotation kusabi.dev/gpu-share: directories and files of the host"),
            "{value}: {error}"
        );
    }
    assert!(asked("gpu-share", "time-slice,index=1").is_ok());
    let notes = asked("gpu", "1").unwrap().notes;
    assert_eq!(
        notes.first().map(|note| note.text.as_str()),
        Some(
            "annotation kusabi.dev/gpu is not known, expected kusabi.dev/ and gpus, gpu-share, \
             distributed or cgroup-parent"
        )
    );
}

#[test]
fn what_does_not_count_is_said_with_the_line_that_would_let_it() {
    let annotations = json!({
        "annotations": {"kusabi.dev/cgroup-parent": "/x"},
        "mounts": [{"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/0"}],
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=all", "AMD_VISIBLE_DEVICES=void"]},
    });
    let requests = ask(&annotations, &Policy::default()).unwrap();
    assert!(requests.is_empty(), "{requests:?}");
    let notes: Vec<&str> = requests
        .notes
        .iter()
        .map(|note| note.text.as_str())
        .collect();
    assert_eq!(
        notes,
        [
            "ignored annotation kusabi.dev/cgroup-parent=/x: nobody may ask there (default), \
             cgroup.parent-annotation = \"allow\" in /etc/kusabi/config.toml would allow it",
            "ignored mount /var/run/nvidia-container-devices/0: nobody may ask there (default), \
             sources.mounts = \"allow\" in /etc/kusabi/config.toml would allow it",
            "ignored environment NVIDIA_VISIBLE_DEVICES=all: only containers with CAP_SYS_ADMIN \
             may ask there (default), sources.environment = \"allow\" in \
             /etc/kusabi/config.toml would allow it",
        ]
    );
    // CAP_SYS_ADMIN in the bounding set is what counts, and nowhere else.
    for (set, counts) in [("bounding", true), ("effective", false)] {
        let config = json!({"process": {
            "env": ["NVIDIA_VISIBLE_DEVICES=0"],
            "capabilities": {set: ["CAP_CHOWN", "CAP_SYS_ADMIN"]},
        }});
        let requests = ask(&config, &Policy::default()).unwrap();
        assert_eq!(!requests.is_empty(), counts, "{set}");
    }
}

#[test]
fn a_schedulers_variable_silences_the_images() {
    let mut policy = open();
    policy.nvidia.swarm_resource = vec!["DOCKER_RESOURCE_GPU".into(), "GPUS".into()];
    let config = |env: &[&str]| json!({"process": {"env": env}});
    let image = "NVIDIA_VISIBLE_DEVICES=all";
    let asked = |env: &[&str]| words(&ask(&config(env), &policy).unwrap());
    assert_eq!(asked(&[image]), "nvidia:all");
    assert_eq!(
        asked(&[image, "DOCKER_RESOURCE_GPU=GPU-01234567"]),
        "nvidia:GPU-01234567"
    );
    assert_eq!(asked(&[image, "DOCKER_RESOURCE_GPU="]), "");
}
