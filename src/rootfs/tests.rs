//! The preflight against images that are built here, file by file.

use super::*;
use crate::edit::DeviceKind;
use std::fs;
use std::os::unix::fs::symlink;

struct Image {
    dir: tempfile::TempDir,
    mounts: Vec<Mount>,
    devices: Vec<DeviceNode>,
    terminal: bool,
    bind_devices: bool,
    cwd: &'static str,
}

impl Image {
    /// An image with the usual directories and the usual mounts.
    fn usual() -> Self {
        let image = Self::bare();
        for name in ["dev", "proc", "sys", "etc", "tmp"] {
            fs::create_dir(image.path(name)).unwrap();
        }
        image
            .mount("/proc", "proc", "proc", &[])
            .mount("/dev", "tmpfs", "tmpfs", &["mode=755"])
            .mount("/dev/pts", "devpts", "devpts", &[])
            .mount("/dev/shm", "tmpfs", "shm", &[])
            .mount("/sys", "sysfs", "sysfs", &["ro"])
    }

    fn bare() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            mounts: Vec::new(),
            devices: Vec::new(),
            terminal: false,
            bind_devices: false,
            cwd: "/",
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mount(mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.mounts.push(Mount {
            destination: destination.into(),
            kind: Some(kind.into()),
            source: Some(source.into()),
            options: options.iter().map(ToString::to_string).collect(),
        });
        self
    }

    fn bind(self, source: &Path, destination: &str) -> Self {
        let source = source.display().to_string();
        self.mount(destination, "bind", &source, &["rbind"])
    }

    fn device(mut self, path: &str) -> Self {
        self.devices.push(DeviceNode {
            path: path.into(),
            host_path: path.into(),
            kind: DeviceKind::Char,
            major: 195,
            minor: 0,
            file_mode: None,
            uid: None,
            gid: None,
        });
        self
    }

    fn check(&self) -> Result<Preflight, RootfsError> {
        let view = View {
            bundle: Path::new("/"),
            mounts: &self.mounts,
            devices: &self.devices,
            bind_devices: self.bind_devices,
            terminal: self.terminal,
            cwd: Path::new(self.cwd),
        };
        preflight(self.dir.path(), &view)
    }

    fn refusal(&self) -> String {
        self.check().unwrap_err().to_string()
    }
}

#[test]
fn a_usual_image_passes_and_is_identified() {
    let image = Image::usual().device("/dev/nvidia0");
    let preflight = image.check().unwrap();
    let metadata = fs::metadata(image.dir.path()).unwrap();
    assert_eq!(preflight.rootfs(), image.dir.path());
    assert_eq!(preflight.identity(), (metadata.dev(), metadata.ino()));
    assert_eq!(preflight.dev(), DevSetup::Mounted);
}

#[test]
fn the_root_must_be_a_canonical_directory() {
    let image = Image::bare();
    let view = View {
        bundle: Path::new("/"),
        mounts: &[],
        devices: &[],
        bind_devices: false,
        terminal: false,
        cwd: Path::new("/"),
    };
    let refusal = |path: &Path| preflight(path, &view).unwrap_err().to_string();
    symlink(image.dir.path(), image.path("link")).unwrap();
    fs::write(image.path("file"), "").unwrap();
    assert!(refusal(&image.path("link")).ends_with("not an absolute path, or a symlink"));
    assert!(refusal(&image.path("file")).ends_with("not a directory"));
    assert!(refusal(&image.path("absent")).contains("no such file or directory"));
    assert!(refusal(Path::new("rootfs")).starts_with("invalid rootfs: rootfs: "));
}

#[test]
fn dev_proc_and_sys_are_directories_or_absent() {
    for name in ["dev", "proc", "sys"] {
        let host = tempfile::tempdir().unwrap();
        let image = Image::bare();
        assert!(image.check().is_ok(), "absent {name}");
        symlink(host.path(), image.path(name)).unwrap();
        let text = image.refusal();
        assert!(text.contains(&format!("/{name} in")), "{text}");
        assert!(text.contains("is a symbolic link"), "{text}");
        fs::remove_file(image.path(name)).unwrap();
        fs::write(image.path(name), "").unwrap();
        assert!(image.refusal().contains("is a file"));
    }
}

#[test]
fn nothing_is_mounted_over_or_below_proc() {
    let volume = tempfile::tempdir().unwrap();
    let over = Image::usual().bind(volume.path(), "/proc");
    assert!(
        over.refusal()
            .ends_with("/proc\" cannot be mounted because it is not of type proc")
    );
    for place in [
        "/proc/sys",
        "/proc/self/attr",
        "proc/sys",
        "/tmp/../proc/sys",
    ] {
        let text = Image::usual().bind(volume.path(), place).refusal();
        assert!(
            text.ends_with("cannot be mounted because it is inside /proc"),
            "{text}"
        );
    }
    let tmpfs = Image::usual().mount("/proc/sys", "tmpfs", "tmpfs", &[]);
    assert!(tmpfs.refusal().ends_with("because it is inside /proc"));
    let file = volume.path().join("uptime");
    fs::write(&file, "1 1\n").unwrap();
    Image::usual().bind(&file, "/proc/uptime").check().unwrap();
    Image::usual()
        .bind(Path::new("/proc"), "/proc")
        .check()
        .unwrap();
}

#[test]
fn proc_is_found_through_links_of_the_image_and_of_a_volume() {
    let volume = tempfile::tempdir().unwrap();
    let image = Image::usual();
    symlink("proc", image.path("link")).unwrap();
    let text = image.bind(volume.path(), "/link/sys").refusal();
    assert!(text.contains("to rootfs at \"/link/sys\": "), "{text}");
    assert!(
        text.ends_with("/proc/sys\" cannot be mounted because it is inside /proc"),
        "{text}"
    );

    symlink("/proc/sys", volume.path().join("sys")).unwrap();
    let text = Image::usual()
        .bind(volume.path(), "/vol")
        .bind(volume.path(), "/vol/sys")
        .refusal();
    assert!(text.ends_with("because it is inside /proc"), "{text}");
}

#[test]
fn proc_and_sysfs_need_an_ordinary_directory() {
    for (kind, place) in [
        ("proc", "/elsewhere"),
        ("sysfs", "/elsewhere"),
        ("sysfs", "/elsewhere/x"),
    ] {
        let image = Image::bare();
        symlink("tmp", image.path("elsewhere")).unwrap();
        let text = image.mount(place, kind, kind, &[]).refusal();
        assert!(
            text.ends_with(&format!("{kind:?} must be mounted on ordinary directory")),
            "{text}"
        );
    }
}

#[test]
fn the_root_itself_is_no_mount_point() {
    let text = Image::usual()
        .mount("/tmp/..", "tmpfs", "tmpfs", &[])
        .refusal();
    assert!(text.contains("is on the top of rootfs"), "{text}");
}

#[test]
fn what_a_mount_covers_does_not_matter() {
    let image = Image::usual().device("/dev/dri/card0");
    for name in ["null", "console", "pts", "ptmx", "dri"] {
        symlink("/etc/passwd", image.path("dev").join(name)).unwrap();
    }
    image.check().unwrap();
}

#[test]
fn without_a_mount_on_dev_its_links_are_refused() {
    for name in ["null", "zero", "tty"] {
        let image = Image::bare();
        fs::create_dir(image.path("dev")).unwrap();
        assert_eq!(image.check().unwrap().dev(), DevSetup::Image);
        symlink("/etc/passwd", image.path("dev").join(name)).unwrap();
        let text = image.refusal();
        assert!(
            text.starts_with(&format!("linux.devices: /dev/{name}: is a symbolic link")),
            "{text}"
        );
    }
    let mut image = Image::bare();
    fs::create_dir(image.path("dev")).unwrap();
    symlink("/bait", image.path("dev/console")).unwrap();
    image.check().unwrap();
    image.terminal = true;
    assert!(image.refusal().contains("/dev/console: is a symbolic link"));
}

#[test]
fn a_file_in_place_of_null_is_only_a_place_to_bind_on() {
    let mut image = Image::bare();
    fs::create_dir(image.path("dev")).unwrap();
    fs::write(image.path("dev/null"), "bait").unwrap();
    assert!(image.refusal().contains("/dev/null: is a file already"));
    image.bind_devices = true;
    image.check().unwrap();
}

#[test]
fn a_device_behind_a_link_is_refused() {
    let image = Image::bare().device("/dev/gpu/card0").device("/opt/card1");
    fs::create_dir(image.path("dev")).unwrap();
    image.check().unwrap();
    symlink("/etc", image.path("opt")).unwrap();
    let text = image.refusal();
    assert!(
        text.contains("/opt/card1: the image leads it to /etc/card1 through a link"),
        "{text}"
    );
    let text = Image::usual().device("/dev/../etc/card0").refusal();
    assert!(text.contains("must not contain `..`"), "{text}");
}

#[test]
fn a_provided_dev_is_left_alone() {
    let host = tempfile::tempdir().unwrap();
    symlink("/etc/passwd", host.path().join("null")).unwrap();
    let image = Image::usual().bind(host.path(), "/dev");
    assert_eq!(image.check().unwrap().dev(), DevSetup::Provided);
    let image = Image::bare().mount("/dev", "devtmpfs", "devtmpfs", &[]);
    assert_eq!(image.check().unwrap().dev(), DevSetup::Provided);
}

#[test]
fn the_working_directory_is_no_magic_link() {
    let mut image = Image::usual();
    symlink("proc/self/fd/8", image.path("escape")).unwrap();
    for cwd in ["/proc/self/fd/8", "/proc/1/root", "/escape", "/escape/etc"] {
        image.cwd = cwd;
        let text = image.refusal();
        assert!(
            text.contains("possible container breakout detected"),
            "{text}"
        );
        assert!(text.starts_with(&format!("process.cwd {cwd}: ")), "{text}");
    }
    for cwd in ["/", "/tmp", "/not/there/yet", "/proc/self/fd"] {
        image.cwd = cwd;
        image.check().unwrap();
    }
}

#[test]
fn a_missing_bind_source_is_named() {
    let text = Image::usual()
        .bind(Path::new("/no/such/volume"), "/vol")
        .refusal();
    assert!(
        text.contains("source /no/such/volume: no such file or directory"),
        "{text}"
    );
}
