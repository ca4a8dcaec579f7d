//! What dockerd and podman hand to their runtime now: as recorded, and as a built
//! bundle has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kusabi::service::Capability;
use serde_json::{Value, json};

use crate::common::runtime::which;
use crate::common::{Output, Sandbox, on_host, skip};
use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::ground::{Ground, path};
use crate::podman::Podman;

#[path = "../bundle/given.rs"]
mod comparing;

use comparing::{Compared, given};

const RECORDED: &str = "tests/bundle/engines.json";

fn recorded_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED)
}

/// A runtime that keeps the `config.json` it is called with.
pub struct Recorder {
    pub program: PathBuf,
    copy: PathBuf,
}

impl Recorder {
    pub fn new(ground: &Ground<'_>) -> Self {
        let (program, copy) = (ground.path("recorder"), ground.path("recorded.json"));
        let script = format!(
            "#!/bin/sh\nfor word; do\n  case $before in --bundle | -b) bundle=$word ;; esac\n  \
             [ \"$word\" != create ] || create=1\n  before=$word\ndone\n\
             [ -z \"$create\" ] || cp \"$bundle/config.json\" {copy}\nexec {runtime} \"$@\"\n",
            copy = copy.display(),
            runtime = ground.runtime.display()
        );
        fs::write(&program, script).expect("write");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { program, copy }
    }

    /// What the container of `run` was given. Where root has not every capability
    /// itself, some of them cannot run.
    fn of(&self, run: impl FnOnce() -> Output) -> Value {
        let out = run();
        let text = fs::read_to_string(&self.copy)
            .unwrap_or_else(|_| panic!("the runtime was not called: {out}"));
        fs::remove_file(&self.copy).expect("remove");
        given(&serde_json::from_str(&text).expect("JSON"))
    }
}

/// Capabilities that nobody here has, and an engine that looks cannot give.
fn unbounded() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let has = Capability::bounding_of(&status).expect("a bounding set");
    let all = Capability::all().filter(|capability| !has.contains(capability));
    let mut names: Vec<String> = all.map(|capability| capability.to_string()).collect();
    names.sort();
    names
}

/// What a built bundle has, in both modes.
fn ours(ground: &Ground<'_>) -> Value {
    let file = ground.path("service.yaml");
    let text =
        "version: v1\ndeployment: demo\nservices: {default: {}, privileged: {privileged: true}}\n";
    fs::write(&file, text).expect("write");
    let spec = |name: &str| {
        let args = [
            "bundle",
            "spec",
            "--no-probe",
            "--service",
            path(&file),
            "--name",
            name,
        ];
        let out = ground.call(&ground.runtime).args(args).output().succeeded();
        given(&serde_json::from_str(&out.stdout).expect("JSON"))
    };
    json!({"default": spec("default"), "privileged": spec("privileged")})
}

/// The first three numbers of a version, as in `20.10.24`.
fn version(said: &str) -> String {
    let is_in = |c: char| c.is_ascii_digit() || c == '.';
    let mut words = said.split(|c: char| !is_in(c));
    let found = words.find(|word| word.matches('.').count() == 2);
    found.expect("a version").to_owned()
}

/// The recorded answer is this one, where the engine is the recorded one; and
/// ours is like it in either case.
fn compare(ground: &Ground<'_>, engine: &str, now: &Value) {
    let text = fs::read_to_string(recorded_in()).expect("read");
    let mut recorded: Value = serde_json::from_str(&text).expect("JSON");
    if std::env::var_os("KUSABI_BLESS").is_some() {
        recorded[engine] = now.clone();
        let text = serde_json::to_string_pretty(&recorded).expect("JSON") + "\n";
        fs::write(recorded_in(), text).expect("write");
    }
    let old = &recorded[engine];
    if old["version"] == now["version"] {
        // Hosts differ in what can be had at all.
        let comparable = |of: &Value| {
            let mut of = of.clone();
            let gone = [&old["unbounded"], &now["unbounded"]].map(comparing::set);
            let list = &mut of["privileged"]["capabilities"];
            list.as_array_mut().expect("a list").retain(|name| {
                let name = name.as_str().expect("a name");
                engine == "docker" || !gone.iter().any(|gone| gone.contains(name))
            });
            of["unbounded"] = Value::Null;
            of
        };
        assert_eq!(
            comparable(old),
            comparable(now),
            "{RECORDED} is out of date"
        );
    }
    let both = Compared {
        engine,
        theirs: now,
        ours: &ours(ground),
    };
    both.capabilities();
    both.masks();
    both.mounts();
}

fn docker_gives_what_was_recorded(sandbox: &Sandbox) {
    for program in ["containerd", "dockerd", "docker"] {
        if which(program).is_none() {
            skip!("this host has no {program}");
        }
    }
    let ground = Ground::new(sandbox);
    let recorder = Recorder::new(&ground);
    let containerd = Containerd::start(&ground);
    let docker = Docker::start(&ground, &containerd, &recorder.program);
    docker.import();
    let run = |options: &[&str]| {
        let all = [&["--runtime=other", "--rm"], options].concat();
        docker.run_call(&all, &["true"]).output()
    };
    let said = ground.run("dockerd", ["--version"]).succeeded().stdout;
    let now = json!({
        "version": version(&said),
        "unbounded": unbounded(),
        "default": recorder.of(|| run(&[])),
        "privileged": recorder.of(|| run(&["--privileged"])),
    });
    compare(&ground, "docker", &now);
}

fn podman_gives_what_was_recorded(sandbox: &Sandbox) {
    for program in ["podman", "conmon"] {
        if which(program).is_none() {
            skip!("this host has no {program}");
        }
    }
    let ground = Ground::new(sandbox);
    let recorder = Recorder::new(&ground);
    let mut podman = Podman::new(&ground, false);
    podman.runtime.clone_from(&recorder.program);
    let said = ground.run("podman", ["--version"]).succeeded().stdout;
    let now = json!({
        "version": version(&said),
        "unbounded": unbounded(),
        "default": recorder.of(|| podman.run(&["--rm"], &["true"])),
        "privileged": recorder.of(|| podman.run(&["--rm", "--privileged"], &["true"])),
    });
    compare(&ground, "podman", &now);
}

on_host!(
    docker_gives_what_was_recorded,
    podman_gives_what_was_recorded
);
