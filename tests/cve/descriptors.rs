//! Descriptors of the runtime and of its caller, which lead out of a container.

use crate::canary::{Canary, SECRET};
use crate::common::{Config, Sandbox, Spawn, View, on_each_view};
use crate::judge::{Bad, Outcome, must_hold};

on_each_view![
    cve_2024_21626_working_directory_behind_a_descriptor,
    cve_2024_21626_exec_working_directory_behind_a_descriptor,
    only_preserved_descriptors_reach_the_container,
];

/// The working directory is entered with the runtime's descriptors still open.
fn cve_2024_21626_working_directory_behind_a_descriptor(sandbox: &Sandbox) {
    // runc v1.1.11 leaks a descriptor of /sys/fs/cgroup here, and none in the other view.
    let bad: &[Bad] = if sandbox.view() == View::Host {
        &[Bad::Tag("v1.1.11")]
    } else {
        &[]
    };
    must_hold(sandbox, bad, |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let secret = canary.path().join("secret");
        for fd in 3..24 {
            for cwd in [
                format!("/proc/self/fd/{fd}"),
                format!("/proc/self/fd/{fd}/../../.."),
            ] {
                let script = climb(secret.to_str().unwrap());
                let config = Config::shell(&script).set("/process/cwd", cwd.as_str());
                let out = sandbox.run_config(&config);
                eprintln!("{out}");
                eprintln!("{out}");
                if out.stdout.contains(SECRET) {
                    return Outcome::Broken(format!("the host's files are open with cwd {cwd}"));
                }
            }
        }
        Outcome::Held
    });
}

fn cve_2024_21626_exec_working_directory_behind_a_descriptor(sandbox: &Sandbox) {
    // The published exec variant needs a descriptor that old runcs leak only on
    // other cgroup layouts; that the script works shows above.
    must_hold(sandbox, &[], |sandbox| {
        let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
        let script = climb(canary.path().join("secret").to_str().unwrap());
        let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
        let mut outcome = Outcome::Held;
        for fd in 3..24 {
            let cwd = format!("/proc/self/fd/{fd}");
            let out = container
                .call("exec", &["--cwd", &cwd])
                .args(["/bin/sh", "-c", &script])
                .output();
            if out.stdout.contains(SECRET) {
                outcome = Outcome::Broken(format!("the host's files are open with --cwd {cwd}"));
                break;
            }
        }
        container.delete_force();
        outcome
    });
}

/// Reads a file of the host from a directory that is not below the root.
fn climb(secret: &str) -> String {
    let up = "../".repeat(16);
    format!(
        "cat {up}{} 2>/dev/null; true",
        secret.trim_start_matches('/')
    )
}

/// Three descriptors of the caller stay behind; those that `--preserve-fds`
/// counts go along.
fn only_preserved_descriptors_reach_the_container(sandbox: &Sandbox) {
    let canary = Canary::new(sandbox.dir().join(sandbox.fresh()));
    let secret = canary.path().join("secret");
    // The glob's own descriptor is gone by the time of the test.
    let list = "cd /proc/self/fd; for fd in *; do if [ -e $fd ]; then echo $fd; fi; done";
    let inheriting = |args: &[&str]| {
        let line = "exec 3<\"$1\" 4<\"$1\" 5<\"$1\"; shift; exec \"$0\" \"$@\"";
        let out = Spawn::new("/bin/sh", &sandbox.dir().join(sandbox.fresh()))
            .args(["-c", line])
            .arg(&sandbox.runtime().path)
            .arg(&secret)
            .arg("--root")
            .arg(sandbox.root())
            .args(args)
            .output()
            .succeeded();
        out.stdout
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (flags, seen) in [
        ("0", vec!["0", "1", "2"]),
        ("2", vec!["0", "1", "2", "3", "4"]),
    ] {
        let bundle = sandbox.bundle(&Config::shell(list));
        let path = bundle.path.to_str().unwrap();
        let run = ["run", "--preserve-fds", flags, "--bundle", path, &bundle.id];
        assert_eq!(inheriting(&run), seen);
    }
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    for (flags, seen) in [("0", vec!["0", "1", "2"]), ("1", vec!["0", "1", "2", "3"])] {
        let exec = [
            "exec",
            "--preserve-fds",
            flags,
            &container.id,
            "/bin/sh",
            "-c",
            list,
        ];
        assert_eq!(inheriting(&exec), seen);
    }
    container.delete_force();
}
