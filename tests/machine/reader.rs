//! The process inside: it holds a DRM node, opens it again and again, asks each
//! descriptor for the driver's version, and says how that went.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::common::{Config, Container, wait_until};

/// `struct drm_version` of `drm.h`, with no room for text.
#[repr(C)]
#[derive(Default)]
struct DrmVersion {
    version: [i32; 3],
    lengths_and_texts: [usize; 6],
}

/// Asks a DRM node for the driver's version (`DRM_IOCTL_VERSION`).
#[allow(unsafe_code, reason = "no crate of ours has this ioctl")]
fn version(node: &File) -> std::io::Result<i32> {
    nix::ioctl_readwrite!(drm_version, b'd', 0, DrmVersion);
    let mut answer = DrmVersion::default();
    // SAFETY: the lengths are 0, so that the kernel writes nothing but the struct.
    unsafe { drm_version(node.as_raw_fd(), &raw mut answer) }?;
    Ok(answer.version[0])
}

fn open(node: &str) -> std::io::Result<File> {
    File::options().read(true).write(true).open(node)
}

/// Runs in the container.
#[test]
#[ignore = "started by the tests of this file as a process of its own"]
fn read() {
    let node = std::env::var("READER_NODE").unwrap();
    if let Ok(numbers) = std::env::var("READER_MKNOD") {
        let (major, minor) = numbers.split_once(':').unwrap();
        let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
        mknod(node.as_str(), SFlag::S_IFCHR, Mode::S_IRWXU, device).unwrap();
    }
    let mut held = None;
    loop {
        let answer = || -> std::io::Result<i32> {
            let again = open(&node)?;
            version(held.get_or_insert(again))?;
            version(&open(&node)?)
        };
        let line = match { answer }() {
            Ok(major) => format!("version {major}\n"),
            Err(error) => format!("LOST {error}\n"),
        };
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the reader on `node`. The machine's libraries are bound for it.
pub fn config(node: &Path) -> Config {
    let this = std::env::current_exe().unwrap();
    let bind = |source: &Path, to: &str| json!({"source": source, "destination": to, "type": "bind", "options": ["rbind", "ro"]});
    let mut config = Config::new(&[
        "/reader",
        "--exact",
        "reader::read",
        "--ignored",
        "--nocapture",
    ])
    .set("/mounts/-", bind(&this, "/reader"))
    .set("/process/env/-", format!("READER_NODE={}", node.display()));
    for dir in ["/usr/lib", "/lib", "/lib64"] {
        let source = Path::new(dir).canonicalize().unwrap();
        config = config.set("/mounts/-", bind(&source, dir));
    }
    config
}

/// What a reader has said until now: how often the node answered, and every other
/// line of its own.
pub fn said(container: &Container<'_>) -> (usize, Vec<String>) {
    let text = container.stdout();
    let answers = text.lines().filter(|l| l.starts_with("version ")).count();
    let lost = text.lines().filter(|l| l.starts_with("LOST "));
    (answers, lost.map(str::to_owned).collect())
}

/// Waits until the node has answered twice more, and never not.
#[track_caller]
pub fn still_answers(container: &Container<'_>, after: &str) {
    let (before, _) = said(container);
    wait_until(&format!("an answer after {after}"), || {
        let (now, lost) = said(container);
        assert!(lost.is_empty(), "after {after}: {lost:?}");
        now >= before + 2
    });
}
