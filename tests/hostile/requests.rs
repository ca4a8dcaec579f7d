//! Who asks for devices, and the files that say what they are: CDI files,
//! annotations, options, variables, mounts, the policy, the environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::host::make_dir;
use crate::common::{Bundle, Config, Output, Sandbox, Spawn, on_host};
use crate::table::{LOG, each};

/// Believes every place that may ask.
const TRUSTING: &str = "[sources]\nmounts = \"allow\"\nenvironment = \"allow\"\n\
                        [cgroup]\nparent-annotation = \"allow\"\n";

/// A file below the sandbox.
fn file(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let path = sandbox.dir().join(name);
    fs::write(&path, text).expect("write");
    path
}

fn create(sandbox: &Sandbox, bundle: &Bundle) -> Spawn {
    sandbox
        .call(LOG)
        .args(["create", "--bundle"])
        .arg(&bundle.path)
}

/// Runs a create that is to fail, and sees that it has made no container.
fn refused(sandbox: &Sandbox, bundle: &Bundle, call: Spawn) -> Output {
    let out = call.arg(&bundle.id).output();
    let made = sandbox.root().join(&bundle.id);
    if made.exists() {
        sandbox.container(bundle).delete_force();
        assert_eq!(out.code, Some(0), "a container is left: {out}");
    }
    out
}

fn cdi_files(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let dir = sandbox.dir().join("cdi");
    each("cdi", sandbox, 1, |given| {
        let _ = fs::remove_dir_all(&dir);
        make_dir(&dir);
        fs::write(dir.join(&given[0]), &given[1]).expect("write");
        let call = create(sandbox, &bundle).arg("--cdi-dir").arg(&dir);
        refused(sandbox, &bundle, call.args(["--device", "v.com/c=d"]))
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn wishes(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let policy = file(sandbox, "policy.toml", TRUSTING);
    let cdi = sandbox.dir().join("cdi");
    make_dir(&cdi);
    each("requests", sandbox, 1, |given| {
        let (place, value) = (given[0].as_str(), given[1].as_str());
        let mut config = Config::sleeper();
        let mut flags = Vec::new();
        if place == "mount" {
            let below = format!("/var/run/nvidia-container-devices/{value}");
            config = config.mount("bind", "/dev/null", &below, &["bind"]);
        } else if place.starts_with("--") {
            flags.extend([place, value]);
        } else if place.contains('/') {
            config = config.annotation(place, value);
        } else {
            config = config.env(place, value);
            if !place.ends_with("_VISIBLE_DEVICES") {
                config = config.env("NVIDIA_VISIBLE_DEVICES", "0");
            }
        }
        bundle.write(&config);
        let call = create(sandbox, &bundle)
            .env("KUSABI_CONFIG", &policy)
            .arg("--cdi-dir")
            .arg(&cdi);
        refused(sandbox, &bundle, call.args(flags))
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn policies(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    each("policy", sandbox, 1, |given| {
        let policy = file(sandbox, "policy.toml", &given[0]);
        let call = create(sandbox, &bundle).env("KUSABI_CONFIG", policy);
        refused(sandbox, &bundle, call)
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn variables(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let mode = |name: &str, mode: u32| {
        let path = file(sandbox, name, "");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode("writable.toml", 0o666);
    mode("foreign.toml", 0o644);
    chown(sandbox.dir().join("foreign.toml"), Some(65534), None).expect("chown");
    file(sandbox, "file", "");
    symlink("/dev/null", sandbox.dir().join("link.toml")).expect("link");
    file(sandbox, "broken.toml", "sources = ");
    file(sandbox, "huge.toml", &"#".repeat((1 << 20) + 1));
    mkfifo(&sandbox.dir().join("fifo.toml"), Mode::S_IRWXU).expect("mkfifo");
    make_dir(&sandbox.dir().join("writable"));
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(sandbox.dir().join("writable"), open).expect("chmod");
    each("environment", sandbox, 1, |given| {
        let call = create(sandbox, &bundle)
            .env(&given[0], &given[1])
            .args(["--device", "kusabi.test/none=d"]);
        refused(sandbox, &bundle, call)
    });
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

on_host!(cdi_files, wishes, policies, variables);
