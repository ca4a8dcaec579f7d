//! One test's corner of the machine: a directory, a state root, a unique name
//! that every container, cgroup and file of the test bears, and the check that
//! nothing with that name outlives the test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::config::Config;
use super::container::Container;
use super::host::{self, DevListing};
use super::process::{Output, Spawn};
use super::runtime::{Kind, Runtime, which};
use super::view::{self, View};

/// Programs that a rootfs has, all of them busybox.
const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "cut", "date", "dd", "echo", "env", "false", "find", "grep", "head",
    "hostname", "id", "ionice", "kill", "ln", "ls", "mkdir", "mknod", "mkfifo", "mount", "mv",
    "nproc", "od", "printf", "ps", "pwd", "readlink", "rm", "sed", "seq", "sh", "sleep", "sort",
    "stat", "stty", "sync", "tail", "test", "touch", "tr", "true", "tty", "umount", "uname",
    "usleep", "wc", "xargs", "yes",
];

/// Whether systemd is to make the cgroups (`KUSABI_TEST_SYSTEMD`, as in the set
/// `e2e-systemd` of `hack/vm`).
pub fn by_systemd() -> bool {
    std::env::var_os("KUSABI_TEST_SYSTEMD").is_some()
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Where one test runs.
#[derive(Debug)]
pub struct Sandbox {
    runtime: Runtime,
    view: View,
    dir: TempDir,
    unique: String,
    calls: AtomicUsize,
}

/// Runs `body` in a sandbox of the runtime under test, seeing `view`. Fails when
/// the body does, or when it leaves anything that `delete --force` of its
/// containers does not remove. Skips when not root.
pub fn in_sandbox(test: &str, view: View, body: fn(&Sandbox)) {
    in_sandbox_of(Runtime::under_test(), test, view, body);
}

/// [`in_sandbox`], of a runtime of the test's choice.
pub fn in_sandbox_of(runtime: Runtime, test: &str, view: View, body: fn(&Sandbox)) {
    if !nix::unistd::geteuid().is_root() {
        super::skip::report("needs root");
        return;
    }
    let nodes = DevListing::of_host();
    let sandbox = Sandbox::of(runtime, view);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        view.enter(test, || {
            if view == View::Host && sandbox.runtime.kind == Kind::Crun {
                view::leave_hybrid();
            }
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&sandbox)));
            sandbox.delete_all();
            ended
        })
    }));
    let mut left = sandbox.left();
    left.extend(sandbox.remove_leftovers());
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(panic)) | Err(panic) => {
            for line in left {
                eprintln!("also left behind: {line}");
            }
            std::panic::resume_unwind(panic);
        }
    }
    left.extend(nodes.changes(&DevListing::of_host()));
    assert!(left.is_empty(), "left behind on the host: {left:#?}");
}

impl Sandbox {
    fn of(runtime: Runtime, view: View) -> Self {
        let prefix = std::env::var("KUSABI_TEST_PREFIX").unwrap_or_else(|_| "kusabi-test".into());
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{prefix}-{}n{number}x", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix(&format!("{unique}."))
            .tempdir()
            .expect("a temporary directory");
        // Containers with a user namespace walk through it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self {
            runtime,
            view,
            dir,
            unique,
            calls: AtomicUsize::new(0),
        }
    }

    /// A sandbox of a peer, in the same view, if the machine has that peer and
    /// it can work in this view.
    pub fn peer(&self, kind: Kind) -> Option<Self> {
        let runtime = Runtime::peer(kind)?;
        // crun of Debian raises a limit that the host may refuse, and knows no
        // hybrid layout.
        (kind != Kind::Crun).then(|| Self::of(runtime, self.view))
    }

    /// A sandbox of any other runtime, in the same view.
    pub fn beside(&self, runtime: Runtime) -> Self {
        Self::of(runtime, self.view)
    }

    /// The runtime that [`Sandbox::call`] runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The cgroup layout that it sees.
    pub fn view(&self) -> View {
        self.view
    }

    /// A directory of the test's own, mode 0755, gone at the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name that all of this sandbox bears. No name of another sandbox
    /// contains it.
    pub fn unique(&self) -> &str {
        &self.unique
    }

    /// The state root given with `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// A name for something new.
    pub fn fresh(&self) -> String {
        format!(
            "{}{}",
            self.unique,
            self.calls.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A bundle with a busybox rootfs and `config`, which gets a `cgroupsPath`
    /// of its own unless it has one.
    pub fn bundle(&self, config: &Config) -> Bundle {
        let id = self.fresh();
        let path = self.dir().join(format!("bundle-{id}"));
        host::make_dir(&path);
        make_rootfs(&path.join("rootfs"));
        let bundle = Bundle { path, id };
        bundle.write(config);
        bundle
    }

    /// A call of the runtime with `--root`, and the driver that is tested.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Spawn {
        self.call_bare([OsStr::new("--root"), self.root().as_os_str()])
            .args(by_systemd().then_some("--systemd-cgroup"))
            .args(args)
    }

    /// A call of the runtime with nothing but `args`.
    pub fn call_bare<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Spawn {
        let stem = self.dir().join(format!("call-{}", self.fresh()));
        Spawn::new(&self.runtime.path, &stem).args(args)
    }

    /// Runs `bundle` in the foreground to its end.
    #[track_caller]
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.call(["run", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
    }

    /// Runs `config` in a bundle of its own, in the foreground, to its end.
    #[track_caller]
    pub fn run_config(&self, config: &Config) -> Output {
        self.run(&self.bundle(config))
    }

    /// The container that a call of the test's own has made of `bundle`.
    pub fn container(&self, bundle: &Bundle) -> Container<'_> {
        Container::new(self, bundle)
    }

    /// `create` of `bundle`, which must succeed.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.launch(&["create"], &[], bundle)
    }

    /// `run --detach` of `bundle`, which must succeed.
    #[track_caller]
    pub fn run_detached(&self, bundle: &Bundle) -> Container<'_> {
        self.launch(&["run"], &["--detach"], bundle)
    }

    /// The same with `globals` before the command, and `flags`, which must have
    /// `--detach` among them.
    #[track_caller]
    pub fn run_detached_with(
        &self,
        globals: &[&str],
        flags: &[&str],
        bundle: &Bundle,
    ) -> Container<'_> {
        let words: Vec<&str> = globals.iter().copied().chain(["run"]).collect();
        self.launch(&words, flags, bundle)
    }

    #[track_caller]
    fn launch(&self, command: &[&str], flags: &[&str], bundle: &Bundle) -> Container<'_> {
        let container = Container::new(self, bundle);
        self.call(command)
            .args(flags)
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output_to(&container.stem())
            .output()
            .succeeded();
        container
    }

    /// Deletes, by force, every container that the state root knows. In the
    /// view, so that the runtime finds its cgroups.
    fn delete_all(&self) {
        for id in self.containers() {
            let deleted = self.call(["delete", "--force", &id]).output_in_drop();
            if let Some(deleted) = deleted.filter(|out| out.code != Some(0)) {
                eprintln!("clean-up: {deleted}");
            }
        }
    }

    /// What the state root holds, but for caches: their names hold an `@`, as
    /// no container id does.
    fn containers(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.contains('@'))
            .collect()
    }

    /// Everything on the host that bears this sandbox's name, and the
    /// containers of its state root.
    pub fn left(&self) -> Vec<String> {
        let mut left = host::traces(&self.unique);
        left.extend(self.containers().iter().map(|id| format!("state {id}")));
        left
    }
}

impl Sandbox {
    /// Takes away what a broken runtime has left. Mounts go first: removing the
    /// directory would otherwise reach through them.
    fn remove_leftovers(&self) -> Vec<String> {
        host::unmount_below(self.dir());
        host::remove_cgroups(&self.unique)
    }
}

impl Drop for Sandbox {
    /// A peer's sandbox has no [`in_sandbox`] around it.
    fn drop(&mut self) {
        self.delete_all();
        for line in self.remove_leftovers() {
            eprintln!("clean-up: {line}");
        }
    }
}

/// A bundle directory and the id of the container to be made from it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The directory.
    pub path: PathBuf,
    /// A container id, and the name of its cgroup.
    pub id: String,
}

impl Bundle {
    /// The container's root on the host.
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// The path of `config.json`.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The cgroup that [`Bundle::write`] asks for.
    pub fn cgroups_path(&self) -> String {
        match by_systemd() {
            true => format!("machine.slice:kusabi-test:{}", self.id),
            false => format!("/{}", self.id),
        }
    }

    /// Where that is, below the root of a hierarchy.
    pub fn cgroup(&self) -> String {
        match by_systemd() {
            true => format!("/machine.slice/kusabi-test-{}.scope", self.id),
            false => self.cgroups_path(),
        }
    }

    /// Replaces `config.json`.
    pub fn write(&self, config: &Config) {
        let text = if config.has("/linux/cgroupsPath") {
            config.text()
        } else {
            config
                .clone()
                .set("/linux/cgroupsPath", self.cgroups_path())
                .text()
        };
        fs::write(self.config_path(), text).expect("write config.json");
    }
}

/// A root file system of busybox: `/bin/*`, the mount points, `/etc/passwd` and
/// `/etc/group`.
pub fn make_rootfs(root: &Path) {
    host::make_dir(root);
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        host::make_dir(&root.join(dir));
    }
    fs::copy(busybox(), root.join("bin/busybox")).expect("copy busybox");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("symlink");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n";
    let group = "root:x:0:\ntty:x:5:\nvideo:x:44:user\nuser:x:1000:\n";
    fs::write(root.join("etc/passwd"), passwd).expect("write passwd");
    fs::write(root.join("etc/group"), group).expect("write group");
}

/// A busybox that needs no library.
fn busybox() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let path = which("busybox").expect("busybox in PATH: install busybox-static");
        let elf = fs::read(&path).expect("read busybox");
        assert!(
            !needs_an_interpreter(&elf),
            "{} is dynamically linked: install busybox-static",
            path.display()
        );
        path
    })
}

/// Whether a 64-bit little-endian ELF file has a `PT_INTERP` program header.
fn needs_an_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: [u8; 4] = 3u32.to_le_bytes();
    let number = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&elf[at..at + length]);
        usize::try_from(u64::from_le_bytes(bytes)).expect("64 bits")
    };
    let (start, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|header| elf[start + header * size..].starts_with(&PT_INTERP))
}
