//! Where mounts, devices and links end up.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kusabi::edit::DeviceNode;
use kusabi::rootfs::{Placement, Stage, View, preflight};

use crate::ground::{
    Ground, bind, build, build_checked, device, filesystem, isolated, isolated_with, mount, pivot,
    usual,
};
#[test]
fn the_usual_mounts_end_up_where_they_belong() {
    isolated(
        "mounts::the_usual_mounts_end_up_where_they_belong",
        |_| {},
        |ground| {
            build(
                ground,
                &usual(),
                &[
                    device("/dev/gpu0", 195, 0),
                    device("/dev/dri/card0", 226, 0),
                ],
            )
            .unwrap();
            pivot(ground);
            assert_eq!(filesystem(Path::new("/proc")), libc::PROC_SUPER_MAGIC);
            assert_eq!(filesystem(Path::new("/dev")), libc::TMPFS_MAGIC);
            assert_eq!(filesystem(Path::new("/dev/pts")), 0x1cd1);
            assert_eq!(filesystem(Path::new("/dev/mqueue")), 0x1980_0202);
            assert_eq!(filesystem(Path::new("/sys")), 0x6265_6572);
            assert_eq!(fs::metadata("/dev/shm").unwrap().mode() & 0o7777, 0o1777);
            for (path, major, minor) in [
                ("/dev/null", 1, 3),
                ("/dev/gpu0", 195, 0),
                ("/dev/dri/card0", 226, 0),
            ] {
                let node = fs::metadata(path).unwrap();
                assert!(node.file_type().is_char_device(), "{path}");
                assert_eq!(node.rdev(), libc::makedev(major, minor), "{path}");
            }
            assert_eq!(fs::metadata("/dev/gpu0").unwrap().gid(), 7);
            assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
            assert_eq!(
                fs::read_link("/dev/fd").unwrap(),
                Path::new("/proc/self/fd")
            );
            assert!(fs::symlink_metadata("/dev/kcore").is_err());
            assert_eq!(fs::read_to_string("/proc/keys").unwrap(), "");
            assert_eq!(fs::read_dir("/sys/firmware").unwrap().count(), 0);
            let sysctl = fs::OpenOptions::new()
                .write(true)
                .open("/proc/sys/kernel/hostname");
            assert_eq!(sysctl.unwrap_err().raw_os_error(), Some(libc::EROFS));
            // The mask's node is nobody's to change, were it the host's.
            let mode = fs::Permissions::from_mode(0o600);
            let chmod = fs::set_permissions("/proc/keys", mode).unwrap_err();
            assert_eq!(chmod.raw_os_error(), Some(libc::EROFS));
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mut points: Vec<&str> = table.lines().filter_map(|l| l.split(' ').nth(4)).collect();
            points.retain(|p| !p.starts_with("/proc/") && !p.starts_with("/sys/"));
            points.sort_unstable();
            let usual = [
                "/",
                "/dev",
                "/dev/mqueue",
                "/dev/pts",
                "/dev/shm",
                "/proc",
                "/sys",
            ];
            assert_eq!(points, usual, "{table}");
        },
    );
}

#[test]
fn a_dangling_link_is_completed_inside_the_root() {
    let prepare: fn(&Ground) = |ground| {
        symlink(ground.canary().join("new"), ground.at("/srv")).unwrap();
        symlink("/jump/to/hosts", ground.at("/etc/hosts")).unwrap();
        symlink("/tmp/place", ground.at("/jump")).unwrap();
        fs::write(ground.volume().join("key"), "secret").unwrap();
    };
    isolated(
        "mounts::a_dangling_link_is_completed_inside_the_root",
        prepare,
        |ground| {
            let mut mounts = usual();
            mounts.push(bind(&ground.volume().join("key"), "/etc/hosts"));
            mounts.push(bind(&ground.volume(), "/srv/sub"));
            build(ground, &mounts, &[]).unwrap();
            let canary = ground.canary();
            let inside = ground.at(canary.join("new/sub/key").to_str().unwrap());
            assert_eq!(fs::read_to_string(inside).unwrap(), "secret");
            let hosts = fs::read_to_string(ground.at("/tmp/place/to/hosts")).unwrap();
            assert_eq!(hosts, "secret");
        },
    );
}

#[test]
fn a_destination_may_start_with_the_roots_own_path() {
    isolated(
        "mounts::a_destination_may_start_with_the_roots_own_path",
        |_| {},
        |ground| {
            let mut mounts = usual();
            let destination = ground.at("/some/place");
            mounts.push(bind(&ground.volume(), destination.to_str().unwrap()));
            build(ground, &mounts, &[]).unwrap();
            let found = fs::metadata(destination).unwrap();
            assert_eq!(found.ino(), fs::metadata(ground.volume()).unwrap().ino());
        },
    );
}

#[test]
fn a_mount_below_a_linked_directory_lands_on_the_earlier_mount() {
    let prepare: fn(&Ground) = |ground| {
        fs::create_dir(ground.at("/var")).unwrap();
        symlink("/run", ground.at("/var/run")).unwrap();
        fs::create_dir(ground.at("/run")).unwrap();
        fs::write(ground.volume().join("key"), "secret").unwrap();
    };
    isolated(
        "mounts::a_mount_below_a_linked_directory_lands_on_the_earlier_mount",
        prepare,
        |ground| {
            let mut mounts = usual();
            mounts.push(mount("/run", "tmpfs", "tmpfs", &[]));
            mounts.push(bind(&ground.volume(), "/var/run/secrets"));
            mounts.push(bind(&ground.volume().join("key"), "/etc/keys/one"));
            build(ground, &mounts, &[]).unwrap();
            pivot(ground);
            assert_eq!(fs::read_to_string("/run/secrets/key").unwrap(), "secret");
            assert_eq!(fs::read_to_string("/etc/keys/one").unwrap(), "secret");
            assert_eq!(filesystem(Path::new("/run")), libc::TMPFS_MAGIC);
        },
    );
}

#[test]
fn a_bound_dev_is_left_as_it_is() {
    let prepare: fn(&Ground) = |ground| {
        fs::write(ground.volume().join("ptmx"), "host").unwrap();
        fs::write(ground.volume().join("null"), "").unwrap();
    };
    isolated("mounts::a_bound_dev_is_left_as_it_is", prepare, |ground| {
        let mut mounts = usual();
        mounts[1] = bind(&ground.volume(), "/dev");
        mounts.retain(|m| m.destination.parent() != Some(Path::new("/dev")));
        build(ground, &mounts, &[device("/dev/gpu0", 195, 0)]).unwrap();
        let names: Vec<_> = fs::read_dir(ground.volume())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::read_to_string(ground.at("/dev/ptmx")).unwrap(), "host");
    });
}

#[test]
fn without_a_mount_the_images_dev_is_filled() {
    let prepare: fn(&Ground) = |ground| {
        fs::write(ground.at("/dev/ptmx"), "image").unwrap();
        symlink("/somewhere", ground.at("/dev/fd")).unwrap();
    };
    isolated(
        "mounts::without_a_mount_the_images_dev_is_filled",
        prepare,
        |ground| {
            let mounts = vec![mount("/proc", "proc", "proc", &[])];
            let devices = [device("/dev/dri/card0", 226, 0), device("/opt/gpu", 195, 0)];
            build(ground, &mounts, &devices).unwrap();
            for (path, number) in [
                ("/dev/null", (1, 3)),
                ("/dev/dri/card0", (226, 0)),
                ("/opt/gpu", (195, 0)),
            ] {
                let node = fs::metadata(ground.at(path)).unwrap();
                assert_eq!(node.rdev(), libc::makedev(number.0, number.1), "{path}");
            }
            let gpu = fs::metadata(ground.at("/opt/gpu")).unwrap();
            assert_eq!((gpu.mode() & 0o777, gpu.gid()), (0o640, 7));
            assert_eq!(
                fs::read_link(ground.at("/dev/ptmx")).unwrap(),
                Path::new("pts/ptmx")
            );
            assert_eq!(
                fs::read_link(ground.at("/dev/fd")).unwrap(),
                Path::new("/somewhere")
            );
            assert_eq!(
                fs::read_link(ground.at("/dev/stdin")).unwrap(),
                Path::new("/proc/self/fd/0")
            );
        },
    );
}

#[test]
fn a_device_below_another_mount_is_made_in_it() {
    isolated(
        "mounts::a_device_below_another_mount_is_made_in_it",
        |_| {},
        |ground| {
            let mut mounts = usual();
            mounts.push(mount("/dev/dri", "tmpfs", "tmpfs", &[]));
            build(ground, &mounts, &[device("/dev/dri/card0", 226, 0)]).unwrap();
            let node = fs::metadata(ground.at("/dev/dri/card0")).unwrap();
            assert_eq!(node.rdev(), libc::makedev(226, 0));
            assert_eq!(filesystem(&ground.at("/dev/dri")), libc::TMPFS_MAGIC);
        },
    );
}

#[test]
fn a_tmpfs_takes_over_mode_and_content() {
    let prepare: fn(&Ground) = |ground| {
        fs::create_dir_all(ground.at("/data/deep")).unwrap();
        fs::write(ground.at("/data/deep/file"), "content").unwrap();
        std::os::unix::fs::chown(ground.at("/data/deep/file"), Some(12), Some(34)).unwrap();
        fs::set_permissions(
            ground.at("/data/deep/file"),
            fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
        symlink(ground.canary(), ground.at("/data/link")).unwrap();
        fs::set_permissions(ground.at("/data"), fs::Permissions::from_mode(0o2750)).unwrap();
    };
    isolated(
        "mounts::a_tmpfs_takes_over_mode_and_content",
        prepare,
        |ground| {
            let mut mounts = usual();
            mounts.push(mount("/data", "tmpfs", "tmpfs", &["ro", "tmpcopyup"]));
            mounts.push(bind(&ground.volume(), "/data/volume"));
            build(ground, &mounts, &[]).unwrap();
            let file = fs::metadata(ground.at("/data/deep/file")).unwrap();
            assert_eq!(filesystem(&ground.at("/data")), libc::TMPFS_MAGIC);
            assert_eq!(
                fs::metadata(ground.at("/data")).unwrap().mode() & 0o7777,
                0o2750
            );
            assert_eq!(
                (file.mode() & 0o7777, file.uid(), file.gid()),
                (0o4711, 12, 34)
            );
            assert_eq!(
                fs::read_to_string(ground.at("/data/deep/file")).unwrap(),
                "content"
            );
            assert_eq!(
                fs::read_link(ground.at("/data/link")).unwrap(),
                ground.canary()
            );
            let refused = fs::write(ground.at("/data/new"), "").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        },
    );
}

#[test]
fn a_link_that_appears_after_the_preflight_leads_nowhere() {
    isolated(
        "mounts::a_link_that_appears_after_the_preflight_leads_nowhere",
        |_| {},
        |ground| {
            let mut mounts = usual();
            mounts.push(bind(&ground.volume(), "/data"));
            let view = View {
                bundle: &ground.dir,
                mounts: &mounts,
                devices: &[],
                bind_devices: false,
                terminal: false,
                cwd: Path::new("/"),
            };
            let placements: Vec<Placement> = mounts.iter().cloned().map(Placement::new).collect();
            let checked = preflight(&ground.image(), &view).unwrap();
            symlink("/proc/sys", ground.at("/data")).unwrap();
            let error = build_checked(ground, &checked, &placements, &[])
                .unwrap_err()
                .to_string();
            assert!(
                error.ends_with("/proc/sys\" cannot be mounted because it is inside /proc"),
                "{error}"
            );
        },
    );
}

#[test]
fn a_replaced_root_is_noticed() {
    isolated(
        "mounts::a_replaced_root_is_noticed",
        |_| {},
        |ground| {
            let view = View {
                bundle: &ground.dir,
                mounts: &[],
                devices: &[],
                bind_devices: false,
                terminal: false,
                cwd: Path::new("/"),
            };
            let checked = preflight(&ground.image(), &view).unwrap();
            fs::rename(ground.image(), ground.dir.join("old")).unwrap();
            fs::create_dir(ground.image()).unwrap();
            let tree = checked.clone_tree().unwrap();
            let stage = Stage::new(ground.dir.join("stage"), &checked);
            let error = checked
                .stage(&stage, &stage.make(true).unwrap(), tree)
                .unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("it was replaced while the container was being created")
            );
        },
    );
}

#[test]
fn in_a_user_namespace_nodes_are_bound() {
    let name = "mounts::in_a_user_namespace_nodes_are_bound";
    let prepare: fn(&Ground) = |ground| {
        fs::create_dir_all(ground.at("/data")).unwrap();
    };
    isolated_with(
        "--user --map-root-user --pid --fork",
        name,
        prepare,
        |ground| {
            assert!(ground.bind_devices);
            let mut mounts = usual();
            mounts.retain(|m| !["mqueue", "sysfs"].contains(&m.kind.as_deref().unwrap()));
            mounts.push(bind(Path::new("/sys"), "/sys"));
            mounts.push(bind(&ground.volume(), "/data/new/volume"));
            build(
                ground,
                &mounts,
                &[device("/opt/zero", 1, 5)].map(|d| DeviceNode {
                    host_path: "/dev/zero".into(),
                    ..d
                }),
            )
            .unwrap();
            pivot(ground);
            for (path, number) in [
                ("/dev/null", (1, 3)),
                ("/dev/full", (1, 7)),
                ("/opt/zero", (1, 5)),
            ] {
                let node = fs::metadata(path).unwrap();
                assert_eq!(node.rdev(), libc::makedev(number.0, number.1), "{path}");
            }
            assert_eq!(filesystem(Path::new("/proc")), libc::PROC_SUPER_MAGIC);
            assert_eq!(fs::metadata("/data/new").unwrap().uid(), 0);
        },
    );
}

#[test]
fn in_a_user_namespace_the_images_dev_is_filled_with_binds() {
    let name = "mounts::in_a_user_namespace_the_images_dev_is_filled_with_binds";
    isolated_with(
        "--user --map-root-user --pid --fork",
        name,
        |_| {},
        |ground| {
            build(ground, &[mount("/proc", "proc", "proc", &[])], &[]).unwrap();
            pivot(ground);
            let node = fs::metadata("/dev/null").unwrap();
            assert_eq!(node.rdev(), libc::makedev(1, 3));
            assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
        },
    );
}
