//! Giving a device to a running container, taking it back, and repairing it, each
//! step of it failing and killed.

use std::fs;
use std::path::PathBuf;

use kusabi::lease::Store;
use kusabi::runtime::fault::Step;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::common::{
    Bundle, Config, Container, Output, Sandbox, Spawn, host, survivors_are_filtered,
};
use crate::{Operation, each};

const DEVICE: &str = "demo.kusabi.dev/gpu=1";

/// A container that has device 0, and may be given device 1: a node, a mount of a
/// file and one of a directory. No driver has the numbers: an open that is let
/// through fails with ENXIO.
pub struct Live<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
    nodes: PathBuf,
}

/// All that can be seen of it, from inside and outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    report: Value,
    record: String,
    configuration: String,
    leases: Vec<String>,
    inside: String,
}

impl Seen {
    /// Requires that all is as it was; what is short is said first.
    #[track_caller]
    fn is_as(&self, before: &Self) {
        assert_eq!(self.inside, before.inside);
        assert_eq!(self.leases, before.leases);
        assert_eq!(self.report, before.report);
        assert_eq!(self, before);
    }
}

impl<'a> Live<'a> {
    pub fn new(sandbox: &'a Sandbox) -> Self {
        let nodes = sandbox.dir().join("gpus");
        let (cdi, shared) = (sandbox.dir().join("live"), sandbox.dir().join("shared"));
        for dir in [&nodes, &cdi, &shared] {
            host::make_dir(dir);
        }
        fs::write(shared.join("file"), "from the host\n").unwrap();
        let device = |name: &str, mounts: Value| {
            json!({"name": name, "containerEdits": {
                "deviceNodes": [{"path": format!("/dev/demo{name}"), "hostPath": nodes.join(name)}],
                "mounts": mounts}})
        };
        let mounts = json!([
            {"hostPath": &shared, "containerPath": "/demo", "options": ["bind", "ro"]},
            {"hostPath": shared.join("file"), "containerPath": "/etc/demo", "options": ["bind", "ro"]},
        ]);
        let spec = json!({"cdiVersion": "0.6.0", "kind": "demo.kusabi.dev/gpu",
            "devices": [device("0", json!([])), device("1", mounts)]});
        fs::write(cdi.join("gpu.json"), spec.to_string()).unwrap();
        let caps = ["bounding", "effective", "permitted"];
        let config = caps.iter().fold(Config::sleeper(), |config, set| {
            config.set(&format!("/process/capabilities/{set}/-"), "CAP_MKNOD")
        });
        let live = Self {
            sandbox,
            bundle: sandbox.bundle(&config),
            nodes,
        };
        live.driver_gives(60);
        live
    }

    /// The driver is loaded, with this major number.
    pub fn driver_gives(&self, major: u64) {
        for minor in [0, 1] {
            let path = self.nodes.join(minor.to_string());
            let _ = fs::remove_file(&path);
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor + 10)).expect("mknod");
        }
    }

    #[track_caller]
    pub fn run(&self) -> Container<'a> {
        let cdi = self.sandbox.dir().join("live");
        let flags = ["--detach", "--device", "demo.kusabi.dev/gpu=0", "--cdi-dir"];
        let flags: Vec<&str> = flags.into_iter().chain(cdi.to_str()).collect();
        self.sandbox.run_detached_with(&[], &flags, &self.bundle)
    }

    /// `devices ID add|remove` of device 1.
    pub fn change(&self, action: &str) -> Spawn {
        let call = self.sandbox.call(["devices", &self.bundle.id, action]);
        call.arg(DEVICE)
    }

    pub fn heal(&self) -> Spawn {
        self.sandbox.call(["heal", &self.bundle.id])
    }

    #[track_caller]
    fn breaks(step: Step, how: &str, call: Spawn) -> Output {
        call.env("KUSABI_FAULT", format!("{}={how}", step.name()))
            .output()
    }

    #[track_caller]
    pub fn fails(step: Step, call: Spawn) {
        Self::breaks(step, "error", call)
            .exited(1)
            .says(&format!("injected failure at {}", step.name()));
    }

    #[track_caller]
    pub fn is_killed(step: Step, call: Spawn) {
        let out = Self::breaks(step, "kill", call);
        assert_eq!(out.signal, Some(Signal::SIGKILL as i32), "{out}");
    }

    #[track_caller]
    pub fn seen(&self, container: &Container<'_>) -> Seen {
        let call = self.sandbox.call(["devices", "--format", "json"]);
        let out = call.arg(&self.bundle.id).output().succeeded();
        let kept = |name: &str| {
            let path = self.sandbox.root().join(&self.bundle.id).join(name);
            fs::read_to_string(path).unwrap()
        };
        Seen {
            report: serde_json::from_str(&out.stdout).unwrap(),
            record: without_program(&kept("state.json")),
            configuration: kept("config.json"),
            leases: self.leases(),
            inside: Self::inside(container),
        }
    }

    /// Nodes, what opening them says, mounts and mount points, as seen from inside.
    #[track_caller]
    fn inside(container: &Container<'_>) -> String {
        let script = "ls -l /dev/demo* 2>&1 | tr -s ' ' | cut -d' ' -f5,6,10
            for n in 0 1; do for m in 60 61; do
                rm -f /tmp/n; mknod /tmp/n c $m 1$n; echo \"$m:$n $(cat /tmp/n 2>&1)\"; done; done
            rm -f /tmp/n; ls -d /demo /etc/demo 2>&1; cat /demo/file /etc/demo 2>&1
            grep -c demo /proc/self/mountinfo";
        container.sh(script).stdout
    }

    pub fn leases(&self) -> Vec<String> {
        let mut leases = Store::default().leases().unwrap();
        leases.retain(|lease| lease.container.id == self.bundle.id);
        let mut keys: Vec<String> = leases
            .iter()
            .map(|lease| format!("{:?} {:?}", lease.keys, lease.stage))
            .collect();
        keys.sort();
        keys
    }
}

/// An undo puts the filter back by another program, which says the same.
fn without_program(record: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    fn strip(value: &mut Value) {
        if let Value::Object(fields) = value {
            for key in ["id", "program", "tag", "load_time", "loadTime"] {
                if fields.get(key).is_some_and(Value::is_number) {
                    fields.remove(key);
                }
            }
        }
        match value {
            Value::Object(fields) => fields.values_mut().for_each(strip),
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut record);
    record.to_string()
}

pub fn add_that_fails_changes_nothing(sandbox: &Sandbox) {
    let live = Live::new(sandbox);
    let container = live.run();
    let before = live.seen(&container);
    assert_eq!(before.leases.len(), 1);
    each(Operation::Change, |step| {
        Live::fails(step, live.change("add"));
        live.seen(&container).is_as(&before);
    });
    live.change("add").output().succeeded();
    let after = live.seen(&container);
    assert_eq!(after.leases.len(), 2, "{after:?}");
    assert!(
        after
            .inside
            .contains("60:1 cat: can't open '/tmp/n': No such device")
    );
    assert_ne!(after.inside, before.inside);
    // Given again it is held once.
    live.change("add").output().succeeded();
    assert_eq!(live.leases(), after.leases);
    container.delete_force();
    assert_eq!(live.leases(), Vec::<String>::new());
}

pub fn remove_that_fails_changes_nothing(sandbox: &Sandbox) {
    let live = Live::new(sandbox);
    let container = live.run();
    live.change("add").output().succeeded();
    let before = live.seen(&container);
    assert_eq!(before.leases.len(), 2);
    each(Operation::Change, |step| {
        Live::fails(step, live.change("remove"));
        live.seen(&container).is_as(&before);
    });
    live.change("remove").output().succeeded();
    let after = live.seen(&container);
    assert_eq!(after.leases.len(), 1, "the other device's");
    assert!(
        after
            .inside
            .contains("60:1 cat: can't open '/tmp/n': Operation not permitted")
    );
    assert!(
        after
            .inside
            .contains("60:0 cat: can't open '/tmp/n': No such device")
    );
    container.delete_force();
}

pub fn heal_that_fails_changes_nothing(sandbox: &Sandbox) {
    let live = Live::new(sandbox);
    let container = live.run();
    live.driver_gives(61);
    // Somebody has put another node in its place.
    container
        .sh("rm /dev/demo0; mknod -m 666 /dev/demo0 c 60 11")
        .succeeded();
    let before = live.seen(&container);
    each(Operation::Change, |step| {
        Live::fails(step, live.heal());
        live.seen(&container).is_as(&before);
    });
    live.heal().output().succeeded();
    let after = live.seen(&container);
    assert!(
        after
            .inside
            .contains("61:0 cat: can't open '/tmp/n': No such device")
    );
    assert!(
        after
            .inside
            .contains("60:0 cat: can't open '/tmp/n': Operation not permitted")
    );
    // It is held by its new numbers.
    assert!(after.leases[0].contains("c61:10"), "{:?}", after.leases);
    container.delete_force();
}

/// Whatever is left half-way: it is filtered, and the same command, after a repair,
/// ends it.
pub fn change_that_is_killed_can_be_done_again(sandbox: &Sandbox) {
    let live = Live::new(sandbox);
    each(Operation::Change, |step| {
        let container = live.run();
        Live::is_killed(step, live.change("add"));
        assert_eq!(survivors_are_filtered(sandbox, &container.id), 1);
        live.heal().output().succeeded();
        live.change("add").output().succeeded();
        let has = live.seen(&container);
        assert_eq!(has.report["filter"]["inForce"], true);
        assert_eq!(has.leases.len(), 2, "{has:?}");
        assert!(
            has.inside
                .contains("60:1 cat: can't open '/tmp/n': No such device")
        );

        Live::is_killed(step, live.change("remove"));
        assert_eq!(survivors_are_filtered(sandbox, &container.id), 1);
        live.heal().output().succeeded();
        let again = live.change("remove").output();
        // Where it was on record already, there is nothing to take.
        assert_eq!(again.code == Some(0), step != Step::ChangeRecord, "{again}");
        let has = live.seen(&container);
        assert_eq!(has.report["filter"]["inForce"], true);
        assert!(
            has.inside
                .contains("60:1 cat: can't open '/tmp/n': Operation not permitted")
        );
        assert!(
            has.inside
                .contains("60:0 cat: can't open '/tmp/n': No such device")
        );
        container.delete_force();
        assert_eq!(live.leases(), Vec::<String>::new());
    });
}

pub fn heal_that_is_killed_can_be_done_again(sandbox: &Sandbox) {
    let live = Live::new(sandbox);
    each(Operation::Change, |step| {
        live.driver_gives(60);
        let container = live.run();
        live.driver_gives(61);
        Live::is_killed(step, live.heal());
        assert_eq!(survivors_are_filtered(sandbox, &container.id), 1);
        live.heal().output().succeeded();
        let has = live.seen(&container);
        assert_eq!(has.report["filter"]["inForce"], true);
        assert_eq!(has.report["devices"][0]["drift"], json!([]));
        assert!(
            has.inside
                .contains("61:0 cat: can't open '/tmp/n': No such device")
        );
        assert!(
            has.inside
                .contains("60:0 cat: can't open '/tmp/n': Operation not permitted")
        );
        container.delete_force();
    });
}
