//! The device filter as containers feel it. Numbers come from the ranges that
//! Linux reserves for experiments (majors 60 to 63), so that no driver answers:
//! an open that the filter allows fails with ENXIO, one that it denies with
//! EPERM.

use serde_json::json;

use crate::common::{Config, Sandbox, on_each_view};

on_each_view![
    rules_hold_in_init_and_exec,
    everything_is_denied_by_default,
    an_empty_rule_list_denies_too,
    a_container_that_may_use_everything_can,
    the_usual_devices_work,
    a_real_node_follows_the_rules,
    a_hole_in_a_wildcard_is_never_open,
    the_filter_reaches_nested_cgroups,
];

/// One way to open one node, and whether the filter lets it through.
#[derive(Debug)]
struct Case {
    kind: &'static str,
    major: u32,
    minor: u32,
    read: bool,
    write: bool,
}

const fn case(kind: &'static str, major: u32, minor: u32, read: bool, write: bool) -> Case {
    Case {
        kind,
        major,
        minor,
        read,
        write,
    }
}

/// Makes each node and opens it for reading and for writing, a line each:
/// `c 60 1 read allowed`.
fn script(cases: &[Case]) -> String {
    let mut script = String::from(
        "try() { case $1 in read) : <$2;; write) : >$2;; esac 2>&1; }\n\
         judge() { case $1 in *'Operation not permitted'*) echo denied;; \
         ''|*'No such device or address'*) echo allowed;; *) echo \"$1\";; esac; }\n\
         cd /tmp\n",
    );
    for Case {
        kind, major, minor, ..
    } in cases
    {
        script.push_str(&format!(
            "rm -f node; mknod node {kind} {major} {minor} || exit 9\n\
             for way in read write; do \
             echo {kind} {major} {minor} $way $(judge \"$( (try $way node) 2>&1 )\"); done\n"
        ));
    }
    script
}

fn expected(cases: &[Case]) -> Vec<String> {
    let line = |case: &Case, way, allowed| {
        let verdict = if allowed { "allowed" } else { "denied" };
        format!(
            "{} {} {} {way} {verdict}",
            case.kind, case.major, case.minor
        )
    };
    cases
        .iter()
        .flat_map(|case| {
            [
                line(case, "read", case.read),
                line(case, "write", case.write),
            ]
        })
        .collect()
}

/// Runs `cases` as init, and then in exec of another container, of `config`.
#[track_caller]
fn check(sandbox: &Sandbox, config: &Config, cases: &[Case]) {
    let config = config.clone().capabilities(&["CAP_MKNOD"]);
    let script = script(cases);
    let expected = expected(cases);
    let init = config
        .clone()
        .set("/process/args", ["/bin/sh", "-c", &script]);
    let out = sandbox.run_config(&init).succeeded();
    assert_eq!(out.stdout.lines().collect::<Vec<_>>(), expected, "init");

    let sleeper = config.set("/process/args", ["/bin/sleep", "100000"]);
    let container = sandbox.create(&sandbox.bundle(&sleeper));
    for moment in ["created", "running"] {
        assert_eq!(container.status(), moment);
        let out = container.sh(&script).succeeded();
        assert_eq!(
            out.stdout.lines().collect::<Vec<_>>(),
            expected,
            "exec, {moment}"
        );
        if moment == "created" {
            container.start();
            container.wait_for("running");
        }
    }
    container.delete_force();
}

fn rules_hold_in_init_and_exec(sandbox: &Sandbox) {
    let config = Config::sleeper()
        .device_rule(true, "c", Some(60), Some(1), "rwm")
        .device_rule(true, "c", Some(60), Some(2), "r")
        .device_rule(true, "c", Some(60), Some(3), "w")
        // Two rules for one node add up.
        .device_rule(true, "c", Some(60), Some(4), "r")
        .device_rule(true, "c", Some(60), Some(4), "w")
        .device_rule(true, "c", Some(61), None, "rw")
        .device_rule(true, "b", Some(62), Some(0), "rwm")
        // Allowed, then denied.
        .device_rule(true, "c", Some(63), Some(5), "rwm")
        .device_rule(false, "c", Some(63), Some(5), "rwm")
        // Allowed, then not for writing.
        .device_rule(true, "c", Some(63), Some(6), "rwm")
        .device_rule(false, "c", Some(63), Some(6), "w");
    check(
        sandbox,
        &config,
        &[
            case("c", 60, 0, false, false),
            case("c", 60, 1, true, true),
            case("c", 60, 2, true, false),
            case("c", 60, 3, false, true),
            case("c", 60, 4, true, true),
            case("b", 60, 1, false, false),
            case("c", 61, 0, true, true),
            case("c", 61, 1_048_575, true, true),
            case("b", 61, 0, false, false),
            case("b", 62, 0, true, true),
            case("b", 62, 1, false, false),
            case("c", 62, 0, false, false),
            case("c", 63, 5, false, false),
            case("c", 63, 6, true, false),
            case("c", 63, 7, false, false),
        ],
    );
}

fn everything_is_denied_by_default(sandbox: &Sandbox) {
    let nothing = [
        case("c", 60, 0, false, false),
        case("b", 62, 0, false, false),
        case("c", 195, 0, false, false),
    ];
    check(sandbox, &Config::sleeper(), &nothing);
}

/// No list, or one without a rule for everything, is no permission.
fn an_empty_rule_list_denies_too(sandbox: &Sandbox) {
    let nothing = [
        case("c", 60, 0, false, false),
        case("b", 62, 0, false, false),
    ];
    check(
        sandbox,
        &Config::sleeper().remove("/linux/resources"),
        &nothing,
    );
    let empty = Config::sleeper().set("/linux/resources/devices", json!([]));
    check(sandbox, &empty, &nothing);
    let only_one = empty.device_rule(true, "c", Some(60), Some(1), "rwm");
    check(
        sandbox,
        &only_one,
        &[case("c", 60, 1, true, true), case("c", 60, 2, false, false)],
    );
}

fn a_container_that_may_use_everything_can(sandbox: &Sandbox) {
    let everything = [
        case("c", 60, 0, true, true),
        case("b", 62, 9, true, true),
        case("c", 63, 1_048_575, true, true),
    ];
    let config = Config::sleeper().device_rule(true, "a", None, None, "rwm");
    check(sandbox, &config, &everything);
}

fn the_usual_devices_work(sandbox: &Sandbox) {
    let script = "for f in null zero full random urandom; do \
                  dd if=/dev/$f of=/dev/null bs=1 count=0 2>/dev/null && echo $f; done; \
                  echo x >/dev/null && echo written; \
                  stty -F /dev/ptmx >/dev/null && echo ptmx; \
                  mknod /tmp/tun c 10 200; : </tmp/tun && echo tun";
    let config = Config::shell(script).capabilities(&["CAP_MKNOD"]);
    let out = sandbox.run_config(&config);
    assert_eq!(
        out.stdout.split_whitespace().collect::<Vec<_>>(),
        [
            "null", "zero", "full", "random", "urandom", "written", "ptmx", "tun"
        ],
        "{out}"
    );
}

/// /dev/fuse opens for anyone whom the filter lets through.
fn a_real_node_follows_the_rules(sandbox: &Sandbox) {
    if std::fs::metadata("/dev/fuse").is_err() {
        crate::common::skip!("this host has no /dev/fuse");
    }
    let node = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
                      "fileMode": 0o666, "uid": 0, "gid": 0});
    let open = "(: <>/dev/fuse) 2>&1 && echo opened";
    let base = Config::shell(open).push("/linux/devices", node);
    let out = sandbox.run_config(&base);
    assert!(out.stdout.contains("Operation not permitted"), "{out}");

    let read_only = base
        .clone()
        .device_rule(true, "c", Some(10), Some(229), "r");
    let out = sandbox.run_config(&read_only);
    assert!(out.stdout.contains("Operation not permitted"), "{out}");

    let allowed = base.device_rule(true, "c", Some(10), Some(229), "rwm");
    assert_eq!(sandbox.run_config(&allowed).succeeded().stdout, "opened\n");
}

/// cgroup v1 cannot express it, so refusing the container is right; opening the
/// hole is not.
fn a_hole_in_a_wildcard_is_never_open(sandbox: &Sandbox) {
    let config = Config::shell(&script(&[
        case("c", 63, 4, true, true),
        case("c", 63, 5, false, false),
    ]))
    .capabilities(&["CAP_MKNOD"])
    .device_rule(true, "c", Some(63), None, "rwm")
    .device_rule(false, "c", Some(63), Some(5), "rwm");
    let out = sandbox.run_config(&config);
    if out.code == Some(0) {
        assert_eq!(
            out.stdout,
            "c 63 4 read allowed\nc 63 4 write allowed\nc 63 5 read denied\nc 63 5 write denied\n"
        );
    } else {
        assert_eq!(out.code, Some(1), "{out}");
        assert_eq!(out.stdout, "", "it ran nevertheless");
        assert_eq!(sandbox.left(), Vec::<String>::new());
    }
}

/// A process may make cgroups below its own where it is let; the filter goes
/// along.
fn the_filter_reaches_nested_cgroups(sandbox: &Sandbox) {
    let nothing = [case("c", 60, 0, false, false)];
    let nested = "for d in /sys/fs/cgroup /sys/fs/cgroup/devices; do \
                  [ -e $d/cgroup.procs ] && mkdir $d/inner && echo $$ >$d/inner/cgroup.procs; done\n";
    let config = Config::shell(&format!("{nested}{}", script(&nothing)))
        .capabilities(&["CAP_MKNOD", "CAP_SYS_ADMIN"]);
    // The last mount is the cgroup one: writable.
    let config = config.set(
        "/mounts/6/options",
        ["nosuid", "noexec", "nodev", "relatime", "rw"],
    );
    let out = sandbox.run_config(&config).succeeded();
    assert_eq!(out.stdout.lines().collect::<Vec<_>>(), expected(&nothing));
    assert_eq!(out.stderr, "", "the process moved");
}
