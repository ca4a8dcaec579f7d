//! What engines stand on: a host view of their own, an image, a device that is
//! asked for by annotation.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::host::{self, make_dir};
use crate::common::sandbox::make_rootfs;
use crate::common::view::private_mounts;
use crate::common::{Output, Running, Sandbox, Spawn, deadline, wait_until};

/// The device of the specification that [`Ground::new`] writes.
pub const DEVICE: &str = "kusabi.test/device=one";

/// Shows everything that [`DEVICE`] brings. Fails where any of it is missing.
pub const SHOW_DEVICE: &str = "test \"$KUSABI_TEST_DEVICE\" = one && cat /greeting && \
                               stat -c %t:%T /dev/gpu0 && cat </dev/gpu0 | wc -c";
/// What it then prints: the host's null device under another name.
pub const SHOWN_DEVICE: &str = "hello\n1:3\n0\n";

/// A test's host.
pub struct Ground<'s> {
    pub sandbox: &'s Sandbox,
    /// The runtime, where every user may execute it.
    pub runtime: PathBuf,
    libpod_parents: Vec<PathBuf>,
}

impl<'s> Ground<'s> {
    /// Takes the calling thread there.
    pub fn new(sandbox: &'s Sandbox) -> Self {
        private_mounts();
        let dir = sandbox.dir();
        for name in ["etc", "etc-work", "cdi"] {
            make_dir(&dir.join(name));
        }
        let layers = format!(
            "lowerdir=/etc,upperdir={0}/etc,workdir={0}/etc-work",
            dir.display()
        );
        mount_on("/etc", "overlay", &layers);
        mount_on("/run", "tmpfs", "mode=755");
        mount_on("/var/tmp", "tmpfs", "mode=1777");
        // Outside the engines' own directories, by kusabi's policy alone.
        make_dir_if_absent(Path::new("/etc/kusabi"));
        let policy = format!("devices.cdi-dirs = [\"{}\"]\n", dir.join("cdi").display());
        fs::write("/etc/kusabi/config.toml", policy).expect("write the policy");
        fs::write(dir.join("cdi/greeting"), "hello\n").expect("write");
        let spec = json!({
            "cdiVersion": "0.6.0",
            "kind": "kusabi.test/device",
            "devices": [{"name": "one", "containerEdits": {
                "env": ["KUSABI_TEST_DEVICE=one"],
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
                "mounts": [{"hostPath": dir.join("cdi/greeting"), "containerPath": "/greeting",
                            "options": ["bind", "ro"]}],
            }}],
        });
        fs::write(dir.join("cdi/spec.json"), spec.to_string()).expect("write");

        let runtime = dir.join("kusabi");
        fs::write(&runtime, "").expect("make a place for the runtime");
        bind(&sandbox.runtime().path, &runtime);
        Self {
            sandbox,
            runtime,
            libpod_parents: host::cgroups_named("libpod_parent"),
        }
    }

    fn new_libpod_parents(&self) -> Vec<PathBuf> {
        let mut now = host::cgroups_named("libpod_parent");
        now.retain(|dir| dir.ends_with("libpod_parent") && !self.libpod_parents.contains(dir));
        now
    }

    /// An image as a tar of its root: busybox.
    pub fn image(&self) -> PathBuf {
        let (root, tar) = (self.path("image"), self.path("image.tar"));
        make_rootfs(&root);
        self.run("tar", ["-C", path(&root), "-cf", path(&tar), "."])
            .succeeded();
        tar
    }

    /// The same as an archive with an OCI layout.
    pub fn oci_archive(&self) -> PathBuf {
        let layout = self.path("layout");
        let image = format!("{}:1", layout.display());
        let bundle = self.path("unpacked");
        self.run("umoci", ["init", "--layout", path(&layout)])
            .succeeded();
        self.run("umoci", ["new", "--image", &image]).succeeded();
        self.run("umoci", ["unpack", "--image", &image, path(&bundle)])
            .succeeded();
        fs::remove_dir(bundle.join("rootfs")).expect("an empty image");
        make_rootfs(&bundle.join("rootfs"));
        self.run("umoci", ["repack", "--image", &image, path(&bundle)])
            .succeeded();
        let tar = self.path("oci.tar");
        self.run("tar", ["-C", path(&layout), "-cf", path(&tar), "."])
            .succeeded();
        tar
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join(name)
    }

    /// A call that is not run yet.
    pub fn call(&self, program: impl AsRef<OsStr>) -> Spawn {
        let stem = self.path(&format!("call-{}", self.sandbox.fresh()));
        Spawn::new(program, &stem)
    }

    /// Runs a program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Output {
        self.call(program).args(args).output()
    }

    /// Starts a daemon that listens on a socket of the test's.
    pub fn daemon(&self, spawn: Spawn, socket: &Path) -> Daemon {
        let mut process = spawn.spawn();
        wait_until(&format!("{} is there", socket.display()), || {
            assert!(!process.has_ended(), "the daemon has ended");
            socket.exists()
        });
        Daemon(Some(process))
    }

    /// The parent cgroup that every container of the test is given.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.sandbox.unique())
    }
}

impl Drop for Ground<'_> {
    /// The engines have stopped; what is left of cgroups is empty parents.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Shims and monitors of a test that did not come to its end.
            for (pid, _) in host::processes_in(self.sandbox.unique()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        // podman's own, for its monitors; not where somebody else had one.
        for dir in self.new_libpod_parents() {
            let _ = fs::remove_dir(dir.join("conmon"));
            let _ = fs::remove_dir(dir);
        }
        for line in host::remove_cgroups(self.sandbox.unique()) {
            eprintln!("clean-up: {line}");
        }
    }
}

/// A running engine. It ends with the test.
pub struct Daemon(Option<Running>);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.signal(Signal::SIGTERM);
            if std::thread::panicking() {
                return;
            }
            process.wait();
        }
    }
}

fn mount_on(target: &str, kind: &str, options: &str) {
    mount(
        Some(kind),
        target,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap_or_else(|e| panic!("mount {kind} on {target}: {e}"));
}

fn bind(source: &Path, target: &Path) {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap_or_else(|e| panic!("bind {}: {e}", source.display()));
}

pub fn make_dir_if_absent(path: &Path) {
    if !path.exists() {
        make_dir(path);
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Waits until a command's output holds `text`.
#[track_caller]
pub fn until_it_says(what: &str, text: &str, call: impl Fn() -> Output) {
    let end = std::time::Instant::now() + deadline();
    loop {
        let out = call();
        if out.stdout.contains(text) {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "{what}: no {text:?} in {out}"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
