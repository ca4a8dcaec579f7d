use std::path::PathBuf;

use super::*;
use crate::cdi::Mode;
use crate::host::facts::FileFacts;

fn dir(mode: u32, uid: u32) -> Presence {
    entry(FileKind::Directory, mode, uid)
}

fn entry(kind: FileKind, mode: u32, uid: u32) -> Presence {
    Presence::Present(FileFacts {
        kind,
        mode,
        uid,
        gid: uid,
        major: 0,
        minor: 0,
        target: None,
    })
}

/// A host on which root's daemon serves everybody, but for what is changed.
fn host(changes: &[(&str, Presence)]) -> Snapshot {
    let usual = [
        ("/", dir(0o755, 0)),
        ("/tmp", dir(0o1777, 0)),
        ("/tmp/nvidia-mps", dir(0o777, 0)),
        ("/tmp/nvidia-mps/control", entry(FileKind::Fifo, 0o666, 0)),
        ("/tmp/nvidia-log", dir(0o777, 0)),
        ("/dev", dir(0o755, 0)),
        ("/dev/shm", dir(0o1777, 0)),
    ];
    let all = usual.into_iter().chain(changes.iter().cloned());
    Snapshot {
        files: all
            .map(|(path, facts)| (PathBuf::from(path), facts))
            .collect(),
        ..Snapshot::default()
    }
}

fn user(uid: u32, mode: Mode) -> Context {
    Context {
        uid,
        gid: uid,
        host_uid: uid,
        host_gids: vec![uid],
        mode,
    }
}

fn outcome(changes: &[(&str, Presence)], uid: u32) -> Result<Plan, String> {
    let mut made = Plan::default();
    let (wish, snapshot) = (Mps::default(), host(changes));
    let context = user(uid, Mode::Create);
    plan(&wish, 1, &snapshot, &context, &[], &mut made)
        .map(|()| made)
        .map_err(|error| error.to_string())
}

#[test]
fn everything_that_is_in_the_way_is_said_with_what_to_do() {
    let start = "does not exist; start nvidia-cuda-mps-control -d, or name the directories it uses";
    for (changes, uid, reason) in [
        (
            vec![("/tmp/nvidia-mps", Presence::Absent)],
            0,
            format!("the pipe directory /tmp/nvidia-mps {start}"),
        ),
        (
            vec![("/tmp/nvidia-log", Presence::Absent)],
            0,
            format!("the log directory /tmp/nvidia-log {start}"),
        ),
        (
            vec![("/tmp/nvidia-log", entry(FileKind::File, 0o666, 0))],
            0,
            "the log directory /tmp/nvidia-log is a regular file".to_owned(),
        ),
        (
            vec![("/tmp", dir(0o700, 0))],
            1000,
            "uid 1000 may not pass /tmp on the way to the pipe directory /tmp/nvidia-mps; chmod \
             o+x /tmp"
                .to_owned(),
        ),
        (
            vec![("/tmp/nvidia-mps", dir(0o755, 0))],
            1000,
            "uid 1000 may not write the pipe directory /tmp/nvidia-mps; chmod o+wx \
             /tmp/nvidia-mps, or run the container as its owner"
                .to_owned(),
        ),
        (
            vec![("/dev/shm", dir(0o755, 0))],
            1000,
            "uid 1000 may not write the shared memory directory /dev/shm; chmod o+wx /dev/shm, \
             or run the container as its owner"
                .to_owned(),
        ),
        (
            vec![(
                "/tmp/nvidia-mps/control",
                entry(FileKind::Fifo, 0o666, 1001),
            )],
            1000,
            "the daemon of /tmp/nvidia-mps runs as uid 1001 and serves nobody else, the \
             container is uid 1000; run the container as that user, or the daemon as root"
                .to_owned(),
        ),
    ] {
        assert_eq!(
            outcome(&changes, uid).unwrap_err(),
            format!("GPU sharing unavailable (mps): {reason}")
        );
    }
}

#[test]
fn who_may_is_served() {
    assert!(outcome(&[], 0).is_ok());
    assert!(outcome(&[], 1000).is_ok());
    // Its own directories, closed to others.
    let own = [
        ("/tmp/nvidia-mps", dir(0o700, 1000)),
        ("/tmp/nvidia-log", dir(0o700, 1000)),
        (
            "/tmp/nvidia-mps/control",
            entry(FileKind::Fifo, 0o600, 1000),
        ),
    ];
    assert!(outcome(&own, 1000).is_ok());
    assert!(outcome(&own, 1001).is_err());
    // By its group.
    let group = [("/tmp/nvidia-mps", {
        let Presence::Present(facts) = dir(0o770, 0) else {
            unreachable!()
        };
        Presence::Present(FileFacts { gid: 1000, ..facts })
    })];
    assert!(outcome(&group, 1000).is_ok());
    assert!(outcome(&group, 1001).is_err());
}

#[test]
fn explaining_goes_on_where_create_would_fail() {
    let mut made = Plan::default();
    let snapshot = host(&[("/tmp/nvidia-mps", Presence::Absent)]);
    let context = user(0, Mode::Explain);
    plan(&Mps::default(), 1, &snapshot, &context, &[], &mut made).unwrap();
    assert_eq!(made.edits.len(), 5, "two variables and three mounts");
    assert!(made.notes[0].text.ends_with("it uses; create would fail"));
}

#[test]
fn limits_name_devices_by_their_number_inside() {
    assert_eq!(limits(&PinnedMemory::Each(512), 2), "0=512M,1=512M");
    let some = PinnedMemory::PerDevice([(1, 1024), (0, 2)].into());
    assert_eq!(limits(&some, 4), "0=2M,1=1024M");
}
