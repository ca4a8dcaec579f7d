//! GPUs of recorded hosts in real containers: the test's thread gets mounts of
//! its own, in which `/dev`, `/proc/driver`, `/proc/devices` and the directories of
//! sysfs that matter are the recording's. The nodes are real, though no driver
//! answers: an open that the filter lets through fails with "No such device", one
//! that it denies with "Operation not permitted".

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::common::{Config, Sandbox, on_each_view, skip, view};

on_each_view![
    exactly_the_nodes_of_one_nvidia_gpu_open,
    exactly_the_nodes_of_two_of_eight_open,
    exactly_the_nodes_of_one_instance_open,
    exactly_the_nodes_of_a_partition_open,
    exactly_the_nodes_of_intels_open,
    exactly_the_nodes_of_two_gaudi_open,
    an_image_alone_gets_nothing,
    a_client_of_the_service_sees_the_daemons_directories,
];

/// What containers have in `/dev` anyway.
const USUAL: [&str; 13] = [
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
    "stdin", "stdout",
];

fn bind(source: &Path, target: &Path) {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .unwrap_or_else(|error| panic!("bind {} {}: {error}", source.display(), target.display()));
}

/// Makes this thread's host the recorded one.
fn become_host(sandbox: &Sandbox, name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/hosts")
        .join(name);
    view::private_mounts();
    let dev = sandbox.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    mount(
        Some("tmpfs"),
        &dev,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=0755"),
    )
    .unwrap();
    for (node, minor) in [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ] {
        let all = Mode::from_bits_truncate(0o666);
        mknod(&dev.join(node), SFlag::S_IFCHR, all, makedev(1, minor)).unwrap();
    }
    let tty = Mode::from_bits_truncate(0o666);
    mknod(&dev.join("tty"), SFlag::S_IFCHR, tty, makedev(5, 0)).unwrap();
    for dir in ["pts", "shm"] {
        fs::create_dir(dev.join(dir)).unwrap();
        bind(&Path::new("/dev").join(dir), &dev.join(dir));
    }
    std::os::unix::fs::symlink("pts/ptmx", dev.join("ptmx")).unwrap();
    make_nodes(&root, &dev);
    bind(&dev, Path::new("/dev"));
    for place in [
        "proc/driver",
        "proc/devices",
        "sys/bus/pci/drivers",
        "sys/module",
        "sys/class",
        "sys/devices/platform",
    ] {
        if root.join(place).exists() {
            bind(&root.join(place), &Path::new("/").join(place));
        }
    }
}

fn make_nodes(root: &Path, dev: &Path) {
    let list = fs::read_to_string(root.join("kusabi-nodes")).unwrap();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [path, "c", numbers, mode, _] = words.as_slice() else {
            continue;
        };
        let target = dev.join(path.strip_prefix("/dev/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let (major, minor) = numbers.split_once(':').unwrap();
        let mode = u32::from_str_radix(mode, 8).unwrap();
        mknod(
            &target,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(mode),
            makedev(major.parse().unwrap(), minor.parse().unwrap()),
        )
        .unwrap();
    }
}

/// Lists every node that is not usual, with its numbers and whether it opens,
/// then tries every node of the host, then shows the environment.
fn script(host: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts");
    let list = fs::read_to_string(root.join(host).join("kusabi-nodes")).unwrap();
    let mut script = String::from(
        "judge() { case $( (: <$1) 2>&1 ) in *'Operation not permitted'*) echo denied;; \
         ''|*'No such device'*) echo allowed;; *) echo odd;; esac; }\n\
         find /dev -type c | while read n; do echo node $n $(stat -c %t:%T $n) $(judge $n); done\n\
         try() { rm -f /tmp/n; mknod /tmp/n c $1 $2 && echo open $1:$2 $(judge /tmp/n); }\n",
    );
    for line in list.lines().filter(|line| line.contains(" c ")) {
        let numbers = line.split(' ').nth(2).unwrap();
        script.push_str(&format!("try {}\n", numbers.replace(':', " ")));
    }
    script.push_str("env\n");
    script
}

struct Seen {
    nodes: BTreeSet<String>,
    open: BTreeSet<String>,
    env: Vec<String>,
}

fn run(sandbox: &Sandbox, host: &str, flags: &[&str]) -> Seen {
    let config = Config::shell(&script(host)).capabilities(&["CAP_MKNOD"]);
    let bundle = sandbox.bundle(&config);
    let out = sandbox
        .call(["run"])
        .args(flags)
        .arg("--bundle")
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let mut seen = Seen {
        nodes: BTreeSet::new(),
        open: BTreeSet::new(),
        env: Vec::new(),
    };
    for line in out.stdout.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["node", path, numbers, verdict] => {
                let first = path
                    .strip_prefix("/dev/")
                    .unwrap()
                    .split('/')
                    .next()
                    .unwrap();
                if !USUAL.contains(&first) && !["zero", "urandom", "tty"].contains(&first) {
                    assert_eq!(*verdict, "allowed", "{line}");
                    seen.nodes.insert(format!("{path} {}", decimal(numbers)));
                }
            }
            ["open", numbers, "allowed"] => {
                seen.open.insert((*numbers).to_owned());
            }
            ["open", _, "denied"] => {}
            _ => {
                assert!(line.contains('='), "{out}");
                seen.env.push(line.to_owned());
            }
        }
    }
    let mut names: Vec<&str> = seen
        .env
        .iter()
        .map(|l| l.split('=').next().unwrap())
        .collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    seen
}

/// `stat` writes numbers in hexadecimal.
fn decimal(numbers: &str) -> String {
    let (major, minor) = numbers.split_once(':').unwrap();
    let number = |text| u32::from_str_radix(text, 16).unwrap();
    format!("{}:{}", number(major), number(minor))
}

#[track_caller]
fn check(sandbox: &Sandbox, host: &str, flags: &[&str], nodes: &[&str], env: &[&str]) {
    if !sandbox.runtime().is_kusabi() {
        skip!("no other runtime has profiles");
    }
    become_host(sandbox, host);
    let seen = run(sandbox, host, flags);
    let expected: BTreeSet<String> = nodes.iter().map(|&node| node.to_owned()).collect();
    assert_eq!(seen.nodes, expected, "nodes");
    let numbers: BTreeSet<String> = nodes
        .iter()
        .map(|node| node.split(' ').next_back().unwrap().to_owned())
        .collect();
    assert_eq!(seen.open, numbers, "of all nodes of the host, these open");
    for variable in env {
        let found = seen.env.iter().any(|line| line.starts_with(variable));
        assert!(found, "no {variable} in {:?}", seen.env);
    }
}

const CONTROL: [&str; 4] = [
    "/dev/nvidiactl 195:255",
    "/dev/nvidia-modeset 195:254",
    "/dev/nvidia-uvm 510:0",
    "/dev/nvidia-uvm-tools 510:1",
];

fn exactly_the_nodes_of_one_nvidia_gpu_open(sandbox: &Sandbox) {
    let nodes = [&CONTROL[..], &["/dev/nvidia0 195:0"]].concat();
    let env = ["NVIDIA_VISIBLE_DEVICES=GPU-", "CUDA_VISIBLE_DEVICES=GPU-"];
    check(sandbox, "nvidia-1", &["--gpus", "all"], &nodes, &env);
}

fn exactly_the_nodes_of_two_of_eight_open(sandbox: &Sandbox) {
    let nodes = [
        "/dev/nvidiactl 195:255",
        "/dev/nvidia-modeset 195:254",
        "/dev/nvidia-uvm 509:0",
        "/dev/nvidia-uvm-tools 509:1",
        "/dev/nvidia2 195:2",
        "/dev/nvidia5 195:5",
    ];
    // The index is the bus's order, not the minor number.
    check(sandbox, "nvidia-8", &["--gpus", "0,7"], &nodes, &[]);
}

fn exactly_the_nodes_of_one_instance_open(sandbox: &Sandbox) {
    let own = [
        "/dev/nvidia1 195:1",
        "/dev/nvidia-caps/nvidia-cap183 237:183",
        "/dev/nvidia-caps/nvidia-cap185 237:185",
    ];
    let nodes = [&CONTROL[..], &own].concat();
    let env = ["CUDA_VISIBLE_DEVICES=MIG-GPU-"];
    check(sandbox, "nvidia-mig", &["--gpus", "1:3"], &nodes, &env);
}

fn exactly_the_nodes_of_a_partition_open(sandbox: &Sandbox) {
    let nodes = [
        "/dev/kfd 511:0",
        "/dev/dri/card10 226:10",
        "/dev/dri/renderD137 226:137",
    ];
    let env = ["ROCR_VISIBLE_DEVICES=GPU-", "HIP_VISIBLE_DEVICES=0"];
    let flags = ["--gpus", "amd:device=9"];
    check(sandbox, "amd-partitions", &flags, &nodes, &env);
}

fn exactly_the_nodes_of_intels_open(sandbox: &Sandbox) {
    let nodes = [
        "/dev/dri/card1 226:1",
        "/dev/dri/renderD129 226:129",
        "/dev/dri/by-path/pci-0000:03:00.0-card 226:1",
        "/dev/dri/by-path/pci-0000:03:00.0-render 226:129",
        "/dev/accel/accel0 261:0",
    ];
    let env = ["ZE_AFFINITY_MASK=0"];
    check(sandbox, "intel", &["--gpus", "1,2"], &nodes, &env);
}

fn exactly_the_nodes_of_two_gaudi_open(sandbox: &Sandbox) {
    let nodes = [
        "/dev/accel/accel0 261:0",
        "/dev/accel/accel_controlD0 261:1",
        "/dev/accel/accel7 261:14",
        "/dev/accel/accel_controlD7 261:15",
        "/dev/infiniband/uverbs0 231:192",
        "/dev/infiniband/uverbs7 231:199",
    ];
    let env = ["HABANA_VISIBLE_DEVICES=0,7", "HABANA_VISIBLE_MODULES=2,5"];
    check(sandbox, "habana-8", &["--gpus", "habana:0,7"], &nodes, &env);
}

fn an_image_alone_gets_nothing(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("no other runtime has profiles");
    }
    become_host(sandbox, "nvidia-1");
    let look = "find /dev -name 'nvidia*'; echo $NVIDIA_VISIBLE_DEVICES";
    let config = Config::shell(look).env("NVIDIA_VISIBLE_DEVICES", "all");
    let out = sandbox.run_config(&config).succeeded();
    assert_eq!(out.stdout, "all\n");
    let reason = "sources.environment = \\\"allow\\\" in /etc/kusabi/config.toml would allow it";
    assert!(out.stderr.contains(reason), "{out}");
    // Who could take devices anyway may ask.
    let config = config.capabilities(&["CAP_SYS_ADMIN"]);
    let out = sandbox.run_config(&config).succeeded();
    let found: BTreeSet<PathBuf> = out
        .stdout
        .lines()
        .filter(|line| line.starts_with("/dev/"))
        .map(PathBuf::from)
        .collect();
    assert_eq!(found.len(), 5, "{out}");
}

/// The multi-process service's client must see the daemon's own `/dev/shm`, not one
/// like it.
fn a_client_of_the_service_sees_the_daemons_directories(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("no other runtime has profiles");
    }
    become_host(sandbox, "nvidia-1");
    let (pipe, log) = (sandbox.dir().join("pipe"), sandbox.dir().join("log"));
    for dir in [&pipe, &log] {
        fs::create_dir(dir).unwrap();
    }
    let shm = sandbox.dir().join("shm");
    fs::create_dir(&shm).unwrap();
    fs::write(shm.join("segment"), "daemon").unwrap();
    let share = format!(
        "mps,pipe-dir={},log-dir={},shm-dir={},threads=30,memory=1G",
        pipe.display(),
        log.display(),
        shm.display()
    );
    let look = "cat /dev/shm/segment; echo; echo client >/dev/shm/client; \
                touch $CUDA_MPS_PIPE_DIRECTORY/in $CUDA_MPS_LOG_DIRECTORY/in; env | grep CUDA_MPS";
    let config = Config::shell(look).env("CUDA_MPS_PIPE_DIRECTORY", "/elsewhere");
    let bundle = sandbox.bundle(&config);
    let out = sandbox
        .call(["run", "--gpus", "all", "--gpu-share", &share, "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let mut lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.remove(0), "daemon");
    lines.sort_unstable();
    let expected = [
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=30".to_owned(),
        format!("CUDA_MPS_LOG_DIRECTORY={}", log.display()),
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=1024M".to_owned(),
        format!("CUDA_MPS_PIPE_DIRECTORY={}", pipe.display()),
    ];
    assert_eq!(lines, expected);
    assert_eq!(fs::read_to_string(shm.join("client")).unwrap(), "client\n");
    assert!(pipe.join("in").exists() && log.join("in").exists());

    fs::remove_file(log.join("in")).unwrap();
    fs::remove_dir(&log).unwrap();
    let bundle = sandbox.bundle(&config);
    sandbox
        .call(["run", "--gpus", "all", "--gpu-share", &share, "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("GPU sharing unavailable (mps): the log directory")
        .says("does not exist");
}
