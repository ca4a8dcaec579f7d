//! `explain`: who asked for what, what became of it, and what came out, before a
//! container is made and while it runs.

use std::fs;

use serde_json::Value;

use crate::common::{Bundle, Config, Output, Sandbox, Spawn, on_host};
use crate::leases::Gpus;
use crate::policy;

on_host![
    a_running_container_says_why_it_is_as_it_is,
    what_is_given_later_is_explained_too,
    a_container_without_edits_says_so,
    a_refusal_says_whose_request_it_was,
    the_line_that_is_named_lets_the_request_count,
    a_service_holds_its_gpus_and_is_explained,
];

fn explain(sandbox: &Sandbox, format: &str, id: &str) -> Output {
    let call = ["explain", "--format", format, id];
    sandbox.call(call).output()
}

fn of_bundle(gpus: &Gpus<'_>, format: &str, bundle: &Bundle) -> Spawn {
    gpus.sandbox
        .call(["explain", "--format", format, "--cdi-dir"])
        .arg(&gpus.dir)
        .arg("--bundle")
        .arg(&bundle.path)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap()
}

/// `decision trust text: devices or reason`, one for each request.
fn decisions(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let devices = row["devices"].as_array().map(|list| {
            let names: Vec<String> = list.iter().map(text).collect();
            names.join(",")
        });
        format!(
            "{} {} {}: {}",
            text(&row["decision"]),
            text(&row["trust"]),
            text(&row["text"]),
            devices
                .or_else(|| row["reason"].as_str().map(str::to_owned))
                .unwrap_or_default()
        )
    };
    report["requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect()
}

/// Asks by annotation, by environment, and with a mount.
fn asking(gpus: &Gpus<'_>) -> Bundle {
    let config = Config::sleeper()
        .annotation("cdi.k8s.io/test", &format!("{}/gpu=7", gpus.vendor))
        .env("NVIDIA_VISIBLE_DEVICES", "all");
    gpus.sandbox.bundle(&config)
}

fn a_running_container_says_why_it_is_as_it_is(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 7);
    let bundle = asking(&gpus);
    let count = gpus.count(1);
    let out = sandbox.dir().join("init");
    let create = gpus.call("create", &["--gpus", &count], &bundle);
    create.output_to(&out).output().succeeded();
    // What the bundle says meanwhile is of no interest.
    fs::remove_file(bundle.path.join("config.json")).unwrap();

    let told = json(&explain(sandbox, "json", &bundle.id).succeeded());
    let vendor = &gpus.vendor;
    assert_eq!(
        decisions(&told),
        [
            format!("granted operator flag --gpus {vendor}:1: {vendor}/gpu=0"),
            format!("granted engine annotation cdi.k8s.io/test={vendor}/gpu=7: {vendor}/gpu=7"),
            "ignored image environment NVIDIA_VISIBLE_DEVICES=all: only containers with \
             CAP_SYS_ADMIN may ask there (default)"
                .to_owned(),
        ]
    );
    assert_eq!(
        told["requests"][2]["allow"]["line"],
        "sources.environment = \"allow\""
    );
    assert_eq!(told["changed"], true);
    assert_eq!(told["edits"].as_array().unwrap().len(), 6);
    assert_eq!(
        told["edits"][0]["origin"]["sources"][0]["value"],
        count.as_str()
    );

    let text = explain(sandbox, "text", &bundle.id).succeeded().stdout;
    for part in [
        "6 edits\n\nrequests\n  granted    flag --gpus",
        "sources.environment = \"allow\" in /etc/kusabi/config.toml would allow it\n",
        "+ process.env              GPU_0=yes\n",
        "\nconfig.json\n  --- config.json\n",
        "+      \"GPU_0=yes\",\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let diff = explain(sandbox, "diff", &bundle.id).succeeded().stdout;
    assert_eq!(told["diff"], diff.as_str());
    assert!(diff.contains("+\t\t\t\"GPU_7=yes\""), "{diff}");
    let config = explain(sandbox, "config", &bundle.id).succeeded();
    let inside = json(&config);
    let env = inside["process"]["env"].as_array().unwrap();
    assert!(env.contains(&"GPU_0=yes".into()), "{config}");

    sandbox.call(["start", &bundle.id]).output().succeeded();
    assert_eq!(
        json(&explain(sandbox, "json", &bundle.id).succeeded()),
        told
    );
    gpus.delete(&bundle);
    let gone = explain(sandbox, "text", &bundle.id);
    gone.exited(1).says("container does not exist");
    let both = ["explain", "--bundle", "/", &bundle.id];
    sandbox.call(both).output().exited(1).says("--bundle");
}

fn what_is_given_later_is_explained_too(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 8);
    let (bundle, made) = gpus.create(&[]);
    made.succeeded();
    assert_eq!(
        explain(sandbox, "text", &bundle.id).succeeded().stdout,
        "no edits\n"
    );
    let device = format!("{}/gpu=3", gpus.vendor);
    let change = |action: &str| {
        let call = sandbox.call(["devices", "--cdi-dir"]).arg(&gpus.dir);
        call.args([bundle.id.as_str(), action, &device])
            .output()
            .succeeded();
        json(&explain(sandbox, "json", &bundle.id).succeeded())
    };
    let told = change("add");
    assert_eq!(
        decisions(&told),
        [format!("granted operator flag --device {device}: {device}")]
    );
    let diff = told["diff"].as_str().unwrap();
    assert!(diff.contains("+\t\t\t\t\"path\": \"/dev/gpu3\""), "{diff}");
    let told = change("remove");
    let signs: Vec<&str> = told["edits"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|edit| edit["field"] == "linux.devices")
        .map(|edit| edit["sign"].as_str().unwrap())
        .collect();
    assert_eq!(signs, ["+", "-"]);
    let diff = told["diff"].as_str().unwrap();
    assert!(!diff.contains("/dev/gpu3"), "{diff}");
    gpus.delete(&bundle);
}

fn a_container_without_edits_says_so(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 9);
    let (bundle, made) = gpus.create(&[]);
    made.succeeded();
    let told = json(&explain(sandbox, "json", &bundle.id).succeeded());
    assert_eq!(told["changed"], false);
    assert_eq!(told["requests"], serde_json::json!([]));
    assert_eq!(told["diff"], "");
    assert_eq!(explain(sandbox, "diff", &bundle.id).succeeded().stdout, "");
    gpus.delete(&bundle);
}

fn a_refusal_says_whose_request_it_was(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 10);
    let bundle = asking(&gpus);
    let missing = format!("{}/gpu=99", gpus.vendor);
    let failed = |flags: &[&str]| {
        let output = of_bundle(&gpus, "json", &bundle).args(flags).output();
        let output = output.exited(1);
        let told = json(&output);
        assert_eq!(told["edits"], serde_json::json!([]));
        let error = told["error"].as_str().unwrap().to_owned();
        assert!(
            output.stderr.contains(&error.replace('"', "\\\"")),
            "{output}"
        );
        let words = decisions(&told)
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>();
        (words, told["requests"].clone())
    };
    // One of two devices is not there.
    let (words, requests) = failed(&["--device", &missing]);
    assert_eq!(words, ["refused", "undecided", "ignored"]);
    let reason = requests[0]["reason"].as_str().unwrap();
    assert!(reason.contains("gpu=99"), "{reason}");
    // One that cannot be read.
    let (words, requests) = failed(&["--gpus", "nvidia:"]);
    assert_eq!(words, ["refused"]);
    let reason = requests[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("flag --gpus:"), "{reason}");
    // Two that exclude each other.
    let (two, three) = (gpus.count(2), gpus.count(3));
    let (words, _) = failed(&["--gpus", &two, "--gpus", &three]);
    assert_eq!(words, ["undecided", "refused", "undecided", "ignored"]);
    // In words.
    let output = of_bundle(&gpus, "text", &bundle)
        .args(["--device", &missing])
        .output()
        .exited(1);
    assert!(
        output
            .stdout
            .starts_with("refused\n\nrequests\n  refused    flag --device"),
        "{output}"
    );
}

fn the_line_that_is_named_lets_the_request_count(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 11);
    let vendor = &gpus.vendor;
    let config = Config::sleeper()
        .env("NVIDIA_VISIBLE_DEVICES", &format!("{vendor}/gpu=1"))
        .mount(
            "bind",
            "/dev/null",
            &format!("/var/run/nvidia-container-devices/cdi/{vendor}/gpu/2"),
            &["bind"],
        );
    let bundle = sandbox.bundle(&config);
    let told = |file: &std::path::Path| {
        let call = of_bundle(&gpus, "json", &bundle).env("KUSABI_CONFIG", file);
        json(&call.output().succeeded())
    };
    let before = told(&policy(sandbox, ""));
    let lines: Vec<&str> = before["requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert_eq!(row["decision"], "ignored");
            row["allow"]["line"].as_str().unwrap()
        })
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(before["changed"], false);
    let after = told(&policy(sandbox, &lines.join("\n")));
    assert_eq!(
        decisions(&after),
        [
            format!(
                "granted engine mount /var/run/nvidia-container-devices/cdi/{vendor}/gpu/2: {vendor}/gpu=2"
            ),
            // It counts, and is not heard.
            format!(
                "ignored image environment NVIDIA_VISIBLE_DEVICES={vendor}/gpu=1: mount \
                 /var/run/nvidia-container-devices/cdi/{vendor}/gpu/2 decides"
            ),
        ]
    );
    assert_eq!(after["requests"][1]["allow"], Value::Null);
    let bundle = sandbox
        .bundle(&Config::sleeper().env("NVIDIA_VISIBLE_DEVICES", &format!("{vendor}/gpu=1")));
    let call = of_bundle(&gpus, "json", &bundle).env(
        "KUSABI_CONFIG",
        policy(sandbox, "sources.environment = \"allow\""),
    );
    assert_eq!(
        decisions(&json(&call.output().succeeded())),
        [format!(
            "granted image environment NVIDIA_VISIBLE_DEVICES={vendor}/gpu=1: {vendor}/gpu=1"
        )]
    );
}

/// `run --service` makes the bundle and the container: both know the same.
fn a_service_holds_its_gpus_and_is_explained(sandbox: &Sandbox) {
    let gpus = Gpus::new(sandbox, 12);
    let rootfs = sandbox.bundle(&Config::sleeper()).path.join("rootfs");
    let parent = sandbox.fresh();
    let services = |name: &str| {
        format!(
            "  {name}:\n    cgroup_parent: /{parent}\n    command: {{args: [sleep, \"1000\"]}}\n    \
             resources: {{gpu: {{count: 1, vendor: {}}}}}\n",
            gpus.vendor
        )
    };
    let file = sandbox.dir().join("service.yaml");
    let text = format!(
        "version: v1\ndeployment: demo\nservices:\n{}{}",
        services("one"),
        services("two")
    );
    fs::write(&file, text).unwrap();
    let mut held = Vec::new();
    for name in ["one", "two"] {
        let id = sandbox.fresh();
        let out = sandbox.dir().join(format!("init-{id}"));
        sandbox
            .call(["run", "--detach", "--service"])
            .arg(&file)
            .args(["--name", name, "--cdi-dir"])
            .arg(&gpus.dir)
            .arg("--rootfs")
            .arg(&rootfs)
            .arg("--bundle")
            .arg(sandbox.dir().join(format!("bundle-{id}")))
            .arg(&id)
            .output_to(&out)
            .output()
            .succeeded();
        let told = json(&explain(sandbox, "json", &id).succeeded());
        let number = held.len();
        assert_eq!(
            decisions(&told),
            [format!(
                "granted operator service file services.{name}.resources.gpu.count: {}/gpu={number}",
                gpus.vendor
            )]
        );
        assert_eq!(told["changed"], true);
        held.push(id);
    }
    let vendor = &gpus.vendor;
    let lease = |n: usize| {
        (
            format!("{vendor}/gpu={n}"),
            "exclusive".to_owned(),
            held[n].clone(),
        )
    };
    assert_eq!(gpus.held(), [lease(0), lease(1)]);
    for id in &held {
        sandbox.call(["delete", "--force", id]).output().succeeded();
    }
    assert_eq!(gpus.held(), []);
    for directory in crate::common::host::cgroups_named(&parent) {
        let _ = fs::remove_dir(directory);
    }
}
