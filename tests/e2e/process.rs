//! The processes in a container: what exec gives them, what they inherit, what
//! is said when they cannot be run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::common::{Config, Sandbox, Spawn, on_each_view};

on_each_view![
    pid_files_hold_the_number_and_nothing_else,
    exec_takes_its_process_from_flags,
    exec_takes_its_process_from_a_file,
    exec_in_a_created_container_works,
    an_entrypoint_that_cannot_run_fails_the_create,
    a_program_that_cannot_run_fails_the_exec,
    a_private_program_of_roots_runs_as_root,
    a_capability_opens_what_the_mode_closes,
    a_program_that_fails_after_create_says_so_once,
    a_created_container_holds_nothing_unknown,
    the_debug_log_has_runc_s_marks,
    no_descriptor_leaks_in,
    preserved_descriptors_arrive,
    what_the_runtime_has_open_is_not_preserved,
    exec_has_the_container_s_keyring_and_not_its_caller_s,
    exec_of_a_file_keeps_what_confines_the_container,
    a_label_without_its_module_is_refused,
    a_right_that_cannot_be_had_is_told_in_the_kernel_s_words,
    errors_go_to_the_log_and_to_stderr,
];

fn pid_files_hold_the_number_and_nothing_else(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let file = sandbox.dir().join("pid");
    sandbox
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg("--pid-file")
        .arg(&file)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let state = sandbox.call(["state", &bundle.id]).output().succeeded();
    let state: Value = serde_json::from_str(&state.stdout).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), state["pid"].to_string());

    sandbox.call(["start", &bundle.id]).output().succeeded();
    sandbox
        .call(["exec", "--detach", "--pid-file"])
        .arg(&file)
        .args([&bundle.id, "/bin/sleep", "100001"])
        .output()
        .succeeded();
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, "/bin/sleep\x00100001\x00");
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(&bundle.cgroup()), "{cgroup}");
}

/// Prints what flags of exec change.
const WHO: &str =
    "pwd; id -u; id -g; id -G; echo $A $B; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status";

fn exec_takes_its_process_from_flags(sandbox: &Sandbox) {
    let config = Config::sleeper().set("/process/noNewPrivileges", false);
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    let plain = container.sh(WHO).succeeded();
    assert_eq!(
        plain.stdout,
        "/\n0\n0\n0\n\nCapEff:\t0000000020000420\nNoNewPrivs:\t0\n"
    );
    let flags = [
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--cwd",
        "/tmp",
        "--user",
        "1000:1000",
    ];
    let more = ["--additional-gids", "44", "--no-new-privs"];
    let out = sandbox
        .call(["exec"])
        .args(flags)
        .args(more)
        .args([&container.id, "/bin/sh", "-c", WHO])
        .output()
        .succeeded();
    assert_eq!(
        out.stdout,
        "/tmp\n1000\n1000\n1000 44\n1 2\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
    let out = sandbox
        .call([
            "exec",
            "--cap",
            "CAP_NET_ADMIN",
            &container.id,
            "/bin/sh",
            "-c",
            WHO,
        ])
        .output()
        .succeeded();
    assert!(out.stdout.contains("CapEff:\t0000000020001420"), "{out}");
}

fn exec_takes_its_process_from_a_file(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    sandbox.run_detached(&bundle);
    let file = sandbox.dir().join("process.json");
    let process = json!({
        "args": ["/bin/sh", "-c", WHO],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "A=one", "B=two"],
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [44]},
        "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                         "effective": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"],
                         "ambient": ["CAP_CHOWN"]},
        "noNewPrivileges": true,
    });
    fs::write(&file, process.to_string()).unwrap();
    let out = sandbox
        .call(["exec", "--process"])
        .arg(&file)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert_eq!(
        out.stdout,
        "/tmp\n1000\n1000\n1000 44\none two\nCapEff:\t0000000000000001\nNoNewPrivs:\t1\n"
    );
}

fn exec_in_a_created_container_works(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let out = container.sh("hostname; echo $$").succeeded();
    assert!(out.stdout.starts_with("kusabi-test\n"), "{out}");
    assert_eq!(container.status(), "created");
    container.start();
    container.wait_for("running");
}

/// Programs that cannot be run, and the words by which engines know why.
const UNRUNNABLE: [(&str, &[&str]); 4] = [
    ("nosuchprogram", &["executable file not found"]),
    ("/nosuchprogram", &["no such file or directory"]),
    ("/etc/passwd", &["permission denied"]),
    ("/etc", &["is a directory", "permission denied"]),
];

fn an_entrypoint_that_cannot_run_fails_the_create(sandbox: &Sandbox) {
    for (program, words) in UNRUNNABLE {
        let bundle = sandbox.bundle(&Config::new(&[program]));
        let pid_file = sandbox.dir().join("pid");
        let out = sandbox
            .call(["create", "--pid-file"])
            .arg(&pid_file)
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .exited(1);
        assert!(words.iter().any(|word| out.stderr.contains(word)), "{out}");
        assert!(!pid_file.exists(), "a pid file of what never was");
        assert_eq!(sandbox.left(), Vec::<String>::new(), "after {program}");
    }
}

fn a_program_that_cannot_run_fails_the_exec(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    for (program, words) in UNRUNNABLE {
        for detached in [false, true] {
            let pid_file = sandbox.dir().join("pid");
            let out = sandbox
                .call(["exec", "--pid-file"])
                .arg(&pid_file)
                .args(detached.then_some("--detach"))
                .args([&container.id, program])
                .output()
                .exited(255);
            assert!(words.iter().any(|word| out.stderr.contains(word)), "{out}");
            assert!(!pid_file.exists(), "a pid file of what never was");
        }
    }
    assert_eq!(container.status(), "running");
}

/// Without CAP_DAC_OVERRIDE, as in most containers.
fn a_private_program_of_roots_runs_as_root(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::new(&["/busybox.private", "sh", "-c", "echo ran"]));
    let program = bundle.rootfs().join("busybox.private");
    fs::copy(bundle.rootfs().join("bin/busybox"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sandbox.run(&bundle).succeeded().stdout, "ran\n");

    let other =
        Config::new(&["/busybox.private"]).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.write(&other);
    sandbox.run(&bundle).exited(1).says("permission denied");
}

/// The kernel is asked, not the mode.
fn a_capability_opens_what_the_mode_closes(sandbox: &Sandbox) {
    let user = json!({"uid": 1000, "gid": 1000});
    let config = Config::new(&["/busybox.roots", "echo", "ran"]).set("/process/user", user);
    let bundle = sandbox.bundle(&config);
    let program = bundle.rootfs().join("busybox.roots");
    fs::copy(bundle.rootfs().join("bin/busybox"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o744)).unwrap();
    sandbox.run(&bundle).exited(1).says("permission denied");
    let mut config = config;
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        let at = format!("/process/capabilities/{set}");
        config = config.set(&at, json!(["CAP_DAC_OVERRIDE"]));
    }
    bundle.write(&config);
    assert_eq!(sandbox.run(&bundle).succeeded().stdout, "ran\n");
}

/// Its error stream is the caller's: one line, as runc's, and the log has it too.
fn a_program_that_fails_after_create_says_so_once(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::new(&["/script"]));
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let log = sandbox.dir().join("log");
    for logged in [false, true] {
        let call = match logged {
            false => sandbox.call(["run"]),
            true => sandbox.call(["--log"]).arg(&log).arg("run"),
        };
        let out = call
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .exited(1);
        assert_eq!(out.stderr, "exec /script: no such file or directory\n");
    }
    let text = fs::read_to_string(log).unwrap();
    assert!(
        text.contains("level=error msg=\"exec /script: no such file"),
        "{text}"
    );
}

/// By the names that an auditor of runc's knows.
fn a_created_container_holds_nothing_unknown(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    for entry in fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        let target = target.to_str().unwrap();
        let known = target.ends_with("/exec.fifo") || target.starts_with("socket:[");
        assert!(number < 3 || known, "{number} -> {target}");
    }
}

/// Whoever reads it looks for these.
fn the_debug_log_has_runc_s_marks(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let log = sandbox.dir().join("log");
    let marks = |args: &[&str], path: Option<&std::path::Path>, marks: [&str; 3]| {
        fs::write(&log, "").unwrap();
        let out = sandbox
            .call(["--debug", "--log"])
            .arg(&log)
            .args(args)
            .args(path)
            .args(["--", &bundle.id])
            .args(path.is_none().then_some("/bin/true"))
            .output()
            .succeeded();
        assert_eq!(out.stderr, "");
        let text = fs::read_to_string(&log).unwrap();
        for mark in marks {
            assert!(text.contains(mark), "{mark}: {text}");
        }
    };
    let both = ["nsexec container setup", "child process in init()"];
    let last = "init: closing the pipe to signal completion";
    marks(
        &["create", "--bundle"],
        Some(&bundle.path),
        [both[0], both[1], last],
    );
    sandbox.call(["start", &bundle.id]).output().succeeded();
    marks(
        &["exec"],
        None,
        [both[0], both[1], "setns_init: about to exec"],
    );
}

/// The descriptors of init, seen by exec so that no shell adds its own.
fn descriptors(sandbox: &Sandbox, id: &str, pid: &str) -> Vec<String> {
    let list = format!("ls /proc/{pid}/fd");
    let out = sandbox
        .call(["exec", id, "/bin/sh", "-c", &list])
        .output()
        .succeeded();
    let mut found: Vec<String> = out.stdout.split_whitespace().map(str::to_owned).collect();
    found.sort();
    found
}

fn no_descriptor_leaks_in(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    // Descriptor 7 is open in the caller, and nobody asked for it.
    let log = sandbox.dir().join("log");
    Spawn::new("/bin/sh", &sandbox.dir().join("sh"))
        .args(["-c", "exec \"$@\" 7</etc/passwd", "sh"])
        .arg(&sandbox.runtime().path)
        .arg("--log")
        .arg(&log)
        .arg("--root")
        .arg(sandbox.root())
        .args(["run", "--detach", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert_eq!(descriptors(sandbox, &bundle.id, "1"), ["0", "1", "2"]);
    // ls itself has the directory open.
    assert_eq!(
        descriptors(sandbox, &bundle.id, "self"),
        ["0", "1", "2", "3"]
    );
}

fn preserved_descriptors_arrive(sandbox: &Sandbox) {
    let kept = sandbox.dir().join("kept");
    fs::write(&kept, "kept open\n").unwrap();
    let with_descriptor = |args: &[&str]| {
        Spawn::new("/bin/sh", &sandbox.dir().join("sh"))
            .env("KEPT", &kept)
            .args([
                "-c",
                "exec \"$@\" 3<\"$KEPT\" 4<\"$KEPT\" 5</etc/passwd",
                "sh",
            ])
            .arg(&sandbox.runtime().path)
            .arg("--root")
            .arg(sandbox.root())
            .args(args)
            .output()
    };
    let bundle = sandbox.bundle(&Config::shell(
        "cat <&3; cat <&4; ls /proc/1/fd; sleep 100000",
    ));
    let path = bundle.path.to_str().unwrap();
    with_descriptor(&[
        "create",
        "--preserve-fds",
        "2",
        "--bundle",
        path,
        &bundle.id,
    ])
    .succeeded();
    sandbox.call(["start", &bundle.id]).output().succeeded();
    assert_eq!(
        descriptors(sandbox, &bundle.id, "1"),
        ["0", "1", "2", "3", "4"]
    );
    let exec = ["exec", "--preserve-fds", "1", &bundle.id];
    let out = with_descriptor(
        &[
            &exec[..],
            &["/bin/sh", "-c", "cat <&3; ls /proc/$$/fd; true"],
        ]
        .concat(),
    );
    assert_eq!(out.succeeded().stdout, "kept open\n0\n1\n2\n3\n");
}

/// The caller promises what it has not opened; by then those numbers are the
/// runtime's own.
fn what_the_runtime_has_open_is_not_preserved(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    let text = "unable to stat preserved-fd 1 (of 2), please check that the fd is open";
    sandbox
        .call(["create", "--preserve-fds", "2", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says(text);
    let container = sandbox.run_detached(&bundle);
    container
        .call("exec", &["--preserve-fds", "2"])
        .arg("true")
        .output()
        .exited(255)
        .says(text);
    container.delete_force();
}

fn errors_go_to_the_log_and_to_stderr(sandbox: &Sandbox) {
    let log = sandbox.dir().join("log.json");
    for number in 1..=2 {
        let out = sandbox
            .call(["--log"])
            .arg(&log)
            .args(["--log-format", "json", "state", "nobody"])
            .output()
            .exited(1)
            .says("container does not exist");
        assert_eq!(out.stdout, "");
        // Appended, one object a line and nothing else.
        let text = fs::read_to_string(&log).unwrap();
        let objects: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(objects.len(), number, "{text}");
        let last = objects.last().unwrap();
        assert_eq!(last["level"], "error");
        assert!(
            last["msg"]
                .as_str()
                .unwrap()
                .contains("container does not exist")
        );
        let time = last["time"].as_str().unwrap();
        assert!(
            time.len() >= 20 && time.as_bytes()[10] == b'T',
            "{time} is not RFC 3339"
        );
    }
}

fn exec_has_the_container_s_keyring_and_not_its_caller_s(sandbox: &Sandbox) {
    let script = "grep _ses /proc/keys | cut -d ' ' -f 1; sleep 100000";
    let config = Config::shell(script).set("/linux/maskedPaths", json!([]));
    let bundle = sandbox.bundle(&config);
    let container = sandbox.run_detached(&bundle);
    let keys = format!("grep ' _ses.{}: ' /proc/keys | cut -d ' ' -f 1", bundle.id);
    let of_exec = container.sh(&keys).succeeded().stdout;
    assert_eq!(of_exec.lines().count(), 1, "{of_exec}");
    assert!(
        container.stdout().contains(&of_exec),
        "{}",
        container.stdout()
    );

    let bundle = sandbox.bundle(&config);
    sandbox
        .call(["run", "--no-new-keyring", "--detach", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let keys = format!("grep -c ' _ses.{}: ' /proc/keys", bundle.id);
    let out = sandbox.call(["exec", &bundle.id, "/bin/sh", "-c", &keys]);
    assert_eq!(out.output().exited(1).stdout, "0\n");
}

/// Where the file says nothing, as with runc.
fn exec_of_a_file_keeps_what_confines_the_container(sandbox: &Sandbox) {
    let config = Config::sleeper()
        .set("/process/user/umask", 0o27)
        .set("/process/oomScoreAdj", 321);
    let bundle = sandbox.bundle(&config);
    sandbox.run_detached(&bundle);
    let file = sandbox.dir().join("process.json");
    let script = "umask; cat /proc/self/oom_score_adj; ulimit -n; grep CapEff /proc/self/status";
    let process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/"});
    fs::write(&file, process.to_string()).unwrap();
    let out = sandbox
        .call(["exec", "--process"])
        .arg(&file)
        .arg(&bundle.id)
        .output()
        .succeeded();
    assert_eq!(out.stdout, "0027\n321\n1024\nCapEff:\t0000000020000420\n");
}

fn a_label_without_its_module_is_refused(sandbox: &Sandbox) {
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    for (field, flag, module, absent, present) in [
        (
            "selinuxLabel",
            "--process-label",
            "/sys/fs/selinux/enforce",
            "selinux is disabled or not supported",
            "can't set process label",
        ),
        (
            "apparmorProfile",
            "--apparmor",
            "/sys/kernel/security/apparmor",
            "apparmor: config provided but apparmor not supported",
            "unable to apply apparmor profile",
        ),
    ] {
        // Where the module is, it has no such label.
        let words = match fs::exists(module).unwrap() {
            true => present,
            false => absent,
        };
        let config = Config::sleeper().set(&format!("/process/{field}"), "no-such-label");
        sandbox.run_config(&config).exited(1).says(words);
        let out = sandbox.call(["exec", flag, "no-such-label", &container.id, "/bin/true"]);
        out.output().exited(255).says(words);
    }
}

/// podman tells by them that a program may not be run.
fn a_right_that_cannot_be_had_is_told_in_the_kernel_s_words(sandbox: &Sandbox) {
    // What is not permitted cannot be in force (capabilities(7)).
    let config = Config::sleeper().set("/process/capabilities/permitted", json!([]));
    let out = sandbox.run_config(&config).exited(1);
    assert!(
        out.stderr.contains("unable to apply caps")
            && out.stderr.contains("operation not permitted"),
        "{out}"
    );
    assert!(!out.stderr.contains("os error"), "{out}");
}
