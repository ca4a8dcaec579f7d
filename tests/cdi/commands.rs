//! `kusabi cdi list`, `show` and `validate`, as people and scripts see them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const GPU: &str = r#"cdiVersion: "1.1.0"
kind: vendor.com/gpu
annotations: {made-by: hand}
containerEdits:
  env: [VENDOR=1]
  hooks:
  - {hookName: createContainer, path: /usr/bin/hook, args: [hook, "a b"], env: [A=b], timeout: 5}
devices:
- name: all
  containerEdits:
    deviceNodes: [{path: /dev/gpu0}, {path: /dev/gpu1}]
- name: "0"
  annotations: {slot: "3"}
  containerEdits:
    env: [GPU=0]
    deviceNodes:
    - {path: /dev/gpu, hostPath: /dev/gpu0, type: c, major: 195, minor: 1, permissions: rw,
       fileMode: 0660, uid: 1, gid: 2}
    netDevices: [{hostInterfaceName: ib0, name: net1}]
    mounts:
    - {hostPath: /usr/lib/libgpu.so.1, containerPath: /usr/lib/libgpu.so.1, options: [ro, bind]}
    - {hostPath: tmpfs, containerPath: /scratch, type: tmpfs}
    intelRdt: {closID: gpu, schemata: ["L3:0=f"], enableMonitoring: true}
    additionalGids: [44]
"#;

struct Place(TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let place = Self(dir);
        for (name, text) in files {
            let path = place.path(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        place
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn cdi(&self, command: &str, args: &[&str]) -> Output {
        let dir = self.dir().to_str().unwrap();
        kusabi(&[&["cdi", command, "--cdi-dir", dir][..], args].concat())
    }

    /// Paths without the part that differs in each run.
    fn text(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(&format!("{}/", self.dir().display()), "")
            .replace(self.dir().to_str().unwrap(), "DIR")
    }

    fn stdout(&self, output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        self.text(&output.stdout)
    }
}

fn kusabi(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kusabi"))
        .args(args)
        .env_remove("CDI_SPEC_DIRS")
        .output()
        .unwrap()
}

#[test]
fn list_shows_every_device_and_its_file() {
    let place = Place::new(&[("gpu.yaml", GPU), ("notes.txt", "")]);
    let output = place.cdi("list", &[]);
    assert_eq!(
        place.stdout(&output),
        "vendor.com/gpu=0    gpu.yaml\nvendor.com/gpu=all  gpu.yaml\n"
    );
    assert_eq!(place.text(&output.stderr), "");
}

#[test]
fn list_reports_broken_files_once_and_succeeds() {
    let place = Place::new(&[("bad.json", "{\"kind\": 1"), ("gpu.yaml", GPU)]);
    let output = place.cdi("list", &[]);
    assert!(place.stdout(&output).starts_with("vendor.com/gpu=0 "));
    let errors = place.text(&output.stderr);
    assert_eq!(
        errors
            .matches("bad.json:1:10: EOF while parsing an object")
            .count(),
        1,
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn list_reports_conflicts() {
    let place = Place::new(&[("a.yaml", GPU), ("b.yaml", GPU)]);
    let output = place.cdi("list", &[]);
    assert_eq!(place.stdout(&output), "");
    let errors = place.text(&output.stderr);
    let want = "conflicting CDI device vendor.com/gpu=0, nobody can ask for it (in a.yaml, b.yaml)";
    assert!(errors.contains(want), "{errors}");
}

#[test]
fn list_reports_what_others_may_write() {
    let place = Place::new(&[("gpu.yaml", GPU)]);
    fs::set_permissions(place.path("gpu.yaml"), Permissions::from_mode(0o666)).unwrap();
    let output = place.cdi("list", &[]);
    assert_eq!(place.stdout(&output), "");
    let errors = place.text(&output.stderr);
    assert!(
        errors.contains("gpu.yaml: others may write it (mode 0666"),
        "{errors}"
    );
}

#[test]
fn list_as_json_has_everything() {
    let place = Place::new(&[
        ("a.yaml", GPU),
        ("bad.json", "{"),
        ("c.yaml", &GPU.replace("name: all", "name: more")),
    ]);
    let output = place.cdi("list", &["--format", "json"]);
    let text = place.stdout(&output);
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        list,
        serde_json::json!({
            "directories": ["DIR"],
            "devices": [
                {"name": "vendor.com/gpu=all", "file": "a.yaml", "priority": 0,
                 "cdiVersion": "1.1.0", "annotations": {}},
                {"name": "vendor.com/gpu=more", "file": "c.yaml", "priority": 0,
                 "cdiVersion": "1.1.0", "annotations": {}},
            ],
            "conflicts": [{"name": "vendor.com/gpu=0", "files": ["a.yaml", "c.yaml"]}],
            "broken": ["bad.json:1:1: EOF while parsing an object"],
        })
    );
}

#[test]
fn directories_come_from_the_environment_too() {
    let place = Place::new(&[("gpu.yaml", GPU)]);
    let output = Command::new(env!("CARGO_BIN_EXE_kusabi"))
        .args(["cdi", "list"])
        .env("CDI_SPEC_DIRS", format!("/none:{}", place.dir().display()))
        .output()
        .unwrap();
    let text = place.stdout(&output);
    assert!(
        text.contains("vendor.com/gpu=0") && text.contains("gpu.yaml"),
        "{text}"
    );
}

#[test]
fn show_tells_every_edit() {
    let place = Place::new(&[("gpu.yaml", GPU)]);
    let output = place.cdi("show", &["vendor.com/gpu=0"]);
    assert_eq!(
        place.stdout(&output),
        "vendor.com/gpu=0
  from gpu.yaml (CDI 1.1.0, priority 0)
  for any of its devices
    annotation made-by=hand
    env        VENDOR=1
    hook       createContainer /usr/bin/hook (args [\"hook\", \"a b\"], env [\"A=b\"], timeout 5 s)
  for this device
    annotation slot=3
    env        GPU=0
    device     /dev/gpu0 as /dev/gpu (type c, 195:1 when written, permissions rw, mode 0660, \
         uid 1, gid 2)
    interface  ib0 as net1
    mount      /usr/lib/libgpu.so.1 (ro,bind)
    mount      tmpfs as /scratch (type tmpfs)
    intelRdt   closID gpu, schemata [\"L3:0=f\"], enableMonitoring
    group      44
"
    );
}

#[test]
fn show_as_json_gives_the_edits_as_written() {
    let place = Place::new(&[("gpu.yaml", GPU)]);
    let output = place.cdi(
        "show",
        &["-f", "json", "vendor.com/gpu=all", "vendor.com/gpu=0"],
    );
    let found: serde_json::Value = serde_json::from_str(&place.stdout(&output)).unwrap();
    let names: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["name"])
        .collect();
    assert_eq!(names, ["vendor.com/gpu=0", "vendor.com/gpu=all"]);
    assert_eq!(
        found[1]["device"],
        serde_json::json!({"name": "all", "containerEdits":
            {"deviceNodes": [{"path": "/dev/gpu0"}, {"path": "/dev/gpu1"}]}})
    );
    assert_eq!(
        found[1]["specification"]["containerEdits"]["env"],
        serde_json::json!(["VENDOR=1"])
    );
}

/// nvidia-container-toolkit #146, #1239, #1895: what was read and what is there is
/// said, where others say `unresolvable` alone.
#[test]
fn show_fails_on_names_that_nobody_defines_or_nobody_could() {
    let place = Place::new(&[("gpu.yaml", GPU)]);
    let output = place.cdi("show", &["vendor.com/gpu=7"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(1), &b""[..])
    );
    let errors = place.text(&output.stderr);
    let want = "unresolvable CDI devices vendor.com/gpu=7; read DIR; found vendor.com/gpu=0, \
                vendor.com/gpu=all";
    assert!(errors.contains(want), "{errors}");

    let output = place.cdi("show", &["gpu0"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = place.text(&output.stderr);
    assert!(
        errors.contains("invalid CDI device name") && errors.contains("no '='"),
        "{errors}"
    );
}

#[test]
fn validate_points_at_every_mistake() {
    let place = Place::new(&[
        ("good.yaml", GPU),
        (
            "bad.yaml",
            "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a b\n  containerEdits:\n    \
             mounts:\n    - {hostPath: /a, containerPath: /a/../b, typ: x}\n",
        ),
        (
            "bad.json",
            "{\"cdiVersion\": \"0.5.0\", \"kind\": \"v.com/c\",\n \"devices\": [{\"name\": \"a\",\n  \
             \"containerEdits\": {\"env\": [\"A\"]}}]}",
        ),
    ]);
    let file = |name| place.path(name).to_str().unwrap().to_owned();
    let output = kusabi(&["cdi", "validate", &file("good.yaml")]);
    assert_eq!(
        place.stdout(&output),
        "good.yaml: valid, CDI 1.1.0, 2 devices of vendor.com/gpu\n"
    );

    let files = ["bad.yaml", "good.yaml", "bad.json", "none.json"].map(file);
    let [a, b, c, d] = files.each_ref().map(String::as_str);
    let output = kusabi(&["cdi", "validate", a, b, c, d]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.text(&output.stdout),
        "bad.yaml:7:46: devices[0].containerEdits.mounts[0]: unknown key \"typ\" (did you mean \
         type?)
good.yaml: valid, CDI 1.1.0, 2 devices of vendor.com/gpu
bad.json:3:30: devices[0].containerEdits.env[0]: invalid environment variable \"A\", expected \
         NAME=value
none.json: no such file or directory
"
    );
    let errors = place.text(&output.stderr);
    assert!(
        errors.contains("3 problems in CDI specifications"),
        "{errors}"
    );
}

#[test]
fn validate_reads_what_a_shell_hands_it() {
    let place = Place::new(&[]);
    let script = format!(
        "printf '%s' '{{' | {} cdi validate /dev/stdin",
        env!("CARGO_BIN_EXE_kusabi")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.text(&output.stdout),
        "/dev/stdin:1:1: EOF while parsing an object\n"
    );
}

#[test]
fn validate_without_files_checks_the_directories() {
    let place = Place::new(&[("a.yaml", GPU), ("b.yaml", GPU), ("c.json", "")]);
    let output = place.cdi("validate", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.text(&output.stdout),
        "a.yaml: valid, CDI 1.1.0, 2 devices of vendor.com/gpu
b.yaml: valid, CDI 1.1.0, 2 devices of vendor.com/gpu
c.json:1:1: the file is empty
conflicting CDI device vendor.com/gpu=0, nobody can ask for it (in a.yaml, b.yaml)
conflicting CDI device vendor.com/gpu=all, nobody can ask for it (in a.yaml, b.yaml)
"
    );
    assert!(
        place
            .text(&output.stderr)
            .contains("3 problems in CDI specifications")
    );
}
