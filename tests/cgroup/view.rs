//! Running a test body in every view, and looking for what it left behind.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kusabi::cgroup::{Cgroup, CgroupSpec, Layout};
use serde_json::Value;

/// Set in the re-executed test: which view it is in.
const VIEW: &str = "KUSABI_TEST_CGROUP_VIEW";

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `body` here and in a private view of the unified hierarchy. `name` is
/// the test's path, as the test harness knows it.
pub fn everywhere(name: &str, body: fn()) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP {name}: needs root");
        return;
    }
    body();
    if std::env::var_os(VIEW).is_some() {
        return;
    }
    let script = "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(VIEW, "v2")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{name} failed in the private version 2 view"
    );
}

/// A cgroup of this test's own, which must have gone when the test is over.
pub struct Scratch {
    pub layout: Layout,
    name: String,
}

impl Scratch {
    pub fn new(test: &str) -> Self {
        let layout = Layout::detect().unwrap();
        let expected = std::env::var_os(VIEW).is_some();
        assert!(
            layout.is_v2() || !expected,
            "the private view is not version 2"
        );
        let name = format!("kusabi-test-{}-{test}", std::process::id());
        Self { layout, name }
    }

    /// The top directory, from each hierarchy's root.
    pub fn top(&self) -> String {
        format!("/{}", self.name)
    }

    /// `TOP/sub`, for `linux.cgroupsPath`.
    pub fn path(&self, sub: &str) -> String {
        format!("/{}/{sub}", self.name)
    }

    pub fn create(&self, sub: &str, resources: &Value) -> kusabi::cgroup::Result<Cgroup> {
        let path = self.path(sub);
        Cgroup::create(
            &self.layout,
            &CgroupSpec {
                cgroups_path: Some(&path),
                id: "unused",
                resources,
                rootless: false,
                owner: None,
                systemd: None,
            },
        )
    }

    /// The top directories there are, in every hierarchy.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let hierarchies = self.layout.hierarchies().iter();
        hierarchies
            .map(|h| h.mount_point.join(&self.name))
            .filter(|p| p.exists())
            .collect()
    }

    pub fn assert_clean(&self) {
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }
}

impl Drop for Scratch {
    /// A failed test cleans up, too.
    fn drop(&mut self) {
        for top in self.leftovers() {
            remove(&top);
        }
    }
}

fn remove(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let path = directory.join(file);
        if path.exists() {
            let _ = std::fs::write(path, value);
        }
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::remove_dir(directory).is_err() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
