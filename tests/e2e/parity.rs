//! The same bundle under the runtime under test and under Debian's runc: what
//! a process can see of itself is equal, line by line, but for numbers that the
//! kernel deals out.

use std::collections::BTreeMap;

use serde_json::json;

use crate::common::{Config, Kind, Sandbox, on_each_view, skip, wait_until};

on_each_view![
    a_plain_container_is_the_same,
    a_container_of_an_ordinary_user_is_the_same,
    a_container_with_capabilities_and_limits_is_the_same,
    a_read_only_container_with_mounts_is_the_same,
    a_container_in_the_hosts_namespaces_is_the_same,
    a_container_in_a_user_namespace_is_the_same,
    a_container_with_seccomp_is_the_same,
    exec_with_flags_is_the_same,
    the_umask_holds_in_init_and_exec,
];

/// Prints, under headings, what there is to compare.
const PROBE: &str = r#"
section() { echo "== $1"; }
section status; cat /proc/self/status
section init-status; cat /proc/1/status
section mountinfo; cat /proc/self/mountinfo
section cgroup; cat /proc/self/cgroup
section dev; ls -lnA /dev
section dev-null; stat -c '%A %u %g %t %T' /dev/null /dev/ptmx /dev/pts/ptmx /dev/console
section environment; env
section ids; id
section limits; cat /proc/self/limits
section descriptors; ls -l /proc/$$/fd; true
section init-descriptors; ls -l /proc/1/fd
section cwd; pwd; ls -ld /proc/self/cwd /proc/self/root
section namespaces; ls -l /proc/self/ns
section stat; cat /proc/self/stat
section oom; cat /proc/self/oom_score_adj
section hostname; hostname; cat /proc/sys/kernel/domainname
section label; cat /proc/self/attr/current
section maps; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
section masked; ls -l /proc/kcore /proc/keys /proc/timer_list; wc -c /proc/keys; ls /proc/acpi /sys/firmware
section readonly; touch /proc/sys/kernel/domainname /proc/sysrq-trigger /rootfile 2>&1
section personality; cat /proc/self/personality
section scheduling; cat /proc/self/timerslack_ns; nproc
section seccomp; mkdir /tmp/made 2>&1; hostname other 2>&1
section net; cat /proc/net/dev | cut -d: -f1
"#;

/// Lines by section.
type Seen = BTreeMap<String, Vec<String>>;

/// Fields of /proc/PID/status that the kernel deals out, or that memory and
/// chance decide.
const CHANCE: &[&str] = &[
    "State:",
    "Pid:",
    "Tgid:",
    "PPid:",
    "NSpid:",
    "NStgid:",
    "NSpgid:",
    "NSsid:",
    "Ngid:",
    "Vm",
    "Rss",
    "HugetlbPages:",
    "voluntary_ctxt",
    "nonvoluntary_ctxt",
    "SigQ:",
    "FDSize:",
    "Cpus_",
    "Mems_",
];

/// What `text` says once names of the sandbox and the kernel's numbers are out.
fn normalise(sandbox: &Sandbox, id: &str, text: &str, in_exec: bool) -> Seen {
    let mut seen = Seen::new();
    let mut section = String::new();
    let dir = sandbox.dir().to_str().unwrap();
    let name = sandbox.dir().file_name().unwrap().to_str().unwrap();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            name.clone_into(&mut section);
            seen.entry(section.clone()).or_default();
            continue;
        }
        let line = line
            .replace(dir, "DIR")
            // Where /tmp is a file system of its own, paths in it begin there.
            .replace(name, "NAME")
            .replace(id, "ID")
            .replace(sandbox.unique(), "UNIQUE");
        let line = match section.as_str() {
            "status" | "init-status" if CHANCE.iter().any(|field| line.starts_with(field)) => {
                continue;
            }
            // runc 1.1 forgets the umask of `exec`; its later versions do not.
            "status" if line.starts_with("Umask:") && in_exec => continue,
            "status" | "init-status" if line.starts_with("Sig") => without_threads(&line),
            // A mask has room for nothing, as with later versions of runc.
            "mountinfo" => known_difference(mount_line(&line).replace(",size=4k,nr_inodes=1", "")),
            // The root of a message queue file system belongs to whoever mounts
            // it: here the container's root, with runc a group it does not map.
            "dev" if line.ends_with(" mqueue") => listing_line(&line)
                .replace(" 65534 ", " 0 ")
                .replace(" nobody ", " root "),
            "dev" | "descriptors" | "init-descriptors" | "cwd" | "namespaces" | "masked" => {
                listing_line(&line)
            }
            // The state and the numbers of the terminal, session and group
            // lead; times and addresses follow.
            "stat" => {
                let after = line.rsplit_once(") ").unwrap().1.to_owned();
                after.split(' ').nth(4).unwrap().to_owned()
            }
            _ => line,
        };
        let line = excuse(&section, line);
        seen.get_mut(&section).expect("a heading").push(line);
    }
    seen
}

/// Differences that are meant, each with its reason, taken out of a line.
fn excuse(section: &str, line: String) -> String {
    match section {
        "mountinfo" => {
            let (mount, fs) = line.split_once(" - ").expect("a mount");
            let kind = fs.split(' ').next().expect("a file system");
            let fs = match kind {
                // Ours are binds of the cgroup's own directories, which are
                // twenty times faster than a new cgroup mount; the source is
                // then the host's word.
                "cgroup" | "cgroup2" => kind.to_owned(),
                // Ours is read-only as a mount, runc's as a superblock, too.
                "sysfs" => kind.to_owned(),
                _ => fs.to_owned(),
            };
            // runc of Debian leaves the version 1 tmpfs writable that the
            // configuration wants read-only.
            let mount = mount.replace("/sys/fs/cgroup rw,", "/sys/fs/cgroup ro,");
            format!("{mount} - {fs}")
        }
        // runc mounts mqueue before it has a group in the user namespace.
        "dev" if line.ends_with(" mqueue") => line.replace("0 65534", "0 0"),
        _ => line,
    }
}

/// A signal mask without 32 and 33, which C libraries use between threads: they
/// are ignored after posix_spawn, and Go takes one of them for itself.
fn without_threads(line: &str) -> String {
    let (name, mask) = line.split_once('\t').expect("a field");
    u64::from_str_radix(mask, 16).map_or_else(
        |_| line.to_owned(),
        |mask| format!("{name} {:016x}", mask & !(0b11 << 31)),
    )
}

/// A mountinfo line without mount ids, the numbers of nameless devices and peer
/// groups.
fn mount_line(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let device = if fields[2].starts_with("0:") {
        "0:N"
    } else {
        fields[2]
    };
    let rest: Vec<String> = fields[3..]
        .iter()
        .map(|field| match field.split_once(':') {
            Some((kind @ ("shared" | "master" | "propagate_from"), _)) => format!("{kind}:N"),
            _ => (*field).to_owned(),
        })
        .collect();
    format!("{device} {}", rest.join(" "))
}

/// What differs on purpose. A file system of its own is mounted writable and its
/// *mount* made read-only, since the superblock may be shared with the host
/// (sysfs in the host's network namespace). The tmpfs around the cgroup
/// hierarchies is read-only when `config.json` says so, which runc 1.1 forgets.
/// The hierarchies are binds, which keep the host's name of their source.
fn known_difference(line: String) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    // A masked file is a null device of ours, on a mount that is read-only; with
    // runc it is the one in the container's /dev.
    if fields.get(1) == Some(&"/null") {
        return format!("0:N /null {} rw - null null rw", fields[2]);
    }
    match fields.get(2) {
        Some(&"/sys") => line.replace("sysfs sysfs ro", "sysfs sysfs rw"),
        Some(&"/sys/fs/cgroup") if line.contains(" tmpfs ") => {
            line.replace("/sys/fs/cgroup rw,", "/sys/fs/cgroup ro,")
        }
        Some(path) if path.starts_with("/sys/fs/cgroup") => line
            .replace(" - cgroup systemd ", " - cgroup cgroup ")
            .replace(" - cgroup2 none ", " - cgroup2 cgroup "),
        _ => line,
    }
}

/// An `ls -l` line without size, dates and the numbers of pipes, namespaces and
/// processes.
fn listing_line(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() < 9 {
        return line.to_owned();
    }
    let mode_and_owner = [words[0], words[2], words[3]].join(" ");
    // Numbers of a device stand where a size does.
    let (numbers, name) = if words[0].starts_with(['c', 'b']) {
        (words[4..6].join(" "), words[9..].join(" "))
    } else {
        (String::new(), words[8..].join(" "))
    };
    let name = match name.split_once(" -> ") {
        Some((from, to)) => {
            let from: String = from
                .split('/')
                .map(|part| {
                    if part.parse::<u32>().is_ok() && from.starts_with('/') {
                        "N"
                    } else {
                        part
                    }
                })
                .collect::<Vec<_>>()
                .join("/");
            let to = to.split(":[").next().unwrap();
            // Output files are named after the call that made them.
            let to = if to.contains("DIR/") { "DIR/FILE" } else { to };
            format!("{from} -> {to}")
        }
        None => name,
    };
    format!("{mode_and_owner} {numbers} {name}")
}

/// What init prints, and what an exec with `flags` prints. Detached, since runc
/// puts pipes of its own between a foreground process and the caller.
fn look(sandbox: &Sandbox, config: &Config, flags: &[&str]) -> [Seen; 2] {
    let script = format!("{PROBE}\nsection end");
    let init = config
        .clone()
        .set("/process/args", ["/bin/sh", "-c", &script]);
    let end = "== end\n";
    let bundle = sandbox.bundle(&init);
    let container = sandbox.run_detached(&bundle);
    container.wait_for("stopped");
    let text = container.stdout();
    assert!(text.ends_with(end), "{text}");
    let first = normalise(sandbox, &bundle.id, &text, false);
    container.delete_force();

    let bundle = sandbox.bundle(
        &config
            .clone()
            .set("/process/args", ["/bin/sleep", "100000"]),
    );
    let container = sandbox.run_detached(&bundle);
    let comm = format!("/proc/{}/comm", container.pid());
    wait_until("the sleep", || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n")
    });
    let exec = sandbox
        .call(["exec", "--detach"])
        .args(flags)
        .args([&container.id, "/bin/sh", "-c", &script])
        .spawn();
    wait_until("the exec's end", || exec.stdout().ends_with(end));
    let second = normalise(sandbox, &bundle.id, &exec.stdout(), true);
    exec.wait().succeeded();
    container.delete_force();
    [first, second]
}

/// Debian's runc, in a sandbox of its own.
macro_rules! runc {
    ($sandbox:expr) => {
        match $sandbox.peer(Kind::Runc) {
            Some(peer) => peer,
            None => skip!("no runc to compare with"),
        }
    };
}

/// Compares `config` under the runtime under test and a peer.
#[track_caller]
fn compare(sandbox: &Sandbox, peer: &Sandbox, config: &Config, flags: &[&str]) {
    let ours = look(sandbox, config, flags);
    let theirs = look(peer, config, flags);
    let mut differences = Vec::new();
    for (place, (ours, theirs)) in ["init", "exec"].iter().zip(ours.iter().zip(&theirs)) {
        assert!(ours.len() > 20, "sections of {place}");
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>()
        );
        for (section, lines) in ours {
            let other = &theirs[section];
            for line in lines.iter().filter(|line| !other.contains(line)) {
                differences.push(format!("{place}, {section}: only here: {line}"));
            }
            for line in other.iter().filter(|line| !lines.contains(line)) {
                differences.push(format!("{place}, {section}: only in runc: {line}"));
            }
            if lines.len() != other.len() {
                differences.push(format!(
                    "{place}, {section}: {} lines, {} in runc",
                    lines.len(),
                    other.len()
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn a_plain_container_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    compare(sandbox, &runc, &Config::sleeper(), &[]);
}

fn a_container_of_an_ordinary_user_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [44, 5]});
    let config = Config::sleeper()
        .set("/process/user", user)
        .set("/process/cwd", "/tmp")
        .env("WITH", "a value");
    compare(sandbox, &runc, &config, &[]);
}

/// Debian's runc forgets it in exec, so there is nobody to compare with.
fn the_umask_holds_in_init_and_exec(sandbox: &Sandbox) {
    let config = Config::shell("umask; sleep 100000").set("/process/user/umask", 0o27);
    let container = sandbox.run_detached(&sandbox.bundle(&config));
    wait_until("output", || container.stdout().contains('\n'));
    assert_eq!(container.stdout(), "0027\n");
    if sandbox.runtime().is_kusabi() {
        assert_eq!(container.sh("umask").succeeded().stdout, "0027\n");
    }
}

fn a_container_with_capabilities_and_limits_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let names = ["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_MKNOD"];
    let config = Config::sleeper()
        .capabilities(&names)
        .set("/process/capabilities/inheritable", &names[..2])
        .set("/process/capabilities/ambient", &names[..2])
        .set("/process/noNewPrivileges", false)
        .set("/process/oomScoreAdj", 321)
        .push(
            "/process/rlimits",
            json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 2}),
        )
        .push(
            "/process/rlimits",
            json!({"type": "RLIMIT_NPROC", "soft": 500, "hard": 600}),
        );
    compare(sandbox, &runc, &config, &[]);
}

fn a_read_only_container_with_mounts_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let config = Config::sleeper()
        .set("/root/readonly", true)
        .mount("bind", "/etc", "/volume", &["rbind", "ro"])
        .mount(
            "bind",
            "/etc/hostname",
            "/etc/hostname",
            &["bind", "nosuid", "nodev", "noexec"],
        )
        .mount(
            "tmpfs",
            "tmpfs",
            "/run/deep/er",
            &["nosuid", "size=1024k", "mode=711"],
        )
        .set("/linux/rootfsPropagation", "private");
    compare(sandbox, &runc, &config, &[]);
}

fn a_container_in_the_hosts_namespaces_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let config = Config::sleeper()
        .without_namespace("network")
        .without_namespace("ipc")
        .without_namespace("cgroup");
    compare(sandbox, &runc, &config, &[]);
}

fn a_container_in_a_user_namespace_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let config = Config::sleeper()
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    compare(sandbox, &runc, &config, &[]);
}

fn a_container_with_seccomp_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"},
        ],
    });
    let config = Config::sleeper().set("/linux/seccomp", profile);
    compare(sandbox, &runc, &config, &[]);
    let without_privileges = config.set("/process/noNewPrivileges", false);
    compare(sandbox, &runc, &without_privileges, &[]);
    // And it is in force, in init and exec.
    let bundle = sandbox.bundle(&without_privileges);
    let container = sandbox.run_detached(&bundle);
    let out = container.sh("mkdir /tmp/new").exited(1);
    assert!(out.stderr.contains("No space left on device"), "{out}");
}

fn exec_with_flags_is_the_same(sandbox: &Sandbox) {
    let runc = runc!(sandbox);
    let flags = [
        "--user",
        "1000:1000",
        "--env",
        "NEW=1",
        "--env",
        "TERM=dumb",
        "--cwd",
        "/var",
        "--cap",
        "CAP_NET_ADMIN",
        "--additional-gids",
        "44",
    ];
    let config = Config::sleeper().set("/process/noNewPrivileges", false);
    compare(sandbox, &runc, &config, &flags);
}
