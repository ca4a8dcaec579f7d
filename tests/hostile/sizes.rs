//! Files that do not end: each is refused with its limit, and without being
//! read to the end.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use crate::common::{Config, Output, Sandbox, on_host};
use crate::table::LOG;

/// A file of `mebibytes` and one byte, with nothing in it on the disk.
fn huge(path: &Path, mebibytes: u64) {
    let file = File::create(path).expect("create");
    file.set_len((mebibytes << 20) + 1).expect("truncate");
}

#[track_caller]
fn says(out: &Output, code: i32, words: &str) {
    assert_eq!(out.code, Some(code), "{out}");
    assert_eq!(out.stderr.lines().count(), 1, "{out}");
    let line: Value = serde_json::from_str(&out.stderr).expect("JSON");
    assert_eq!(line["msg"], words);
}

fn every_file_has_a_limit(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let path = |name: &str| sandbox.dir().join(name);
    let shown = |name: &str| path(name).display().to_string();
    huge(&path("64"), 64);
    huge(&path("8"), 8);
    huge(&path("1"), 1);

    let container = sandbox.run_detached(&bundle);
    let call = || sandbox.call(LOG);
    let out = call().args(["exec", "--process"]).arg(path("64"));
    says(
        &out.arg(&container.id).output(),
        255,
        &format!(
            "exec failed: read {}: more than the limit of 64 MiB",
            shown("64")
        ),
    );
    for file in [shown("64"), "/dev/zero".to_owned()] {
        let out = call().args(["update", "--resources", &file, &container.id]);
        says(
            &out.output(),
            1,
            &format!("read {file}: more than the limit of 64 MiB"),
        );
    }
    let state = sandbox.root().join(&container.id).join("state.json");
    let good = fs::read(&state).expect("read");
    huge(&state, 128);
    says(
        &call().args(["state", &container.id]).output(),
        1,
        &format!("read {}: more than the limit of 128 MiB", state.display()),
    );
    fs::write(&state, good).expect("write");
    container.delete_force();

    let other = sandbox.bundle(&Config::sleeper());
    let create = || call().args(["create", "--bundle"]).arg(&other.path);
    let cdi = path("cdi");
    fs::create_dir(&cdi).expect("mkdir");
    huge(&cdi.join("x.json"), 8);
    let out = create().args(["--device", "v.com/c=d", "--cdi-dir"]);
    let out = out.arg(&cdi).arg(&other.id).output().exited(1);
    assert!(
        out.stderr
            .contains("8388609 bytes, more than the 8388608 that a specification may have"),
        "{out}"
    );
    let out = create().env("KUSABI_CONFIG", path("1")).arg(&other.id);
    let out = out.output().exited(1);
    assert!(
        out.stderr
            .contains("larger than the 1048576 bytes that a policy may have"),
        "{out}"
    );
    huge(&other.config_path(), 64);
    says(
        &create().arg(&other.id).output(),
        1,
        &format!(
            "read {}: more than the limit of 64 MiB",
            other.config_path().display()
        ),
    );
    let spec = || call().args(["bundle", "spec", "--no-probe", "--service"]);
    says(
        &spec().arg(path("8")).output(),
        1,
        &format!("read {}: more than the limit of 8 MiB", shown("8")),
    );
    let service = path("service.yaml");
    let text = "version: v1\ndeployment: d\nservices: {w: {}}\n";
    fs::write(&service, text).expect("write");
    let out = spec().arg(&service).arg("--image").arg(path("8"));
    says(
        &out.output(),
        1,
        &format!("read {}: more than the limit of 8 MiB", shown("8")),
    );
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

on_host!(every_file_has_a_limit);
