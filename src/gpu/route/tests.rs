use std::path::PathBuf;

use super::*;
use crate::cdi::SpecFile;
use crate::gpu::LowestFirst;
use crate::host::facts::{FileFacts, FileKind, Presence, Snapshot};

/// Two NVIDIA GPUs, whose index, bus and UUID are known.
fn host() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let gpus = "/proc/driver/nvidia/gpus";
    let buses = ["0000:01:00.0", "0000:02:00.0"];
    snapshot
        .dirs
        .insert(gpus.into(), buses.map(str::to_owned).to_vec());
    for (minor, bus) in buses.iter().enumerate() {
        let text = format!("GPU UUID: GPU-0000000{minor}-aaaa\nDevice Minor: {minor}\n");
        snapshot
            .texts
            .insert(format!("{gpus}/{bus}/information").into(), text);
        let facts = FileFacts {
            kind: FileKind::Char,
            mode: 0o666,
            uid: 0,
            gid: 0,
            major: 195,
            minor: u32::try_from(minor).unwrap(),
            target: None,
        };
        let node = PathBuf::from(format!("/dev/nvidia{minor}"));
        snapshot.files.insert(node, Presence::Present(facts));
    }
    snapshot
}

fn registry(kind: &str, devices: &[&str]) -> Registry {
    let list: Vec<String> = devices
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","containerEdits":{{"env":["A=1"]}}}}"#))
        .collect();
    let text = format!(
        r#"{{"cdiVersion":"0.6.0","kind":"{kind}","devices":[{}]}}"#,
        list.join(",")
    );
    let file = SpecFile {
        path: "/etc/cdi/x.json".into(),
        priority: 0,
        content: Ok(text.into_bytes()),
    };
    Registry::load(vec!["/etc/cdi".into()], vec![file])
}

/// What a wish comes to, in words.
fn words(wish: &str, snapshot: &Snapshot, registry: &Registry, defaults: &Defaults<'_>) -> String {
    let request = GpuRequest::parse(wish).unwrap();
    let inventory = Inventory::read(snapshot);
    let routed: Result<_, crate::Error> =
        route(&request, &inventory, registry, defaults, &mut LowestFirst);
    match routed {
        Ok(routed) => {
            let what = match &routed.route {
                Route::Cdi(names) => names.iter().map(ToString::to_string).collect(),
                Route::Profile { picked, .. } => {
                    let one = |unit: &Unit<'_>| format!("{} {}", routed.vendor, unit.index());
                    picked.iter().map(one).collect::<Vec<_>>()
                }
            };
            let note = routed.note.map(|note| format!(" ({note})"));
            format!("{}{}", what.join(" "), note.unwrap_or_default())
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn files_come_first_under_whichever_name_they_have() {
    let (host, usual) = (host(), Defaults::default());
    let by_index = registry("nvidia.com/gpu", &["0", "1", "all"]);
    let by_uuid = registry(
        "nvidia.com/gpu",
        &["GPU-00000000-aaaa", "GPU-00000001-aaaa"],
    );
    let by_word = registry("nvidia.com/gpu", &["gpu0", "gpu1"]);
    for (wish, registry, expected) in [
        ("all", &by_index, "nvidia.com/gpu=all"),
        ("1", &by_index, "nvidia.com/gpu=0"),
        ("2", &by_index, "nvidia.com/gpu=0 nvidia.com/gpu=1"),
        ("device=1", &by_index, "nvidia.com/gpu=1"),
        ("device=GPU-00000001", &by_index, "nvidia.com/gpu=1"),
        ("device=02:00.0", &by_index, "nvidia.com/gpu=1"),
        ("device=1", &by_uuid, "nvidia.com/gpu=GPU-00000001-aaaa"),
        (
            "2",
            &by_uuid,
            "nvidia.com/gpu=GPU-00000000-aaaa nvidia.com/gpu=GPU-00000001-aaaa",
        ),
        ("0,1", &by_word, "nvidia.com/gpu=gpu0 nvidia.com/gpu=gpu1"),
    ] {
        assert_eq!(words(wish, &host, registry, &usual), expected, "{wish}");
    }
}

#[test]
fn a_profile_takes_over_with_a_warning() {
    let (host, usual) = (host(), Defaults::default());
    let nothing = Registry::load(Vec::new(), Vec::new());
    let built_in = "the built-in profile nvidia is used";
    assert_eq!(
        words("all", &host, &nothing, &usual),
        format!("nvidia 0 nvidia 1 (no CDI specification defines nvidia.com/gpu: {built_in})")
    );
    let half = registry("nvidia.com/gpu", &["0"]);
    assert_eq!(
        words("0,1", &host, &half, &usual),
        format!("nvidia 0 nvidia 1 (no CDI specification defines nvidia.com/gpu=1: {built_in})")
    );
    assert_eq!(
        words("2", &host, &half, &usual),
        format!(
            "nvidia 0 nvidia 1 (no CDI specification defines 2 devices of nvidia.com/gpu: {built_in})"
        )
    );
    assert_eq!(
        words("nvidia:none", &host, &half, &usual),
        format!(" (no CDI specification defines nvidia.com/gpu=none: {built_in})")
    );
}

#[test]
fn directories_that_were_named_are_all_there_is() {
    let strict = Defaults {
        strict: true,
        ..Defaults::default()
    };
    let half = registry("nvidia.com/gpu", &["0"]);
    assert_eq!(
        words("0,1", &host(), &half, &strict),
        "unresolvable CDI devices nvidia.com/gpu=1; read /etc/cdi; found nvidia.com/gpu=0"
    );
    assert_eq!(
        words("device=0", &host(), &half, &strict),
        "nvidia.com/gpu=0"
    );
}

#[test]
fn files_say_what_a_host_without_a_driver_has() {
    let (empty, usual) = (Snapshot::default(), Defaults::default());
    let files = registry("nvidia.com/gpu", &["0", "1", "10", "all"]);
    assert_eq!(
        words("2", &empty, &files, &usual),
        "nvidia.com/gpu=0 nvidia.com/gpu=1"
    );
    assert_eq!(words("all", &empty, &files, &usual), "nvidia.com/gpu=all");
    assert_eq!(
        words("4", &empty, &files, &usual),
        "no nvidia GPU on this host: /proc/driver/nvidia/gpus lists none and there is no \
         /dev/nvidiaN; load the driver (nvidia-smi shows whether it works)"
    );
    assert_eq!(
        words("device=7", &empty, &files, &usual),
        "unresolvable CDI devices nvidia.com/gpu=7; read /etc/cdi; found nvidia.com/gpu=0, \
         nvidia.com/gpu=1, nvidia.com/gpu=10, nvidia.com/gpu=all"
    );
}

#[test]
fn the_policy_says_whose_and_which_kind() {
    let kind = Defaults {
        kind: Some("acme.com/card"),
        ..Defaults::default()
    };
    let acme = registry("acme.com/card", &["0"]);
    assert_eq!(words("device=0", &host(), &acme, &kind), "acme.com/card=0");
    // Who names a vendor means its own kind.
    assert!(words("nvidia:device=0", &host(), &acme, &kind).starts_with("nvidia 0 (no CDI"));
    let amd = Defaults {
        vendor: Some("amd"),
        ..Defaults::default()
    };
    assert!(words("1", &host(), &acme, &amd).starts_with("no amd GPU on this host"));
}
