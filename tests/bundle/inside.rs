//! Containers from bundles, seen from inside: the same under kusabi and under
//! runc.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::common::host;
use super::common::runtime::which;
use super::common::sandbox::make_rootfs;
use super::common::{Kind, Output, Sandbox, Spawn, View, on_each_view, on_host};
use super::support::json;

on_each_view!(what_a_service_says_is_so_inside, privilege_is_what_it_says);
on_host!(
    a_service_runs_in_one_go,
    users_are_found_by_name_and_the_device_filter_holds,
    a_failed_service_leaves_nothing,
    two_gpus_mps_and_a_tmpfs_from_an_image,
);

/// Makes names of cgroups unique to a test, and removes them at its end.
struct Parent<'s> {
    sandbox: &'s Sandbox,
    name: String,
}

impl<'s> Parent<'s> {
    fn new(sandbox: &'s Sandbox) -> Self {
        let name = sandbox.fresh();
        Self { sandbox, name }
    }
}

impl Drop for Parent<'_> {
    fn drop(&mut self) {
        for directory in host::cgroups_named(&self.name) {
            let _ = fs::remove_dir(directory);
        }
        let _ = self.sandbox;
    }
}

/// A root file system and `service.yaml`, whose services have these lines and
/// their cgroups below the parent.
fn prepare(sandbox: &Sandbox, parent: &Parent<'_>, services: &[(&str, &str)]) -> PathBuf {
    let dir = sandbox.dir();
    make_rootfs(&dir.join("rootfs"));
    let mut text = "version: v1\ndeployment: demo\nservices:\n".to_owned();
    for (name, lines) in services {
        text.push_str(&format!("  {name}:\n    cgroup_parent: /{}\n", parent.name));
        for line in lines.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    fs::write(dir.join("service.yaml"), text).unwrap();
    dir.join("service.yaml")
}

fn kusabi(sandbox: &Sandbox, args: &[&str]) -> Spawn {
    let stem = sandbox.dir().join(format!("kusabi-{}", sandbox.fresh()));
    Spawn::new(env!("CARGO_BIN_EXE_kusabi"), &stem)
        .args(["--root", "state"])
        .args(args)
        .current_dir(sandbox.dir())
}

/// Builds the bundle of a service and runs it under kusabi and under runc, where
/// there is one; what each printed, as `KEY=VALUE` lines.
fn everywhere(
    sandbox: &Sandbox,
    name: &str,
    args: &[&str],
) -> Vec<(Kind, BTreeMap<String, String>)> {
    let runc = sandbox.peer(Kind::Runc);
    let mut runtimes = vec![sandbox];
    runtimes.extend(runc.as_ref());
    let mut all = Vec::new();
    for runtime in runtimes {
        let out = format!("bundle-{}", sandbox.fresh());
        let base = [
            "bundle",
            "build",
            "--service",
            "service.yaml",
            "--name",
            name,
        ];
        let built = kusabi(sandbox, &[&base, args, &[out.as_str()]].concat());
        built.output().succeeded();
        let id = runtime.fresh();
        let run = runtime
            .call(["run", "--bundle"])
            .arg(sandbox.dir().join(&out))
            .arg(&id)
            .output()
            .succeeded();
        all.push((runtime.runtime().kind, lines_of(&run)));
        kusabi(sandbox, &["bundle", "clean", &out])
            .output()
            .succeeded();
        assert!(!sandbox.dir().join(&out).exists());
    }
    all
}

fn lines_of(output: &Output) -> BTreeMap<String, String> {
    let pairs = output
        .stdout
        .lines()
        .filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Prints what a process can find out about itself.
const LOOK: &str = r#"
  echo "user=$(id -u):$(id -g)"
  echo "groups=$(id -G)"
  echo "cwd=$(pwd)"
  echo "host=$(hostname)"
  env | sed 's/^/env./'
  while read key value; do case $key in Cap*|NoNewPrivs:) echo "$key=$value";; esac; done < /proc/self/status
  while read _ target kind options _; do echo "mount.$target=$kind $options"; done < /proc/self/mounts
  for ns in pid ipc uts mnt net cgroup; do echo "ns.$ns=$(readlink /proc/self/ns/$ns)"; done
  cd /sys/fs/cgroup
  echo "memory=$(cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max 2>/dev/null)"
  echo "cpu=$(echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us 2>/dev/null || cat cpu.max 2>/dev/null))"
  cd /
  echo "cgroup=$(touch /sys/fs/cgroup/x 2>&1; mkdir /sys/fs/cgroup/x 2>&1 && echo made)"
  echo "masked=$(cat /proc/timer_list 2>/dev/null | wc -c)"
  echo "sysctl=$(echo 1 > /proc/sys/kernel/panic 2>/dev/null && echo written)"
  echo "data=$(cat /data/file 2>/dev/null) $(echo x > /data/new 2>/dev/null && echo written)"
"#;

/// `command.args` that runs `LOOK`, as YAML.
fn look() -> String {
    let script: String = LOOK.lines().map(|line| format!("    {line}\n")).collect();
    format!("command:\n  entrypoint: [/bin/sh, -c]\n  args:\n  - |\n{script}  workdir: /tmp")
}

/// Of cgroup version 2.
fn has_controllers() -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory"]
        .iter()
        .all(|name| all.split_whitespace().any(|word| word == *name))
}

fn what_a_service_says_is_so_inside(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let parent = Parent::new(sandbox);
    // What version 1 hierarchies hold, the unified view beside them has not.
    let limited = sandbox.view() == View::Host || has_controllers();
    let limits = match limited {
        true => "resources: {cpu: 2, memory: 64Mi}\n",
        false => "",
    };
    let service = format!(
        "{}\n{limits}env: {{A: service, B: $S:token, C: \"x y=z\"}}\nhostname: inside\n\
         capabilities: [NET_ADMIN, CHOWN]\n\
         storage:\n- {{type: tmpfs, target: /scratch, size: 16Mi, mode: 1733}}\n\
         - {{type: named, name: data, target: /data, readonly: true}}\n",
        look()
    );
    prepare(sandbox, &parent, &[("web", &service)]);
    let dir = sandbox.dir();
    fs::create_dir_all(dir.join("secrets/demo")).unwrap();
    fs::write(dir.join("secrets/demo/token"), "hunter2\n").unwrap();
    fs::create_dir(dir.join("volume")).unwrap();
    fs::write(dir.join("volume/file"), "content").unwrap();
    let args = [
        "--rootfs",
        "rootfs",
        "--secrets",
        "secrets",
        "--volume",
        "data=volume",
        "--env",
        "A=builder",
    ];
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    for (kind, seen) in everywhere(sandbox, "web", &args) {
        let is = |key: &str, want: &str| {
            assert_eq!(
                seen.get(key).map(String::as_str),
                Some(want),
                "{kind:?} {key}"
            );
        };
        is("user", "0:0");
        is("cwd", "/tmp");
        is("host", "inside");
        is("env.A", "builder");
        is("env.B", "hunter2");
        is("env.C", "x y=z");
        is("env.TERM", "xterm");
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            is(set, "0000000000001001");
        }
        for set in ["CapInh:", "CapAmb:"] {
            is(set, "0000000000000000");
        }
        is("NoNewPrivs:", "0");
        is("masked", "0");
        is("sysctl", "");
        is("data", "content");
        assert!(
            !seen["cgroup"].contains("made"),
            "{kind:?} {}",
            seen["cgroup"]
        );
        let scratch = &seen["mount./scratch"];
        assert!(
            scratch.contains("size=16384k") && scratch.contains("mode=1733"),
            "{scratch}"
        );
        assert!(
            seen["mount./data"].contains(" ro"),
            "{}",
            seen["mount./data"]
        );
        assert!(
            seen["mount./sys"].starts_with("sysfs ro"),
            "{}",
            seen["mount./sys"]
        );
        for name in ["pid", "ipc", "uts", "mnt", "net", "cgroup"] {
            let inside = &seen[&format!("ns.{name}")];
            assert_ne!(*inside, own(name).display().to_string(), "{kind:?} {name}");
        }
        if limited {
            is("memory", &(64 << 20).to_string());
            is("cpu", "200000 100000");
        }
    }
    assert!(!dir.join("volume/new").exists());
}

fn privilege_is_what_it_says(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let parent = Parent::new(sandbox);
    let service = format!("{}\nprivileged: true\nhost_network: true\n", look());
    prepare(sandbox, &parent, &[("web", &service)]);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap()
        .trim();
    for (kind, seen) in everywhere(sandbox, "web", &["--rootfs", "rootfs"]) {
        let is = |key: &str, want: &str| {
            assert_eq!(
                seen.get(key).map(String::as_str),
                Some(want),
                "{kind:?} {key}"
            );
        };
        is("host", "web-rep-1");
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            is(set, bounding);
        }
        is("NoNewPrivs:", "0");
        assert_ne!(seen["masked"], "0", "{kind:?}");
        assert!(
            seen["mount./sys"].starts_with("sysfs rw"),
            "{}",
            seen["mount./sys"]
        );
        let net = fs::read_link("/proc/self/ns/net").unwrap();
        is("ns.net", net.to_str().unwrap());
    }
}

fn users_are_found_by_name_and_the_device_filter_holds(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let parent = Parent::new(sandbox);
    // Numbers that no driver has: an open that the filter lets through says so.
    let node = sandbox.dir().join("node");
    make_node(&node, 4000, 70_000);
    let script = "entrypoint: [/bin/sh, -c, 'echo \"user=$(id -u):$(id -g)\"; echo \"groups=$(id -G)\"; \
                  mknod /tmp/other c 4000 70001; \
                  echo \"listed=$(cat $NODE 2>&1)\"; echo \"other=$(cat /tmp/other 2>&1)\"']";
    let service = format!(
        "command:\n  {script}\nenv: {{NODE: {0}}}\ndevices: [{{path: {0}}}]",
        node.display()
    );
    prepare(sandbox, &parent, &[("web", &service)]);
    for (kind, seen) in everywhere(sandbox, "web", &["--rootfs", "rootfs", "--user", "user"]) {
        assert_eq!(seen["user"], "1000:1000", "{kind:?}");
        assert_eq!(seen["groups"], "1000 44", "{kind:?}");
    }
    for (kind, seen) in everywhere(sandbox, "web", &["--rootfs", "rootfs"]) {
        assert!(
            seen["listed"].contains("No such device or address"),
            "{kind:?} {seen:?}"
        );
        assert!(
            seen["other"].contains("Operation not permitted"),
            "{kind:?} {seen:?}"
        );
    }
}

fn make_node(path: &Path, major: u64, minor: u64) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
}

fn a_service_runs_in_one_go(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let parent = Parent::new(sandbox);
    prepare(
        sandbox,
        &parent,
        &[
            (
                "web",
                "command: {entrypoint: [/bin/sh, -c, 'echo hello from $(hostname); exit 7']}",
            ),
            ("daemon", "command: {entrypoint: [/bin/sleep, '1000']}"),
        ],
    );
    let base = [
        "run",
        "--service",
        "service.yaml",
        "--rootfs",
        "rootfs",
        "--name",
    ];
    let run = |args: &[&str]| kusabi(sandbox, &[&base, args].concat());
    let done = run(&["web"]).output();
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(7), "hello from web-rep-1\n")
    );
    // Nothing of it stays.
    assert!(!sandbox.dir().join("state/bundles/web-rep-1").exists());
    let list = || kusabi(sandbox, &["list", "-q"]).output().succeeded().stdout;
    assert_eq!(list(), "");

    let id = sandbox.fresh();
    run(&["daemon", "--detach", "--bundle", "kept", &id])
        .output()
        .succeeded();
    assert_eq!(list(), format!("{id}\n"));
    let config = fs::read_to_string(sandbox.dir().join("kept/config.json")).unwrap();
    assert_eq!(json(&config)["hostname"], id.as_str());
    kusabi(sandbox, &["delete", "--force", &id])
        .output()
        .succeeded();
    kusabi(sandbox, &["bundle", "clean", "kept"])
        .output()
        .succeeded();
    let bundles = sandbox.dir().join("state/bundles");
    assert_eq!(fs::read_dir(&bundles).unwrap().count(), 0);
    fs::remove_dir(bundles).unwrap();
}

fn a_failed_service_leaves_nothing(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let parent = Parent::new(sandbox);
    prepare(
        sandbox,
        &parent,
        &[("web", "command: {entrypoint: [/none]}")],
    );
    let args = ["run", "--service", "service.yaml", "--rootfs", "rootfs"];
    let done = kusabi(sandbox, &args).output();
    assert_ne!(done.code, Some(0));
    let bundles = sandbox.dir().join("state/bundles");
    assert_eq!(fs::read_dir(&bundles).unwrap().count(), 0);
    fs::remove_dir(bundles).unwrap();
}

/// What README.md shows.
fn two_gpus_mps_and_a_tmpfs_from_an_image(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        return;
    }
    let Some(umoci) = which("umoci") else {
        super::common::skip!("umoci is not installed");
    };
    let parent = Parent::new(sandbox);
    let dir = sandbox.dir();
    let umoci = |line: &str| {
        let stem = dir.join(format!("umoci-{}", sandbox.fresh()));
        let call = Spawn::new(&umoci, &stem)
            .args(line.split(' '))
            .current_dir(dir);
        call.output().succeeded();
    };
    make_rootfs(&dir.join("tree"));
    umoci("init --layout image");
    umoci("new --image image:1");
    umoci("insert --image image:1 tree /");
    umoci(
        "config --image image:1 --config.env FROM=image --config.workingdir /srv --config.user user",
    );
    umoci("unpack --image image:1 unpacked");

    // Two GPUs that no driver stands behind, and one more that is not asked for.
    fs::create_dir_all(dir.join("cdi")).unwrap();
    let devices: Vec<serde_json::Value> = (0..3_u64)
        .map(|number| {
            let node = dir.join(format!("gpu{number}"));
            make_node(&node, 4001, number);
            serde_json::json!({"name": number.to_string(), "containerEdits": {"deviceNodes": [
                {"path": format!("/dev/nvidia{number}"), "hostPath": node}]}})
        })
        .collect();
    let cdi = serde_json::json!({"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu",
        "devices": devices});
    fs::write(dir.join("cdi/nvidia.json"), cdi.to_string()).unwrap();
    for name in ["mps", "mps-log"] {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    }
    let script = "id; pwd; env | sort; for n in 0 1 2; do \
                  echo \"nvidia$n=$(cat /dev/nvidia$n 2>&1)\"; done; \
                  while read _ t k o _; do echo \"mount.$t=$k $o\"; done < /proc/self/mounts";
    let lines = format!(
        "command: {{entrypoint: [/bin/sh, -c, '{script}']}}\n\
         resources:\n  gpu:\n    count: 2\n    vendor: nvidia\n    sharing: mps\n    \
         mps_pipe_dir: {dir}/mps\n    mps_log_dir: {dir}/mps-log\n\
         storage:\n- {{type: tmpfs, target: /scratch, size: 256Mi, mode: 1777}}",
        dir = dir.display()
    );
    prepare(sandbox, &parent, &[("train", &lines)]);
    let options = [
        "--image",
        "image:1",
        "--rootfs",
        "unpacked/rootfs",
        "--cdi-dir",
        "cdi",
    ];
    let once = ["run", "--service", "service.yaml"];
    let run = kusabi(sandbox, &[&once[..], &options].concat())
        .output()
        .succeeded();
    // Empty: the run has cleaned up behind itself.
    fs::remove_dir(dir.join("state/bundles")).unwrap();
    let mut all = vec![(Kind::Kusabi, lines_of(&run))];
    all.extend(everywhere(sandbox, "train", &options));
    let pipes = dir.join("mps").display().to_string();
    for (kind, seen) in all {
        for number in [0, 1] {
            let found = &seen[&format!("nvidia{number}")];
            assert!(
                found.contains("No such device or address"),
                "{kind:?} {found}"
            );
        }
        assert!(
            seen["nvidia2"].contains("No such file"),
            "{kind:?} {seen:?}"
        );
        assert_eq!(seen["FROM"], "image");
        let ids = &seen["uid"];
        let user = ids.starts_with("1000(user) gid=1000(user)");
        assert!(user && ids.contains("44(video)"), "{kind:?} {ids}");
        assert_eq!(seen["CUDA_MPS_PIPE_DIRECTORY"], pipes);
        assert!(seen[&format!("mount.{pipes}")].contains(" rw"), "{seen:?}");
        assert!(seen["mount./scratch"].contains("size=262144k"), "{seen:?}");
    }
    as_the_readme_has_it(sandbox, &parent, &options);
}

/// The service file of README.md and what its container prints, to the letter but
/// for times and places.
fn as_the_readme_has_it(sandbox: &Sandbox, parent: &Parent<'_>, options: &[&str]) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, from) = readme.split_once("$ cat service.yaml\n").unwrap();
    let (service, from) = from.split_once("$ kusabi run --service").unwrap();
    let (command, from) = from.split_once('\n').unwrap();
    let (wanted, _) = from.split_once("```").unwrap();
    for option in options {
        assert!(command.contains(option), "{command}");
    }
    let dir = sandbox.dir();
    let here = dir.to_str().unwrap();
    fs::write(dir.join("service.yaml"), service.replace("$tmp", here)).unwrap();
    for number in [0, 1] {
        let node = dir.join(format!("gpu{number}"));
        fs::set_permissions(node, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let below = format!("/{}", parent.name);
    let run = [
        "run",
        "--service",
        "service.yaml",
        "--cgroup-parent",
        &below,
    ];
    let out = kusabi(sandbox, &[&run[..], options].concat())
        .output()
        .succeeded();
    fs::remove_dir(dir.join("state/bundles")).unwrap();
    let time = regex::Regex::new("[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}").unwrap();
    let plain = |text: &str| time.replace_all(text, "TIME").replace(here, "$tmp");
    let (warned, printed): (Vec<&str>, Vec<&str>) =
        wanted.lines().partition(|line| line.starts_with("level="));
    assert_eq!(
        plain(&out.stdout).lines().collect::<Vec<_>>(),
        plain(&printed.join("\n")).lines().collect::<Vec<_>>()
    );
    let said = plain(&out.stderr);
    assert_eq!(said.lines().count(), warned.len(), "{said}");
    for (said, warned) in said.lines().zip(warned) {
        assert!(said.ends_with(warned), "{said}");
    }
}
