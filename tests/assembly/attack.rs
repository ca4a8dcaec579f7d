//! The root changes while a container is being created.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ground::{Ground, build, device, enter, ground, inner, libcontainers_part, usual};
/// The attack on libcontainer's plain paths: /dev of the root and a link to a
/// directory of the host change places all the time.
fn under_attack(name: &str, rounds: u32, body: fn(&Ground)) -> Option<(u32, bool)> {
    if let Some(ground) = enter() {
        body(&ground);
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP {name}: needs root");
        return None;
    }
    let (_guard, ground) = ground();
    symlink(ground.canary(), ground.at("/dev-link")).unwrap();
    let stop = AtomicBool::new(false);
    let mut succeeded = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let image = fs::File::open(ground.image()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = exchange(&image, "dev", "dev-link");
            }
        });
        for _ in 0..rounds {
            let output = inner("", name, &ground).output().unwrap();
            assert_ne!(
                output.status.code(),
                Some(99),
                "the mounts of the host changed"
            );
            assert_ne!(output.status.code(), Some(124), "hangs");
            succeeded += u32::from(output.status.success());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(ground.ran(), "there is no test {name}");
    let intact = fs::read_dir(ground.canary()).unwrap().count() == 1
        && fs::read_to_string(ground.canary().join("ptmx")).is_ok_and(|text| text == "canary");
    Some((succeeded, intact))
}

fn exchange(dir: &fs::File, a: &str, b: &str) -> nix::Result<()> {
    let fd = Some(dir.as_raw_fd());
    nix::fcntl::renameat2(fd, a, fd, b, nix::fcntl::RenameFlags::RENAME_EXCHANGE)
}

#[test]
fn exchanging_dev_during_a_creation_harms_nobody() {
    let name = "attack::exchanging_dev_during_a_creation_harms_nobody";
    let Some((succeeded, intact)) = under_attack(name, 150, |ground| {
        build(ground, &usual(), &[device("/dev/gpu0", 195, 0)]).unwrap();
    }) else {
        return;
    };
    assert!(intact, "something was made or deleted outside the root");
    assert!(
        succeeded > 0,
        "no creation ever came to its end: the attack was not tested"
    );
}

/// What the stage is for: without it, the same attack works.
#[test]
fn exchanging_dev_defeats_libcontainer_alone() {
    let name = "attack::exchanging_dev_defeats_libcontainer_alone";
    let Some((_, intact)) = under_attack(name, 150, |ground| {
        libcontainers_part(&ground.image(), usual().into_iter(), [].iter(), false);
    }) else {
        return;
    };
    assert!(
        !intact,
        "libcontainer no longer uses plain paths: the stage may be dropped"
    );
}
