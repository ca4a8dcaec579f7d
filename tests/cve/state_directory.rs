//! Where containers are recorded: ids that lead elsewhere, other users, links.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::canary::Canary;
use crate::common::{Config, Sandbox, on_host};
use crate::judge::{Bad, Outcome, must_hold};

on_host![
    an_id_is_one_name,
    a_linked_state_root_is_refused,
    other_users_see_nothing_of_the_state,
];

fn an_id_is_one_name(sandbox: &Sandbox) {
    let canary = Canary::new(sandbox.dir().join("elsewhere"));
    let bundle = sandbox.bundle(&Config::sleeper());
    let long = "x".repeat(100 * 1024);
    for id in [
        "",
        ".",
        "..",
        "../elsewhere",
        "a/b",
        "/etc",
        "a b",
        "a\nb",
        "ä",
        "~",
        "a*",
        &long,
    ] {
        let shown: String = id.chars().take(16).collect();
        let out = sandbox
            .call(["create", "--bundle"])
            .arg(&bundle.path)
            .arg(id)
            .output();
        assert_eq!(out.code, Some(1), "{shown:?}: {}", out.stderr);
        assert!(out.stderr.lines().count() <= 1, "{shown:?}: {}", out.stderr);
        for command in ["state", "start", "kill", "exec", "delete"] {
            let more: &[&str] = if command == "exec" { &["true"] } else { &[] };
            let out = sandbox.call([command, id]).args(more).output();
            assert_ne!(out.code, Some(0), "{command} {shown:?}");
        }
        let forced = sandbox.call(["delete", "--force", id]).output();
        assert!(
            forced.stderr.lines().count() <= 1,
            "{shown:?}: {}",
            forced.stderr
        );
    }
    assert_eq!(canary.changes(), Vec::<String>::new());
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// Whoever may write the directory with the link decides which containers exist.
fn a_linked_state_root_is_refused(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("99.0.0")], |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let link = sandbox.dir().join(sandbox.fresh());
        symlink(canary.path(), &link).unwrap();
        let bundle = sandbox.bundle(&Config::sleeper());
        let call = |args: &[&str]| sandbox.call_bare(["--root"]).arg(&link).args(args).output();
        let path = bundle.path.to_str().unwrap();
        let created = call(&["create", "--bundle", path, &bundle.id]);
        let changes = canary.changes();
        call(&["delete", "--force", &bundle.id]);
        let fault = (created.code == Some(0)).then(|| "created below a link".to_owned());
        Outcome::from_fault(fault.or((!changes.is_empty()).then(|| changes.join("; "))))
    });
}

fn other_users_see_nothing_of_the_state(sandbox: &Sandbox) {
    let config = Config::sleeper().env("PASSWORD", "secret-in-the-environment");
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let look = |program: &str, path: &std::path::Path| {
        let mut command = Command::new(program);
        command.arg(path).uid(65534).gid(65534);
        command.output().unwrap().status.success()
    };
    let own = sandbox.root().join(&container.id);
    let mut files = 0;
    for entry in fs::read_dir(&own).unwrap() {
        files += 1;
        let path = entry.unwrap().path();
        assert!(!look("cat", &path), "{} can be read", path.display());
    }
    assert!(files > 0, "no state in {}", own.display());
    assert!(!look("ls", &own), "{} can be listed", own.display());
    assert!(!look("ls", &sandbox.root()), "the root can be listed");
    container.delete_force();
}
