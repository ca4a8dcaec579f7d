//! Limits on cgroup v2 with all controllers, by both drivers, and systemd's own
//! idea of them.

use std::fs;

use serde_json::json;

use crate::common::{Config, Sandbox};
use crate::{Driver, command, machine_tests};

machine_tests![
    limits_by_the_cgroupfs_driver,
    limits_by_the_systemd_driver,
    a_unit_is_made_as_asked,
    every_capability_and_higher_limits,
    a_dummy_interface_moves_in,
];

fn limits_by_the_cgroupfs_driver(sandbox: &Sandbox) {
    limits(sandbox, Driver::Cgroupfs);
}

fn limits_by_the_systemd_driver(sandbox: &Sandbox) {
    limits(sandbox, Driver::Systemd);
}

fn limits(sandbox: &Sandbox, driver: Driver) {
    let config = Config::sleeper()
        .set(
            "/linux/resources/memory",
            json!({"limit": 134_217_728, "reservation": 67_108_864, "swap": 268_435_456}),
        )
        .set(
            "/linux/resources/cpu",
            json!({"shares": 512, "quota": 20_000, "period": 50_000, "cpus": "0", "mems": "0"}),
        )
        .set("/linux/resources/pids", json!({"limit": 42}))
        .set("/linux/resources/blockIO", json!({"weight": 500}))
        .set(
            "/linux/resources/unified",
            json!({"memory.high": "100000000"}),
        );
    let bundle = driver.bundle(sandbox, &config);
    let container = driver.run(sandbox, &bundle, &["--detach"]);
    let cgroup = driver.cgroup(&container.id);
    let value = |file: &str| {
        fs::read_to_string(cgroup.join(file))
            .unwrap()
            .trim()
            .to_owned()
    };
    let before = [
        ("memory.max", "134217728"),
        ("memory.low", "67108864"),
        ("memory.high", "99999744"),
        ("cpu.weight", "59"),
        ("cpu.max", "20000 50000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "42"),
    ];
    for (file, want) in before {
        assert_eq!(value(file), want, "{file}");
    }
    container
        .call(
            "update",
            &[
                "--memory",
                "268435456",
                "--memory-swap",
                "268435456",
                "--pids-limit",
                "50",
                "--cpu-quota",
                "33300",
                "--cpu-period",
                "100000",
            ],
        )
        .output()
        .succeeded();
    // systemd keeps whole percents.
    let quota = match driver {
        Driver::Cgroupfs => "33300 100000",
        Driver::Systemd => "34000 100000",
    };
    let after = [
        ("memory.max", "268435456"),
        ("pids.max", "50"),
        ("cpu.max", quota),
        ("cpu.weight", "59"),
    ];
    for (file, want) in after {
        assert_eq!(value(file), want, "{file} after update");
    }
    if let Some(unit) = driver.unit(&container.id) {
        // And it does not put others there.
        command(sandbox, &["systemctl", "daemon-reload"]);
        command(
            sandbox,
            &[
                "systemctl",
                "set-property",
                "--runtime",
                &unit,
                "IOWeight=200",
            ],
        );
        for (file, want) in after {
            assert_eq!(value(file), want, "{file} after reload");
        }
        let shown = command(sandbox, &["systemctl", "show", &unit]);
        for line in [
            "MemoryMax=268435456",
            "TasksMax=50",
            "CPUQuotaPerSecUSec=340ms",
            "AllowedCPUs=0",
            "CPUWeight=59",
        ] {
            assert!(shown.lines().any(|l| l == line), "{line}");
        }
    }
    container.delete_force();
    assert!(!cgroup.exists());
}

fn a_unit_is_made_as_asked(sandbox: &Sandbox) {
    let config = Config::sleeper().set(
        "/annotations",
        json!({"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"}),
    );
    let bundle = sandbox.bundle(&config);
    let path = |text: String| bundle.write(&config.clone().set("/linux/cgroupsPath", text));
    path(format!("kusabitest-pod.slice:p:{}", bundle.id));
    let container = Driver::Systemd.run(sandbox, &bundle, &["--detach"]);
    let unit = format!("p-{}.scope", container.id);
    let shown = command(sandbox, &["systemctl", "show", &unit]);
    for line in [
        "Slice=kusabitest-pod.slice",
        "Delegate=yes",
        "MemoryAccounting=yes",
        "CPUAccounting=yes",
        "TasksAccounting=yes",
        "IOAccounting=yes",
        "DefaultDependencies=no",
        "TimeoutStopUSec=7s",
        "CollectMode=inactive-or-failed",
        "DevicePolicy=strict",
        "ActiveState=active",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line}");
    }
    let own = container.sh("cat /proc/self/cgroup").stdout;
    assert_eq!(own.trim(), "0::/", "exec is in the container's cgroup");
    let host = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert_eq!(
        host.trim(),
        format!("0::/kusabitest.slice/kusabitest-pod.slice/{unit}")
    );
    // Follow-ups know the driver by themselves.
    container.call("pause", &[]).output().succeeded();
    assert_eq!(container.status(), "paused");
    container.call("resume", &[]).output().succeeded();
    container.kill("KILL");
    container.wait_for("stopped");
    container.delete();
    let gone = command(sandbox, &["systemctl", "show", "-p", "LoadState", &unit]);
    assert_eq!(gone.trim(), "LoadState=not-found");
    command(sandbox, &["systemctl", "stop", "kusabitest.slice"]);

    path("/not/for/systemd".to_owned());
    sandbox
        .call(["--systemd-cgroup", "create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says("expected cgroupsPath to be of format");
}

/// What the hosts of other tests may not grant.
fn every_capability_and_higher_limits(sandbox: &Sandbox) {
    let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(last, 40, "41 capabilities");
    let all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    let mut config = Config::shell("grep Cap /proc/self/status; ulimit -n").set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 900_000, "hard": 1_048_576}]),
    );
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        config = config.set(&format!("/process/capabilities/{set}"), json!(all));
    }
    let out = sandbox.run_config(&config).succeeded();
    for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
        assert!(
            out.stdout.contains(&format!("{set}:\t000001ffffffffff")),
            "{out}"
        );
    }
    assert!(out.stdout.ends_with("900000\n"), "{out}");
}

/// The hosts of other tests may lack the driver.
fn a_dummy_interface_moves_in(sandbox: &Sandbox) {
    let ip = |line: &str| {
        let words: Vec<&str> = std::iter::once("ip").chain(line.split(' ')).collect();
        command(sandbox, &words)
    };
    let config = Config::sleeper().set("/linux/netDevices", json!({"kusabi0": {"name": "gpu0"}}));
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        ip("link add kusabi0 type dummy");
        ip("link set kusabi0 mtu 1480 up");
        ip("address add 192.0.2.9/24 dev kusabi0");
        let bundle = driver.bundle(sandbox, &config);
        let container = driver.run(sandbox, &bundle, &["--detach"]);
        let own = container.sh("/bin/busybox ip address show dev gpu0");
        for has in ["mtu 1480", "192.0.2.9/24", "UP"] {
            assert!(own.stdout.contains(has), "{has}: {own}");
        }
        assert!(!ip("link").contains("kusabi0"));
        // It ends with its namespace.
        container.delete_force();
    }
}
