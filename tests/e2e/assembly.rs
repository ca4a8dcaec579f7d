//! Who puts a container's root together: its first process, or where that has not
//! the rights or would spoil it, a helper.

use std::fs;

use serde_json::json;

use crate::common::process::Spawn;
use crate::common::runtime::which;
use crate::common::{Config, Sandbox, on_each_view, skip};

on_each_view![
    a_plain_container_takes_one_process,
    the_programs_limits_do_not_bind_who_fills_its_mounts,
    a_mount_that_is_to_be_shared_is_shared,
    sysctls_are_set_in_the_containers_namespaces,
    what_is_no_null_device_is_not_taken_for_it,
];

/// How many processes the runtime starts for a container that ends at once.
fn processes(sandbox: &Sandbox, config: &Config) -> usize {
    let bundle = sandbox.bundle(config);
    let trace = sandbox.dir().join(sandbox.fresh());
    Spawn::new(which("strace").unwrap(), &sandbox.dir().join("traced"))
        .args(["-f", "-qq", "-e", "trace=clone,clone3,fork,vfork", "-o"])
        .arg(&trace)
        .arg(&sandbox.runtime().path)
        .arg("--root")
        .arg(sandbox.root())
        .args(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .succeeded();
    let trace = fs::read_to_string(trace).unwrap();
    let calls = trace.lines().filter(|line| line.contains("("));
    calls.filter(|line| !line.contains("resumed")).count()
}

fn a_plain_container_takes_one_process(sandbox: &Sandbox) {
    if which("strace").is_none() {
        skip!("this machine has no strace");
    }
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let volume = sandbox.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    let config = |options: &[&str]| {
        let volume = volume.to_str().unwrap();
        Config::new(&["/bin/true"]).mount("bind", volume, "/volume", options)
    };
    assert_eq!(processes(sandbox, &config(&["rbind", "rprivate"])), 1);
    assert_eq!(processes(sandbox, &config(&["rbind", "rshared"])), 2);
}

fn the_programs_limits_do_not_bind_who_fills_its_mounts(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let config = Config::shell("wc -c </data/file; ulimit -f")
        .mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"])
        .set(
            "/process/rlimits",
            json!([
                {"type": "RLIMIT_FSIZE", "soft": 512, "hard": 512},
            ]),
        );
    let bundle = sandbox.bundle(&config);
    let data = bundle.path.join("rootfs/data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), [b'x'; 6000]).unwrap();
    let out = sandbox.run(&bundle).succeeded();
    // busybox counts blocks of 512 bytes.
    assert_eq!(out.stdout, "6000\n1\n", "{out}");
}

fn a_mount_that_is_to_be_shared_is_shared(sandbox: &Sandbox) {
    let volume = sandbox.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    let fields = |word: &str| {
        let config = Config::shell("grep ' /volume ' /proc/self/mountinfo").mount(
            "bind",
            volume.to_str().unwrap(),
            "/volume",
            &["rbind", word],
        );
        sandbox.run_config(&config).succeeded().stdout
    };
    assert!(fields("rshared").contains(" shared:"));
    assert!(fields("shared").contains(" shared:"));
    assert!(!fields("rslave").contains(" shared:"));
    assert!(!fields("rprivate").contains(" shared:"));
}

fn sysctls_are_set_in_the_containers_namespaces(sandbox: &Sandbox) {
    const PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let before = fs::read_to_string(PORT).unwrap();
    let config = Config::shell(&format!("cat {PORT} /proc/sys/kernel/shm_rmid_forced"))
        .set(
            "/linux/sysctl/net.ipv4.ip_unprivileged_port_start",
            json!("77"),
        )
        .set("/linux/sysctl/kernel.shm_rmid_forced", json!("1"))
        // They are set before it hides them.
        .set("/linux/readonlyPaths", json!(["/proc/sys"]));
    let out = sandbox.run_config(&config).succeeded();
    assert_eq!(out.stdout, "77\n1\n");
    assert_eq!(fs::read_to_string(PORT).unwrap(), before);
    for (name, value, reason) in [
        (
            "net.ipv4.no_such_thing",
            "1",
            "open sysctl net.ipv4.no_such_thing file: no such file or directory",
        ),
        (
            "net.ipv4.ip_unprivileged_port_start",
            "none",
            r#"failed to write sysctl net.ipv4.ip_unprivileged_port_start = \"none\": invalid argument"#,
        ),
    ] {
        let config = Config::new(&["/bin/true"]).set("/linux/sysctl", json!({name: value}));
        let out = sandbox.run_config(&config).exited(1);
        if sandbox.runtime().is_kusabi() {
            assert!(out.stderr.contains(reason), "{out}");
        }
    }
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// With a /dev of the image's own, and a file in the null device's place.
fn what_is_no_null_device_is_not_taken_for_it(sandbox: &Sandbox) {
    let config = Config::new(&["/bin/true"]).set(
        "/mounts",
        json!([{"destination": "/proc", "type": "proc", "source": "proc"}]),
    );
    let bundle = sandbox.bundle(&config);
    let null = bundle.rootfs().join("dev/null");
    fs::create_dir_all(null.parent().unwrap()).unwrap();
    fs::write(&null, "kept").unwrap();
    let out = sandbox.run(&bundle).exited(1);
    assert_eq!(fs::read_to_string(&null).unwrap(), "kept", "{out}");
}
