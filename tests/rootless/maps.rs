//! Which ids a container has.

use crate::common::{Config, Sandbox, on_each_view, on_host};
use crate::user::{MAP, UID, User, squeezed};

fn the_maps_are_what_the_subid_lines_say(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let script = "cat /proc/self/uid_map; echo; cat /proc/self/gid_map; echo; \
                  cat /proc/self/setgroups; id -u; id -g";
    let out = user.run(&Config::shell(script)).succeeded();
    assert_eq!(
        squeezed(&out.stdout),
        format!("{MAP}\n\n{MAP}\n\nallow\n0\n0")
    );

    // And as exec and the host see it.
    let container = user.sleeper(|c| c);
    let seen = user.exec(&container, script);
    assert_eq!(squeezed(&seen), format!("{MAP}\n\n{MAP}\n\nallow\n0\n0"));
    let out = user.call(["exec", "--user", "1001:1501", &container.id, "sh", "-c"]);
    let out = out.arg("id -u; id -g; touch /tmp/mine").output();
    // Nobody gave it the directory.
    assert!(out.stdout.starts_with("1001\n1501\n"), "{out}");
    assert!(out.stderr.contains("Permission denied"), "{out}");
}

fn an_id_of_a_range_owns_its_files_on_the_host(sandbox: &Sandbox) {
    use std::os::unix::fs::MetadataExt as _;
    let user = User::new(sandbox);
    let chown = r#"["/bin/busybox","sh","-c","/bin/busybox chown 1001:1 /tmp && id -u"]"#;
    let args: serde_json::Value = serde_json::from_str(chown).unwrap();
    let names = serde_json::json!(["CAP_CHOWN"]);
    let mut config = Config::sleeper().set("/process/args", args);
    for set in ["bounding", "effective", "permitted"] {
        config = config.set(&format!("/process/capabilities/{set}"), names.clone());
    }
    let bundle = user.bundle(&config);
    user.run_bundle("run", &[], &bundle).succeeded();
    let meta = std::fs::metadata(bundle.rootfs().join("tmp")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (300_000, 200_000));
}

fn without_an_entry_there_is_one_id(sandbox: &Sandbox) {
    let user = User::with(sandbox, "somebody:100000:65536\n", "");
    let script = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; \
                  grep devpts /proc/mounts | grep -c gid=5; grep -c devpts /proc/mounts";
    let out = user.run(&Config::shell(script));
    let single = format!("0 {UID} 1");
    // `grep` finds no gid=, and devpts once.
    assert_eq!(
        squeezed(&out.stdout),
        format!("{single}\n{single}\ndeny\n0\n1"),
        "{out}"
    );

    let container = user.sleeper(|c| c);
    let seen = user.exec(&container, "id -u; cat /proc/self/setgroups");
    assert_eq!(seen, "0\ndeny\n");
    let out = user
        .call(["exec", "--user", "5", &container.id, "id"])
        .output();
    out.exited(255)
        .says("cannot setuid to unmapped uid 5 in user namespace");
}

fn wrong_ranges_are_refused_by_line(sandbox: &Sandbox) {
    let table = [
        (
            "kusabitest:200000:10\n61742:200009:1\n",
            "",
            "/etc/subuid:2: 200009:1 overlaps with 200000:10 of line 1; remove one of them",
        ),
        (
            "",
            "x:1:1\nkusabitest:61000:1000\n",
            "/etc/subgid:2: 61000:1000 holds the caller's own id 61742, which is the container's \
             root already; remove it from the range",
        ),
        (
            "kusabitest:abc:10\n",
            "",
            "/etc/subuid:1: \\\"abc\\\" is not a number of 32 bits; write NAME:FIRST:COUNT",
        ),
    ];
    for (subuid, subgid, words) in table {
        let user = User::with(sandbox, subuid, subgid);
        let out = user.run(&Config::new(&["/bin/true"])).exited(1).says(words);
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
        let left: Vec<String> = std::fs::read_dir(sandbox.root())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('@'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn a_range_that_is_not_the_callers_is_refused_by_the_helper(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let map = |host: u32| serde_json::json!([{"containerID": 0, "hostID": host, "size": 10}]);
    let config = Config::new(&["/bin/true"])
        .push("/linux/namespaces", serde_json::json!({"type": "user"}))
        .set("/linux/uidMappings", map(500_000))
        .set("/linux/gidMappings", map(500_000))
        .set("/mounts/2/options", serde_json::json!([]));
    let out = user.run(&config).exited(1);
    assert!(
        out.stderr.contains("newuidmap: ") && out.stderr.contains("check /etc/subuid"),
        "{out}"
    );
}

/// What the caller brought is kept: the stage is reached by a root user who may
/// enter none of the caller's directories.
fn a_mapping_that_was_brought_is_left_alone(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let map = serde_json::json!([{"containerID": 0, "hostID": 200_000, "size": 900}]);
    let script = "cat /proc/self/uid_map /proc/self/gid_map; ls -d /dev/null /proc/1";
    let config = Config::shell(script)
        .push("/linux/namespaces", serde_json::json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let bundle = user.bundle(&config);
    let plan = user
        .call(["explain", "--bundle"])
        .arg(&bundle.path)
        .output();
    assert!(plan.succeeded().stdout.starts_with("no edits"));
    let stages = || {
        std::fs::read_dir("/tmp")
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("kusabi-stage-"))
            .count()
    };
    let before = stages();
    let out = user.run_bundle("run", &[], &bundle).succeeded();
    let line = "0 200000 900";
    assert_eq!(
        squeezed(&out.stdout),
        format!("{line}\n{line}\n/dev/null\n/proc/1")
    );
    assert_eq!(stages(), before);
}

/// nvidia-container-toolkit #210, #580: groups that may open the node of a device stay.
fn groups_of_the_caller_stay_and_others_are_refused(sandbox: &Sandbox) {
    let user = User::new(sandbox).in_groups("44,61742");
    let out = user
        .run(&Config::shell("grep Groups: /proc/self/status"))
        .succeeded();
    // Not mapped, so shown as nobody's: but there, as the kernel sees it.
    assert_eq!(squeezed(&out.stdout), "Groups: 65534 0");

    let words = "cannot set any additional groups in a rootless container";
    let config = Config::new(&["/bin/true"]);
    user.run(&config.set("/process/user/additionalGids", serde_json::json!([5])))
        .exited(1)
        .says(words);
    let container = user.sleeper(|c| c);
    let out = user
        .call(["exec", "--additional-gids", "5", &container.id, "true"])
        .output();
    out.exited(255).says(words);
}

/// `runc spec --rootless` and ours write the same, and it runs.
fn spec_rootless_runs(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let bundle = user.bundle(&Config::new(&["/bin/true"]));
    std::fs::remove_file(bundle.config_path()).unwrap();
    user.call_bare(["spec", "--rootless", "--bundle"])
        .arg(&bundle.path)
        .output()
        .succeeded();
    let text = std::fs::read_to_string(bundle.config_path()).unwrap();
    let mut made: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        made["linux"]["uidMappings"],
        serde_json::json!([{"containerID": 0, "hostID": UID, "size": 1}])
    );
    made["process"]["terminal"] = false.into();
    made["process"]["args"] = serde_json::json!(["cat", "/proc/self/uid_map"]);
    std::fs::write(bundle.config_path(), made.to_string()).unwrap();
    let out = user.run_bundle("run", &[], &bundle).succeeded();
    assert_eq!(squeezed(&out.stdout), format!("0 {UID} 1"));
}

fn explain_shows_every_change_and_why(sandbox: &Sandbox) {
    let user = User::new(sandbox);
    let config = Config::new(&["/bin/true"])
        .without_namespace("network")
        .push(
            "/linux/devices",
            serde_json::json!(
            {"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3}),
        );
    let bundle = user.bundle(&config);
    let before = std::fs::read(bundle.config_path()).unwrap();
    let out = user
        .call(["explain", "--bundle"])
        .arg(&bundle.path)
        .output()
        .succeeded();
    for words in [
        "the caller is uid 61742, not root",
        "+ linux.namespaces         user",
        "uid 0:61742:1,1:200000:1000,1001:300000:500,1501:400000:1 gid 0:61742:1",
        "sysfs cannot be mounted without a new network namespace",
        "/sys from /sys type none (rbind,nosuid,noexec,nodev,ro)",
        "device nodes cannot be made in a user namespace",
        "- linux.devices            /dev/nothing",
        "/dev/nothing from /dev/null type bind (bind)",
        "device rules take privilege over the host's devices",
    ] {
        assert!(out.stdout.contains(words), "{words}\n{out}");
    }
    let json = user
        .call(["explain", "--format", "json", "--bundle"])
        .arg(&bundle.path)
        .output();
    let json: serde_json::Value = serde_json::from_str(&json.succeeded().stdout).unwrap();
    let kinds: Vec<&str> = json["edits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "addNamespace",
            "mapIds",
            "addNamespace",
            "addMount",
            "removeDevice",
            "addMount",
            "dropDeviceRules"
        ]
    );
    assert!(
        json["edits"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["origin"]["rule"]["kind"] == "rootless")
    );
    assert_eq!(std::fs::read(bundle.config_path()).unwrap(), before);
    // The host's root gets none of it.
    let out = sandbox
        .call(["explain", "--bundle"])
        .arg(&bundle.path)
        .output()
        .succeeded();
    assert!(out.stdout.starts_with("no edits"), "{out}");
}

on_each_view!(
    the_maps_are_what_the_subid_lines_say,
    without_an_entry_there_is_one_id,
    a_mapping_that_was_brought_is_left_alone,
    spec_rootless_runs,
);
on_host!(
    an_id_of_a_range_owns_its_files_on_the_host,
    wrong_ranges_are_refused_by_line,
    a_range_that_is_not_the_callers_is_refused_by_the_helper,
    groups_of_the_caller_stay_and_others_are_refused,
    explain_shows_every_change_and_why,
);
