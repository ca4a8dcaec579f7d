//! Who a process is: inheritable capabilities, and the user that `exec` means.

use crate::common::{Config, Sandbox, on_host};
use crate::judge::{Bad, Outcome, must_hold};

on_host![
    cve_2022_29162_inheritable_capabilities_are_empty,
    cve_2026_30892_exec_runs_as_the_user_it_was_told,
    an_impossible_user_is_nobody,
];

/// CVE-2022-29162, CVE-2025-27612: an inheritable set lets programs with file
/// capabilities gain what the process was not given.
fn cve_2022_29162_inheritable_capabilities_are_empty(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.1.1")], |sandbox| {
        let init = Config::shell("grep CapInh /proc/1/status; exec sleep 1000");
        let container = sandbox.run_detached(&sandbox.bundle(&init));
        let grep = ["grep", "CapInh", "/proc/self/status"];
        let plain = container.exec(grep);
        let with_cap = container
            .call("exec", &["--cap", "CAP_NET_RAW"])
            .args(grep)
            .output();
        crate::common::wait_until("init has said", || container.stdout().contains('\n'));
        let seen = [container.stdout(), plain.stdout, with_cap.stdout];
        container.delete_force();
        let fault = seen
            .iter()
            .zip(["init", "exec", "exec --cap"])
            .find(|(text, _)| text.trim() != "CapInh:\t0000000000000000")
            .map(|(text, who)| format!("{who}: {text:?}"));
        Outcome::from_fault(fault)
    });
}

/// crun took a lone small number for something else and ran as root.
fn cve_2026_30892_exec_runs_as_the_user_it_was_told(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let accepted = [
        ("0", "0", "0"),
        ("1", "1", "0"),
        ("7", "7", "0"),
        ("10", "10", "0"),
        ("1000", "1000", "0"),
        ("1000:1000", "1000", "1000"),
        ("1000:44", "1000", "44"),
        ("0:5", "0", "5"),
        ("65534:65534", "65534", "65534"),
    ];
    for (user, uid, gid) in accepted {
        let out = container
            .call("exec", &["--user", user])
            .args(["grep", "-E", "^(Uid|Gid):", "/proc/self/status"])
            .output()
            .succeeded();
        let ids = |id: &str| format!("{id}\t{id}\t{id}\t{id}");
        assert_eq!(
            out.stdout,
            format!("Uid:\t{}\nGid:\t{}\n", ids(uid), ids(gid)),
            "{user}"
        );
    }
    container.delete_force();
}

/// Numbers that are no user: cut down to 32 bits, 4294967296 is root.
fn an_impossible_user_is_nobody(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::RuncBefore("99.0.0")], |sandbox| {
        let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
        let impossible = [
            "4294967296",
            "0:4294967296",
            "-1",
            "1x",
            "x",
            ":",
            "1:",
            ":1",
            "4294967295",
            "99999999999999999999",
            "1:-1",
            " 1",
            "0x0",
            "1:2:3",
        ];
        let mut outcome = Outcome::Held;
        for user in impossible {
            let flag = format!("--user={user}");
            let out = sandbox.call(["exec", &flag, &container.id, "id"]).output();
            if out.code == Some(0) || !out.stdout.is_empty() {
                outcome = Outcome::Broken(format!("{user:?} was taken for {}", out.stdout));
                break;
            }
        }
        container.delete_force();
        outcome
    });
}
