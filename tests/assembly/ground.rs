//! A root on a ground of its own, and everything up to pivot done to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kusabi::edit::{DeviceKind, DeviceNode, Mount};
use kusabi::rootfs::{
    Assembly, Hidden, IdMaps, OwnRights, Placement, Preflight, RootfsError, Stage, View, preflight,
};
use libcontainer::oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, Mount as SpecMount,
    MountBuilder, SpecBuilder,
};
use libcontainer::rootfs::RootFS;

const INNER: &str = "KUSABI_ASSEMBLY_TEST_DIR";

/// A directory with an image, a volume, a stage and a canary that nobody may touch.
pub struct Ground {
    pub dir: PathBuf,
    /// In a user namespace nodes are bound, not made.
    pub bind_devices: bool,
}

impl Ground {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        let bind_devices = map.split_whitespace().nth(2) != Some("4294967295");
        Self {
            dir: dir.into(),
            bind_devices,
        }
    }
    pub fn ran(&self) -> bool {
        self.dir.join("ran").exists()
    }
    pub fn image(&self) -> PathBuf {
        self.dir.join("image")
    }
    pub fn volume(&self) -> PathBuf {
        self.dir.join("volume")
    }
    pub fn canary(&self) -> PathBuf {
        self.dir.join("canary")
    }
    /// A path of the assembled root.
    pub fn at(&self, path: &str) -> PathBuf {
        self.image().join(path.trim_start_matches('/'))
    }
}

/// Runs `prepare` on the host and `body` in a mount namespace of its own, whose
/// mounts are all peers of the surrounding one's.
pub fn isolated(name: &str, prepare: fn(&Ground), body: fn(&Ground)) {
    isolated_with("", name, prepare, body);
}

/// The same with more namespaces, as `unshare` options.
pub fn isolated_with(namespaces: &str, name: &str, prepare: fn(&Ground), body: fn(&Ground)) {
    if let Some(ground) = enter() {
        return body(&ground);
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP {name}: needs root");
        return;
    }
    let (_guard, ground) = ground();
    prepare(&ground);
    let status = inner(namespaces, name, &ground).status().unwrap();
    assert!(ground.ran(), "there is no test {name}");
    assert!(status.success(), "{name} failed inside its namespace");
    assert_eq!(
        fs::read_dir(ground.canary()).unwrap().count(),
        1,
        "the canary was changed"
    );
    assert_eq!(
        fs::read_to_string(ground.canary().join("ptmx")).unwrap(),
        "canary"
    );
}

/// Inside: where the test was prepared. Leaves a mark, so that a test which is
/// never found cannot pass.
pub fn enter() -> Option<Ground> {
    let ground = Ground::new(std::env::var_os(INNER)?);
    fs::write(ground.dir.join("ran"), "").unwrap();
    Some(ground)
}

pub fn ground() -> (tempfile::TempDir, Ground) {
    let guard = tempfile::tempdir().unwrap();
    let dir = guard.path().canonicalize().unwrap();
    for name in [
        "image",
        "image/dev",
        "image/proc",
        "image/sys",
        "image/etc",
        "volume",
        "stage",
        "canary",
    ] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    // libcontainer removes dev/ptmx before it makes its own.
    fs::write(dir.join("canary/ptmx"), "canary").unwrap();
    (guard, Ground::new(dir))
}

/// The outer shell's namespace stands for the host: its table of mounts is the
/// same before and after.
pub fn inner(namespaces: &str, name: &str, ground: &Ground) -> Command {
    let script = "before=$(cat /proc/self/mountinfo); \
        unshare --mount --propagation unchanged $2 \"$0\" --exact \"$1\" --nocapture --test-threads=1; code=$?; \
        [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] || { echo the mounts of the host changed >&2; exit 99; }; \
        exit $code";
    let mut command = Command::new("timeout");
    // A panic is how a creation is given up here: no need to see where.
    command.env("RUST_BACKTRACE", "0");
    command
        .args([
            "--foreground",
            "60",
            "unshare",
            "--mount",
            "--propagation",
            "shared",
            "sh",
            "-c",
            script,
        ])
        .arg(std::env::current_exe().unwrap())
        .args([name, namespaces])
        .env(INNER, &ground.dir);
    command
}

pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

pub fn bind(source: &Path, destination: &str) -> Mount {
    mount(destination, "bind", source.to_str().unwrap(), &["rbind"])
}

pub fn usual() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["newinstance", "ptmxmode=0666", "mode=0620"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["mode=1777"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &[]),
        mount("/sys", "sysfs", "sysfs", &["ro"]),
    ]
}

pub fn device(path: &str, major: u32, minor: u32) -> DeviceNode {
    DeviceNode {
        path: path.into(),
        host_path: path.into(),
        kind: DeviceKind::Char,
        major,
        minor,
        file_mode: Some(0o640),
        uid: Some(0),
        gid: Some(7),
    }
}

/// Some of what engines hide, and what this kernel does not have.
fn hidden() -> Hidden {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
    Hidden {
        masked: paths(&[
            "/proc/keys",
            "/proc/acpi",
            "/sys/firmware",
            "/proc/no/such/file",
        ]),
        readonly: paths(&["/proc/sys", "/proc/sysrq-trigger", "/proc/nothing"]),
        label: None,
    }
}

/// Everything up to pivot, as the runtime does it.
pub fn build(ground: &Ground, mounts: &[Mount], devices: &[DeviceNode]) -> Result<(), RootfsError> {
    let view = View {
        bundle: &ground.dir,
        mounts,
        devices,
        bind_devices: ground.bind_devices,
        terminal: false,
        cwd: Path::new("/"),
    };
    let checked = preflight(&ground.image(), &view)?;
    let placements: Vec<Placement> = mounts.iter().cloned().map(Placement::new).collect();
    build_checked(ground, &checked, &placements, devices)
}

pub fn build_checked(
    ground: &Ground,
    checked: &Preflight,
    placements: &[Placement],
    devices: &[DeviceNode],
) -> Result<(), RootfsError> {
    let stage = Stage::new(ground.dir.join("stage"), checked);
    let tree = checked.clone_tree()?;
    let assembly = Assembly::new(
        checked,
        placements.to_vec(),
        devices.to_vec(),
        ground.bind_devices,
    )
    .hiding(hidden());
    for path in hidden().masked.iter().chain(&hidden().readonly) {
        let mounted = |p: &Placement| path.starts_with(&p.mount.destination);
        assert_eq!(
            assembly.hides(path),
            placements.iter().any(mounted),
            "{path:?}"
        );
    }
    checked.stage(&stage, &stage.make(true)?, tree)?;
    libcontainers_part(
        &stage.library_root(),
        [].into_iter(),
        [].iter(),
        ground.bind_devices,
    );
    let id_maps = IdMaps::default();
    let mut sources = OwnRights::new(&assembly, &id_maps)?;
    assembly.assemble(&stage, &mut sources)?;
    stage.reveal(checked)?;
    assert_eq!(
        fs::canonicalize(stage.library_root()).unwrap(),
        ground.image()
    );
    Ok(())
}

/// What `container_init_process` does with the root before the hooks.
pub fn libcontainers_part<'a>(
    root: &Path,
    mounts: impl Iterator<Item = Mount>,
    devices: impl Iterator<Item = &'a DeviceNode>,
    bind_devices: bool,
) {
    let mounts: Vec<SpecMount> = mounts
        .map(|m| {
            MountBuilder::default()
                .destination(m.destination)
                .typ(m.kind.unwrap())
                .source(m.source.unwrap())
                .options(m.options)
                .build()
                .unwrap()
        })
        .collect();
    let devices: Vec<LinuxDevice> = devices
        .map(|d| {
            LinuxDeviceBuilder::default()
                .path(&d.path)
                .typ(LinuxDeviceType::C)
                .major(d.major)
                .minor(d.minor)
                .file_mode(d.file_mode.unwrap())
                .uid(d.uid.unwrap())
                .gid(d.gid.unwrap())
                .build()
                .unwrap()
        })
        .collect();
    let linux: Linux = LinuxBuilder::default().devices(devices).build().unwrap();
    let spec = SpecBuilder::default()
        .mounts(mounts)
        .linux(linux)
        .build()
        .unwrap();
    RootFS::new()
        .prepare_rootfs(&spec, root, bind_devices, false)
        .unwrap();
}

pub fn filesystem(path: &Path) -> i64 {
    nix::sys::statfs::statfs(path).unwrap().filesystem_type().0
}

pub fn pivot(ground: &Ground) {
    std::env::set_current_dir(ground.dir.join("stage/parent/image")).unwrap();
    nix::unistd::pivot_root(".", ".").unwrap();
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH).unwrap();
    std::env::set_current_dir("/").unwrap();
}
