//! What the configuration of engines says about runtimes and GPUs.

use std::path::{Path, PathBuf};

use super::{Finding, Patterns, Survey};
use crate::host::facts::{Presence, Snapshot};
use crate::yaml::{self, Node, Value};

pub(super) const NEEDS: Patterns = (
    &[
        "/etc/docker/daemon.json",
        "/etc/containerd/config.toml",
        "/etc/containerd/conf.d/*.toml",
        "/etc/crio/crio.conf",
        "/etc/crio/crio.conf.d/*",
        "/etc/containers/containers.conf",
        "/etc/containers/containers.conf.d/*.conf",
    ],
    &[],
    &[
        "/usr/share/containers/oci/hooks.d/*nvidia*",
        "/etc/containers/oci/hooks.d/*nvidia*",
    ],
);

const ENGINES: &str = "engines";

/// Directories with configuration files of engines.
const PLACES: &[&str] = &[
    "/etc/docker",
    "/etc/containerd",
    "/etc/crio",
    "/etc/containers",
];

pub(super) fn examine(survey: &Survey<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &survey.snapshot.texts {
        if !PLACES.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        match read(path, text) {
            Ok(file) => findings.extend(
                file.runtimes
                    .iter()
                    .flat_map(|runtime| judge(path, runtime, &file, survey)),
            ),
            Err(reason) => findings.push(Finding::problem(
                ENGINES,
                format!("{}:{reason}", path.display()),
                "mend the file; its engine will not read it either",
            )),
        }
    }
    findings.extend(oci_hooks(survey.snapshot));
    findings
}

/// Hooks that podman and CRI-O put into every container that matches.
fn oci_hooks(snapshot: &Snapshot) -> Vec<Finding> {
    let hooks = snapshot.files.iter().filter(|(path, presence)| {
        matches!(presence, Presence::Present(_))
            && path
                .parent()
                .is_some_and(|dir| dir.ends_with("oci/hooks.d"))
    });
    hooks
        .map(|(path, _)| {
            let file = path.display();
            Finding::note(
                ENGINES,
                format!("{file} puts NVIDIA's own hook into containers, which would inject again"),
                format!("rm {file}; until then hooks.vendor in the policy takes it out"),
            )
        })
        .collect()
}

/// One runtime of an engine.
#[derive(Debug, Default, PartialEq, Eq)]
struct Runtime {
    name: String,
    program: Option<PathBuf>,
    systemd_cgroup: bool,
}

/// What a configuration file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Configuration {
    runtimes: Vec<Runtime>,
    default: Option<String>,
    systemd_cgroup: bool,
}

impl Runtime {
    fn is_kusabi(&self) -> bool {
        let program = self.program.as_ref().and_then(|path| path.file_name());
        self.name == "kusabi" || program.is_some_and(|name| name == "kusabi")
    }
}

fn judge(
    file: &Path,
    runtime: &Runtime,
    configuration: &Configuration,
    survey: &Survey<'_>,
) -> Vec<Finding> {
    let file = file.display();
    let name = &runtime.name;
    let mut findings = Vec::new();
    if !runtime.is_kusabi() {
        if configuration.default.as_ref() == Some(name) && name.contains("nvidia") {
            findings.push(Finding::note(
                ENGINES,
                format!(
                    "{file}: the default runtime is {name}, which kusabi's containers do not pass"
                ),
                "make kusabi the default, unless that is meant",
            ));
        }
        return findings;
    }
    let Some(program) = &runtime.program else {
        return vec![Finding::problem(
            ENGINES,
            format!("{file}: {name} names no program"),
            "set BinaryName (containerd), path (docker) or runtime_path (CRI-O)",
        )];
    };
    let text = format!("{file}: {name} is {}", program.display());
    findings.push(Finding::fine(ENGINES, text));
    if program.is_absolute() && matches!(survey.snapshot.file(program), Some(Presence::Absent)) {
        findings.push(Finding::problem(
            ENGINES,
            format!("{file}: {} is not there", program.display()),
            "install it, or mend the path",
        ));
    }
    let systemd = runtime.systemd_cgroup || configuration.systemd_cgroup;
    if systemd && survey.machine.systemd_driver == Some(false) {
        findings.push(Finding::problem(
            ENGINES,
            format!(
                "{file}: {name} is to use the systemd cgroup driver, which kusabi does not have"
            ),
            "SystemdCgroup = false (containerd), native.cgroupdriver=cgroupfs (docker), \
             cgroup_manager = \"cgroupfs\" (CRI-O, podman)",
        ));
    }
    findings
}

/// The programs of kusabi's runtimes, so that it can be seen whether they exist.
pub(super) fn programs(snapshot: &Snapshot) -> Vec<PathBuf> {
    let files = snapshot
        .texts
        .iter()
        .filter(|(path, _)| PLACES.iter().any(|place| path.starts_with(place)));
    files
        .filter_map(|(path, text)| read(path, text).ok())
        .flat_map(|file| file.runtimes)
        .filter(Runtime::is_kusabi)
        .filter_map(|runtime| runtime.program)
        .filter(|program| program.is_absolute())
        .collect()
}

fn read(path: &Path, text: &str) -> Result<Configuration, String> {
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let root = if is_json {
        yaml::parse(text).map_err(|error| error.to_string())?
    } else {
        Some(yaml::parse_toml(text).map_err(|error| error.to_string())?)
    };
    let mut configuration = Configuration::default();
    if let Some(root) = &root {
        collect(root, &mut configuration);
    }
    Ok(configuration)
}

/// Finds tables of runtimes wherever they are: their place differs by engine and
/// version, their names do not.
fn collect(node: &Node, into: &mut Configuration) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for entry in entries {
        match (entry.key.as_str(), &entry.node.value) {
            ("runtimes", Value::Map(runtimes)) => {
                let read = runtimes.iter().map(|one| runtime(&one.key, &one.node));
                into.runtimes.extend(read);
            }
            (
                "default_runtime_name" | "default_runtime" | "default-runtime" | "runtime",
                Value::Scalar { text, .. },
            ) => into.default = Some(text.clone()),
            ("cgroup_manager", Value::Scalar { text, .. }) => {
                into.systemd_cgroup = text == "systemd";
            }
            ("exec-opts", Value::List(options)) => {
                into.systemd_cgroup = options
                    .iter()
                    .any(|option| string(option) == Some("native.cgroupdriver=systemd"));
            }
            _ => collect(&entry.node, into),
        }
    }
}

fn runtime(name: &str, node: &Node) -> Runtime {
    let options = get(node, "options");
    let program = ["BinaryName", "runtime_path", "path"]
        .into_iter()
        .find_map(|key| get(node, key).or_else(|| get(options?, key)))
        .or(match &node.value {
            // containers.conf lists places.
            Value::List(places) => places.first().map(AsRef::as_ref),
            _ => None,
        })
        .and_then(string);
    let systemd = options
        .and_then(|options| get(options, "SystemdCgroup"))
        .and_then(string);
    Runtime {
        name: name.to_owned(),
        program: program.map(PathBuf::from),
        systemd_cgroup: systemd == Some("true"),
    }
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(&entry.node)
}

fn string(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engines_way_to_name_a_runtime_is_read() {
        let containerd = r#"
            version = 3
            [plugins."io.containerd.cri.v1.runtime".containerd]
            default_runtime_name = "nvidia"
            [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kusabi]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kusabi.options]
            BinaryName = "/usr/local/bin/kusabi"
            SystemdCgroup = true
        "#;
        let crio = "[crio.runtime]\ncgroup_manager = \"systemd\"\n[crio.runtime.runtimes.k]\nruntime_path = \"/opt/kusabi\"\n";
        let docker = r#"{"default-runtime": "kusabi", "runtimes": {"kusabi": {"path": "/bin/kusabi"}},
                         "exec-opts": ["native.cgroupdriver=systemd"]}"#;
        let podman =
            "[engine]\nruntime = \"kusabi\"\n[engine.runtimes]\nkusabi = [\"/a/kusabi\", \"/b\"]\n";
        for (path, text, program, default, systemd) in [
            (
                "/etc/containerd/config.toml",
                containerd,
                "/usr/local/bin/kusabi",
                Some("nvidia"),
                true,
            ),
            ("/etc/crio/crio.conf.d/10", crio, "/opt/kusabi", None, true),
            (
                "/etc/docker/daemon.json",
                docker,
                "/bin/kusabi",
                Some("kusabi"),
                true,
            ),
            (
                "/etc/containers/containers.conf",
                podman,
                "/a/kusabi",
                Some("kusabi"),
                false,
            ),
        ] {
            let file = read(Path::new(path), text).unwrap();
            let [runtime] = file.runtimes.as_slice() else {
                panic!("{path}: {file:?}");
            };
            assert!(runtime.is_kusabi(), "{path}: {runtime:?}");
            assert_eq!(
                runtime.program.as_deref(),
                Some(Path::new(program)),
                "{path}"
            );
            assert_eq!(file.default.as_deref(), default, "{path}");
            assert_eq!(
                runtime.systemd_cgroup || file.systemd_cgroup,
                systemd,
                "{path}"
            );
        }
        assert!(read(Path::new("/etc/docker/daemon.json"), "{").is_err());
        assert_eq!(
            read(Path::new("/etc/docker/daemon.json"), "").unwrap(),
            Configuration::default()
        );
    }
}
