//! What the host says counts: numbers, kinds, and what is missing.

use kusabi::cdi::Mode;
use kusabi::edit::{DeviceKind, Edit};
use kusabi::host::facts::{FileFacts, FileKind, Presence};

use crate::support::{Host, context, file, plan, registry};

fn specification(edits: &str) -> String {
    format!(
        r#"{{"cdiVersion": "1.1.0", "kind": "v.com/c",
            "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
    )
}

fn node(fields: &str) -> String {
    specification(&format!(
        r#"{{"deviceNodes": [{{"path": "/dev/x"{fields}}}]}}"#
    ))
}

fn outcome(text: &str, host: &Host, mode: Mode) -> Result<kusabi::edit::Plan, String> {
    let registry = registry(&[("etc/v.json", text)]);
    assert_eq!(registry.broken(), [], "{text}");
    plan(&registry, &["v.com/c=d"], host, &context(mode))
}

/// NVIDIA/nvidia-container-toolkit#1934, containers/podman#21255: a major that
/// was allocated dynamically differs after a reboot.
#[test]
fn stale_numbers_are_repaired_and_noted() {
    let host = Host::default().char("/dev/x", 510, 70_000);
    for (fields, note) in [
        ("", None),
        (r#", "type": "c", "major": 510, "minor": 70000"#, None),
        (
            r#", "type": "c", "major": 511, "minor": 70000"#,
            Some("not 511:70000"),
        ),
        (
            r#", "type": "u", "major": 510, "minor": 1"#,
            Some("not 510:1"),
        ),
        (r#", "major": 509"#, Some("not 509:0")),
    ] {
        for mode in [Mode::Create, Mode::Explain] {
            let plan = outcome(&node(fields), &host, mode).unwrap();
            let Edit::AddDevice(device) = &plan.edits[0].edit else {
                panic!("{plan:?}");
            };
            assert_eq!(
                (device.kind, device.major, device.minor),
                (DeviceKind::Char, 510, 70_000),
                "{fields}"
            );
            let Edit::AllowDevice(rule) = &plan.edits[1].edit else {
                panic!("{plan:?}");
            };
            assert_eq!(
                (rule.major, rule.minor),
                (Some(510), Some(70_000)),
                "{fields}"
            );
            match note {
                None => assert_eq!(plan.notes, [], "{fields}"),
                Some(note) => {
                    assert!(plan.notes[0].text.contains(note), "{:?}", plan.notes);
                    assert!(plan.notes[0].text.contains("is 510:70000 on the host"));
                    let rule = plan.notes[0].origin.rule.to_string();
                    assert_eq!(rule, "cdi v.com/c=d (/etc/cdi/v.json)");
                }
            }
        }
    }
}

/// What stands at `/dev/x`, the node's other fields, and what create and
/// explain say; `Ok` for a plan.
type Case = (Presence, &'static str, Said, Said);
type Said = Result<(), &'static str>;

fn table() -> [Case; 14] {
    let link = Presence::Present(FileFacts {
        kind: FileKind::Symlink,
        mode: 0o777,
        uid: 0,
        gid: 0,
        major: 0,
        minor: 0,
        target: Some(Box::new(file(FileKind::Char, 1, 3, 0o666))),
    });
    let denied = Presence::Unknown {
        reason: "permission denied".into(),
    };
    let char = file(FileKind::Char, 1, 3, 0o666);
    let full = r#", "type": "c", "major": 1, "minor": 3"#;
    [
        (
            Presence::Absent,
            "",
            Err("is not on the host"),
            Err("is not on the host"),
        ),
        (
            Presence::Absent,
            full,
            Err("is not on the host; the file says 1:3"),
            Ok(()),
        ),
        // Major without type, type without major: the reference does not take
        // that for numbers either.
        (
            Presence::Absent,
            r#", "major": 1"#,
            Err("is not on the host"),
            Err("is not on the host"),
        ),
        (
            Presence::Absent,
            r#", "type": "c""#,
            Err("is not on the host"),
            Err("is not on the host"),
        ),
        // A FIFO is made, not found.
        (Presence::Absent, r#", "type": "p""#, Ok(()), Ok(())),
        (
            denied.clone(),
            full,
            Err("cannot be examined: permission denied"),
            Ok(()),
        ),
        (
            denied,
            "",
            Err("cannot be examined"),
            Err("cannot be examined"),
        ),
        (
            char.clone(),
            r#", "type": "b""#,
            Err("is a character device, the file says type b"),
            Err("is a character device"),
        ),
        (char.clone(), r#", "type": "u""#, Ok(()), Ok(())),
        (
            char,
            r#", "type": "p""#,
            Err("is a character device, the file says type p"),
            Err("is a character device"),
        ),
        (file(FileKind::Fifo, 0, 0, 0o600), "", Ok(()), Ok(())),
        (
            file(FileKind::File, 0, 0, 0o600),
            full,
            Err("is a regular file, not a device node"),
            Err("is a regular file"),
        ),
        (
            file(FileKind::Directory, 0, 0, 0o700),
            "",
            Err("is a directory, not a device node"),
            Err("is a directory"),
        ),
        // `lstat`, as the reference: what a link points to may change.
        (
            link,
            "",
            Err("is a symbolic link, not a device node"),
            Err("is a symbolic link"),
        ),
    ]
}

#[test]
fn what_the_host_has_decides() {
    for (presence, fields, create, explain) in table() {
        let host = Host::default().with("/dev/x", presence.clone());
        for (mode, want) in [(Mode::Create, create), (Mode::Explain, explain)] {
            match (want, outcome(&node(fields), &host, mode)) {
                (Ok(()), Ok(_)) => {}
                (Err(want), Err(error)) => {
                    assert!(error.contains(want), "{presence:?} {fields}: {error}");
                    assert!(error.starts_with("cdi v.com/c=d (/etc/cdi/v.json): /dev/x: "));
                }
                (want, found) => {
                    panic!("{presence:?} {fields} {mode:?}: expected {want:?}, found {found:?}")
                }
            }
        }
    }
}

#[test]
fn an_explanation_says_what_create_would_not_do() {
    let text = node(r#", "type": "c", "major": 1, "minor": 3"#);
    let plan = outcome(&text, &Host::default(), Mode::Explain).unwrap();
    assert_eq!(
        plan.notes[0].text,
        "device node /dev/x is not on the host, the file says 1:3; create would fail"
    );
}

#[test]
fn a_fifo_needs_no_rule() {
    let plan = outcome(&node(r#", "type": "p""#), &Host::default(), Mode::Create).unwrap();
    assert_eq!(plan.edits.len(), 1, "{plan:?}");
    assert!(matches!(&plan.edits[0].edit, Edit::AddDevice(d) if d.kind == DeviceKind::Fifo));
}

/// The reference gives no rule to `u`, which leaves the node of no use.
#[test]
fn an_unbuffered_device_is_a_character_device_with_a_rule() {
    let host = Host::default().char("/dev/x", 1, 3);
    let plan = outcome(&node(r#", "type": "u""#), &host, Mode::Create).unwrap();
    assert!(matches!(&plan.edits[1].edit, Edit::AllowDevice(r) if r.kind == DeviceKind::Char));
}

/// NVIDIA/nvidia-container-toolkit#1828, #1611: a specification from before a
/// driver update names libraries that are gone.
#[test]
fn a_mount_source_that_is_gone_names_the_file_to_generate_again() {
    let text = specification(
        r#"{"mounts": [{"hostPath": "/lib/libcuda.so.550.1", "containerPath": "/lib/libcuda.so.550.1",
            "options": ["ro", "bind"]}]}"#,
    );
    assert_eq!(
        outcome(&text, &Host::default(), Mode::Create).unwrap_err(),
        "cdi v.com/c=d (/etc/cdi/v.json): /lib/libcuda.so.550.1: is not on the host; after a \
         driver update, generate the file again"
    );
    let plan = outcome(&text, &Host::default(), Mode::Explain).unwrap();
    assert!(
        plan.notes[0].text.ends_with("create would fail"),
        "{:?}",
        plan.notes
    );
    let present = Host::default().regular("/lib/libcuda.so.550.1");
    assert_eq!(outcome(&text, &present, Mode::Create).unwrap().notes, []);
}

#[test]
fn a_mount_that_binds_nothing_needs_nothing() {
    let text = specification(
        r#"{"mounts": [{"hostPath": "/none", "containerPath": "/t", "type": "tmpfs"},
                       {"hostPath": "tmpfs", "containerPath": "/u", "type": "tmpfs"}]}"#,
    );
    assert!(outcome(&text, &Host::default(), Mode::Create).is_ok());
}

#[test]
fn a_hook_that_anyone_may_write_is_refused() {
    let hook = |stage| {
        specification(&format!(
            r#"{{"hooks": [{{"hookName": "{stage}", "path": "/h"}}]}}"#
        ))
    };
    let writable = |mode| Host::default().with("/h", file(FileKind::File, 0, 0, mode));
    let error = outcome(&hook("createRuntime"), &writable(0o757), Mode::Create).unwrap_err();
    assert_eq!(
        error,
        "cdi v.com/c=d (/etc/cdi/v.json): /h: anyone may write this hook (mode 0757), take it away \
         with chmod o-w"
    );
    assert!(outcome(&hook("createRuntime"), &writable(0o755), Mode::Create).is_ok());
    // It is the target that runs, not the link, whose mode says nothing.
    let link = |mode| {
        Host::default().with(
            "/h",
            Presence::Present(FileFacts {
                kind: FileKind::Symlink,
                mode: 0o777,
                uid: 0,
                gid: 0,
                major: 0,
                minor: 0,
                target: Some(Box::new(file(FileKind::File, 0, 0, mode))),
            }),
        )
    };
    assert!(outcome(&hook("poststop"), &link(0o755), Mode::Create).is_ok());
    assert!(outcome(&hook("poststop"), &link(0o777), Mode::Create).is_err());
    // One that runs in the container is a file of the image.
    let registry = registry(&[("etc/v.json", hook("startContainer"))]);
    let needs = registry
        .resolve(&crate::support::wanted(&["v.com/c=d"]))
        .unwrap()
        .needs();
    assert!(needs.is_empty(), "{needs:?}");
}
