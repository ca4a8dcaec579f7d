//! What takes systemd as pid 1, cgroup v2 with every controller and real DRM
//! nodes: devices that stay through everything systemd does, limits that both
//! sides agree on, and nothing left behind. Runs in the virtual machine of
//! `hack/vm`, and is skipped elsewhere: these tests reload the machine's systemd.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

mod hook;
mod leaks;
mod limits;
mod nesting;
mod reader;
mod rootless;
mod service;
mod stays;

use std::path::PathBuf;

use common::{Bundle, Config, Container, Sandbox, Spawn, View, in_sandbox, skip};
use serde_json::json;

/// Who manages the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Cgroupfs,
    Systemd,
}

impl Driver {
    /// What comes before the command.
    pub fn globals(self) -> &'static [&'static str] {
        match self {
            Self::Cgroupfs => &[],
            Self::Systemd => &["--systemd-cgroup"],
        }
    }

    /// The container's unit, if it has one.
    pub fn unit(self, id: &str) -> Option<String> {
        (self == Self::Systemd).then(|| format!("kusabi-test-{id}.scope"))
    }

    /// The container's cgroup.
    pub fn cgroup(self, id: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => format!("/sys/fs/cgroup/{id}").into(),
            Self::Systemd => format!("/sys/fs/cgroup/machine.slice/kusabi-test-{id}.scope").into(),
        }
    }

    /// A bundle whose container gets that cgroup.
    pub fn bundle(self, sandbox: &Sandbox, config: &Config) -> Bundle {
        let bundle = sandbox.bundle(config);
        if self == Self::Systemd {
            let path = format!("machine.slice:kusabi-test:{}", bundle.id);
            bundle.write(&config.clone().set("/linux/cgroupsPath", path));
        }
        bundle
    }

    /// A running container.
    #[track_caller]
    pub fn run<'a>(self, sandbox: &'a Sandbox, bundle: &Bundle, flags: &[&str]) -> Container<'a> {
        sandbox.run_detached_with(self.globals(), flags, bundle)
    }
}

/// Runs `body` in a sandbox, in the machine and nowhere else.
pub fn in_machine(test: &str, body: fn(&Sandbox)) {
    if std::env::var_os("KUSABI_IN_MACHINE").is_none() {
        skip!("needs the virtual machine of hack/vm");
    }
    in_sandbox(test, View::Host, body);
}

/// Makes a test of each `fn(&Sandbox)`.
macro_rules! machine_tests {
    ($($name:ident),+ $(,)?) => {
        mod machine {
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::in_machine(test, super::$name);
            })+
        }
    };
}
pub(crate) use machine_tests;

/// A command of the machine, which must succeed. Returns what it says.
#[track_caller]
pub fn command(sandbox: &Sandbox, line: &[&str]) -> String {
    Spawn::new(line[0], &sandbox.dir().join(sandbox.fresh()))
        .args(&line[1..])
        .output()
        .succeeded()
        .stdout
}

/// DRM nodes of different drivers.
pub fn cards() -> [PathBuf; 2] {
    let cards = ["/dev/dri/card0", "/dev/dri/card1"].map(PathBuf::from);
    for card in &cards {
        assert!(card.exists(), "{} is not there", card.display());
    }
    cards
}

/// Writes a CDI directory with `test.kusabi.dev/gpu=0` and `=1`, the machine's
/// DRM nodes.
pub fn registry(sandbox: &Sandbox) -> String {
    let dir = sandbox.dir().join("cdi");
    common::host::make_dir(&dir);
    let devices: Vec<_> = cards()
        .iter()
        .enumerate()
        .map(|(index, card)| {
            json!({"name": index.to_string(), "containerEdits": {
                "deviceNodes": [{"path": card, "permissions": "rw"}]}})
        })
        .collect();
    let spec = json!({"cdiVersion": "0.6.0", "kind": "test.kusabi.dev/gpu", "devices": devices});
    std::fs::write(dir.join("gpu.json"), spec.to_string()).unwrap();
    dir.display().to_string()
}

/// Adds CAP_MKNOD.
pub fn with_mknod(config: Config) -> Config {
    ["bounding", "effective", "permitted"]
        .into_iter()
        .fold(config, |config, set| {
            config.set(&format!("/process/capabilities/{set}/-"), "CAP_MKNOD")
        })
}
