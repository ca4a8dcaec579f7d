//! What the runtime runs from, and how it is entered: before its first line of Rust
//! it has executed itself once more, without the standard library's start. Nobody is
//! to notice.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::runtime::which;
use crate::common::{Config, Container, Sandbox, Spawn, on_host, skip};

on_host![
    what_waits_runs_from_a_file_that_nobody_can_write,
    a_mark_of_the_caller_s_is_not_believed,
    what_cannot_be_looked_at_is_not_sealed_for_ever,
    closed_standard_descriptors_are_dev_null,
    a_reader_that_went_away_is_an_error,
];

/// Which file that is: one that is seen through an overlay, or copied into memory,
/// has another device than the one on disk.
fn identity(path: impl AsRef<Path>) -> (u64, u64) {
    let meta = fs::metadata(path).unwrap();
    (meta.dev(), meta.ino())
}

#[track_caller]
fn assert_sealed(sandbox: &Sandbox, container: &Container<'_>) {
    let exe = format!("/proc/{}/exe", container.pid());
    assert_ne!(
        identity(&exe),
        identity(&sandbox.runtime().path),
        "not sealed"
    );
    let refused = File::options().write(true).open(&exe).unwrap_err();
    let errno = refused.raw_os_error().unwrap();
    let expected = [libc::EROFS, libc::EPERM, libc::ETXTBSY];
    assert!(expected.contains(&errno), "{refused}");
}

fn what_waits_runs_from_a_file_that_nobody_can_write(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    assert_sealed(sandbox, &container);
    container.delete();
}

/// Above all not one of the very file, which would have it run as it is, nor one
/// that has it close what it has open.
fn a_mark_of_the_caller_s_is_not_believed(sandbox: &Sandbox) {
    let (device, inode) = identity(&sandbox.runtime().path);
    for mark in [
        String::new(),
        "1:2".to_owned(),
        format!("{device}:{inode}"),
        format!("{device}:{inode}:2"),
        format!("{device}:{inode}:3"),
        format!("{device}:{inode}:9x"),
    ] {
        let bundle = sandbox.bundle(&Config::sleeper());
        let container = sandbox.container(&bundle);
        container
            .call("create", &["--bundle", bundle.path.to_str().unwrap()])
            .env("KUSABI_SEALED", &mark)
            .output()
            .succeeded();
        assert_sealed(sandbox, &container);
        container.delete();
    }
}

fn what_cannot_be_looked_at_is_not_sealed_for_ever(sandbox: &Sandbox) {
    let Some(strace) = which("strace") else {
        skip!("this machine has no strace");
    };
    let trace = sandbox.dir().join("trace");
    Spawn::new(strace, &sandbox.dir().join("traced"))
        .args(["-f", "-qq", "-e", "trace=execve,execveat,statfs"])
        .args(["-e", "inject=statfs:error=EPERM", "-o"])
        .arg(&trace)
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(["exec", "nobody", "true"])
        .output()
        .exited(255)
        .says("look at the sealed executable: operation not permitted");
    let trace = fs::read_to_string(trace).unwrap();
    let executions = trace.lines().filter(|line| line.contains("execve"));
    assert_eq!(executions.count(), 2, "{trace}");
}

/// Or the state's lock would be standard output.
fn closed_standard_descriptors_are_dev_null(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let container = sandbox.container(&bundle);
    Spawn::new("/bin/sh", &sandbox.dir().join("closed"))
        .args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"])
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    for fd in 0..=2 {
        let link = format!("/proc/{}/fd/{fd}", container.pid());
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/null"));
    }
    container.delete();
}

fn a_reader_that_went_away_is_an_error(sandbox: &Sandbox) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = Command::new(&sandbox.runtime().path)
        .arg("features")
        .stdin(Stdio::null())
        .stdout(writer)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("stdout: broken pipe"), "{said}");
}
