//! What an engine gives its runtime for a container that asks for nothing, and
//! for a privileged one, next to what a built bundle has. Shared with
//! `tests/engines`, where the engines themselves are asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The part of a `config.json` that is compared: capabilities, masks and mounts
/// but for the engine's own files below `/etc` and `/run`. Sorted.
pub fn given(config: &Value) -> Value {
    let list = |value: &Value| set(value).into_iter().collect::<Vec<_>>();
    let own = |mount: &&Value| {
        let place = mount["destination"].as_str().unwrap();
        place.starts_with("/etc/") || place.starts_with("/run/")
    };
    let all = config["mounts"].as_array().unwrap();
    let mounts: BTreeMap<&str, Value> = all
        .iter()
        .filter(|mount| !own(mount))
        .map(|mount| {
            let place = mount["destination"].as_str().unwrap();
            let options = list(&mount["options"]);
            (place, json!({"type": mount["type"], "options": options}))
        })
        .collect();
    json!({
        "capabilities": list(&config["process"]["capabilities"]["bounding"]),
        "masked": list(&config["linux"]["maskedPaths"]),
        "readonly": list(&config["linux"]["readonlyPaths"]),
        "mounts": mounts,
    })
}

pub fn set(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// What the second list has and the first has not.
fn beyond(fewer: &Value, more: &Value) -> BTreeSet<String> {
    set(more).difference(&set(fewer)).cloned().collect()
}

/// Both modes of an engine, and of ours: `default` and `privileged`.
pub struct Compared<'v> {
    pub engine: &'v str,
    pub theirs: &'v Value,
    pub ours: &'v Value,
}

impl Compared<'_> {
    pub fn capabilities(&self) {
        let list = |of: &Value, mode: &str| of[mode]["capabilities"].clone();
        let (ours, theirs) = (list(self.ours, "default"), list(self.theirs, "default"));
        assert_eq!(beyond(&ours, &theirs), names(&[]), "{}", self.engine);
        let more = beyond(&theirs, &ours);
        match self.engine {
            "docker" => assert_eq!(more, names(&[])),
            // podman gives three less.
            _ => assert_eq!(
                more,
                names(&["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"])
            ),
        }
        assert_eq!(set(&ours).len(), 14);

        let (ours, theirs) = (
            list(self.ours, "privileged"),
            list(self.theirs, "privileged"),
        );
        assert_eq!(set(&ours).len(), 41);
        assert_eq!(beyond(&ours, &theirs), names(&[]), "{}", self.engine);
        let more = beyond(&theirs, &ours);
        match self.engine {
            // Docker 20.10 is older than these.
            "docker" => assert_eq!(
                more,
                names(&["CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_PERFMON"])
            ),
            // podman leaves out what it has not itself.
            _ => assert_eq!(more, set(&self.theirs["unbounded"])),
        }
    }

    pub fn masks(&self) {
        let (ours, theirs) = (&self.ours["default"], &self.theirs["default"]);
        match self.engine {
            "docker" => {
                assert_eq!(ours["readonly"], theirs["readonly"]);
                assert_eq!(beyond(&ours["masked"], &theirs["masked"]), names(&[]));
                // Docker 28 has these, too.
                assert_eq!(
                    beyond(&theirs["masked"], &ours["masked"]),
                    names(&["/proc/interrupts", "/sys/devices/virtual/powercap"])
                );
            }
            _ => {
                let hidden = |of: &Value| &set(&of["masked"]) | &set(&of["readonly"]);
                let only: BTreeSet<String> =
                    hidden(theirs).difference(&hidden(ours)).cloned().collect();
                assert_eq!(only, names(&["/sys/dev/block", "/sys/fs/selinux"]));
            }
        }
        for side in [self.ours, self.theirs] {
            for key in ["masked", "readonly"] {
                assert_eq!(set(&side["privileged"][key]), names(&[]), "{key}");
            }
        }
    }

    pub fn mounts(&self) {
        for mode in ["default", "privileged"] {
            let of = |side: &Value| side[mode]["mounts"].as_object().unwrap().clone();
            let (ours, theirs) = (of(self.ours), of(self.theirs));
            let places = |of: &serde_json::Map<String, Value>| -> BTreeSet<String> {
                of.keys().cloned().collect()
            };
            assert_eq!(places(&ours), places(&theirs), "{} {mode}", self.engine);
            for (place, own) in &ours {
                self.mount(mode, place, own, &theirs[place]);
            }
        }
    }

    fn mount(&self, mode: &str, place: &str, ours: &Value, theirs: &Value) {
        let at = format!("{} {mode} {place}", self.engine);
        if (self.engine, place) == ("podman", "/dev/shm") {
            // One that its pods share.
            assert_eq!(theirs["type"], "bind", "{at}");
            return;
        }
        assert_eq!(ours["type"], theirs["type"], "{at}");
        // The same in another unit.
        let unit = |option: String| match option.as_str() {
            "size=67108864" => "size=65536k".to_owned(),
            _ => option,
        };
        let options = |of: &Value| -> BTreeSet<String> {
            set(&of["options"]).into_iter().map(unit).collect()
        };
        let differ = &options(ours) ^ &options(theirs);
        let differ: BTreeSet<&str> = differ
            .iter()
            .map(String::as_str)
            // What a mount has anyway.
            .filter(|option| !matches!(*option, "rw" | "relatime" | "rprivate"))
            .collect();
        // podman's /dev is noexec.
        let wanted: &[&str] = match (self.engine, place) {
            ("podman", "/dev") => &["noexec"],
            _ => &[],
        };
        assert_eq!(differ, wanted.iter().copied().collect(), "{at}");
    }
}
