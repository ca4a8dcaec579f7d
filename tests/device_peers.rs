//! The policy of a rule list against what runc does with it, in real
//! containers: 24 lists, 24 requests each, on v1 and on v2.
//!
//! Where they differ is written down with the list, and must stay so: ours is
//! the stricter every time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr)]

mod common;
mod device_probe;

use common::runtime::Kind;
use common::{Config, Sandbox, View, on_each_view};
use device_probe::{Request, access, nodes, rules};
use kusabi::device::policy::NodeKind;
use kusabi::device::{DeviceError, DeviceFilter};
use kusabi::edit::DeviceKind;
use serde_json::{Value, json};

on_each_view![runc_allows_what_the_policy_does];

/// A list, what runc allows beyond us on both versions, and what on v2 alone.
struct Case(
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// `c 60:0` and `c 60:1`, which some lists tell apart, and their neighbours.
const DEVICES: [&str; 6] = ["c 60:0", "c 60:1", "c 61:0", "b 60:0", "b 60:1", "b 61:0"];

const CASES: [Case; 24] = [
    Case("", &[], &[]),
    Case("deny a *:* rwm", &[], &[]),
    Case("allow a *:* rwm", &[], &[]),
    Case("deny a *:* rwm; allow a *:* rwm", &[], &[]),
    Case("allow a *:* rwm; deny a *:* rwm; allow b 60:0 r", &[], &[]),
    Case("deny a *:* r; allow c 60:0 rw", &[], &[]),
    Case("allow c 60:0 rwm", &[], &[]),
    Case("allow c 60:0 r", &[], &[]),
    Case("allow c 60:0 w; allow b 60:1 r", &[], &[]),
    Case("allow c 60:0 r; allow c 60:0 w", &[], &[]),
    Case("allow c 60:* r; allow c 60:0 w", &[], &[]),
    Case("allow c 60:* r; allow c 60:0 rw", &[], &[]),
    Case("allow c *:0 rw; allow b 60:* w", &[], &[]),
    Case("allow c *:* rw", &[], &[]),
    Case("allow b *:* rwm; allow c 61:0 rm", &[], &[]),
    Case("allow c 60:0 rwm; deny c 60:0 wm", &[], &[]),
    Case("allow c 60:* rw; deny c 60:1 m", &[], &[]),
    Case("allow c 60:* rwm; deny c 60:1 w", &[], &[]),
    Case("allow a *:* rwm; deny c 60:0 rwm", &[], &[]),
    // runc's v2 program refuses a request that it denies in full only.
    Case(
        "allow a *:* rwm; deny c 60:0 w; deny b 60:* r",
        &[],
        &["c 60:0 rw", "b 60:0 rw", "b 60:1 rw"],
    ),
    Case(
        "allow a *:* rwm; deny c 60:0 rw; allow c 60:0 r",
        &[],
        &["c 60:0 rw"],
    ),
    // A deny that does not repeat the numbers of the allow is nothing to runc.
    Case(
        "allow c 60:0 rw; allow c 61:0 r; deny c 60:* w",
        &["c 60:0 w", "c 60:0 rw"],
        &[],
    ),
    // Without a type, numbers are nothing to runc: it opens everything.
    Case(
        "allow a 60:0 rw",
        &[
            "c 60:1 r",
            "c 60:1 w",
            "c 60:1 rw",
            "c 61:0 r",
            "c 61:0 w",
            "c 61:0 rw",
            "b 60:1 r",
            "b 60:1 w",
            "b 60:1 rw",
            "b 61:0 r",
            "b 61:0 w",
            "b 61:0 rw",
        ],
        &[],
    ),
    Case("allow c 4095:1048575 rw; allow c 61:0 r", &[], &[]),
];

fn runc_allows_what_the_policy_does(sandbox: &Sandbox) {
    let Some(runc) = sandbox.peer(Kind::Runc) else {
        common::skip::report("needs runc");
        return;
    };
    let requests: Vec<_> = DEVICES
        .iter()
        .flat_map(|device| ["r", "w", "rw", "m"].map(|access| format!("{device} {access}")))
        .collect();
    for Case(list, everywhere, on_v2) in CASES {
        let ours = DeviceFilter::for_container(&rules(list), &[]);
        let theirs = in_container(&runc, list, &requests);
        let Some(theirs) = theirs else {
            assert!(
                matches!(ours, Err(DeviceError::Rule(_))),
                "{list}: {ours:?}"
            );
            continue;
        };
        let ours = ours.unwrap_or_else(|error| panic!("{list}: {error}"));
        for (text, theirs) in requests.iter().zip(theirs) {
            let request = Request::new(text);
            let kind = match request.kind.as_str() {
                "b" => NodeKind::Block,
                _ => NodeKind::Char,
            };
            let wanted = access(&request.access);
            let allowed = ours
                .policy()
                .allows(kind, request.major, request.minor, wanted);
            let known = everywhere.contains(&text.as_str())
                || sandbox.view() == View::Unified && on_v2.contains(&text.as_str());
            let expected = if known {
                (false, true)
            } else {
                (theirs, theirs)
            };
            assert_eq!((allowed, theirs), expected, "(we, runc): {text} in {list}");
        }
    }
}

/// Whether each request succeeds in a container with this list; `None` when the
/// runtime refuses the list.
fn in_container(runtime: &Sandbox, list: &str, requests: &[String]) -> Option<Vec<bool>> {
    let mut script = String::new();
    for text in requests {
        let Request {
            kind,
            major,
            minor,
            access,
        } = Request::new(text);
        let node = format!("/nodes/{kind}-{major}-{minor}");
        let attempt = match access.as_str() {
            "r" => format!("( : < {node} )"),
            "w" => format!("( : > {node} )"),
            "rw" => format!("( : <> {node} )"),
            _ => format!("mknod /nodes/new {kind} {major} {minor} && rm /nodes/new"),
        };
        script.push_str(&format!("echo \"$({{ {attempt} && echo ok; }} 2>&1)\"\n"));
    }
    let capabilities = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"];
    let config = Config::shell(&script)
        .capabilities(&capabilities)
        .set("/linux/resources/devices", oci(list));
    let bundle = runtime.bundle(&config);
    let directory = bundle.rootfs().join("nodes");
    std::fs::create_dir(&directory).unwrap();
    let parsed: Vec<_> = requests.iter().map(|text| Request::new(text)).collect();
    nodes(&directory, &parsed);
    let output = runtime.run(&bundle);
    if output.stderr.contains("cannot punch hole") {
        return None;
    }
    assert_eq!(output.code, Some(0), "{list}: {output}");
    let answers: Vec<_> = output
        .stdout
        .lines()
        .map(|line| match line {
            "ok" => true,
            _ if line.ends_with("No such device or address") => true,
            _ if line.ends_with("Operation not permitted") => false,
            other => panic!("{list}: unexpected answer {other:?}"),
        })
        .collect();
    assert_eq!(answers.len(), requests.len(), "{list}: {output}");
    Some(answers)
}

/// The list as `linux.resources.devices`, with what can be left out left out.
fn oci(list: &str) -> Value {
    rules(list)
        .iter()
        .map(|rule| {
            let letters: String = [("r", 2), ("w", 4), ("m", 1)]
                .iter()
                .filter(|(_, bit)| rule.access.bits() & bit != 0)
                .map(|(letter, _)| *letter)
                .collect();
            let mut object = json!({"allow": rule.allow, "access": letters});
            match rule.kind {
                DeviceKind::All => {}
                DeviceKind::Block => object["type"] = json!("b"),
                _ => object["type"] = json!("c"),
            }
            if let Some(major) = rule.major {
                object["major"] = json!(major);
            }
            if let Some(minor) = rule.minor {
                object["minor"] = json!(minor);
            }
            object
        })
        .collect()
}
