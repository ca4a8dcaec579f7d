//! Limits of a service file on cgroup v2, by both drivers: as the container sees
//! them, as they bite, and as systemd knows them.

use std::fs;

use crate::common::sandbox::make_rootfs;
use crate::common::{Sandbox, host};
use crate::{Driver, command, machine_tests};

machine_tests![
    a_service_is_limited_by_the_cgroupfs_driver,
    a_service_is_limited_by_the_systemd_driver,
];

fn a_service_is_limited_by_the_cgroupfs_driver(sandbox: &Sandbox) {
    is_limited(sandbox, Driver::Cgroupfs);
}

fn a_service_is_limited_by_the_systemd_driver(sandbox: &Sandbox) {
    is_limited(sandbox, Driver::Systemd);
}

/// Each service, with what it runs.
const SERVICES: [(&str, &str); 2] = [
    (
        "looks",
        "cd /sys/fs/cgroup; cat memory.max cpu.max; \
         head -c 100000000 /dev/zero | tail -n 1 | wc -c; grep -w oom_kill memory.events",
    ),
    ("stays", "exec sleep 100000"),
];

fn is_limited(sandbox: &Sandbox, driver: Driver) {
    let dir = sandbox.dir();
    make_rootfs(&dir.join("rootfs"));
    let name = sandbox.fresh();
    let parent = match driver {
        Driver::Cgroupfs => format!("/{name}"),
        Driver::Systemd => "machine.slice".to_owned(),
    };
    let mut text = "version: v1\ndeployment: demo\nservices:\n".to_owned();
    for (name, script) in SERVICES {
        text.push_str(&format!(
            "  {name}:\n    cgroup_parent: {parent}\n    \
             command: {{entrypoint: [/bin/sh, -c, '{script}']}}\n    \
             resources: {{cpu: 2, memory: 64Mi}}\n"
        ));
    }
    let file = dir.join("service.yaml");
    fs::write(&file, text).unwrap();
    let run = |service: &str, more: &[&str]| {
        sandbox
            .call(driver.globals())
            .args(["run", "--name", service, "--service"])
            .arg(&file)
            .arg("--rootfs")
            .arg(dir.join("rootfs"))
            .args(more)
            .output()
            .succeeded()
    };
    let id = sandbox.fresh();
    let seen = run("looks", &[&id]).stdout;
    assert_eq!(seen, "67108864\n200000 100000\n0\noom_kill 1\n");

    let id = sandbox.fresh();
    let bundle = dir.join("bundle");
    run(
        "stays",
        &["--detach", "--bundle", bundle.to_str().unwrap(), &id],
    );
    if driver == Driver::Systemd {
        let unit = format!("kusabi-{id}.scope");
        let show = |property: &str| {
            let said = command(
                sandbox,
                &["systemctl", "show", "--value", "-p", property, &unit],
            );
            said.trim().to_owned()
        };
        assert_eq!(show("MemoryMax"), "67108864");
        assert_eq!(show("CPUQuotaPerSecUSec"), "2s");
        assert_eq!(show("Slice"), "machine.slice");
    } else {
        let cgroup = format!("/sys/fs/cgroup/{name}/{id}");
        let value = |file: &str| fs::read_to_string(format!("{cgroup}/{file}")).unwrap();
        assert_eq!(value("memory.max"), "67108864\n");
        assert_eq!(value("cpu.max"), "200000 100000\n");
    }
    sandbox
        .call(["delete", "--force", &id])
        .output()
        .succeeded();
    sandbox
        .call(["bundle", "clean"])
        .arg(&bundle)
        .output()
        .succeeded();
    // It was empty: the first run has cleaned up behind itself.
    fs::remove_dir(sandbox.root().join("bundles")).unwrap();
    for directory in host::cgroups_named(&name) {
        fs::remove_dir(directory).unwrap();
    }
}
