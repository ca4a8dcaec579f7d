//! Every host × source × mode: the effective configuration, compared with what
//! was written down (`tests/fixtures/golden`). With `KUSABI_BLESS=1` it is written
//! down anew; read the difference before you believe it.
//!
//! A case that comes to what another one did says so, which shows at a glance
//! that a flag, an annotation and a variable mean the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Done, HOSTS, fixtures, host, kusabi};

/// One way to ask.
struct Source {
    name: &'static str,
    flags: Vec<String>,
    /// Merged into the configuration.
    config: Value,
    policy: &'static str,
}

const OPEN: &str = "[sources]\nmounts = \"allow\"\nenvironment = \"allow\"\n";

fn flag(name: &'static str, value: &str) -> Source {
    Source {
        name,
        flags: vec!["--gpus".to_owned(), value.to_owned()],
        config: json!({}),
        policy: "",
    }
}

fn annotation(name: &'static str, key: &str, value: &str) -> Source {
    Source {
        name,
        flags: Vec::new(),
        config: json!({"annotations": {key: value}}),
        policy: "",
    }
}

fn environment(name: &'static str, policy: &'static str, env: &[&str]) -> Source {
    Source {
        name,
        flags: Vec::new(),
        config: json!({"env": env}),
        policy,
    }
}

fn mount(name: &'static str, device: &str) -> Source {
    let destination = format!("/var/run/nvidia-container-devices/{device}");
    Source {
        name,
        flags: Vec::new(),
        config: json!({"mounts": [{"source": "/dev/null", "destination": destination}]}),
        policy: OPEN,
    }
}

fn sources(host: &str) -> Vec<Source> {
    let mut sources = vec![
        flag("flag all", "all"),
        flag("flag count 1", "1"),
        flag("flag count 2", "2"),
        flag("flag index 0", "device=0"),
        flag("flag none", "nvidia:none"),
        flag("flag of a vendor that is not here", "habana:1"),
        flag("flag of a vendor that nobody knows", "acme:1"),
        flag("flag unknown name", "device=GPU-00000000"),
        Source {
            name: "nothing",
            flags: Vec::new(),
            config: json!({}),
            policy: "",
        },
        annotation("annotation all", "kusabi.dev/gpus", "all"),
        Source {
            name: "policy all",
            flags: Vec::new(),
            config: json!({}),
            policy: "[request]\ngpus = \"all\"\n",
        },
    ];
    if host.starts_with("nvidia") || host == "mixed" {
        sources.extend([
            flag("flag nvidia:all", "nvidia:all"),
            annotation("CDI annotation 0", "cdi.k8s.io/test", "nvidia.com/gpu=0"),
            environment(
                "environment that is not trusted",
                "",
                &["NVIDIA_VISIBLE_DEVICES=all"],
            ),
            environment("environment all", OPEN, &["NVIDIA_VISIBLE_DEVICES=all"]),
            environment("environment 0", OPEN, &["NVIDIA_VISIBLE_DEVICES=0"]),
            environment("environment void", OPEN, &["NVIDIA_VISIBLE_DEVICES=void"]),
            environment("environment none", OPEN, &["NVIDIA_VISIBLE_DEVICES=none"]),
            environment(
                "environment all, graphics",
                OPEN,
                &[
                    "NVIDIA_VISIBLE_DEVICES=all",
                    "NVIDIA_DRIVER_CAPABILITIES=all",
                ],
            ),
            environment(
                "environment 0, old driver wanted",
                OPEN,
                &["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=cuda>=99"],
            ),
            environment(
                "environment 0, channels and features",
                OPEN,
                &[
                    "NVIDIA_VISIBLE_DEVICES=0",
                    "NVIDIA_IMEX_CHANNELS=0,2",
                    "NVIDIA_GDS=enabled",
                    "NVIDIA_MOFED=enabled",
                    "NVIDIA_GDRCOPY=enabled",
                    "NVIDIA_NVSWITCH=enabled",
                    "NVIDIA_MIG_CONFIG_DEVICES=all",
                    "NVIDIA_MIG_MONITOR_DEVICES=all",
                ],
            ),
            mount("mount all", "all"),
            mount("mount 0", "0"),
            mount("mount CDI 0", "cdi/nvidia.com/gpu/0"),
        ]);
    }
    if host == "nvidia-mig" {
        sources.extend([
            flag("flag MIG 0:1", "0:1"),
            flag("flag MIG 1:3", "1:3"),
            flag("flag MIG that is not there", "0:7"),
            flag(
                "flag opaque MIG",
                "MIG-12345678-0000-0000-0000-000000000000",
            ),
            flag("flag whole and MIG", "2,0:0"),
        ]);
    }
    if host == "nvidia-8" {
        sources.push(flag("flag bus id", "0000:43:00.0"));
        sources.push(flag("flag range", "0-2,7"));
    }
    if host.starts_with("amd") || host == "mixed" {
        sources.push(flag("flag amd:all", "amd:all"));
        sources.push(environment(
            "environment amd 0",
            OPEN,
            &["AMD_VISIBLE_DEVICES=0"],
        ));
        sources.push(environment(
            "environment amd 0-1",
            OPEN,
            &["AMD_VISIBLE_DEVICES=0-1"],
        ));
    }
    if host.starts_with("habana") {
        sources.push(environment(
            "environment all",
            OPEN,
            &["HABANA_VISIBLE_DEVICES=all"],
        ));
        sources.push(environment(
            "environment 0,7",
            OPEN,
            &["HABANA_VISIBLE_DEVICES=0,7"],
        ));
    }
    if host == "intel" || host == "mixed" {
        sources.push(flag("flag intel:all", "intel:all"));
    }
    sources
}

/// Only some sources are worth every mode: they come to the same devices.
const IN_EVERY_MODE: [&str; 6] = [
    "flag all",
    "flag nvidia:all",
    "flag index 0",
    "annotation all",
    "policy all",
    "nothing",
];

const MODES: [(&str, &[&str]); 6] = [
    ("alone", &[]),
    ("mps", &["--gpu-share", "mps"]),
    (
        "mps with limits",
        &["--gpu-share", "mps,threads=25,memory=2G"],
    ),
    ("time-slice", &["--gpu-share", "time-slice,index=1"]),
    (
        "time-slice with a file that is not there",
        &["--gpu-share", "time-slice,config=/etc/slices.yaml"],
    ),
    (
        "distributed",
        &[
            "--distributed",
            "gloo,world-size=4,rank=2,master-addr=node0",
        ],
    ),
];

/// A configuration as engines write them, with what a container may have itself.
fn config(source: &Source) -> Value {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/",
            "args": ["true"],
            "user": {"uid": 1000, "gid": 1000},
            "env": ["PATH=/bin", "WORLD_SIZE=7"],
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        },
    });
    let extra = |key: &str| source.config[key].as_array().cloned().unwrap_or_default();
    config["process"]["env"]
        .as_array_mut()
        .unwrap()
        .extend(extra("env"));
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .extend(extra("mounts"));
    if let Some(annotations) = source.config.get("annotations") {
        config["annotations"] = annotations.clone();
    }
    config
}

/// The effective configuration, one line for each entry that a GPU could touch.
fn compact(config: &Value) -> String {
    let mut out = String::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for entry in list(&config["process"]["env"]) {
        let _ = writeln!(out, "    env {}", entry.as_str().unwrap());
    }
    for node in list(&config["linux"]["devices"]) {
        let _ = writeln!(
            out,
            "    device {} {} {}:{} mode {:o} {}:{}",
            node["path"].as_str().unwrap(),
            node["type"].as_str().unwrap(),
            node["major"],
            node["minor"],
            node["fileMode"].as_u64().unwrap_or(0),
            node["uid"],
            node["gid"],
        );
    }
    for rule in list(&config["linux"]["resources"]["devices"]) {
        let number = |key: &str| rule.get(key).map_or("*".to_owned(), Value::to_string);
        let _ = writeln!(
            out,
            "    {} {} {}:{} {}",
            if rule["allow"] == true {
                "allow"
            } else {
                "deny"
            },
            rule["type"].as_str().unwrap_or("a"),
            number("major"),
            number("minor"),
            rule["access"].as_str().unwrap(),
        );
    }
    for mount in list(&config["mounts"]) {
        let _ = writeln!(
            out,
            "    mount {} from {} {}",
            mount["destination"].as_str().unwrap(),
            mount["source"].as_str().unwrap_or("-"),
            list(&mount["options"])
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
        );
    }
    out
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn explain(&self, host: &Path, source: &Source, mode: &[&str], format: &str) -> Done {
        let policy = self.dir.path().join("policy.toml");
        fs::write(&policy, source.policy).unwrap();
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
        let bundle = self.dir.path().join("bundle");
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config(source).to_string()).unwrap();
        let mut args = vec!["explain", "--format", format, "--bundle"];
        args.push(bundle.to_str().unwrap());
        args.extend(["--host-root", host.to_str().unwrap()]);
        args.extend(source.flags.iter().map(String::as_str));
        args.extend(mode);
        kusabi(&policy, &args)
    }

    /// The result of a case in words.
    fn case(&self, host: &Path, source: &Source, mode: &[&str]) -> String {
        let own = format!("{}/", self.dir.path().display());
        let plain = |text: &str| text.replace(&own, "");
        let done = self.explain(host, source, mode, "config");
        if done.code != 0 {
            assert_eq!(done.stdout, "");
            let (_, message) = done.stderr.split_once("level=error ").unwrap();
            return format!("    {}", plain(message));
        }
        let effective: Value = serde_json::from_str(&done.stdout).unwrap();
        check(&effective);
        let told = self.explain(host, source, mode, "json");
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let mut out = compact(&effective);
        for note in told["notes"].as_array().unwrap() {
            let _ = writeln!(out, "    note {}", plain(note["text"].as_str().unwrap()));
        }
        out
    }
}

/// What holds of every result, whatever was written down: no variable twice, and
/// exactly one rule for each node that a GPU request brought.
fn check(config: &Value) {
    let empty = Vec::new();
    let env = config["process"]["env"].as_array().unwrap_or(&empty);
    let mut names: Vec<&str> = env
        .iter()
        .map(|entry| entry.as_str().unwrap().split('=').next().unwrap())
        .collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a variable is there twice: {env:?}");
    let nodes = config["linux"]["devices"].as_array().unwrap_or(&empty);
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    let numbers = |value: &Value| (value["major"].to_string(), value["minor"].to_string());
    let mut wanted: Vec<_> = nodes.iter().map(numbers).collect();
    wanted.sort();
    wanted.dedup();
    let mut allowed: Vec<_> = rules
        .iter()
        .filter(|rule| rule["allow"] == true)
        .map(numbers)
        .collect();
    allowed.sort();
    assert_eq!(allowed, wanted, "rules are not exactly the nodes");
}

fn render(name: &str) -> String {
    let bench = Bench {
        dir: tempfile::tempdir().unwrap(),
    };
    let root = host(name);
    let mut out = format!("# {name}: what each request comes to\n");
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for source in sources(name) {
        for (mode, flags) in MODES {
            if mode != "alone" && !IN_EVERY_MODE.contains(&source.name) {
                continue;
            }
            let title = format!("{} / {mode}", source.name);
            let result = bench.case(&root, &source, flags);
            let _ = writeln!(out, "\n{title}");
            match seen.get(&result) {
                Some(other) => {
                    let _ = writeln!(out, "    as: {other}");
                }
                None => {
                    out.push_str(&result);
                    seen.insert(result, title);
                }
            }
        }
    }
    out
}

#[test]
fn effective_configurations_are_those_that_were_written_down() {
    let bless = std::env::var_os("KUSABI_BLESS").is_some();
    let mut wrong = Vec::new();
    let rendered: Vec<String> = std::thread::scope(|scope| {
        let threads = HOSTS.map(|name| scope.spawn(move || render(name)));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    for (name, found) in HOSTS.into_iter().zip(rendered) {
        let path = fixtures().join("golden").join(format!("{name}.txt"));
        if bless {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let pairs = expected.lines().zip(found.lines());
        if expected != found {
            let at = pairs.take_while(|(one, other)| one == other).count();
            wrong.push(format!(
                "{}:{}: expected {:?}, found {:?}",
                path.display(),
                at + 1,
                expected.lines().nth(at),
                found.lines().nth(at)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
