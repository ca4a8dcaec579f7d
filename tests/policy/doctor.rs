//! `doctor`: what is wrong with a recorded host, and what it says of this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A recorded host: a tree of files.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.file("proc/sys/user/max_user_namespaces", "15000\n");
        host.file("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        host
    }

    /// Two GPUs of NVIDIA's that work, and a CDI file that fits them.
    fn with_gpus() -> Self {
        let host = Self::new();
        host.file(
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\n",
        );
        host.file(
            "proc/devices",
            "Character devices:\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n",
        );
        for (minor, bus) in [(0, "0000:17:00.0"), (1, "0000:65:00.0")] {
            host.file(
                &format!("proc/driver/nvidia/gpus/{bus}/information"),
                &format!(
                    "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-0000000{minor}-1111-2222-3333-444444444444\n\
                     Bus Location: \t {bus}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
                ),
            );
        }
        host.nodes(&[
            "nvidia0 195:0",
            "nvidia1 195:1",
            "nvidiactl 195:255",
            "nvidia-uvm 510:0",
            "nvidia-uvm-tools 510:1",
        ]);
        host.file("usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15", "");
        host.cdi("550.54.15", 510);
        host
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn nodes(&self, nodes: &[&str]) {
        let line = |node: &&str| {
            let (name, numbers) = node.split_once(' ').unwrap();
            format!("/dev/{name} c {numbers} 0666 0:0\n")
        };
        self.file("kusabi-nodes", &nodes.iter().map(line).collect::<String>());
    }

    fn cdi(&self, version: &str, uvm: u32) {
        self.file(
            "etc/cdi/nvidia.yaml",
            &format!(
                "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  mounts:\n  - hostPath: \
                 /usr/lib/x86_64-linux-gnu/libcuda.so.{version}\n    containerPath: /libcuda.so\n  \
                 deviceNodes:\n  - path: /dev/nvidia-uvm\n    major: {uvm}\n    type: c\ndevices:\n- \
                 name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n"
            ),
        );
    }

    /// Every problem as `area: text -> fix`, and the exit code.
    fn problems(&self) -> Vec<String> {
        let done = doctor(&[
            "--format",
            "json",
            "--host-root",
            self.path().to_str().unwrap(),
        ]);
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        let problems: Vec<String> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .inspect(|finding| {
                let fine = finding["level"] == "fine";
                assert_eq!(fine, finding["fix"].is_null(), "{finding}");
            })
            .filter(|finding| finding["level"] == "problem")
            .map(|finding| {
                let text = |key: &str| finding[key].as_str().unwrap().to_owned();
                format!("{}: {} -> {}", text("area"), text("text"), text("fix"))
            })
            .collect();
        assert_eq!(report["problems"], problems.len());
        assert_eq!(done.status.code(), Some(i32::from(!problems.is_empty())));
        problems
    }

    /// The only problem.
    #[track_caller]
    fn problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems[0].clone()
    }
}

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kusabi"))
        .arg("doctor")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_host_that_is_well_has_no_problem() {
    assert_eq!(Host::with_gpus().problems(), Vec::<String>::new());
    assert_eq!(Host::new().problems(), Vec::<String>::new());
    let host = Host::with_gpus();
    let done = doctor(&["--host-root", host.path().to_str().unwrap()]);
    let text = String::from_utf8(done.stdout).unwrap();
    for line in [
        "  = 2 GPUs of nvidia, 2 to be asked for",
        "  = NVIDIA's kernel module and libraries are 550.54.15",
        "  = all 2 nodes of GPUs are there",
        "  = 1 devices in /etc/cdi, /var/run/cdi, all as the host has them",
        "  = version 2, device rules as eBPF programs",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

/// nvidia-container-toolkit #1611, #1828.
#[test]
fn a_driver_that_was_updated_is_told_from_its_libraries_and_its_cdi_file() {
    let host = Host::with_gpus();
    host.file("usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05", "");
    host.cdi("535.104.05", 510);
    let problem = host.problem();
    assert!(
        problem.contains("nvidia.yaml: written for driver 535.104.05, the kernel module is 550.54.15 -> nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"),
        "{problem}"
    );
    fs::remove_file(
        host.path()
            .join("usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"),
    )
    .unwrap();
    let problems = host.problems();
    assert_eq!(problems.len(), 2);
    assert!(
        problems[0]
            .contains("driver: NVIDIA's kernel module is 550.54.15, the libraries are 535.104.05"),
        "{problems:?}"
    );
}

/// nvidia-container-toolkit #1934, podman #21255.
#[test]
fn stale_numbers_are_found_in_dev_and_in_cdi_files() {
    let host = Host::with_gpus();
    host.cdi("550.54.15", 511);
    assert!(
        host.problem()
            .contains("/dev/nvidia-uvm is 511:0 there, and 510:0 on the host")
    );
    host.nodes(&[
        "nvidia0 195:0",
        "nvidia1 195:1",
        "nvidiactl 195:255",
        "nvidia-uvm 511:0",
        "nvidia-uvm-tools 510:1",
    ]);
    let problem = host.problem();
    assert!(
        problem.starts_with("device nodes: /dev/nvidia-uvm has major 511, the driver has 510 now")
            && problem.ends_with("-> rm /dev/nvidia-uvm; nvidia-modprobe -u -c 0"),
        "{problem}"
    );
}

#[test]
fn what_is_missing_is_named_with_what_makes_it() {
    let host = Host::with_gpus();
    host.nodes(&["nvidia0 195:0", "nvidiactl 195:255", "nvidia-uvm 510:0"]);
    let problems = host.problems();
    assert_eq!(
        problems,
        [
            "device nodes: /dev/nvidia1 of GPU 1 of nvidia is not there -> nvidia-modprobe -c 1",
            "device nodes: /dev/nvidia-uvm-tools is not there: CUDA will not start -> nvidia-modprobe -u -c 0",
        ]
    );
    let bare = Host::new();
    bare.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    bare.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
    assert!(
        bare.problem()
            .contains("the NVIDIA GPU at 0000:01:00.0 has no driver -> modprobe nvidia")
    );
    fs::create_dir_all(bare.path().join("sys/bus/pci/devices/0000:01:00.0/driver")).unwrap();
    assert_eq!(bare.problems(), Vec::<String>::new());
}

#[test]
fn broken_and_conflicting_cdi_files_are_named() {
    let host = Host::with_gpus();
    host.file("etc/cdi/broken.json", "{");
    fs::copy(
        host.path().join("etc/cdi/nvidia.yaml"),
        host.path().join("etc/cdi/other.yaml"),
    )
    .unwrap();
    let problems = host.problems();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].contains("/etc/cdi/broken.json:1:")
            && problems[0].contains("kusabi cdi validate")
    );
    assert!(
        problems[1].contains(
            "nvidia.com/gpu=0 is defined in /etc/cdi/nvidia.yaml and /etc/cdi/other.yaml"
        )
    );
}

#[test]
fn engines_are_read() {
    let host = Host::new();
    host.file("usr/bin/kusabi", "");
    let docker = |path: &str| {
        host.file(
            "etc/docker/daemon.json",
            &format!("{{\"runtimes\": {{\"k\": {{\"path\": {path:?}}}}}}}"),
        );
    };
    docker("/usr/bin/kusabi");
    assert_eq!(host.problems(), Vec::<String>::new());
    docker("/opt/kusabi");
    assert!(
        host.problem()
            .contains("daemon.json: /opt/kusabi is not there -> install it")
    );
    host.file("etc/docker/daemon.json", "{\n  oops");
    let problem = host.problem();
    assert!(
        problem.contains("engines: /etc/docker/daemon.json:"),
        "{problem}"
    );
}

#[test]
fn namespaces_and_cgroups_that_are_switched_off_are_problems() {
    let host = Host::new();
    host.file("proc/sys/user/max_user_namespaces", "0\n");
    assert!(
        host.problem()
            .ends_with("-> sysctl -w user.max_user_namespaces=15000")
    );
    host.file("proc/sys/user/max_user_namespaces", "100\n");
    fs::remove_file(host.path().join("sys/fs/cgroup/cgroup.controllers")).unwrap();
    host.file("sys/fs/cgroup/memory/tasks", "");
    assert!(host.problem().contains("-> mount -t cgroup2"));
}

#[test]
fn what_is_recorded_can_be_looked_at() {
    let host = Host::with_gpus();
    let copy = tempfile::tempdir().unwrap();
    let dir: PathBuf = copy.path().join("recorded");
    let args = [
        "--host-root",
        host.path().to_str().unwrap(),
        "--record",
        dir.to_str().unwrap(),
    ];
    let done = doctor(&args);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let done = doctor(&["--host-root", dir.to_str().unwrap()]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("2 GPUs of nvidia"), "{text}");
}

/// Whatever this machine is like.
#[test]
fn this_host_is_described_in_text_and_in_json() {
    let done = doctor(&["--format", "json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["version"], 1);
    let areas: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["area"].as_str().unwrap())
        .collect();
    for area in ["driver", "cdi", "cgroups", "policy", "leases"] {
        assert!(areas.contains(&area), "{area}: {areas:?}");
    }
    let problems = report["problems"].as_u64().unwrap();
    assert_eq!(done.status.success(), problems == 0);
    let errors = String::from_utf8(done.stderr).unwrap();
    assert_eq!(errors.contains("on this host"), problems > 0, "{errors}");
}
