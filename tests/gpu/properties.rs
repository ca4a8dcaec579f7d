//! Whatever a request or a host's files say, nothing panics, and what comes out
//! keeps its promises.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kusabi::cdi::Mode;
use kusabi::document::Document;
use kusabi::edit::{self, Edit};
use kusabi::gpu::{
    Capabilities, Context, Distributed, GpuRequest, Inventory, Properties, Requirement, Selection,
    Sharing, Vendor, check_requirements, plan,
};
use kusabi::policy::{Policy, Use};
use kusabi::request::{Flags, collect};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::snapshot;

/// Text that is nearly a request.
fn near() -> impl Strategy<Value = String> {
    let pieces = [
        "all",
        "none",
        "void",
        "0",
        "1",
        "7",
        "-",
        ",",
        ":",
        "=",
        "/",
        "GPU-",
        "MIG-GPU-",
        "0x",
        "nvidia",
        "amd:",
        "device=",
        "nvidia.com/gpu=",
        "deadbeef",
        " ",
        ".",
        "0000:06:00.0",
        "18446744073709551616",
        "mps",
        "threads",
        "memory.",
        "G",
        "rank=",
        "é",
    ];
    prop_oneof![
        vec(select(pieces.to_vec()), 0..8).prop_map(|parts| parts.concat()),
        ".{0,30}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics_and_every_error_is_one_line(text in near()) {
        let one_line = |error: &str| !error.contains('\n') && !error.is_empty();
        if let Err(error) = GpuRequest::parse(&text) {
            prop_assert!(one_line(&error), "{error:?}");
        }
        if let Err(error) = text.parse::<Sharing>() {
            prop_assert!(one_line(&error), "{error:?}");
        }
        match text.parse::<Distributed>() {
            Ok(wish) => prop_assert!(wish.rank < wish.world_size),
            Err(error) => prop_assert!(one_line(&error), "{error:?}"),
        }
        if let Err(error) = Capabilities::parse(&text) {
            prop_assert!(one_line(&error), "{error:?}");
        }
        let requirement = Requirement { variable: "NVIDIA_REQUIRE_X".into(), value: text };
        if let Err(error) = check_requirements(&[requirement], &Properties::default()) {
            prop_assert!(one_line(&error.to_string()), "{error}");
        }
    }

    /// What is read from text says the same when it is written and read again.
    #[test]
    fn a_request_survives_being_written(text in near()) {
        if let Ok(request) = GpuRequest::parse(&text) {
            let what = request.what.to_string();
            let prefix = request.vendor.as_ref().map(|v| format!("{v}:")).unwrap_or_default();
            let list = if matches!(request.what, Selection::Ids(_)) { "device=" } else { "" };
            let again = GpuRequest::parse(&format!("{prefix}{list}{what}"));
            prop_assert_eq!(Ok(request), again);
        }
    }

    #[test]
    fn no_place_panics(
        values in vec(near(), 6),
        annotation in near(),
        mount in near(),
    ) {
        let names = [
            "NVIDIA_VISIBLE_DEVICES", "AMD_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES",
            "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_IMEX_CHANNELS", "NVIDIA_REQUIRE_CUDA",
        ];
        let env: Vec<String> = names.iter().zip(&values).map(|(n, v)| format!("{n}={v}")).collect();
        let config = json!({
            "annotations": {"kusabi.dev/gpus": annotation},
            "mounts": [{
                "source": "/dev/null",
                "destination": format!("/var/run/nvidia-container-devices/{mount}"),
            }],
            "process": {"env": env},
        });
        let Ok(document) = Document::parse(config.to_string().as_bytes()) else {
            return Ok(());
        };
        let mut policy = Policy::default();
        policy.sources.environment = Use::Allow;
        policy.sources.mounts = Use::Allow;
        match collect(&document, &Flags::default(), &policy) {
            Ok(requests) => {
                // Read twice is read once, and deciding is no surprise.
                let again = collect(&document, &Flags::default(), &policy).unwrap();
                prop_assert_eq!(&requests, &again);
                if let Err(error) = requests.decide() {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }

    /// A host's files are not trusted to be well-formed.
    #[test]
    fn no_file_of_a_host_panics(
        host in select(vec!["nvidia-mig", "amd-partitions", "habana-8", "nvidia-8"]),
        place in any::<prop::sample::Index>(),
        garbage in "[ -~\n]{0,60}",
    ) {
        let mut snapshot = snapshot(host);
        let keys: Vec<PathBuf> = snapshot.texts.keys().cloned().collect();
        snapshot.texts.insert(place.get(&keys).clone(), garbage);
        let inventory = Inventory::read(&snapshot);
        for vendor in inventory.vendors() {
            let request = GpuRequest::new(Some(vendor), Selection::All);
            let _ = plan(&request, &snapshot, &Context::root(Mode::Create), &[]);
        }
    }

    /// Every node has its rule and nothing else has; applying twice is once.
    #[test]
    fn rules_are_exactly_the_nodes(
        (host, vendor) in select(vec![
            ("nvidia-8", Vendor::Nvidia), ("nvidia-mig", Vendor::Nvidia), ("amd-8", Vendor::Amd),
            ("amd-partitions", Vendor::Amd), ("intel", Vendor::Intel), ("habana-8", Vendor::Habana),
        ]),
        ids in prop::collection::btree_set(0_u32..8, 1..5),
    ) {
        let snapshot = snapshot(host);
        let what = Selection::Ids(ids.iter().map(ToString::to_string).collect());
        let request = GpuRequest::new(Some(vendor), what);
        let Ok(plan) = plan(&request, &snapshot, &Context::root(Mode::Create), &[]) else {
            return Ok(());
        };
        let mut nodes = BTreeSet::new();
        let mut rules = Vec::new();
        for planned in &plan.edits {
            match &planned.edit {
                Edit::AddDevice(node) => {
                    nodes.insert((node.major, node.minor));
                }
                Edit::AllowDevice(rule) => {
                    rules.push((rule.major.unwrap(), rule.minor.unwrap()));
                }
                _ => {}
            }
        }
        let once: BTreeSet<_> = rules.iter().copied().collect();
        prop_assert_eq!(once.len(), rules.len());
        prop_assert_eq!(once, nodes);
        let text = r#"{"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}"#;
        let document = Document::parse(text.as_bytes()).unwrap();
        let first = edit::apply(&document, &plan).unwrap();
        let second = edit::apply(&first, &plan).unwrap();
        prop_assert_eq!(first.as_bytes(), second.as_bytes());
    }
}
