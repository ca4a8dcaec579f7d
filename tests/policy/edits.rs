//! What the policy does to containers.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Bundle, Config, Sandbox, host, on_each_view, on_host};
use crate::{policy, under};

on_each_view![a_hook_that_is_not_allowed_is_refused_or_left_out];
on_host![
    directories_of_the_policy_are_read,
    kinds_are_denied_by_name,
    a_broken_policy_keeps_nobody_from_ending_a_container,
    a_vendors_own_hook_does_not_run_beside_ours,
    the_bundle_is_written_back_where_the_policy_says_so,
    the_policys_log_gets_what_the_callers_does_not,
];

/// A directory with `demo.kusabi.dev/device=hooked` and `nvidia.com/gpu=demo`.
fn registry(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.dir().join("cdi");
    host::make_dir(&dir);
    let write = |name: &str, spec: Value| fs::write(dir.join(name), spec.to_string()).unwrap();
    let log = sandbox.dir().join("log");
    write(
        "demo.json",
        json!({
            "cdiVersion": "0.6.0",
            "kind": "demo.kusabi.dev/device",
            "devices": [{"name": "hooked", "containerEdits": {
                "env": ["DEMO=yes"],
                "hooks": [{"hookName": "createRuntime", "path": "/bin/sh",
                           "args": ["sh", "-c", format!("echo cdi >> {}", log.display())]}],
            }}],
        }),
    );
    write(
        "nvidia.json",
        json!({
            "cdiVersion": "0.6.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": "demo", "containerEdits": {"env": ["NVIDIA=yes"]}}],
        }),
    );
    dir
}

fn dirs(registry: &std::path::Path) -> String {
    format!("[devices]\ncdi-dirs = [{registry:?}]\n")
}

fn asking(sandbox: &Sandbox, device: &str) -> Bundle {
    let config = Config::shell("echo $DEMO$NVIDIA").annotation("cdi.k8s.io/test", device);
    sandbox.bundle(&config)
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.dir().join("log")).unwrap_or_default()
}

fn directories_of_the_policy_are_read(sandbox: &Sandbox) {
    let policy = policy(sandbox, &dirs(&registry(sandbox)));
    let bundle = asking(sandbox, "nvidia.com/gpu=demo");
    let done = under(sandbox, &policy, &["run"], &bundle)
        .output()
        .succeeded();
    assert_eq!(done.stdout, "yes\n");
    let listed = sandbox
        .call(["cdi", "list"])
        .env("KUSABI_CONFIG", &policy)
        .output()
        .succeeded();
    assert!(listed.stdout.contains("nvidia.com/gpu=demo"), "{listed}");
}

fn a_hook_that_is_not_allowed_is_refused_or_left_out(sandbox: &Sandbox) {
    let dirs = dirs(&registry(sandbox));
    let bundle = asking(sandbox, "demo.kusabi.dev/device=hooked");
    let run = |hooks: &str| {
        let policy = policy(sandbox, &format!("{dirs}[hooks]\n{hooks}"));
        under(sandbox, &policy, &["run"], &bundle).output()
    };
    let allowed = run("allow = [\"/bin/sh\"]").succeeded();
    assert_eq!(
        (allowed.stdout.as_str(), log(sandbox).as_str()),
        ("yes\n", "cdi\n")
    );

    let refused = run("allow = [\"/usr/bin/other\"]").exited(1);
    assert!(
        refused.stderr.contains("the hook createRuntime /bin/sh")
            && refused.stderr.contains("is not permitted: hooks.allow ("),
        "{refused}"
    );
    assert_eq!(log(sandbox), "cdi\n");

    let without = run("allow = []\nnot-allowed = \"remove\"").succeeded();
    assert_eq!(
        (without.stdout.as_str(), log(sandbox).as_str()),
        ("yes\n", "cdi\n")
    );
    assert!(
        without
            .stderr
            .contains("left out the hook createRuntime /bin/sh"),
        "{without}"
    );
}

fn kinds_are_denied_by_name(sandbox: &Sandbox) {
    let dirs = dirs(&registry(sandbox));
    let bundle = asking(sandbox, "nvidia.com/gpu=demo");
    for (rules, rule) in [
        ("[kinds]\ndeny = [\"nvidia.com/*\"]", "kinds.deny"),
        ("[kinds]\nallow = [\"amd.com/gpu\"]", "kinds.allow"),
        ("[users.root]\ndeny = [\"*\"]", "users.root.deny"),
        ("[users.0]\nallow = []", "users.0.allow"),
    ] {
        let policy = policy(sandbox, &format!("{dirs}{rules}"));
        let refused = under(sandbox, &policy, &["run"], &bundle)
            .output()
            .exited(1);
        let expected = format!("nvidia.com/gpu for user root is not permitted: {rule} (");
        assert!(refused.stderr.contains(&expected), "{refused}");
    }
    let rules = "[kinds]\nallow = [\"nvidia.com/gpu\"]\n[users.nobody]\ndeny = [\"*\"]";
    let policy = policy(sandbox, &format!("{dirs}{rules}"));
    under(sandbox, &policy, &["run"], &bundle)
        .output()
        .succeeded();
}

fn a_broken_policy_keeps_nobody_from_ending_a_container(sandbox: &Sandbox) {
    let broken = policy(sandbox, "x = 1");
    let container = sandbox.run_detached(&sandbox.bundle(&Config::sleeper()));
    let call = |args: &[&str]| sandbox.call(args).env("KUSABI_CONFIG", &broken).output();
    assert!(
        call(&["state", &container.id])
            .succeeded()
            .stdout
            .contains("running")
    );
    call(&["kill", &container.id, "KILL"]).succeeded();
    call(&["delete", "--force", &container.id]).succeeded();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_vendors_own_hook_does_not_run_beside_ours(sandbox: &Sandbox) {
    let dirs = dirs(&registry(sandbox));
    let hook = sandbox.dir().join("nvidia-container-runtime-hook");
    fs::write(
        &hook,
        format!(
            "#!/bin/sh\necho vendor >> {}/log\n",
            sandbox.dir().display()
        ),
    )
    .unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = |annotation: Option<&str>| {
        let config = Config::shell("echo $NVIDIA").push("/hooks/prestart", json!({"path": hook}));
        match annotation {
            Some(device) => config.annotation("cdi.k8s.io/test", device),
            None => config,
        }
    };
    let asking = sandbox.bundle(&config(Some("nvidia.com/gpu=demo")));
    let run = |rules: &str| {
        let policy = policy(sandbox, &format!("{dirs}{rules}"));
        under(sandbox, &policy, &["run"], &asking).output()
    };
    let done = run("").succeeded();
    assert_eq!((done.stdout.as_str(), log(sandbox).as_str()), ("yes\n", ""));
    assert!(done.stderr.contains("took out the prestart hook"), "{done}");
    let refused = run("[hooks]\nvendor = \"refuse\"").exited(1);
    assert!(
        refused.stderr.contains("is not permitted: hooks.vendor ("),
        "{refused}"
    );
    assert_eq!(log(sandbox), "");
    run("[hooks]\nvendor = \"keep\"").succeeded();
    assert_eq!(log(sandbox), "vendor\n");

    // Where kusabi injects nothing of NVIDIA's, the hook is the engine's affair.
    let other = sandbox.bundle(&config(None));
    under(sandbox, &policy(sandbox, &dirs), &["run"], &other)
        .output()
        .succeeded();
    assert_eq!(log(sandbox), "vendor\nvendor\n");
}

fn the_bundle_is_written_back_where_the_policy_says_so(sandbox: &Sandbox) {
    let dirs = dirs(&registry(sandbox));
    let bundle = asking(sandbox, "nvidia.com/gpu=demo");
    let before = fs::read(bundle.config_path()).unwrap();
    under(sandbox, &policy(sandbox, &dirs), &["run"], &bundle)
        .output()
        .succeeded();
    assert_eq!(fs::read(bundle.config_path()).unwrap(), before);

    let writing = policy(sandbox, &format!("{dirs}[runtime]\nwrite-back = true"));
    let mut results = Vec::new();
    for _ in 0..2 {
        under(sandbox, &writing, &["run"], &bundle)
            .output()
            .succeeded();
        results.push(fs::read_to_string(bundle.config_path()).unwrap());
    }
    assert!(results[0].contains("\"NVIDIA=yes\""));
    assert_eq!(results[0], results[1]);
}

fn the_policys_log_gets_what_the_callers_does_not(sandbox: &Sandbox) {
    let copy = sandbox.dir().join("copy.log");
    let main = sandbox.dir().join("main.log");
    let text = format!("[log]\nfile = {copy:?}\nlevel = \"debug\"\nformat = \"json\"\n");
    let policy = policy(sandbox, &text);
    let bundle = sandbox.bundle(&Config::new(&["/bin/true"]));
    sandbox
        .call(["--log"])
        .arg(&main)
        .args(["run", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .env("KUSABI_CONFIG", &policy)
        .output()
        .succeeded();
    assert_eq!(fs::read_to_string(&main).unwrap(), "");
    sandbox
        .call(["--log"])
        .arg(&main)
        .args(["start", "none"])
        .env("KUSABI_CONFIG", &policy)
        .output()
        .exited(1);
    let lines: Vec<Value> = fs::read_to_string(&copy)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["level"], &last["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
    assert!(
        fs::read_to_string(&main)
            .unwrap()
            .contains("container does not exist")
    );
    // A log that cannot be written keeps nobody from anything.
    let policy = crate::policy(sandbox, "[log]\nfile = \"/nonexistent/log\"\n");
    let done = under(sandbox, &policy, &["run"], &bundle)
        .output()
        .succeeded();
    assert!(
        done.stderr
            .contains("the log that the policy names: open /nonexistent/log"),
        "{done}"
    );
}
