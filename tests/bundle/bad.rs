//! Service files that are refused, each with the whole message.
//!
//! `bad.txt` has the cases: a service file, a line `=> MESSAGE`, a blank line.
//! What is written below `web:` there is two levels deep, so the first column of
//! a service's keys is 5. `KUSABI_BLESS=1` writes the messages anew.

use std::fs;
use std::path::Path;

use super::support::Workspace;

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle/bad.txt")
}

/// Each file and its message.
pub fn cases() -> Vec<(String, String)> {
    let text = fs::read_to_string(path()).unwrap();
    let mut cases = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("=>") {
            Some(message) => {
                while lines.first().is_some_and(|line| line.is_empty()) {
                    lines.remove(0);
                }
                let file: String = lines.iter().map(|line| format!("{line}\n")).collect();
                cases.push((file, message.trim_start().to_owned()));
                lines.clear();
            }
            None => lines.push(line),
        }
    }
    cases
}

#[test]
fn each_is_refused_with_its_message() {
    let workspace = Workspace::new();
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let bless = std::env::var_os("KUSABI_BLESS").is_some();
    let mut blessed = String::new();
    for (text, wanted) in &cases {
        let found = workspace
            .spec(text, &["--no-probe", "--name", "web"])
            .error();
        assert!(!found.contains('\n'), "{found}");
        if !bless {
            assert_eq!(found, *wanted, "for\n{text}");
        }
        blessed.push_str(&format!("{text}=> {found}\n\n"));
    }
    if bless {
        fs::write(path(), blessed.trim_end().to_owned() + "\n").unwrap();
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let workspace = Workspace::new();
    for (bytes, wanted) in [
        (&b"version: \xff"[..], "1:1: not UTF-8"),
        (&b""[..], "1:1: the file is empty"),
        (&b"# nothing\n"[..], "1:1: the file is empty"),
        (
            &b"version: \"v1\0\"\ndeployment: d\nservices: {w: {}}\n"[..],
            "1:10: while scanning a quoted scalar, found unexpected end of stream",
        ),
        (
            &vec![b' '; (4 << 20) + 1][..],
            "1:1: 4194305 bytes, at most 4194304 are read",
        ),
    ] {
        workspace.write("service.yaml", bytes);
        let done = workspace.call(&["bundle", "spec", "--service", "service.yaml"]);
        assert_eq!(done.error(), format!("service.yaml:{wanted}"));
    }
}

#[test]
fn several_problems_are_counted_and_the_first_is_shown() {
    let workspace = Workspace::new();
    let text = "version: v2\ndeployment: d\nservices:\n  web: {privileged: 1, hostname: a b}\n";
    assert_eq!(
        workspace.spec(text, &[]).error(),
        "service.yaml:1:10: version: \"v2\" is not v1 (and 2 more)"
    );
}

#[test]
fn the_service_must_be_told_where_there_are_several() {
    let workspace = Workspace::new();
    let text = "version: v1\ndeployment: d\nservices: {a: {}, b: {}}\n";
    assert_eq!(
        workspace.spec(text, &[]).error(),
        "service.yaml has several services, choose one with --name: a, b"
    );
    assert_eq!(
        workspace.spec(text, &["--name", "c"]).error(),
        "no service \"c\" in service.yaml, there is a, b"
    );
    let spec = workspace.spec(text, &["--name", "b", "--no-probe"]).quiet();
    assert!(spec.contains("\"hostname\": \"b-rep-1\""), "{spec}");
}

/// What the file cannot say wrong, but the rest can.
#[test]
fn options_and_facts_are_refused_by_name() {
    let workspace = Workspace::new();
    workspace.write("plain.sock", "");
    workspace.write("secrets/demo/open", "x");
    workspace.open_up("secrets/demo/open");
    let web = super::support::web;
    let dir = workspace.path().display().to_string();
    let here = |text: &str| text.replace("$DIR", &dir);
    let cases: &[(&str, &str, &str)] = &[
        (
            "",
            "--replica 0",
            "--replica: 0 is no replica, the first is 1",
        ),
        (
            "",
            "--platform linux/amd64",
            "--platform: means nothing without --image",
        ),
        (
            "",
            "--image image.json --platform x",
            "--platform: \"x\" is not linux/ARCHITECTURE[/VARIANT], as in linux/amd64",
        ),
        (
            "",
            "--no-probe --host-root host",
            "--no-probe: contradicts --host-root",
        ),
        ("", "--env A", "--env A: is not NAME=VALUE"),
        (
            "",
            "--env A=$E:NONE",
            "--env A: $E:NONE: the host's environment has no NONE",
        ),
        (
            "env: {A: $E:NONE}",
            "",
            "services.web.env.A: $E:NONE: the host's environment has no NONE",
        ),
        (
            "env: {A: $E:HOST_NAME}",
            "--no-probe",
            "services.web.env.A: $E:HOST_NAME: this is for another machine, give its value with --host-env HOST_NAME=VALUE",
        ),
        (
            "env: {A: $E:HOST_NAME}",
            "--host-root host",
            "services.web.env.A: $E:HOST_NAME: this is for another machine, give its value with --host-env HOST_NAME=VALUE",
        ),
        (
            "env:\n  A: \"$E:\"",
            "",
            "services.web.env.A: \"$E:\" is no reference, write $E:NAME or $S:NAME",
        ),
        (
            "env: {A: $S:token}",
            "",
            "services.web.env.A: $S:token: nothing knows secrets, give their directory with --secrets",
        ),
        (
            "env: {A: $S:none}",
            "--secrets secrets",
            "services.web.env.A: $S:none: secrets/demo/none: no such file or directory",
        ),
        (
            "env: {A: $S:token}",
            "--secrets none",
            "services.web.env.A: $S:token: none: no such file or directory",
        ),
        (
            "storage: [{type: named, name: data, target: /d}]",
            "--no-probe",
            "services.web.storage[0]: data is not prepared, give its place with --volume data=PATH",
        ),
        (
            "storage: [{type: anonymous, target: /d}]",
            "--no-probe",
            "services.web.storage[0]: anon:/d is not prepared, give its place with --volume anon:/d=PATH",
        ),
        (
            "storage: [{type: s3, bucket: b, prefix: p, target: /d}]",
            "--no-probe",
            "services.web.storage[0]: s3:b/p is not prepared, give its place with --volume s3:b/p=PATH",
        ),
        (
            "storage: [{type: named, name: data, target: /d}]",
            "--volume data=none",
            "services.web.storage[0]: $DIR/none: is not there, it must be a directory",
        ),
        (
            "storage: [{type: named, name: data, target: /d}]",
            "--volume data=image.json",
            "services.web.storage[0]: $DIR/image.json: is a regular file, not a directory",
        ),
        (
            "storage: [{type: bind, source: /none, target: /d}]",
            "--host-root host",
            "services.web.storage[0]: /none: is not there, it must be a directory, file or socket",
        ),
        (
            "storage: [{type: bind, source: /dev/null, target: /d}]",
            "",
            "services.web.storage[0]: /dev/null: is a character device, not a directory, file or socket",
        ),
        (
            "",
            "--volume data",
            "--volume data: is not NAME=PATH, anon:TARGET=PATH or s3:BUCKET/PREFIX=PATH",
        ),
        (
            "",
            "--volume d=/a --volume d=/b",
            "--volume d: is /a already",
        ),
        (
            "",
            "--socket plain.sock",
            "--socket: $DIR/plain.sock: is a regular file, not a socket",
        ),
        (
            "",
            "--socket none",
            "--socket: $DIR/none: is not there, it must be a socket",
        ),
        (
            "",
            "--socket host/srv/api.sock:api",
            "--socket: \"api\" is not absolute",
        ),
        ("", "--cwd a", "--cwd: \"a\" is not absolute"),
        (
            "",
            "--hostname a/b",
            "--hostname: \"a/b\" is no host name: 1 to 64 letters, digits and _ . -",
        ),
        (
            "",
            "--user app",
            "user \"app\": a name needs the root file system to look into, give --rootfs, or write UID:GID",
        ),
        (
            "",
            "--user nobody --rootfs rootfs",
            "user \"nobody\": no user \"nobody\" in the root file system's /etc/passwd",
        ),
        (
            "",
            "--user app:none --rootfs rootfs",
            "user \"app:none\": no group \"none\" in the root file system's /etc/group",
        ),
        ("", "--rootfs none", "open none: no such file or directory"),
        ("", "--image none", "open none: no such file or directory"),
        (
            "",
            "--image image.json:tag",
            "image image.json: is a file, only a layout's images have tags",
        ),
        (
            "devices: [{path: /dev/fuse}]",
            "--no-probe",
            "services.web.devices[0]: /dev/fuse: its numbers are the host's, which nobody may look at; leave --no-probe out or give --host-root",
        ),
        (
            "devices: [{path: /dev/none}]",
            "--host-root host",
            "services.web.devices[0]: /dev/none: the host has no such device",
        ),
        (
            "devices: [{path: /srv/data}]",
            "--host-root host",
            "services.web.devices[0]: /srv/data: is a directory, not a device",
        ),
        (
            "",
            "--host-env KUSABI_CGROUP_PARENT=/a/../b",
            "KUSABI_CGROUP_PARENT: \"/a/../b\" has an empty part, . or .. in it",
        ),
        (
            "",
            "--device v.com/c=d --no-probe",
            "devices and GPUs: the host may not be looked at; leave --no-probe out or give --host-root",
        ),
    ];
    for (lines, args, wanted) in cases {
        let args: Vec<&str> = args.split(' ').filter(|arg| !arg.is_empty()).collect();
        let found = workspace.spec(&web(lines), &args).error();
        assert_eq!(found, here(wanted), "{lines} {args:?}");
    }
    let done = workspace.spec(&web("env: {A: $S:open}"), &["--secrets", "secrets"]);
    assert!(
        done.error()
            .contains("secrets/demo/open: others may write it")
    );
}
