use serde_json::Value;

use super::Explanation;
use crate::cdi::QualifiedName;
use crate::document::Document;
use crate::edit::{
    Access, Applied, Decision, DeviceKind, DeviceNode, DeviceRule, Edit, Hook, HookStage,
    IdMapping, IntelRdt, Mount, NamespaceKind, Origin, Plan, PolicyLine, Report, Rule, Source,
    Verdict, apply_traced,
};

fn flag() -> Source {
    Source::Flag {
        flag: "--device",
        value: "v.com/gpu=0".to_owned(),
    }
}

fn device_origin() -> Origin {
    Origin {
        rule: Rule::CdiDevice {
            name: QualifiedName::parse("v.com/gpu=0").unwrap(),
            file: "/etc/cdi/v.yaml".into(),
        },
        sources: vec![
            flag(),
            Source::Annotation {
                key: "cdi.k8s.io/x".to_owned(),
                value: "v.com/gpu=0".to_owned(),
            },
        ],
    }
}

fn node() -> DeviceNode {
    DeviceNode {
        path: "/dev/gpu0".into(),
        host_path: "/dev/host-gpu0".into(),
        kind: DeviceKind::Char,
        major: 195,
        minor: 0,
        file_mode: Some(0o660),
        uid: None,
        gid: Some(44),
    }
}

fn rule() -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: Some(195),
        minor: None,
        access: Access::READ | Access::WRITE,
    }
}

fn hook() -> Hook {
    Hook {
        path: "/usr/bin/hook".into(),
        args: vec!["hook".to_owned(), "--ldconfig".to_owned()],
        env: vec!["A=1".to_owned()],
        timeout: Some(5),
    }
}

/// One of each kind.
fn decisions() -> Vec<Decision> {
    let decision = |source, verdict| Decision { source, verdict };
    let devices = vec!["v.com/gpu=0".to_owned()];
    let ignored = |reason: &str, allow| Verdict::Ignored {
        reason: reason.to_owned(),
        allow,
    };
    vec![
        decision(flag(), Verdict::Granted { devices }),
        decision(
            Source::Annotation {
                key: "cdi.k8s.io/x".to_owned(),
                value: "v.com/gpu=9".to_owned(),
            },
            Verdict::Refused {
                reason: "no such device".to_owned(),
            },
        ),
        decision(
            Source::Environment {
                name: "NVIDIA_VISIBLE_DEVICES".to_owned(),
                value: "all".to_owned(),
            },
            ignored(
                "nobody may",
                Some(PolicyLine {
                    line: "sources.environment = \"allow\"".to_owned(),
                    file: "/p.toml".to_owned(),
                }),
            ),
        ),
        decision(
            Source::Mount {
                destination: "/m".into(),
            },
            ignored("flag --device v.com/gpu=0 decides", None),
        ),
        decision(
            Source::Policy {
                file: "/p.toml".into(),
                key: "request.gpus".to_owned(),
            },
            Verdict::Open,
        ),
    ]
}

fn env(name: &str, value: &str) -> Edit {
    let (name, value) = (name.to_owned(), value.to_owned());
    Edit::SetEnv { name, value }
}

fn explain(text: &str, plan: &Plan, check: impl Fn(&Explanation<'_>)) -> Applied {
    let original = Document::parse(text.as_bytes()).unwrap();
    let applied = apply_traced(&original, plan).unwrap();
    check(&Explanation {
        original: &original,
        plan,
        applied: &applied,
        decisions: &decisions(),
    });
    applied
}

#[test]
fn text_says_what_why_and_who() {
    let mut plan = Plan::default();
    let spec = Origin {
        rule: Rule::CdiSpec {
            file: "/etc/cdi/v.yaml".into(),
        },
        sources: vec![flag()],
    };
    plan.push(env("GPU", "void"), spec.clone());
    plan.push(Edit::AddDevice(node()), device_origin());
    plan.push(Edit::AllowDevice(rule()), device_origin());
    plan.push(
        Edit::AddHook(HookStage::CreateContainer, hook()),
        device_origin(),
    );
    let mount = Mount {
        destination: "/lib/x.so".into(),
        kind: None,
        source: Some("/host/x.so".into()),
        options: vec!["ro".to_owned(), "bind".to_owned()],
    };
    plan.push(Edit::AddMount(mount), device_origin());
    let rootless = Origin {
        rule: Rule::Rootless,
        sources: vec![Source::Situation {
            reason: "the caller is not root".to_owned(),
        }],
    };
    plan.push(
        Edit::RemoveMountOption {
            destination: "/dev/pts".into(),
            option: "gid=5".to_owned(),
        },
        rootless,
    );
    // What is said of a request is not said again.
    plan.note(
        "ignored environment NVIDIA_VISIBLE_DEVICES=all: nobody may, X",
        spec.clone(),
    );
    plan.note(
        "mount /m is not used: flag --device v.com/gpu=0 decides",
        spec.clone(),
    );
    plan.note("major 240 in the file is stale, the host has 195", spec);
    let before = r#"{"process":{"env":["GPU=void"]},"mounts":[{"destination":"/dev/pts","options":["gid=5"]}]}"#;
    explain(before, &plan, |explanation| {
        assert_eq!(
            explanation.report().text(),
            "\
5 edits, and 1 already made

requests
  granted    flag --device v.com/gpu=0 (operator): v.com/gpu=0
  refused    annotation cdi.k8s.io/x=v.com/gpu=9 (engine): no such device
  ignored    environment NVIDIA_VISIBLE_DEVICES=all (image): nobody may
             sources.environment = \"allow\" in /p.toml would allow it
  ignored    mount /m (engine): flag --device v.com/gpu=0 decides
  undecided  policy /p.toml request.gpus (operator)

cdi /etc/cdi/v.yaml
  for flag --device v.com/gpu=0
  = process.env              GPU=void

cdi v.com/gpu=0 (/etc/cdi/v.yaml)
  for flag --device v.com/gpu=0
  for annotation cdi.k8s.io/x=v.com/gpu=0
  + linux.devices            /dev/gpu0 c 195:0 mode 0660 gid 44 from /dev/host-gpu0
  + linux.resources.devices  allow c 195:* rw
  + hooks                    createContainer /usr/bin/hook [--ldconfig] env A=1 timeout 5s
  + mounts                   /lib/x.so from /host/x.so (ro,bind)

rootless
  for the caller is not root
  - mounts                   option gid=5 of /dev/pts

notes
  ! major 240 in the file is stale, the host has 195 (cdi /etc/cdi/v.yaml)
"
        );
    });
}

#[test]
fn text_stays_on_its_line_and_counts() {
    let mut plan = Plan::default();
    explain("{}", &plan, |explanation| {
        assert!(
            explanation
                .report()
                .text()
                .starts_with("no edits\n\nrequests\n")
        );
        assert_eq!(explanation.diff().unwrap(), "");
    });
    plan.push(
        env("A", "1\n  + linux.seccomp\u{1b}[2J\u{202e}"),
        device_origin(),
    );
    explain("{}", &plan, |explanation| {
        let text = explanation.report().text();
        assert!(text.starts_with("1 edit\n"));
        assert!(
            text.contains(r"A=1\n  + linux.seccomp\u{1b}[2J\u{202e}"),
            "{text}"
        );
    });
    let again = r#"{"process":{"env":["A=1"]}}"#;
    let mut same = Plan::default();
    same.push(env("A", "1"), device_origin());
    explain(again, &same, |explanation| {
        assert!(
            explanation
                .report()
                .text()
                .starts_with("1 edit, already made\n")
        );
        assert_eq!(explanation.diff().unwrap(), "");
    });
}

#[test]
fn the_diff_shows_edits_and_no_formatting() {
    let mut plan = Plan::default();
    plan.push(env("A", "1"), device_origin());
    let before = r#"{"ociVersion":"1.2.0","process":{"cwd":"/","env":["B=2"]}}"#;
    explain(before, &plan, |explanation| {
        assert_eq!(
            explanation.diff().unwrap(),
            "\
--- config.json
+++ config.json (effective)
@@ -3,7 +3,8 @@
 \t\"process\": {
 \t\t\"cwd\": \"/\",
 \t\t\"env\": [
-\t\t\t\"B=2\"
+\t\t\t\"B=2\",
+\t\t\t\"A=1\"
 \t\t]
 \t}
 }
"
        );
    });
}

/// One edit of each kind, with every optional key.
fn every_edit() -> Vec<Edit> {
    let line = IdMapping {
        container_id: 0,
        host_id: 1000,
        size: 1,
    };
    let mount = Mount {
        destination: "/m".into(),
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".into()),
        options: vec!["ro".to_owned()],
    };
    let rdt = IntelRdt {
        clos_id: Some("gold".to_owned()),
        l3_cache_schema: Some("L3:0=f".to_owned()),
        mem_bw_schema: Some("MB:0=50".to_owned()),
        schemata: vec!["L3:0=f".to_owned()],
        enable_monitoring: true,
    };
    vec![
        env("A", "1"),
        Edit::DefaultEnv {
            name: "B".to_owned(),
            value: "2".to_owned(),
        },
        Edit::AddDevice(DeviceNode {
            uid: Some(1),
            ..node()
        }),
        Edit::RemoveDevice {
            path: "/dev/old".into(),
        },
        Edit::RevokeDevice(rule()),
        Edit::DropDeviceRules,
        Edit::AllowDevice(DeviceRule {
            minor: Some(0),
            ..rule()
        }),
        Edit::AddMount(mount),
        Edit::RemoveMount {
            destination: "/x".into(),
        },
        Edit::RemoveMountOption {
            destination: "/m".into(),
            option: "x".to_owned(),
        },
        Edit::AddHook(HookStage::Poststop, hook()),
        Edit::AddGid(44),
        Edit::AddNetDevice {
            host: "eth0".to_owned(),
            name: "gpu0".to_owned(),
        },
        Edit::SetRdt(rdt),
        Edit::MapIds {
            uid: vec![line],
            gid: vec![line],
        },
        Edit::AddNamespace(NamespaceKind::User),
        Edit::SetCgroupsPath("/x".to_owned()),
        Edit::RemoveAnnotation {
            key: "k".to_owned(),
        },
    ]
}

#[test]
fn json_is_what_the_documentation_says() {
    const DOCS: &str = include_str!("../../../hack/docs/explain-json.md");
    let documented = |word: &str| DOCS.contains(&format!("`{word}`"));
    let sources = vec![
        flag(),
        Source::Annotation {
            key: "k".to_owned(),
            value: "v".to_owned(),
        },
        Source::Environment {
            name: "n".to_owned(),
            value: "v".to_owned(),
        },
        Source::Mount {
            destination: "/m".into(),
        },
        Source::Policy {
            file: "/p".into(),
            key: "k".to_owned(),
        },
        Source::Service {
            field: "f".to_owned(),
        },
        Source::Situation {
            reason: "r".to_owned(),
        },
    ];
    let file = || "/etc/cdi/v.yaml".into();
    let rules = [
        Rule::CdiSpec { file: file() },
        device_origin().rule,
        Rule::Profile { vendor: "nvidia" },
        Rule::Rootless,
        Rule::Builtin("mps"),
    ];
    let mut plan = Plan::default();
    for (index, edit) in every_edit().into_iter().enumerate() {
        let rule = rules[index % rules.len()].clone();
        let sources = sources.clone();
        plan.push(edit, Origin { rule, sources });
    }
    plan.note("n", device_origin());
    explain("{}", &plan, |explanation| {
        let json: Value = serde_json::from_str(&explanation.whole().unwrap().json()).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["changed"], true);
        assert_eq!(json["notes"][0]["text"], "n");
        let edits = json["edits"].as_array().unwrap();
        assert_eq!(edits.len(), 18);
        let mut objects = vec![&json, &json["notes"][0], &json["notes"][0]["origin"]];
        let requests = json["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 5);
        for request in requests {
            let word = |key: &str| request[key].as_str().unwrap();
            assert!(documented(word("decision")), "decision {request}");
            assert!(documented(word("trust")), "trust {request}");
            objects.extend([request, &request["source"]]);
        }
        objects.push(&requests[2]["allow"]);
        assert!(
            json["diff"].as_str().unwrap().contains("+\t\t\t\"A=1\""),
            "{json}"
        );
        for edit in edits {
            let kind = edit["kind"].as_str().unwrap();
            assert!(documented(kind), "kind {kind}");
            let row = DOCS
                .lines()
                .find(|line| line.starts_with("| `") && line.contains(&format!("`{kind}`")))
                .unwrap();
            for key in edit["value"].as_object().unwrap().keys() {
                assert!(row.contains(&format!("`{key}`")), "{key} of {kind}");
            }
            let outcome = edit["outcome"].as_str().unwrap();
            assert!(documented(outcome), "outcome {outcome}");
            objects.extend([edit, &edit["origin"], &edit["origin"]["rule"]]);
            objects.extend(edit["origin"]["sources"].as_array().unwrap());
        }
        for object in objects {
            for (key, value) in object.as_object().unwrap() {
                assert!(documented(key), "key {key}");
                if key == "kind" {
                    assert!(documented(value.as_str().unwrap()), "kind {value}");
                }
            }
        }
        let device = &edits[2];
        assert_eq!(device["field"], "linux.devices");
        assert_eq!(device["value"]["hostPath"], "/dev/host-gpu0");
        assert_eq!(device["value"]["fileMode"], 0o660);
        assert_eq!(edits[3]["outcome"], "unchanged");
    });
}

#[test]
fn a_stored_explanation_says_the_same() {
    let mut plan = Plan::default();
    for edit in every_edit() {
        plan.push(edit, device_origin());
    }
    plan.note("n", device_origin());
    explain(r#"{"process":{"env":["A=1"]}}"#, &plan, |explanation| {
        let whole = explanation.whole().unwrap();
        let again: Report = serde_json::from_str(&whole.json()).unwrap();
        assert_eq!(again, whole);
        assert_eq!(again.text(), whole.text());
        assert!(whole.text().contains("\nconfig.json\n  --- config.json\n"));
    });
}

#[test]
fn a_refusal_names_the_request() {
    let error = crate::Error::Usage("no such device".to_owned());
    let report = super::refusal(&decisions(), &error);
    let text = report.text();
    assert!(text.starts_with("refused\n\nrequests\n"), "{text}");
    let json: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["error"], "no such device");
    assert_eq!(json["requests"][1]["decision"], "refused");
    assert_eq!(json["requests"][1]["reason"], "no such device");
    assert_eq!(json["edits"], serde_json::json!([]));
}
