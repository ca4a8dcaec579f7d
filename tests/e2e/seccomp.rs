//! System call filters: what they answer, and what stands when they deny what the
//! runtime itself would like to call.

use serde_json::{Value, json};

use crate::common::program::write_program;
use crate::common::{Config, Sandbox, on_each_view, skip};

on_each_view![
    calls_newer_than_the_profile_get_enosys,
    a_profile_without_the_runtime_s_own_calls_is_borne,
    a_killed_hook_is_told_by_its_signal,
    flags_are_told_in_the_debug_log,
    a_profile_that_says_nothing_is_none,
];

/// What a program without a C library, and the runtime right before it, need.
const NEEDED: [&str; 24] = [
    "read",
    "write",
    "close",
    "execve",
    "exit",
    "exit_group",
    "openat",
    "fcntl",
    "fstat",
    "newfstatat",
    "statx",
    "getdents64",
    "lseek",
    "mmap",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendmsg",
    "recvmsg",
    "poll",
    "getpid",
    "prctl",
    "close_range",
];

fn only(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

/// An x86-64 executable that makes one system call without arguments and exits
/// with the error's number.
fn caller_of(number: u32) -> Vec<u8> {
    let mut code = vec![0xb8]; // mov eax, number
    code.extend(number.to_le_bytes());
    code.extend([
        0x0f, 0x05, // syscall
        0xf7, 0xd8, // neg eax
        0x89, 0xc7, // mov edi, eax
        0xb8, 60, 0, 0, 0, // mov eax, exit
        0x0f, 0x05, // syscall
    ]);
    code
}

/// Programs that hear EPERM take it for a decision; ENOSYS makes them do without.
fn calls_newer_than_the_profile_get_enosys(sandbox: &Sandbox) {
    if !cfg!(target_arch = "x86_64") {
        skip!("the program that calls is of x86-64");
    }
    let config = Config::new(&["/caller"]).set("/linux/seccomp", only(&NEEDED));
    let bundle = sandbox.bundle(&config);
    let program = bundle.rootfs().join("caller");
    let answers = |number: u32, errno: i32| {
        write_program(&program, &caller_of(number));
        // Twice: compiled, and from the cache.
        sandbox.run(&bundle).exited(errno);
        sandbox.run(&bundle).exited(errno);
    };
    answers(1000, 38);
    // getuid is older than the newest that the profile names, and not named: EPERM.
    answers(102, 1);
}

/// Without no_new_privs the filter is in force before the runtime is done.
fn a_profile_without_the_runtime_s_own_calls_is_borne(sandbox: &Sandbox) {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["close_range", "openat2", "open_tree", "move_mount", "mount_setattr",
                      "fsopen", "fsconfig", "fspick", "faccessat2"],
            "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
        }],
    });
    let config = Config::shell("ls /proc/self/fd")
        .set("/process/noNewPrivileges", false)
        .set("/linux/seccomp", profile);
    let out = sandbox.run_config(&config).succeeded();
    // ls itself has the directory open.
    assert_eq!(out.stdout, "0\n1\n2\n3\n");
}

fn a_killed_hook_is_told_by_its_signal(sandbox: &Sandbox) {
    let config = Config::new(&["/bin/true"])
        .set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
            }),
        )
        .push(
            "/process/rlimits",
            json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}),
        )
        .set(
            "/hooks/startContainer",
            json!([{"path": "/bin/mkdir", "args": ["mkdir", "/dev/shm/foo"]}]),
        );
    let out = sandbox.run_config(&config).exited(1);
    out.says("error running startContainer hook #0")
        .says("bad system call");
}

fn flags_are_told_in_the_debug_log(sandbox: &Sandbox) {
    for (flags, number) in [
        (None, 4),
        (Some(json!([])), 0),
        (
            Some(json!([
                "SECCOMP_FILTER_FLAG_TSYNC",
                "SECCOMP_FILTER_FLAG_LOG"
            ])),
            2,
        ),
    ] {
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
        });
        if let Some(flags) = flags {
            profile["flags"] = flags;
        }
        let bundle = sandbox.bundle(&Config::new(&["/bin/true"]).set("/linux/seccomp", profile));
        let out = sandbox
            .call(["--debug", "run", "--bundle"])
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output()
            .succeeded();
        let line = format!("\"seccomp filter flags: {number}\"");
        assert!(out.stderr.contains(&line), "{line}: {out}");
    }
}

fn a_profile_that_says_nothing_is_none(sandbox: &Sandbox) {
    let config = Config::shell("grep Seccomp: /proc/self/status").set("/linux/seccomp", json!({}));
    assert_eq!(
        sandbox.run_config(&config).succeeded().stdout,
        "Seccomp:\t0\n"
    );
}
