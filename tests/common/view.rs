//! The cgroup layouts that a test can see: the host's own, and a pure v2 tree
//! in a mount namespace of the test's thread.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Which cgroup layout the processes of a test see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Whatever is mounted on this machine.
    Host,
    /// cgroup v2 alone on `/sys/fs/cgroup`. Which controllers it has depends on
    /// what v1 hierarchies of the host hold; devices, freezer and kill it has
    /// always.
    Unified,
}

/// Whether the calling thread sees a pure cgroup v2 tree.
pub fn is_unified() -> bool {
    statfs(CGROUP_ROOT).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

impl View {
    /// Runs `body` on a thread that sees this layout, and so do its children.
    /// The thread is named `test`, whose panic is passed on.
    pub fn enter<T: Send>(self, test: &str, body: impl FnOnce() -> T + Send) -> T {
        let on_thread = || {
            self.prepare();
            body()
        };
        let joined = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(test.to_owned())
                .spawn_scoped(scope, on_thread)
                .expect("a thread for the test")
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn prepare(self) {
        if self == Self::Host || is_unified() {
            return;
        }
        private_mounts();
        umount2(CGROUP_ROOT, MntFlags::MNT_DETACH).expect("cover the host's cgroup mounts");
        mount(
            Some("none"),
            CGROUP_ROOT,
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("mount cgroup2");
    }
}

/// Takes the calling thread, and its children, out of `/sys/fs/cgroup/unified`:
/// crun refuses a hybrid layout.
pub fn leave_hybrid() {
    private_mounts();
    // Absent on a host that is not hybrid.
    let _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
}

/// Gives the calling thread mounts of its own that reach nobody else.
pub fn private_mounts() {
    // CLONE_NEWNS implies CLONE_FS, which is what lets one thread of many do it.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace for this thread");
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .expect("make every mount private");
}
