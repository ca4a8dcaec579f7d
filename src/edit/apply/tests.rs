mod devices;
mod mounts;

use serde_json::Value;

use super::{Outcome, apply, apply_traced};
use crate::document::Document;
use crate::edit::{
    Access, DeviceKind, DeviceNode, DeviceRule, Edit, Hook, HookStage, IdMapping, IntelRdt, Mount,
    NamespaceKind, Origin, Plan, Rule,
};

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn plan(edits: impl IntoIterator<Item = Edit>) -> Plan {
    let mut plan = Plan::default();
    for edit in edits {
        let origin = Origin {
            rule: Rule::Builtin("test"),
            sources: Vec::new(),
        };
        plan.push(edit, origin);
    }
    plan
}

/// Applies the edits to `before`, expects `after` (key order counts), and that
/// applying them again changes nothing.
#[track_caller]
fn becomes(before: &str, edits: impl IntoIterator<Item = Edit>, after: &str) {
    let (before, plan) = (document(before), plan(edits));
    let once = apply(&before, &plan).unwrap();
    let compact = serde_json::to_string(once.value()).unwrap();
    assert_eq!(compact, after);
    let again = apply(&once, &plan).unwrap();
    assert_eq!(again.as_bytes(), once.as_bytes(), "twice is not once");
}

/// The edits are recognised as already made: same bytes, each one unchanged.
#[track_caller]
fn stays(before: &str, edits: impl IntoIterator<Item = Edit>) {
    let before = document(before);
    let applied = apply_traced(&before, &plan(edits)).unwrap();
    assert_eq!(applied.document.as_bytes(), before.as_bytes());
    for outcome in applied.outcomes {
        assert_eq!(outcome, Outcome::Unchanged);
    }
}

#[track_caller]
fn fails(before: &str, edit: Edit, expected: &str) {
    let error = apply(&document(before), &plan([edit])).unwrap_err();
    assert_eq!(error.to_string(), format!("config.json: {expected}"));
}

fn set(name: &str, value: &str) -> Edit {
    let (name, value) = (name.to_owned(), value.to_owned());
    Edit::SetEnv { name, value }
}

fn default(name: &str, value: &str) -> Edit {
    let (name, value) = (name.to_owned(), value.to_owned());
    Edit::DefaultEnv { name, value }
}

fn node(path: &str, major: u32, minor: u32) -> DeviceNode {
    DeviceNode {
        path: path.into(),
        host_path: path.into(),
        kind: DeviceKind::Char,
        major,
        minor,
        file_mode: None,
        uid: None,
        gid: None,
    }
}

fn allow(major: impl Into<Option<u32>>, minor: impl Into<Option<u32>>, access: &str) -> Edit {
    Edit::AllowDevice(DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: major.into(),
        minor: minor.into(),
        access: Access::from_letters(access).unwrap(),
    })
}

fn bind(destination: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: None,
        source: Some(source.into()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

fn hook(path: &str, args: &[&str]) -> Hook {
    Hook {
        path: path.into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: Vec::new(),
        timeout: None,
    }
}

#[test]
fn no_edit_keeps_the_bytes() {
    let text = "{ \"a\" : 1.0 }\n";
    let same = apply(&document(text), &Plan::default()).unwrap();
    assert_eq!(same.as_bytes(), text.as_bytes());
}

#[test]
fn env_is_replaced_in_place_and_never_twice() {
    becomes("{}", [set("A", "1")], r#"{"process":{"env":["A=1"]}}"#);
    becomes(
        r#"{"process":{"env":["A=0","B=0"],"cwd":"/"}}"#,
        [set("A", "1"), set("C", ""), set("C", "2=3")],
        r#"{"process":{"env":["A=1","B=0","C=2=3"],"cwd":"/"}}"#,
    );
    // An incoming document's duplicates of that name become one, others stay.
    becomes(
        r#"{"process":{"env":["X=1","A=0","X=2","A=5","AB=1","A"]}}"#,
        [set("A", "1")],
        r#"{"process":{"env":["X=1","A=1","X=2","AB=1"]}}"#,
    );
    becomes(
        r#"{"process":{"env":["A=0"]}}"#,
        [default("A", "1"), default("B", "1"), default("B", "2")],
        r#"{"process":{"env":["A=0","B=1"]}}"#,
    );
    stays(
        r#"{"process":{"env":["A=1"]}}"#,
        [set("A", "1"), default("A", "2")],
    );
    let field = "process.env";
    fails(
        "{}",
        set("", "1"),
        &format!("{field}: \"\" is no variable name: it is empty or contains ="),
    );
    fails(
        "{}",
        set("A=", "1"),
        &format!("{field}: \"A=\" is no variable name: it is empty or contains ="),
    );
    fails(
        "{}",
        set("A", "\0"),
        &format!("{field}: \"\\0\" contains a NUL byte"),
    );
    fails(
        r#"{"process":{"env":[1]}}"#,
        set("A", "1"),
        "process.env[0]: expected string, found number",
    );
    fails(
        r#"{"process":{"env":{}}}"#,
        set("A", "1"),
        "process.env: expected array, found object",
    );
    fails(
        r#"{"process":[]}"#,
        set("A", "1"),
        "process: expected object, found array",
    );
}

#[test]
fn hooks_are_removed_by_their_program() {
    let before = r#"{"hooks":{"prestart":[{"path":"/bin/x","args":["x"]},{"path":"/bin/y"},{"path":"/bin/x"}],"poststop":[{"path":"/bin/x"}]}}"#;
    let remove = |stage, path: &str| Edit::RemoveHook {
        stage,
        path: path.into(),
    };
    becomes(
        before,
        [remove(HookStage::Prestart, "/bin/x")],
        r#"{"hooks":{"prestart":[{"path":"/bin/y"}],"poststop":[{"path":"/bin/x"}]}}"#,
    );
    becomes(before, [remove(HookStage::Prestart, "/bin/z")], before);
    becomes("{}", [remove(HookStage::Prestart, "/bin/x")], "{}");
}

#[test]
fn hooks_are_appended_once() {
    let edits = [
        Edit::AddHook(HookStage::CreateContainer, hook("/bin/x", &["x", "1"])),
        Edit::AddHook(HookStage::CreateContainer, hook("/bin/x", &["x", "2"])),
        Edit::AddHook(HookStage::CreateContainer, hook("/bin/x", &["x", "1"])),
        Edit::AddHook(
            HookStage::Prestart,
            Hook {
                timeout: Some(7),
                env: vec!["A=1".into()],
                ..hook("/bin/y", &[])
            },
        ),
    ];
    let after = r#"{"hooks":{"createContainer":[{"path":"/bin/old"},{"path":"/bin/x","args":["x","1"]},{"path":"/bin/x","args":["x","2"]}],"prestart":[{"path":"/bin/y","env":["A=1"],"timeout":7}]}}"#;
    becomes(
        r#"{"hooks":{"createContainer":[{"path":"/bin/old"}]}}"#,
        edits.clone(),
        after,
    );
    stays(after, edits);
    fails(
        "{}",
        Edit::AddHook(HookStage::Poststop, hook("x", &[])),
        r#"hooks.poststop: hook path "x" is not absolute"#,
    );
    fails(
        r#"{"hooks":{"poststop":{}}}"#,
        Edit::AddHook(HookStage::Poststop, hook("/x", &[])),
        "hooks.poststop: expected array, found object",
    );
}

#[test]
fn groups_are_added_once_and_zero_is_skipped() {
    becomes(
        r#"{"process":{"user":{"uid":0,"additionalGids":[44]}}}"#,
        [
            Edit::AddGid(44),
            Edit::AddGid(0),
            Edit::AddGid(109),
            Edit::AddGid(109),
        ],
        r#"{"process":{"user":{"uid":0,"additionalGids":[44,109]}}}"#,
    );
    stays("{}", [Edit::AddGid(0)]);
    becomes(
        "{}",
        [Edit::AddGid(7)],
        r#"{"process":{"user":{"additionalGids":[7]}}}"#,
    );
}

#[test]
fn net_devices_and_rdt() {
    let net = |host: &str, name: &str| Edit::AddNetDevice {
        host: host.to_owned(),
        name: name.to_owned(),
    };
    becomes(
        r#"{"linux":{"netDevices":{"eth1":{"name":"old"}}}}"#,
        [net("eth1", "eth0"), net("ib0", "")],
        r#"{"linux":{"netDevices":{"eth1":{"name":"eth0"},"ib0":{}}}}"#,
    );
    stays(
        r#"{"linux":{"netDevices":{"eth1":{"name":"eth0"},"ib0":{}}}}"#,
        [net("eth1", "eth0"), net("ib0", "")],
    );
    fails(
        "{}",
        net("", "x"),
        "linux.netDevices: the name of the host's interface is empty",
    );
    let rdt = IntelRdt {
        clos_id: Some("gold".to_owned()),
        schemata: vec!["L3:0=f".to_owned()],
        enable_monitoring: true,
        ..IntelRdt::default()
    };
    let after =
        r#"{"linux":{"intelRdt":{"closID":"gold","schemata":["L3:0=f"],"enableMonitoring":true}}}"#;
    becomes(
        r#"{"linux":{"intelRdt":{"memBwSchema":"MB:0=50"}}}"#,
        [Edit::SetRdt(rdt.clone())],
        after,
    );
    stays(after, [Edit::SetRdt(rdt)]);
}

#[test]
fn mappings_namespaces_and_cgroup_path() {
    let line = |container_id, host_id, size| IdMapping {
        container_id,
        host_id,
        size,
    };
    let map = || Edit::MapIds {
        uid: vec![line(0, 1000, 1), line(1, 100_000, 65536)],
        gid: vec![line(0, 1000, 1)],
    };
    let mapped = r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":65536}],"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}}"#;
    becomes("{}", [map()], mapped);
    becomes(
        r#"{"linux":{"uidMappings":[],"gidMappings":null}}"#,
        [map()],
        mapped,
    );
    stays(
        r#"{"linux":{"gidMappings":[{"containerID":0,"hostID":5,"size":1}]}}"#,
        [map()],
    );
    becomes(
        r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/x"}]}}"#,
        [
            Edit::AddNamespace(NamespaceKind::User),
            Edit::AddNamespace(NamespaceKind::Network),
            Edit::AddNamespace(NamespaceKind::User),
        ],
        r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/x"},{"type":"user"}]}}"#,
    );
    fails(
        "{}",
        Edit::AddNamespace(NamespaceKind::Pid),
        "linux.namespaces: an edit must not change the pid namespace, which engines read from their own copy",
    );
    becomes(
        r#"{"linux":{"cgroupsPath":"/a","seccomp":{}}}"#,
        [Edit::SetCgroupsPath("/b".to_owned())],
        r#"{"linux":{"cgroupsPath":"/b","seccomp":{}}}"#,
    );
    stays(
        r#"{"linux":{"cgroupsPath":"/a"}}"#,
        [Edit::SetCgroupsPath("/a".to_owned())],
    );
}

#[test]
fn a_removed_annotation_leaves_the_order_of_the_others() {
    let remove = |key: &str| Edit::RemoveAnnotation {
        key: key.to_owned(),
    };
    becomes(
        r#"{"annotations":{"a":"1","b":"2","c":"3","d":"4"}}"#,
        [remove("b")],
        r#"{"annotations":{"a":"1","c":"3","d":"4"}}"#,
    );
    stays("{}", [remove("b")]);
    fails(
        r#"{"annotations":[]}"#,
        remove("b"),
        "annotations: expected object, found array",
    );
}

#[test]
fn unknown_fields_key_order_and_numbers_survive_an_edit() {
    becomes(
        r#"{"zeta":1E5,"process":{"x-new":{"b":1.10,"a":0},"env":[]},"alpha":123456789012345678901234567890}"#,
        [set("A", "1")],
        r#"{"zeta":1E5,"process":{"x-new":{"b":1.10,"a":0},"env":["A=1"]},"alpha":123456789012345678901234567890}"#,
    );
}

#[test]
fn a_failed_plan_leaves_the_input_alone() {
    let before = document(r#"{"process":{"env":["A=0"]},"hooks":[]}"#);
    let value: Value = before.value().clone();
    let edits = [
        set("A", "1"),
        Edit::AddHook(HookStage::Prestart, hook("/x", &[])),
    ];
    assert_eq!(
        apply(&before, &plan(edits)).unwrap_err().to_string(),
        "config.json: hooks: expected object, found array"
    );
    assert_eq!(before.value(), &value);
}
