//! What `doctor` says of every recorded host, in text and as JSON, and of those
//! from which something was taken away.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Done, HOSTS, host, kusabi};

fn doctor(root: &Path, format: &str) -> Done {
    let policy = tempfile::NamedTempFile::new().unwrap();
    let root = root.to_str().unwrap();
    kusabi(
        policy.path(),
        &["doctor", "--format", format, "--host-root", root],
    )
}

/// `area: level text`, with `-> fix` where there is one.
fn findings(root: &Path) -> Vec<String> {
    let done = doctor(root, "json");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["version"], 1);
    let list = report["findings"].as_array().unwrap();
    let problems = list.iter().filter(|f| f["level"] == "problem").count();
    assert_eq!(report["problems"], problems);
    assert_eq!(done.code, i32::from(problems > 0), "{}", done.stderr);
    list.iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            let words = format!("{}: {} {}", text("area"), text("level"), text("text"));
            match &finding["fix"] {
                Value::Null => {
                    assert_eq!(finding["level"], "fine", "{finding}");
                    words
                }
                fix => format!("{words} -> {}", fix.as_str().unwrap()),
            }
        })
        .collect()
}

/// The two forms say the same.
#[test]
fn text_and_json_agree_on_every_host() {
    for name in HOSTS {
        let root = host(name);
        let text = doctor(&root, "text").stdout;
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let mut area = String::new();
        for finding in findings(&root) {
            let (own, rest) = finding.split_once(": ").unwrap();
            if own != area {
                own.clone_into(&mut area);
                assert_eq!(lines.next(), Some(own), "{name}\n{text}");
            }
            let (level, rest) = rest.split_once(' ').unwrap();
            let sign = match level {
                "fine" => '=',
                "note" => '~',
                _ => '!',
            };
            let (words, fix) = match rest.rsplit_once(" -> ") {
                Some((words, fix)) => (words, Some(fix)),
                None => (rest, None),
            };
            assert_eq!(lines.next(), Some(format!("  {sign} {words}").as_str()));
            if let Some(fix) = fix {
                assert_eq!(lines.next(), Some(format!("    fix: {fix}").as_str()));
            }
        }
        assert_eq!(lines.next(), None, "{name}");
    }
}

#[test]
fn hosts_that_are_well_have_no_problem_and_one_that_is_not_has_four() {
    let expected = |name: &str| match name {
        "nvidia-mismatch" => 4,
        _ => 0,
    };
    for name in HOSTS {
        let found = findings(&host(name));
        let problems = found.iter().filter(|line| line.contains(": problem "));
        assert_eq!(problems.count(), expected(name), "{name}: {found:#?}");
    }
    assert_eq!(
        findings(&host("nvidia-mismatch")),
        [
            "driver: problem NVIDIA's kernel module is 535.104.05, the libraries are 550.54.15: \
             programs will fail with a version mismatch -> reboot, or unload the module and load \
             the new one: rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe nvidia",
            "driver: fine 2 GPUs of nvidia, 2 to be asked for",
            "device nodes: problem /dev/nvidia-uvm has major 511, the driver has 510 now: it was \
             made before the driver was loaded again -> rm /dev/nvidia-uvm; nvidia-modprobe -u -c 0",
            "device nodes: problem /dev/nvidia-uvm-tools has major 511, the driver has 510 now: it \
             was made before the driver was loaded again -> rm /dev/nvidia-uvm-tools; \
             nvidia-modprobe -u -c 0",
            "device nodes: fine all 2 nodes of GPUs are there",
            "cdi: problem /etc/cdi/nvidia.yaml: written for driver 550.54.15, the kernel module is \
             535.104.05 -> nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        ]
    );
    let first = |name: &str| findings(&host(name))[0].clone();
    assert_eq!(
        first("nvidia-mig"),
        "driver: fine 3 GPUs of nvidia, 7 to be asked for"
    );
    assert_eq!(
        first("none"),
        "driver: note no GPU of which a driver tells -> load the driver if the host has one; \
         containers can still ask for CDI devices"
    );
}

/// A copy of a recorded host without the nodes whose path has one of these parts.
fn without(name: &str, parts: &[&str]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let root = copy.path().join("host");
    kusabi::host::gpu::record(&host(name), &root).unwrap();
    let nodes = fs::read_to_string(host(name).join("kusabi-nodes")).unwrap();
    let kept: String = nodes
        .lines()
        .filter(|line| !parts.iter().any(|part| line.contains(part)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(kept, nodes, "{parts:?}");
    fs::write(root.join("kusabi-nodes"), kept).unwrap();
    copy
}

#[test]
fn what_was_taken_away_is_missed_by_its_name() {
    let problems = |name: &str, parts: &[&str]| -> Vec<String> {
        let copy = without(name, parts);
        let found = findings(&copy.path().join("host")).into_iter();
        found
            .filter_map(|line| Some(line.split_once(": problem ")?.1.to_owned()))
            .collect()
    };
    // The node's number is the minor one: index 0 is /dev/nvidia2 there.
    assert_eq!(
        problems("nvidia-8", &["/dev/nvidia2 "]),
        ["/dev/nvidia2 of GPU 0 of nvidia is not there -> nvidia-modprobe -c 2"]
    );
    assert_eq!(
        problems("nvidia-8", &["/dev/nvidiactl "]),
        ["/dev/nvidiactl is not there: CUDA will not start -> nvidia-modprobe -c 255"]
    );
    assert_eq!(
        problems("amd-8", &["/dev/kfd "]),
        [
            "/dev/kfd is not there: ROCm will not start -> udevadm trigger, or modprobe amdgpu; \
             dmesg | grep kfd says why it has none"
        ]
    );
    assert_eq!(
        problems("amd-8", &["/dev/dri/renderD130 "]),
        [
            "/dev/dri/renderD130 of GPU 2 of amd is not there -> udevadm trigger, or load the driver again"
        ]
    );
    // Nothing computes with a card's node.
    assert_eq!(
        problems("amd-8", &["/dev/dri/card3 "]),
        Vec::<String>::new()
    );
    assert_eq!(
        problems("intel", &["/dev/dri/renderD128 "]).len(),
        1,
        "{:?}",
        problems("intel", &["/dev/dri/renderD128 "])
    );
    assert_eq!(
        problems("habana-8", &["/dev/accel/accel3 "]),
        [
            "/dev/accel/accel3 of GPU 3 of habana is not there -> udevadm trigger, or load the driver again"
        ]
    );
}
