//! The tables of nvidia-container-toolkit's own tests, re-expressed: who may ask
//! with `NVIDIA_VISIBLE_DEVICES` and its like, with mounts and with annotations.
//! Each function names the test there; where the answer differs, the row says why.

use serde_json::{Value, json};

use super::places::{mounts, words};
use crate::document::Document;
use crate::policy::{Policy, Use};
use crate::request::{Flags, Requests, collect};

fn ask(config: &Value, policy: &Policy) -> Result<Requests, String> {
    let document = Document::parse(config.to_string().as_bytes()).unwrap();
    collect(&document, &Flags::default(), policy).map_err(|error| error.to_string())
}

fn asked(config: &Value, policy: &Policy) -> String {
    ask(config, policy).map_or_else(|error| error, |requests| words(&requests))
}

fn policy(environment: Use, mounts: Use) -> Policy {
    let mut policy = Policy::default();
    policy.sources.environment = environment;
    policy.sources.mounts = mounts;
    policy
}

fn env(list: &[&str], capabilities: &[&str]) -> Value {
    json!({"process": {"env": list, "capabilities": {"bounding": capabilities}}})
}

const GPU: &str = "GPU-12345";
const OTHER: &str = "GPU-67890";

/// `TestGetDevicesFromEnvvar`: rows of (swarm variables, environment, devices).
#[test]
fn devices_from_variables() {
    let swarm = "DOCKER_RESOURCE_GPUS";
    let more = "DOCKER_RESOURCE_GPUS_ADDITIONAL";
    let (first, second, both) = ([swarm], [more], [swarm, more]);
    let nvidia = |value: &str| format!("NVIDIA_VISIBLE_DEVICES={value}");
    let set = |name: &str, value: &str| format!("{name}={value}");
    let legacy = "CUDA_VERSION=legacy".to_owned();
    let none: &[&str] = &[];
    let rows: Vec<(&[&str], Vec<String>, String)> = vec![
        (none, vec![], String::new()),
        (none, vec![nvidia("")], String::new()),
        (none, vec![nvidia("void")], String::new()),
        (none, vec![nvidia("none")], "nvidia:none".into()),
        (none, vec![nvidia(GPU)], format!("nvidia:{GPU}")),
        // A variable that the policy does not name is none.
        (none, vec![set(swarm, OTHER)], String::new()),
        (none, vec![nvidia(""), set(swarm, OTHER)], String::new()),
        (none, vec![nvidia("void"), set(swarm, OTHER)], String::new()),
        (
            none,
            vec![nvidia("none"), set(swarm, OTHER)],
            "nvidia:none".into(),
        ),
        (
            none,
            vec![nvidia(GPU), set(swarm, OTHER)],
            format!("nvidia:{GPU}"),
        ),
        // There an old image without the variable gets everything. Here it asks for
        // nothing: what it was before 2018 is no wish today.
        (none, vec![legacy.clone()], String::new()),
        (none, vec![set(swarm, OTHER), legacy], String::new()),
        (&first, vec![], String::new()),
        (&first, vec![set(swarm, "")], String::new()),
        (&first, vec![set(swarm, "void")], String::new()),
        (&first, vec![set(swarm, "none")], "nvidia:none".into()),
        (&first, vec![set(swarm, GPU)], format!("nvidia:{GPU}")),
        (
            &first,
            vec![nvidia(GPU), set(swarm, OTHER)],
            format!("nvidia:{OTHER}"),
        ),
        (
            &second,
            vec![nvidia(GPU), set(more, OTHER)],
            format!("nvidia:{OTHER}"),
        ),
        (
            &both,
            vec![nvidia(GPU), set(swarm, "MIG-12345"), set(more, OTHER)],
            format!("nvidia:{OTHER} nvidia:MIG-12345"),
        ),
        (
            &both,
            vec![nvidia(GPU), set(more, OTHER)],
            format!("nvidia:{OTHER}"),
        ),
    ];
    for (variables, environment, expected) in rows {
        let mut policy = Policy::default();
        policy.nvidia.swarm_resource = variables.iter().map(|v| (*v).to_owned()).collect();
        let list: Vec<&str> = environment.iter().map(String::as_str).collect();
        let config = env(&list, &["CAP_SYS_ADMIN"]);
        assert_eq!(asked(&config, &policy), expected, "{variables:?} {list:?}");
    }
}

/// An old image that asks by the variable is served; its version must be one, though.
#[test]
fn a_legacy_image_may_ask() {
    let config = |version: &str| {
        env(
            &[
                "NVIDIA_VISIBLE_DEVICES=GPU-12345",
                &format!("CUDA_VERSION={version}"),
            ],
            &["CAP_SYS_ADMIN"],
        )
    };
    let requests = ask(&config("9.0"), &Policy::default()).unwrap();
    assert_eq!(words(&requests), "nvidia:GPU-12345");
    assert_eq!(requests.extras.require.len(), 1);
}

/// `TestGetVisibleDevicesFromMounts`
#[test]
fn devices_from_mounts() {
    let open = policy(Use::Off, Use::Allow);
    let root = super::super::MOUNT_ROOT;
    let of = |names: &[&str]| {
        let paths: Vec<String> = names.iter().map(|name| format!("{root}/{name}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        asked(&mounts(&paths), &open)
    };
    assert_eq!(of(&[]), "");
    let config = json!({"mounts": [
        {"source": "/not/dev/null", "destination": format!("{root}/GPU0")},
        {"source": "/dev/null", "destination": "/other/prefix/GPU0"},
        {"source": "/dev/null", "destination": root},
    ]});
    assert_eq!(asked(&config, &open), "");
    assert_eq!(of(&["GPU0", "GPU1"]), "nvidia:GPU0 nvidia:GPU1");
    assert_eq!(
        of(&["GPU0-MIG0/0/1", "GPU1-MIG0/0/1"]),
        "nvidia:GPU0-MIG0/0/1 nvidia:GPU1-MIG0/0/1"
    );
    assert_eq!(
        of(&["GPU0", "nvidia.com/gpu=all", "GPU1"]),
        "nvidia.com/gpu=all nvidia:GPU0 nvidia:GPU1"
    );
    assert_eq!(of(&["GPU0", "imex/0", "GPU1"]), "nvidia:GPU0 nvidia:GPU1");
}

/// `TestVisibleDevices`: rows of (mounts ask, privileged, images may ask, mounts
/// count, devices).
#[test]
fn mounts_come_before_the_environment_and_both_need_leave() {
    let root = super::super::MOUNT_ROOT;
    for (with_mounts, privileged, images, from_mounts, expected) in [
        (true, false, false, true, "nvidia:GPU0 nvidia:GPU1"),
        (false, false, false, true, ""),
        (false, true, false, true, "nvidia:GPU2,GPU3"),
        (false, false, true, true, "nvidia:GPU2,GPU3"),
        (true, false, true, false, "nvidia:GPU2,GPU3"),
        (true, false, false, false, ""),
    ] {
        let capabilities: &[&str] = if privileged { &["CAP_SYS_ADMIN"] } else { &[] };
        let mut config = env(&["NVIDIA_VISIBLE_DEVICES=GPU2,GPU3"], capabilities);
        if with_mounts {
            config["mounts"] = json!([
                {"source": "/dev/null", "destination": format!("{root}/GPU0")},
                {"source": "/dev/null", "destination": format!("{root}/GPU1")},
            ]);
        }
        let environment = if images { Use::Allow } else { Use::Privileged };
        let mount = if from_mounts { Use::Allow } else { Use::Off };
        let requests = ask(&config, &policy(environment, mount)).unwrap();
        // What is heard is decided later; here everything that counts is there.
        let decided = requests.decide().unwrap();
        let asked: Vec<String> = decided
            .gpus
            .iter()
            .map(|wish| format!("nvidia:{}", wish.request.what).replace(',', " nvidia:"))
            .collect();
        let expected = expected.replace("GPU2,GPU3", "GPU2 nvidia:GPU3");
        assert_eq!(
            asked.join(" "),
            expected,
            "{with_mounts} {privileged} {images} {from_mounts}"
        );
    }
    // The rest of the table: a scheduler's variable needs the same leave.
    for (privileged, images, expected) in [
        (true, false, "nvidia:GPU-12345"),
        (false, true, "nvidia:GPU-12345"),
        (false, false, ""),
    ] {
        let capabilities: &[&str] = if privileged { &["CAP_SYS_ADMIN"] } else { &[] };
        let environment = if images { Use::Allow } else { Use::Privileged };
        let mut policy = policy(environment, Use::Allow);
        policy.nvidia.swarm_resource = vec!["DOCKER_RESOURCE_GPUS".to_owned()];
        let config = env(&["DOCKER_RESOURCE_GPUS=GPU-12345"], capabilities);
        assert_eq!(asked(&config, &policy), expected);
        let config = env(&["NVIDIA_VISIBLE_DEVICES=GPU-12345"], capabilities);
        assert_eq!(asked(&config, &policy), expected);
    }
}

/// `TestIsPrivileged`, and what else a list may hold.
#[test]
fn privileged_is_sys_admin_in_the_bounding_set() {
    let of = |capabilities: Value| {
        let config = json!({"process": {
            "env": ["NVIDIA_VISIBLE_DEVICES=all"], "capabilities": capabilities,
        }});
        asked(&config, &Policy::default())
    };
    assert_eq!(of(json!({"bounding": ["CAP_SYS_ADMIN"]})), "nvidia:all");
    assert_eq!(of(json!({"bounding": ["CAP_SYS_FOO"]})), "");
    assert_eq!(of(json!({"effective": ["CAP_SYS_ADMIN"]})), "");
    assert_eq!(of(json!({})), "");
}

/// `TestCDIDeviceRequestsFromAnnotations`, and the rows of `TestDeviceRequests` about
/// annotations.
#[test]
fn devices_from_annotations() {
    let of = |prefixes: &[&str], annotations: Value, kind: Option<&str>| {
        let mut policy = Policy::default();
        policy.sources.cdi_annotation_prefixes =
            prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        policy.devices.default_kind = kind.map(str::to_owned);
        asked(&json!({ "annotations": annotations }), &policy)
    };
    let bar = json!({"prefix/foo": "example.com/device=bar"});
    assert_eq!(of(&["prefix/"], json!({}), None), "");
    assert_eq!(of(&["not-prefix/"], bar.clone(), None), "");
    assert_eq!(of(&["prefix/"], bar, None), "example.com/device=bar");
    let both = ["prefix/", "another-prefix/"];
    let two = json!({
        "prefix/foo": "example.com/device=bar",
        "another-prefix/bar": "example.com/device=baz",
    });
    assert_eq!(
        of(&both, two, None),
        "example.com/device=bar example.com/device=baz"
    );
    // Asking twice is asking once, in the end.
    let twice = json!({
        "prefix/foo": "example.com/device=bar",
        "another-prefix/bar": "example.com/device=bar",
    });
    let mut words = of(&both, twice, None);
    words.truncate("example.com/device=bar".len());
    assert_eq!(words, "example.com/device=bar");
    let bare = json!({"prefix/foo": "device"});
    assert_eq!(
        of(&["prefix/"], bare.clone(), Some("nvidia.com/gpu")),
        "nvidia.com/gpu=device"
    );
    let mixed = json!({"prefix/foo": "0,example.com/device=bar"});
    assert_eq!(
        of(&["prefix/"], mixed, Some("nvidia.com/gpu")),
        "example.com/device=bar nvidia.com/gpu=0"
    );
    // There such text becomes a device's name, which nothing can have.
    let invalid = json!({"prefix/foo": "example.com/device"});
    for kind in [None, Some("nvidia.com/gpu")] {
        let error = of(&["prefix/"], invalid.clone(), kind);
        assert!(
            error.starts_with("annotation prefix/foo: invalid CDI device name"),
            "{error}"
        );
    }
    let error = of(&["prefix/"], bare, None);
    assert!(error.contains("it has no '='"), "{error}");
}

/// `TestDeviceRequests`: the rows about mounts and variables.
#[test]
fn devices_by_qualified_names() {
    let open = policy(Use::Allow, Use::Allow);
    let root = super::super::MOUNT_ROOT;
    let config = mounts(&[
        &format!("{root}/cdi/nvidia.com/gpu/0"),
        &format!("{root}/cdi/nvidia.com/gpu/1"),
    ]);
    assert_eq!(asked(&config, &open), "nvidia.com/gpu=0 nvidia.com/gpu=1");
    for (list, expected) in [
        (
            &["NVIDIA_VISIBLE_DEVICES=0,example.com/class=device"][..],
            "example.com/class=device nvidia:0",
        ),
        (&["NVIDIA_VISIBLE_DEVICES=all"], "nvidia:all"),
        (&["NVIDIA_VISIBLE_DEVICES=none"], "nvidia:none"),
    ] {
        assert_eq!(asked(&env(list, &[]), &open), expected, "{list:?}");
    }
    let mut swarm = open;
    swarm.nvidia.swarm_resource = vec!["SWARM_RESOURCE".to_owned()];
    let list = ["NVIDIA_VISIBLE_DEVICES=all", "SWARM_RESOURCE=GPU1"];
    assert_eq!(asked(&env(&list, &[]), &swarm), "nvidia:GPU1");
}

/// `TestGetRequirements`
#[test]
fn requirements_of_an_image() {
    let of = |list: &[&str]| -> Vec<String> {
        let list = [&["NVIDIA_VISIBLE_DEVICES=all"], list].concat();
        let requests = ask(&env(&list, &[]), &policy(Use::Allow, Use::Off)).unwrap();
        let values = requests.extras.require.into_iter();
        values.map(|requirement| requirement.value).collect()
    };
    let cuda = "NVIDIA_REQUIRE_CUDA=cuda>=11.6";
    let brand = "NVIDIA_REQUIRE_BRAND=brand=tesla";
    let off = "NVIDIA_DISABLE_REQUIRE=true";
    for (list, expected) in [
        (&["NVIDIA_REQUIRE_JETPACK=csv-mounts=all"][..], &[][..]),
        (&["NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=base-only"], &[]),
        (&[cuda], &["cuda>=11.6"]),
        (&[cuda, brand], &["brand=tesla", "cuda>=11.6"]),
        (&["CUDA_VERSION=11.6"], &["cuda>=11.6"]),
        (
            &["CUDA_VERSION=11.6", brand],
            &["cuda>=11.6", "brand=tesla"],
        ),
        (&[cuda, brand, off], &[]),
        (&["CUDA_VERSION=11.6", brand, off], &[]),
    ] {
        assert_eq!(of(list), expected, "{list:?}");
    }
}
