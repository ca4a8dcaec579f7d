//! Random specifications, most of them valid: what must hold for every one.
//!
//! `cargo test --test cdi -- --ignored --nocapture print_cases` prints such
//! specifications and what kusabi makes of them, one JSON value a line, for
//! comparison with another implementation (`KUSABI_CASES`: how many).

use kusabi::cdi::{Mode, Registry, Spec, SpecFile, minimum_version};
use kusabi::document::Document;
use kusabi::edit::apply;
use kusabi::host::nodes::probe;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Host, context, plan, wanted};

/// Mostly one of `good`, sometimes one of `bad`.
fn mostly(
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    prop_oneof![60 => select(good), 1 => select(bad)].prop_map(Value::from)
}

/// An object of these fields; `None` leaves one out.
fn object<S>(fields: S) -> impl Strategy<Value = Value>
where
    S: Strategy<Value = Vec<(&'static str, Option<Value>)>>,
{
    fields.prop_map(|fields| {
        let fields = fields
            .into_iter()
            .filter_map(|(key, v)| Some((key.to_owned(), v?)));
        Value::Object(fields.collect::<Map<_, _>>())
    })
}

fn list(item: impl Strategy<Value = Value>, max: usize) -> impl Strategy<Value = Value> {
    vec(item, 0..=max).prop_map(Value::from)
}

fn env() -> impl Strategy<Value = Value> {
    mostly(
        &["A=1", "B=2", "A=", "C==", "LONG_NAME=a b"],
        &["", "=x", "NAME"],
    )
}

/// Nodes that every Linux host has, so that another implementation finds them.
const NODES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random"];

fn device_node() -> impl Strategy<Value = Value> {
    object(
        (
            mostly(
                &["/dev/null", "/dev/zero", "/dev/a", "/dev/b/c"],
                &["", "dev/a"],
            ),
            select(NODES),
            weighted(0.3, mostly(&["c", "", "u"], &["b", "x", "cc"])),
            weighted(0.3, prop_oneof![20 => 0..4096_i64, 1 => Just(-1_i64)]),
            weighted(0.3, prop_oneof![20 => 0..1_048_576_i64, 1 => Just(-5_i64)]),
            weighted(0.3, 0..0o1000_u32),
            weighted(
                0.5,
                mostly(&["rwm", "r", "", "none", "mm"], &["x", "rwn", "r w"]),
            ),
            weighted(0.3, any::<u32>()),
            weighted(0.3, any::<u32>()),
        )
            .prop_map(
                |(path, host, kind, major, minor, mode, permissions, uid, gid)| {
                    // Only these are on the host under the same name.
                    let same = path.as_str().is_some_and(|path| NODES.contains(&path));
                    std::vec![
                        ("path", Some(path)),
                        ("hostPath", (!same).then(|| host.into())),
                        ("type", kind),
                        ("major", major.map(Value::from)),
                        ("minor", minor.map(Value::from)),
                        ("fileMode", mode.map(Value::from)),
                        ("permissions", permissions),
                        ("uid", uid.map(Value::from)),
                        ("gid", gid.map(Value::from)),
                    ]
                },
            ),
    )
}

fn mount() -> impl Strategy<Value = Value> {
    let options = list(
        mostly(&["ro", "bind", "rbind", "idmap", "nosuid"], &["a b"]),
        3,
    );
    object(
        (
            mostly(&["/", "/etc", "/dev"], &[""]),
            mostly(
                &["/a", "/a/b", "/c", "/a/b/c"],
                &["", "a", "/a/../b", "/proc/x"],
            ),
            weighted(0.5, options),
            weighted(0.3, mostly(&["bind", "none", ""], &["tmpfs"])),
        )
            .prop_map(|(host, container, options, kind)| {
                std::vec![
                    ("hostPath", Some(host)),
                    ("containerPath", Some(container)),
                    ("options", options),
                    ("type", kind),
                ]
            }),
    )
}

fn hook() -> impl Strategy<Value = Value> {
    const STAGES: &[&str] = &[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    object(
        (
            mostly(STAGES, &["", "preStart", "creatContainer"]),
            mostly(&["/bin/sh", "/bin/true"], &["", "bin/sh"]),
            weighted(0.5, list(mostly(&["a", "", "--b=c"], &["\u{0}"]), 3)),
            weighted(0.3, list(env(), 2)),
            weighted(
                0.3,
                prop_oneof![20 => 1..100_i64, 1 => Just(0_i64), 1 => Just(-1_i64)],
            ),
        )
            .prop_map(|(stage, path, args, env, timeout)| {
                std::vec![
                    ("hookName", Some(stage)),
                    ("path", Some(path)),
                    ("args", args),
                    ("env", env),
                    ("timeout", timeout.map(Value::from)),
                ]
            }),
    )
}

fn rdt() -> impl Strategy<Value = Value> {
    object(
        (
            weighted(
                0.5,
                mostly(&["a", "/", "a.b", ""], &[".", "..", "a/b", "a\nb"]),
            ),
            weighted(0.3, Just("L3:0=f".into())),
            weighted(0.3, Just("MB:0=50".into())),
            weighted(0.2, list(Just("L2:0=f".into()), 2)),
            weighted(0.2, any::<bool>()),
        )
            .prop_map(|(clos, l3, mb, schemata, monitoring)| {
                std::vec![
                    ("closID", clos),
                    ("l3CacheSchema", l3),
                    ("memBwSchema", mb),
                    ("schemata", schemata),
                    ("enableMonitoring", monitoring.map(Value::from)),
                ]
            }),
    )
}

fn net_device() -> impl Strategy<Value = Value> {
    object(
        (
            mostly(&["eth1", "eth2"], &[""]),
            mostly(&["net0", "net1"], &[""]),
        )
            .prop_map(|(host, name)| {
                std::vec![("hostInterfaceName", Some(host)), ("name", Some(name))]
            }),
    )
}

fn edits(at_least_env: bool) -> impl Strategy<Value = Value> {
    let env = list(env(), 3);
    object(
        (
            weighted(if at_least_env { 0.97 } else { 0.5 }, env),
            weighted(0.5, list(device_node(), 3)),
            weighted(0.1, list(net_device(), 2)),
            weighted(0.4, list(hook(), 2)),
            weighted(0.4, list(mount(), 3)),
            weighted(0.1, rdt()),
            weighted(0.2, list((0..6_u32).prop_map(Value::from), 3)),
        )
            .prop_map(|(env, nodes, net, hooks, mounts, rdt, gids)| {
                std::vec![
                    ("env", env),
                    ("deviceNodes", nodes),
                    ("netDevices", net),
                    ("hooks", hooks),
                    ("mounts", mounts),
                    ("intelRdt", rdt),
                    ("additionalGids", gids),
                ]
            }),
    )
}

fn annotations() -> impl Strategy<Value = Option<Value>> {
    weighted(0.1, select(&["{}", "{\"a\": \"b\"}"][..]))
        .prop_map(|text| text.map(|text| serde_json::from_str(text).unwrap()))
}

fn device() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &["a", "b", "c", "d", "e-1:2.3_x", "0", "7z"];
    object(
        (
            mostly(NAMES, &["", "a b", "-a", "a:"]),
            annotations(),
            edits(true),
        )
            .prop_map(|(name, annotations, edits)| {
                std::vec![
                    ("name", Some(name)),
                    ("annotations", annotations),
                    ("containerEdits", Some(edits)),
                ]
            }),
    )
}

const VERSIONS: &[&str] = &[
    "1.1.0", "v1.1.0", "1.1.0", "1.1.0", "1.0.0", "0.7.0", "0.6.0", "0.5.0",
];
const BAD_VERSIONS: &[&str] = &["0.3.0", "0.4.0", "0.2.0", "1.2.0", "", "vv1.0.0"];

fn specification() -> impl Strategy<Value = Value> {
    object(
        (
            mostly(VERSIONS, BAD_VERSIONS),
            mostly(
                &["v.com/c", "v-1.com/c_2", "v/c.d"],
                &["", "v", "v/", "v.com/c/d", "-v/c"],
            ),
            annotations(),
            weighted(0.5, edits(false)),
            vec(device(), 1..4),
        )
            .prop_map(|(version, kind, annotations, edits, devices)| {
                std::vec![
                    ("cdiVersion", Some(version)),
                    ("kind", Some(kind)),
                    ("annotations", annotations),
                    ("containerEdits", edits),
                    ("devices", Some(devices.into())),
                ]
            }),
    )
}

fn registry(text: &str) -> Registry {
    let file = SpecFile {
        path: "/etc/cdi/x.json".into(),
        priority: 0,
        content: Ok(text.as_bytes().to_vec()),
    };
    Registry::load(vec!["/etc/cdi".into()], vec![file])
}

/// This machine, as far as the registry's devices ask.
fn this_host(registry: &Registry, names: &[String]) -> Host {
    match registry.resolve(&wanted(names)) {
        Ok(resolution) => Host(probe("/".as_ref(), resolution.needs()).unwrap()),
        Err(_) => Host::default(),
    }
}

fn names(registry: &Registry) -> Vec<String> {
    registry
        .devices()
        .map(|(name, _)| name.to_string())
        .collect()
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    #[test]
    fn yaml_and_json_agree(spec in specification()) {
        let json = Spec::parse(spec.to_string().as_bytes());
        // The marker makes it YAML.
        let yaml = Spec::parse(format!("--- {spec}\n").as_bytes());
        match (json, yaml) {
            (Ok(json), Ok(yaml)) => prop_assert_eq!(json, yaml),
            (Err(json), Err(yaml)) => {
                let reasons = |all: Vec<kusabi::yaml::Problem>| {
                    all.into_iter().map(|p| (p.field, p.reason)).collect::<Vec<_>>()
                };
                prop_assert_eq!(reasons(json), reasons(yaml));
            }
            (json, yaml) => panic!("{json:?} {yaml:?}"),
        }
    }

    #[test]
    fn what_is_valid_survives_being_printed(spec in specification()) {
        if let Ok(parsed) = Spec::parse(spec.to_string().as_bytes()) {
            prop_assert!(parsed.validate().is_empty());
            let printed = serde_json::to_vec_pretty(&parsed).unwrap();
            prop_assert_eq!(Spec::parse(&printed), Ok(parsed));
        }
    }

    #[test]
    fn every_problem_is_one_line_and_has_a_place(spec in specification()) {
        if let Err(problems) = Spec::parse(format!("{spec:#}").as_bytes()) {
            prop_assert!(!problems.is_empty());
            let lines = format!("{spec:#}").lines().count();
            for problem in problems {
                prop_assert!(!problem.to_string().contains('\n'), "{problem}");
                prop_assert!((1..=lines).contains(&problem.at.line), "{problem}");
            }
        }
    }

    #[test]
    fn the_order_of_requests_does_not_matter_and_twice_is_once(
        spec in specification(), turn in any::<usize>(),
    ) {
        let registry = registry(&spec.to_string());
        let names = names(&registry);
        if names.is_empty() {
            return Ok(());
        }
        let host = this_host(&registry, &names);
        let context = context(Mode::Create);
        let mut turned = names.clone();
        turned.rotate_left(turn % names.len());
        turned.extend(names.clone());
        let first = plan(&registry, &names, &host, &context);
        prop_assert_eq!(&first, &plan(&registry, &turned, &host, &context));
        if let Ok(plan) = first {
            let before = Document::parse(b"{}").unwrap();
            let after = apply(&before, &plan).unwrap();
            let again = apply(&after, &plan).unwrap();
            prop_assert_eq!(after.value(), again.value());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Spec::parse(&bytes);
    }

    #[test]
    fn arbitrary_yaml_never_panics(
        text in r#"[\{\}\[\],:\-\?&\*!\|>'"%@`#~<= \t\n\r\\0aAkind\.é]{0,60}"#,
    ) {
        let _ = Spec::parse(text.as_bytes());
    }

    #[test]
    fn a_specification_with_bytes_changed_never_panics(
        spec in specification(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = spec.to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let registry = registry(&String::from_utf8_lossy(&bytes));
        let names = names(&registry);
        let _ = plan(&registry, &names, &Host::default(), &context(Mode::Explain));
    }
}

#[test]
fn both_valid_and_invalid_specifications_are_generated() {
    let mut runner = TestRunner::deterministic();
    let valid = (0..500)
        .filter(|_| {
            let spec = specification().new_tree(&mut runner).unwrap().current();
            Spec::parse(spec.to_string().as_bytes()).is_ok()
        })
        .count();
    assert!((100..400).contains(&valid), "{valid} of 500 are valid");
}

#[test]
#[ignore = "prints cases for other implementations"]
fn print_cases() {
    let count = std::env::var("KUSABI_CASES").map_or(200, |n| n.parse().unwrap());
    let mut runner = TestRunner::deterministic();
    for _ in 0..count {
        let spec = specification().new_tree(&mut runner).unwrap().current();
        println!("{}", outcome(&spec));
    }
}

/// A specification, and what becomes of an empty configuration that gets all
/// its devices on this machine.
fn outcome(spec: &Value) -> Value {
    let text = spec.to_string();
    let parsed = match Spec::parse(text.as_bytes()) {
        Ok(parsed) => parsed,
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return json!({"spec": spec, "valid": false, "problems": problems});
        }
    };
    let registry = registry(&text);
    let names = names(&registry);
    let host = this_host(&registry, &names);
    let config = plan(&registry, &names, &host, &context(Mode::Create)).and_then(|plan| {
        let document = Document::parse(b"{}").map_err(|e| e.to_string())?;
        let after = apply(&document, &plan).map_err(|e| e.to_string())?;
        Ok(after.value().clone())
    });
    let minimum = minimum_version(&parsed).text();
    let mut value = json!({
        "spec": spec, "valid": true, "minimumVersion": minimum, "devices": names,
    });
    match config {
        Ok(config) => value["config"] = config,
        Err(error) => value["error"] = error.into(),
    }
    value
}
