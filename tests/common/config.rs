//! `config.json` as tests write it: what `runc spec` makes, plus changes.

use serde_json::{Value, json};

/// A `config.json` being put together.
#[derive(Clone, Debug)]
pub struct Config(Value);

impl Config {
    /// Runs `args` without a terminal, otherwise as `runc spec` would: three
    /// capabilities, 1024 descriptors, the usual mounts and masks, every device
    /// denied but the runtime's defaults. The root is writable.
    pub fn new(args: &[&str]) -> Self {
        let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        Self(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=xterm",
                ],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "kusabi-test",
            "mounts": usual_mounts(),
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [
                    {"type": "pid"},
                    {"type": "network"},
                    {"type": "ipc"},
                    {"type": "uts"},
                    {"type": "mount"},
                    {"type": "cgroup"},
                ],
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                    "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                    "/proc/sysrq-trigger",
                ],
            },
        }))
    }

    /// Runs `script` with the container's shell.
    pub fn shell(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    /// Sleeps until it is killed.
    pub fn sleeper() -> Self {
        Self::new(&["/bin/sleep", "100000"])
    }

    /// Replaces what the JSON pointer `at` names, or adds it to the object or
    /// (with `-` last) the list that its parent names. Parents that are absent
    /// become objects.
    #[must_use]
    #[track_caller]
    pub fn set(mut self, at: &str, value: impl Into<Value>) -> Self {
        let (parent, last) = at.rsplit_once('/').expect("a JSON pointer");
        match self.slot(parent) {
            Value::Array(list) if last == "-" => list.push(value.into()),
            Value::Array(list) => {
                let index: usize = last.parse().expect("an index");
                list[index] = value.into();
            }
            Value::Object(object) => {
                object.insert(last.to_owned(), value.into());
            }
            other => panic!("{parent} is {other}, which holds nothing"),
        }
        self
    }

    /// Removes the member that the JSON pointer `at` names.
    #[must_use]
    #[track_caller]
    pub fn remove(mut self, at: &str) -> Self {
        let (parent, last) = at.rsplit_once('/').expect("a JSON pointer");
        let removed = self
            .slot(parent)
            .as_object_mut()
            .expect("an object")
            .remove(last);
        assert!(removed.is_some(), "{at} was not there");
        self
    }

    /// Appends to the list at `at`, made when it is absent.
    #[must_use]
    #[track_caller]
    pub fn push(mut self, at: &str, value: impl Into<Value>) -> Self {
        if self.0.pointer(at).is_none() {
            self = self.set(at, json!([]));
        }
        self.set(&format!("{at}/-"), value)
    }

    /// Whether the JSON pointer `at` names anything.
    pub fn has(&self, at: &str) -> bool {
        self.0.pointer(at).is_some()
    }

    /// What the JSON pointer `at` names.
    #[track_caller]
    pub fn get(&self, at: &str) -> &Value {
        self.0.pointer(at).unwrap_or_else(|| panic!("no {at}"))
    }

    /// Sets a variable of the container's process.
    #[must_use]
    pub fn env(self, key: &str, value: &str) -> Self {
        self.push("/process/env", format!("{key}={value}"))
    }

    /// Gives the process exactly these capabilities.
    #[must_use]
    pub fn capabilities(self, names: &[&str]) -> Self {
        self.set("/process/capabilities/bounding", names)
            .set("/process/capabilities/effective", names)
            .set("/process/capabilities/permitted", names)
    }

    /// Appends a device rule: `access` is a subset of `rwm`, a number `None`
    /// stands for any.
    #[must_use]
    pub fn device_rule(
        self,
        allow: bool,
        kind: &str,
        major: Option<i64>,
        minor: Option<i64>,
        access: &str,
    ) -> Self {
        let mut rule = json!({"allow": allow, "type": kind, "access": access});
        for (member, number) in [("major", major), ("minor", minor)] {
            if let Some(number) = number {
                rule[member] = number.into();
            }
        }
        self.push("/linux/resources/devices", rule)
    }

    /// Appends a mount.
    #[must_use]
    pub fn mount(self, kind: &str, source: &str, destination: &str, options: &[&str]) -> Self {
        self.push(
            "/mounts",
            json!({"type": kind, "source": source, "destination": destination, "options": options}),
        )
    }

    /// Appends a hook that runs `script` with the host's shell.
    #[must_use]
    pub fn hook(self, stage: &str, script: &str) -> Self {
        self.push(
            &format!("/hooks/{stage}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", script],
                   "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}),
        )
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(self, key: &str, value: &str) -> Self {
        // Keys hold slashes, so no pointer.
        let mut config = self;
        config.slot("/annotations")[key] = value.into();
        config
    }

    /// Removes the namespace of type `kind`.
    #[must_use]
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let list = self
            .slot("/linux/namespaces")
            .as_array_mut()
            .expect("a list");
        list.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// The text to be written.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.0).expect("JSON");
        text.push('\n');
        text
    }

    fn slot(&mut self, pointer: &str) -> &mut Value {
        let mut here = &mut self.0;
        for key in pointer.split('/').skip(1) {
            here = match here {
                Value::Array(list) => {
                    let index: usize = key.parse().expect("an index");
                    &mut list[index]
                }
                _ => {
                    if here.get(key).is_none() {
                        here[key] = json!({});
                    }
                    &mut here[key]
                }
            };
        }
        here
    }
}

fn usual_mounts() -> Value {
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shm},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}
