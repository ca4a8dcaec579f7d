//! Whatever a request or a host's files say, nothing panics, and what comes out
//! keeps its promises.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use kusabi::cdi::{Mode, Registry};
use kusabi::document::Document;
use kusabi::edit::{self, Edit};
use kusabi::gpu::{
    Capabilities, Context, Distributed, GpuRequest, Inventory, Properties, Requirement, Selection,
    Sharing, Vendor, check_requirements, plan,
};
use kusabi::host::facts::Snapshot;
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

/// A host with links, as far as files tell of them.
static LINKED: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut snapshot = snapshot("amd-pairs");
    let links = kusabi::host::gpu::probe(&crate::host("amd-pairs"), &kusabi::gpu::link_needs(None));
    snapshot.merge_names(links.unwrap());
    snapshot
});

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| kusabi::host::cdi_dirs::registry(&[], &[], &crate::host("nvidia-4")));

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

    /// The other places, and a default kind for bare names.
    #[test]
    fn no_annotation_and_no_flag_panics(
        values in vec(near(), 4),
        flags in vec(near(), 3),
        kind in prop::option::of(Just("nvidia.com/gpu")),
    ) {
        let keys = ["kusabi.dev/gpu-share", "kusabi.dev/distributed", "kusabi.dev/cgroup-parent", "cdi.k8s.io/x"];
        let annotations: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let config = json!({"annotations": annotations});
        let document = Document::parse(config.to_string().as_bytes()).unwrap();
        let mut policy = Policy::default();
        policy.cgroup.parent_annotation = Use::Allow;
        policy.devices.default_kind = kind.map(str::to_owned);
        let flags = Flags {
            devices: vec![flags[0].clone()],
            gpus: vec![flags[1].clone()],
            cgroup_parent: Some(flags[2].clone()),
            ..Flags::default()
        };
        let mut requests = kusabi::request::Requests::default();
        let read = kusabi::request::gather(&document, &flags, &policy, &mut requests);
        // Whatever failed, the request that did is written down as the last one.
        if let Err(error) = read {
            let error = error.to_string();
            prop_assert!(!error.contains('\n'), "{error}");
            let last = requests.ledger.decisions().last().unwrap();
            prop_assert_eq!(last.verdict.word(), "refused");
        }
    }

    #[test]
    fn no_policy_panics(
        text in prop_oneof![
            "[ -~\n]{0,80}",
            vec(select(vec![
                "[sources]\n", "[request]\n", "gpus = ", "environment = ", "\"allow\"\n", "\"2\"\n",
                "[users.x]\n", "deny = ", "[\"a/b\"]\n", "[nvidia]\n", "disable-require = true\n", "[", "]", "=",
                "default-kind = \"a/b\"\n", "[devices]\n", "\"", "\u{e9}",
            ]), 0..10).prop_map(|parts| parts.concat()),
        ],
    ) {
        let file = std::path::Path::new("/p.toml");
        match Policy::parse(file, text.as_bytes()) {
            Ok(policy) => prop_assert!(policy.entries().len() > 20),
            Err(error) => prop_assert!(!error.to_string().trim().is_empty()),
        }
    }

    /// A list of nodes is whole or an error with its line.
    #[test]
    fn no_list_of_nodes_panics(
        text in prop_oneof![
            "[ -~\n]{0,60}",
            vec(select(vec![
                "/dev/nvidia0", " ", "c", "b", "q", "195:0", "0666", "0:0", "\n", "#", "x", "4294967296:0",
            ]), 0..12).prop_map(|parts| parts.concat()),
        ],
    ) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kusabi-nodes"), &text).unwrap();
        match kusabi::host::gpu::probe(dir.path(), &kusabi::gpu::needs(None)) {
            Ok(snapshot) => {
                let _ = Inventory::read(&snapshot);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }

    /// What tells of links may say anything; a link is the same from both ends.
    #[test]
    fn no_link_panics(
        target in prop_oneof![
            "[ -~]{0,40}",
            vec(select(vec!["../", "devices/", "pci0000:00/", "0000:01:00.0/", "/", "pci", ".", "x/"]), 0..8)
                .prop_map(|parts| parts.concat()),
        ],
        text in prop_oneof![
            "[ -~\n]{0,60}",
            vec(select(vec![
                "type 11\n", "type 2\n", "node_to ", "weight ", "15\n", "0\n", "4294967295\n", "-1\n", "node_to 4\n",
            ]), 0..8).prop_map(|parts| parts.concat()),
        ],
    ) {
        let mut snapshot = LINKED.clone();
        if let Some(link) = snapshot.links.values_mut().next() {
            *link = target.into();
        }
        let place = "/sys/class/kfd/kfd/topology/nodes/2/io_links/1/properties";
        prop_assert!(snapshot.texts.insert(place.into(), text).is_some());
        let inventory = Inventory::read(&snapshot);
        let devices = inventory.devices();
        for one in devices {
            for other in devices {
                let link = kusabi::gpu::links::between(one, other);
                prop_assert_eq!(link, kusabi::gpu::links::between(other, one));
                prop_assert!(link.is_none_or(|link| link.strength() > 0));
            }
        }
    }

    /// Nor may what engines and generators of CDI files write.
    #[test]
    fn no_file_makes_the_doctor_panic(
        file in select(vec![
            "/etc/docker/daemon.json", "/etc/containerd/config.toml", "/etc/crio/crio.conf",
            "/etc/containers/containers.conf", "/proc/devices", "/proc/driver/nvidia/version",
            "/etc/subuid", "/sys/fs/cgroup/cgroup.controllers",
        ]),
        text in prop_oneof![
            "[ -~\n]{0,60}",
            vec(select(vec![
                "{\"runtimes\":", "{\"kusabi\":", "{\"path\":\"/k\"}", "}", "[", "]", "runtimes", ".kusabi]\n",
                "runtime_path = \"/k\"\n", "=", "\"", "default_runtime = \"x\"\n", "510 nvidia-uvm\n", "NVRM version: 1.2\n",
            ]), 0..10).prop_map(|parts| parts.concat()),
        ],
    ) {
        let mut snapshot = snapshot("nvidia-4");
        snapshot.texts.insert(file.into(), text);
        let machine = kusabi::doctor::Machine::default();
        let findings = kusabi::doctor::examine(&kusabi::doctor::Survey {
            snapshot: &snapshot,
            registry: &REGISTRY,
            machine: &machine,
        });
        for finding in &findings {
            let is_fine = finding.level == kusabi::doctor::Level::Fine;
            prop_assert_eq!(is_fine, finding.fix.is_none(), "{:?}", finding);
            prop_assert!(!finding.text.is_empty());
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
