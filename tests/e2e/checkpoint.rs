//! `checkpoint` and `restore`, where this machine's CRIU can do it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{
    Bundle, Config, Container, Sandbox, View, host, on_each_view, skip, wait_until,
};

on_each_view![
    a_container_goes_on_where_it_was,
    a_container_may_run_on_after_its_checkpoint,
    a_restored_container_has_its_limits_filter_and_mounts,
    a_foreground_restore_returns_the_exit_code,
    a_failed_restore_leaves_nothing,
    without_criu_a_restore_says_so_and_leaves_nothing,
    what_cannot_be_checkpointed_is_refused_and_runs_on,
];

/// Counts once a tick in a file, until it is told to end.
const COUNT: &str = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i > /tmp/count; \
                     usleep 20000; done; exit 7";

/// Whether CRIU can be had: another kernel may be too new for it.
fn criu() -> bool {
    let checked = Command::new("criu")
        .arg("check")
        .stdin(Stdio::null())
        .output();
    match checked {
        Ok(output) if output.status.success() => true,
        Ok(_) => {
            skip::report("criu: this version does not work with this kernel");
            false
        }
        Err(_) => {
            skip::report("criu: not installed");
            false
        }
    }
}

/// A running counter, with the null device for output: CRIU cannot know a file
/// of the host's.
fn counter<'a>(sandbox: &'a Sandbox, config: &Config) -> (Bundle, Container<'a>) {
    let bundle = sandbox.bundle(config);
    sandbox
        .call(["run", "--detach", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
    let container = sandbox.container(&bundle);
    wait_until("it counts", || count(&bundle) > 2);
    (bundle, container)
}

fn count(bundle: &Bundle) -> u64 {
    let text = fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

struct Image {
    images: PathBuf,
    work: PathBuf,
}

impl Image {
    fn new(sandbox: &Sandbox) -> Self {
        let at = |name: &str| sandbox.dir().join(format!("{name}{}", sandbox.fresh()));
        Self {
            images: at("images"),
            work: at("work"),
        }
    }

    /// Version 2's file system must not be remounted by CRIU: other tests use it.
    fn flags(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        vec![
            "--image-path".into(),
            text(&self.images),
            "--work-path".into(),
            text(&self.work),
            "--manage-cgroups-mode".into(),
            "ignore".into(),
        ]
    }
}

fn restore(sandbox: &Sandbox, bundle: &Bundle, image: &Image, id: &str) {
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(image.flags())
        .arg(id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
}

fn a_container_goes_on_where_it_was(sandbox: &Sandbox) {
    if !criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let pid = container.pid();
    let image = Image::new(sandbox);
    for _ in 0..2 {
        container
            .call("checkpoint", &[])
            .args(image.flags())
            .output()
            .succeeded();
        assert_eq!(sandbox.left(), Vec::<String>::new(), "as if never there");
        let stood = count(&bundle);
        assert!(stood > 2);
        restore(sandbox, &bundle, &image, &bundle.id);
        assert_eq!(container.status(), "running");
        wait_until("it goes on", || count(&bundle) > stood);
        assert!(count(&bundle) < stood + 500, "it began anew");
    }
    assert_ne!(container.pid(), pid);
    container.sh("echo ok").succeeded();
    container.delete_force();
}

fn a_container_may_run_on_after_its_checkpoint(sandbox: &Sandbox) {
    if !criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let (pid, image) = (container.pid(), Image::new(sandbox));
    container
        .call("checkpoint", &["--leave-running"])
        .args(image.flags())
        .output()
        .succeeded();
    assert_eq!(
        (container.status().as_str(), container.pid()),
        ("running", pid)
    );
    let stood = count(&bundle);
    wait_until("it runs on", || count(&bundle) > stood);
    container.delete_force();
}

fn a_restored_container_has_its_limits_filter_and_mounts(sandbox: &Sandbox) {
    if !criu() {
        return;
    }
    let volume = sandbox.dir().join("volume");
    host::make_dir(&volume);
    fs::write(volume.join("file"), "of the volume\n").unwrap();
    let config = Config::shell(COUNT)
        .mount("bind", volume.to_str().unwrap(), "/data", &["bind"])
        .capabilities(&["CAP_MKNOD"])
        .device_rule(true, "c", Some(60), Some(1), "rw");
    let (bundle, container) = counter(sandbox, &config);
    let image = Image::new(sandbox);
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .output()
        .succeeded();
    restore(sandbox, &bundle, &image, &bundle.id);
    let own = container.sh("cat /data/file; cat /proc/1/cgroup /proc/self/cgroup | sort -u");
    assert!(own.stdout.starts_with("of the volume\n"), "{own}");
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    // Of hierarchies that the view does not show, it knows nothing.
    let unified = sandbox.view() == View::Unified;
    for line in cgroup.lines().filter(|l| !unified || l.starts_with("0::")) {
        assert!(line.contains(&bundle.id), "{cgroup}");
    }
    // ENXIO is let through, EPERM is not.
    let opens = container
        .sh("cd /tmp; mknod a c 60 1; mknod b c 60 2; dd if=a count=1; dd if=b count=1; true");
    assert!(opens.stderr.contains("a': No such device"), "{opens}");
    assert!(
        opens.stderr.contains("b': Operation not permitted"),
        "{opens}"
    );
    container.delete_force();
}

fn a_foreground_restore_returns_the_exit_code(sandbox: &Sandbox) {
    if !criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let image = Image::new(sandbox);
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .output()
        .succeeded();
    let running = sandbox
        .call(["restore", "--bundle"])
        .arg(&bundle.path)
        .args(image.flags())
        .arg(&bundle.id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .spawn();
    let stood = count(&bundle);
    wait_until("it goes on", || count(&bundle) > stood);
    fs::write(bundle.rootfs().join("tmp/end"), "").unwrap();
    running.wait().exited(7);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_failed_restore_leaves_nothing(sandbox: &Sandbox) {
    if !criu() {
        return;
    }
    let bundle = sandbox.bundle(&Config::sleeper());
    let image = Image::new(sandbox);
    let call = || {
        sandbox
            .call(["restore", "--detach", "--bundle"])
            .arg(&bundle.path)
            .args(image.flags())
            .arg(&bundle.id)
            .output()
            .exited(1)
    };
    call().says("no such file or directory");
    host::make_dir(&image.images);
    fs::write(image.images.join("descriptors.json"), "[]").unwrap();
    call().says("criu failed: type RESTORE");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// The counterpart of a host without CRIU.
fn without_criu_a_restore_says_so_and_leaves_nothing(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(Image::new(sandbox).flags())
        .arg(&bundle.id)
        .env("PATH", sandbox.dir())
        .output()
        .exited(1)
        .says("exec: \\\"criu\\\": executable file not found in $PATH");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn what_cannot_be_checkpointed_is_refused_and_runs_on(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let image = Image::new(sandbox);
    let checkpoint = |flags: &[&str]| {
        container
            .call("checkpoint", flags)
            .args(image.flags())
            .output()
            .exited(1)
    };
    checkpoint(&[]).says("Container cannot be checkpointed in created state");
    container.start();
    checkpoint(&["--parent-path", "/parent"]).says("--parent-path");
    checkpoint(&["--parent-path", "../parent"])
        .says("invalid --parent-path: stat ")
        .says("no such file or directory");
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .env("PATH", sandbox.dir())
        .output()
        .exited(1)
        .says("CRIU version check failed: exec: \\\"criu\\\": executable file not found in $PATH");
    assert_eq!(container.status(), "running");
    container.delete_force();
}
