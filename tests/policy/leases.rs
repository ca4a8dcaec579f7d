//! Who gets which GPU: counts take free ones, nobody gets one that somebody has
//! alone, and nothing stays taken.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::common::{Bundle, Config, Output, Sandbox, Spawn, host, on_host, skip, wait_until};

on_host![
    two_hundred_creates_for_eight_gpus,
    a_gpu_that_somebody_has_alone_is_nobody_elses,
    a_container_that_died_holds_nothing,
    sharers_spread_over_the_gpus,
    looking_takes_nothing,
    a_failed_create_gives_back_what_it_held,
];

/// Eight device nodes of no driver, and a CDI file that calls them GPUs.
pub struct Gpus<'s> {
    pub sandbox: &'s Sandbox,
    pub dir: PathBuf,
    pub vendor: String,
}

impl<'s> Gpus<'s> {
    /// `tests` tells the tests of this file apart: they run at the same time, and
    /// the leases of a host are one.
    pub fn new(sandbox: &'s Sandbox, test: u64) -> Self {
        Self::of(sandbox, test, &format!("test{test}.kusabi.dev"))
    }

    fn of(sandbox: &'s Sandbox, test: u64, vendor: &str) -> Self {
        let vendor = vendor.to_owned();
        let dir = sandbox.dir().join("cdi");
        host::make_dir(&dir);
        let devices: Vec<Value> = (0..8)
            .map(|i| {
                let node = sandbox.dir().join(format!("gpu{i}"));
                let mode = Mode::from_bits_truncate(0o600);
                mknod(&node, SFlag::S_IFCHR, mode, makedev(61, test * 16 + i)).expect("mknod");
                json!({"name": i.to_string(), "containerEdits": {
                    "env": [format!("GPU_{i}=yes")],
                    "deviceNodes": [{"path": format!("/dev/gpu{i}"), "hostPath": node}],
                }})
            })
            .collect();
        let spec =
            json!({"cdiVersion": "0.6.0", "kind": format!("{vendor}/gpu"), "devices": devices});
        fs::write(dir.join("gpus.json"), spec.to_string()).unwrap();
        Self {
            sandbox,
            dir,
            vendor,
        }
    }

    pub fn call(&self, command: &str, flags: &[&str], bundle: &Bundle) -> Spawn {
        let spawn = self.sandbox.call([command, "--cdi-dir"]).arg(&self.dir);
        spawn
            .args(flags)
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
    }

    pub fn bundle(&self) -> Bundle {
        self.sandbox.bundle(&Config::sleeper())
    }

    pub fn count(&self, count: usize) -> String {
        format!("{}:{count}", self.vendor)
    }

    pub fn create(&self, flags: &[&str]) -> (Bundle, Output) {
        let bundle = self.bundle();
        let out = self.sandbox.dir().join(format!("init-{}", bundle.id));
        let output = self.call("create", flags, &bundle).output_to(&out).output();
        (bundle, output)
    }

    pub fn delete(&self, bundle: &Bundle) {
        self.sandbox
            .call(["delete", "--force", &bundle.id])
            .output()
            .succeeded();
    }

    /// Device and container of every lease of these GPUs, as `kusabi gpus` says.
    pub fn held(&self) -> Vec<(String, String, String)> {
        let listed = self
            .sandbox
            .call(["gpus", "--format", "json"])
            .output()
            .succeeded();
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        let mut held: Vec<_> = listed["others"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lease| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (
                    text(&lease["device"]),
                    text(&lease["mode"]),
                    text(&lease["container"]["id"]),
                )
            })
            .filter(|(device, _, _)| device.starts_with(&self.vendor))
            .collect();
        held.sort();
        held
    }
}

/// The numbers that the GPUs which a container sees have.
fn seen(sandbox: &Sandbox, bundle: &Bundle) -> BTreeSet<String> {
    let config = sandbox.root().join(&bundle.id).join("config.json");
    let config: Value = serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    let env = config["process"]["env"].as_array().unwrap().iter();
    env.filter_map(|entry| {
        Some(
            entry
                .as_str()?
                .strip_prefix("GPU_")?
                .strip_suffix("=yes")?
                .to_owned(),
        )
    })
    .collect()
}

/// Hosts with render nodes tell of GPUs themselves.
fn tells_of_gpus() -> bool {
    fs::read_dir("/sys/class/drm").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
    })
}

fn two_hundred_creates_for_eight_gpus(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    let gpus = Gpus::new(sandbox, 1);
    let one = gpus.count(1);
    // One bundle for all: what is made of it is under its id.
    let bundle = gpus.bundle();
    let calls: Vec<_> = (0..200)
        .map(|i| {
            let bundle = Bundle {
                id: format!("{}-{i}", bundle.id),
                ..bundle.clone()
            };
            let config = sandbox.dir().join(format!("init-{i}"));
            let call = gpus.call(
                "create",
                &[
                    "--gpus",
                    &one,
                    "--cgroup-parent",
                    &format!("/{}", bundle.id),
                ],
                &bundle,
            );
            let running = call
                .output_to(&config)
                .within(Duration::from_secs(300))
                .spawn();
            (bundle, running)
        })
        .collect();
    let mut made = Vec::new();
    let mut refused = 0;
    for (bundle, running) in calls {
        let done = running.wait();
        if done.code == Some(0) {
            made.push(bundle);
        } else {
            assert!(done.stderr.contains("1 GPUs asked for, 0 free; "), "{done}");
            refused += 1;
        }
    }
    assert_eq!((made.len(), refused), (8, 192));
    let held = gpus.held();
    let devices: BTreeSet<&String> = held.iter().map(|(device, _, _)| device).collect();
    let holders: BTreeSet<&String> = held.iter().map(|(_, _, container)| container).collect();
    assert_eq!(
        (held.len(), devices.len(), holders.len()),
        (8, 8, 8),
        "{held:?}"
    );
    assert!(
        held.iter().all(|(_, mode, _)| mode == "exclusive"),
        "{held:?}"
    );
    // What each container sees is what it holds.
    for (device, _, container) in &held {
        let bundle = made.iter().find(|bundle| bundle.id == *container).unwrap();
        let number = device.rsplit('=').next().unwrap().to_owned();
        assert_eq!(seen(sandbox, bundle), BTreeSet::from([number]));
    }
    // What is given back is taken again, and nothing else.
    let freed: BTreeSet<String> = made[2..4]
        .iter()
        .flat_map(|bundle| {
            let seen = seen(sandbox, bundle);
            gpus.delete(bundle);
            seen
        })
        .collect();
    let two = gpus.count(2);
    let (again, done) = gpus.create(&["--gpus", &two]);
    done.succeeded();
    assert_eq!(seen(sandbox, &again), freed);
    for bundle in &made {
        gpus.delete(bundle);
    }
    gpus.delete(&again);
    assert_eq!(gpus.held(), []);
}

fn a_gpu_that_somebody_has_alone_is_nobody_elses(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    let gpus = Gpus::new(sandbox, 2);
    let (alone, done) = gpus.create(&["--gpus", &gpus.count(1)]);
    done.succeeded();
    assert_eq!(seen(sandbox, &alone), BTreeSet::from(["0".to_owned()]));
    let name = |i: u32| format!("{}/gpu={i}", gpus.vendor);
    let (_, done) = gpus.create(&["--device", &name(0)]);
    let expected = format!(
        "{} is held exclusively by container {} (pid ",
        name(0),
        alone.id
    );
    assert!(done.stderr.contains(&expected), "{done}");
    // Names are shared, and keep others from having it alone.
    let (first, done) = gpus.create(&["--device", &name(1)]);
    done.succeeded();
    let (second, done) = gpus.create(&["--device", &name(1)]);
    done.succeeded();
    let (_, done) = gpus.create(&["--gpus", &gpus.count(7)]);
    let expected = format!(
        "7 GPUs asked for, 6 free; {} is held by container {}; ",
        name(0),
        alone.id
    );
    assert!(done.stderr.contains(&expected), "{done}");
    for bundle in [&alone, &first, &second] {
        gpus.delete(bundle);
    }
    assert_eq!(gpus.held(), []);
}

fn a_container_that_died_holds_nothing(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    let gpus = Gpus::new(sandbox, 3);
    let all = gpus.count(8);
    let (first, done) = gpus.create(&["--gpus", &all]);
    done.succeeded();
    let (_, done) = gpus.create(&["--gpus", &all]);
    assert!(done.stderr.contains("8 GPUs asked for, 0 free"), "{done}");
    sandbox
        .call(["kill", &first.id, "KILL"])
        .output()
        .succeeded();
    wait_until("the end of init", || gpus.held().is_empty());
    let (second, done) = gpus.create(&["--gpus", &all]);
    done.succeeded();
    // Deleting the dead one takes nothing from the living.
    gpus.delete(&first);
    assert_eq!(gpus.held().len(), 8);
    gpus.delete(&second);
    assert_eq!(gpus.held(), []);
}

fn sharers_spread_over_the_gpus(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    // Nobody else's GPUs can be shared so.
    let gpus = Gpus::of(sandbox, 4, "nvidia.com");
    let four = gpus.count(4);
    let flags = ["--gpus", &four, "--gpu-share", "time-slice"];
    let (first, done) = gpus.create(&flags);
    done.succeeded();
    let (second, done) = gpus.create(&flags);
    done.succeeded();
    let (third, done) = gpus.create(&flags);
    done.succeeded();
    let (one, two) = (seen(sandbox, &first), seen(sandbox, &second));
    assert_eq!(
        (one.len(), two.len(), one.intersection(&two).count()),
        (4, 4, 0)
    );
    assert_eq!(seen(sandbox, &third), one);
    assert!(gpus.held().iter().all(|(_, mode, _)| mode == "shared"));
    for bundle in [&first, &second, &third] {
        gpus.delete(bundle);
    }
}

fn looking_takes_nothing(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    let gpus = Gpus::new(sandbox, 5);
    let (held, done) = gpus.create(&["--gpus", &gpus.count(3)]);
    done.succeeded();
    let before = gpus.held();
    let bundle = gpus.bundle();
    let explain = |count: usize| {
        let wanted = gpus.count(count);
        let call = sandbox.call(["explain", "--cdi-dir"]).arg(&gpus.dir);
        call.args(["--gpus", &wanted, "--bundle"])
            .arg(&bundle.path)
            .output()
            .succeeded()
            .stdout
    };
    // What create would take now.
    let text = explain(1);
    assert!(
        text.contains("GPU_3=yes") && !text.contains("GPU_0=yes"),
        "{text}"
    );
    let text = explain(6);
    assert!(
        text.contains("6 GPUs asked for, 5 free; ") && text.contains("create would fail"),
        "{text}"
    );
    assert_eq!(gpus.held(), before);
    let table = sandbox.call(["gpus"]).output().succeeded().stdout;
    let line = table
        .lines()
        .find(|line| line.contains(&format!("{}/gpu=2", gpus.vendor)))
        .unwrap();
    assert!(line.contains(&format!("{} (alone)", held.id)), "{table}");
    gpus.delete(&held);
}

fn a_failed_create_gives_back_what_it_held(sandbox: &Sandbox) {
    if tells_of_gpus() {
        skip!("this host has GPUs of its own");
    }
    let gpus = Gpus::new(sandbox, 6);
    let all = gpus.count(8);
    let bundle = sandbox.bundle(&Config::new(&["/nonexistent"]));
    gpus.call("create", &["--gpus", &all], &bundle)
        .output()
        .exited(1);
    assert_eq!(gpus.held(), []);
    let (made, done) = gpus.create(&["--gpus", &all]);
    done.succeeded();
    // The same id again, too: the one that is there keeps its own.
    gpus.call(
        "create",
        &["--device", &format!("{}/gpu=0", gpus.vendor)],
        &made,
    )
    .output()
    .exited(1);
    assert_eq!(gpus.held().len(), 8);
    gpus.delete(&made);
}
