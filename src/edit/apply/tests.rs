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
fn a_device_replaces_the_one_of_its_path() {
    let full = DeviceNode {
        file_mode: Some(0o20660),
        uid: Some(1000),
        gid: Some(44),
        ..node("/dev/nvidia0", 195, 0)
    };
    becomes(
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":1},{"path":"/dev/nvidia0","type":"c","major":9,"minor":9},{"path":"/dev//nvidia0","type":"b","major":9,"minor":9},{"path":"/dev/b","type":"p"}]}}"#,
        [Edit::AddDevice(full.clone())],
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":1},{"path":"/dev/nvidia0","type":"c","major":195,"minor":0,"fileMode":432,"uid":1000,"gid":44},{"path":"/dev/b","type":"p"}]}}"#,
    );
    becomes(
        "{}",
        [Edit::AddDevice(node("/dev/x", 1, 2))],
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":2}]}}"#,
    );
    // What an engine injected: other key order, the type as CDI may write it.
    stays(
        r#"{"linux":{"devices":[{"type":"u","path":"/dev/nvidia0","minor":0,"major":195,"gid":44,"uid":1000,"fileMode":8624}]}}"#,
        [Edit::AddDevice(full)],
    );
    let fifo = DeviceNode {
        kind: DeviceKind::Fifo,
        ..node("/dev/initctl", 0, 0)
    };
    becomes(
        "{}",
        [Edit::AddDevice(fifo)],
        r#"{"linux":{"devices":[{"path":"/dev/initctl","type":"p"}]}}"#,
    );
    fails(
        "{}",
        Edit::AddDevice(node("dev/x", 1, 1)),
        r#"linux.devices: path "dev/x" is not absolute"#,
    );
    fails(
        "{}",
        Edit::AddDevice(node("/dev/../etc/x", 1, 1)),
        r#"linux.devices: path "/dev/../etc/x" must not contain .."#,
    );
    let all = DeviceNode {
        kind: DeviceKind::All,
        ..node("/dev/x", 1, 1)
    };
    fails(
        "{}",
        Edit::AddDevice(all),
        "linux.devices: /dev/x: a node cannot be of type a",
    );
    fails(
        r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":"1"}]}}"#,
        Edit::AddDevice(node("/dev/x", 1, 1)),
        "linux.devices[0].major: expected number, found string",
    );
}

#[test]
fn a_removed_device_is_gone_unless_it_is_added_again() {
    let two = r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":2},{"path":"/dev/b","type":"p"}]}}"#;
    let remove = |path: &str| Edit::RemoveDevice { path: path.into() };
    becomes(
        two,
        [remove("/dev//a/")],
        r#"{"linux":{"devices":[{"path":"/dev/b","type":"p"}]}}"#,
    );
    stays(two, [remove("/dev/c")]);
    stays("{}", [remove("/dev/a")]);
    becomes(
        two,
        [remove("/dev/a"), Edit::AddDevice(node("/dev/a", 3, 4))],
        r#"{"linux":{"devices":[{"path":"/dev/a","type":"c","major":3,"minor":4},{"path":"/dev/b","type":"p"}]}}"#,
    );
    becomes(
        "{}",
        [Edit::AddDevice(node("/dev/a", 3, 4)), remove("/dev/a")],
        r#"{"linux":{"devices":[]}}"#,
    );
}

fn rules(text: &str) -> String {
    format!(r#"{{"linux":{{"resources":{{"devices":[{text}]}}}}}}"#)
}

const DENY_ALL: &str = r#"{"allow":false,"access":"rwm"}"#;

#[test]
fn a_device_has_one_rule_or_none_where_it_is_already_allowed() {
    let rule = r#"{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"}"#;
    becomes(
        "{}",
        [allow(195, 0, "rw"), allow(195, 0, "r")],
        &rules(rule),
    );
    becomes(
        &rules(DENY_ALL),
        [allow(195, 0, "rw")],
        &rules(&format!("{DENY_ALL},{rule}")),
    );
    // Already allowed: the very rule, a wildcard, everything.
    stays(&rules(rule), [allow(195, 0, "w")]);
    stays(
        &rules(r#"{"allow":true,"type":"c","major":195,"minor":-1,"access":"rwm"}"#),
        [allow(195, 7, "rwm")],
    );
    stays(
        &rules(r#"{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}"#),
        [allow(195, 0, "rwm")],
    );
    // Permissions `none`.
    stays("{}", [allow(195, 0, "")]);
    // Denied again further down: one rule, at the end.
    becomes(
        &rules(&format!("{rule},{DENY_ALL}")),
        [allow(195, 0, "rw")],
        &rules(&format!("{DENY_ALL},{rule}")),
    );
    // More access: the two become one.
    becomes(
        &rules(&format!(
            r#"{rule},{{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}}"#
        )),
        [allow(195, 0, "m")],
        &rules(
            r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},{"allow":true,"type":"c","major":195,"minor":0,"access":"rwm"}"#,
        ),
    );
    // Two rules that only together allow reading and writing: one that does.
    becomes(
        &rules(r#"{"allow":true,"type":"c","major":195,"access":"r"}"#),
        [allow(195, 0, "w")],
        &rules(
            r#"{"allow":true,"type":"c","major":195,"access":"r"},{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"}"#,
        ),
    );
    // Lists that runc refuses too.
    fails(
        &rules(
            r#"{"allow":true,"type":"c","major":195,"access":"rwm"},{"allow":false,"type":"c","major":195,"minor":5,"access":"rwm"}"#,
        ),
        allow(195, 0, "r"),
        "linux.resources.devices[1]: rule \"deny c 195:5 rwm\" not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule \"allow c 195:* rwm\"): name the devices one by one instead",
    );
    fails(
        &rules(
            r#"{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":195,"access":"w"}"#,
        ),
        allow(195, 0, "rw"),
        "linux.resources.devices[2]: rule \"allow c 195:0 rwm\" not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule \"deny c 195:* w\"): name the devices one by one instead",
    );
    fails(
        &rules(r#"{"allow":true,"type":"x","access":"r"}"#),
        allow(1, 1, "r"),
        r#"linux.resources.devices[0].type: invalid cgroup device type "x", expected a, b or c"#,
    );
    let deny = DeviceRule {
        allow: false,
        kind: DeviceKind::Block,
        major: None,
        minor: None,
        access: Access::all(),
    };
    fails(
        "{}",
        Edit::AllowDevice(deny),
        "linux.resources.devices: an edit can only allow character and block devices, not deny a device of type b",
    );
}

#[test]
fn device_rules_can_be_dropped() {
    becomes(&rules(DENY_ALL), [Edit::DropDeviceRules], &rules(""));
    becomes(
        &rules(DENY_ALL),
        [allow(1, 3, "r"), Edit::DropDeviceRules, allow(1, 5, "r")],
        &rules(r#"{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}"#),
    );
    stays("{}", [Edit::DropDeviceRules]);
}

#[test]
fn mounts_replace_by_destination_and_are_sorted_by_depth() {
    let before = r#"{"mounts":[{"destination":"/a/b/c"},{"destination":"/proc","type":"proc"},{"destination":"/dev/"},{"destination":"/dev/shm"}]}"#;
    becomes(
        before,
        [Edit::AddMount(bind("/x/y", "/h", &["ro", "rbind"]))],
        r#"{"mounts":[{"destination":"/proc","type":"proc"},{"destination":"/dev/"},{"destination":"/dev/shm"},{"destination":"/x/y","source":"/h","options":["ro","rbind"]},{"destination":"/a/b/c"}]}"#,
    );
    becomes(
        r#"{"mounts":[{"destination":"/proc"},{"destination":"/dev/","type":"tmpfs"},{"destination":"/sys"},{"destination":"/dev","type":"bind"}]}"#,
        [Edit::AddMount(bind("/dev", "/h", &[]))],
        r#"{"mounts":[{"destination":"/proc"},{"destination":"/dev","source":"/h"},{"destination":"/sys"}]}"#,
    );
    // Recognised with another spelling, empty strings and unknown keys.
    stays(
        r#"{"mounts":[{"source":"/h","destination":"/dev/./x/","type":"","options":["ro"],"uidMappings":[]}]}"#,
        [Edit::AddMount(bind("/dev/x", "/h", &["ro"]))],
    );
    becomes(
        "{}",
        [Edit::AddMount(bind("/x", "/h", &[]))],
        r#"{"mounts":[{"destination":"/x","source":"/h"}]}"#,
    );
    fails(
        "{}",
        Edit::AddMount(bind("x", "/h", &[])),
        r#"mounts: path "x" is not absolute"#,
    );
    fails(
        "{}",
        Edit::AddMount(bind("/./", "/h", &[])),
        "mounts: an edit must not mount over the root",
    );
    fails(
        r#"{"mounts":[{"type":"x"}]}"#,
        Edit::AddMount(bind("/x", "/h", &[])),
        "mounts[0].destination: missing",
    );
    fails(
        r#"{"mounts":[{"destination":"/x","options":[1]}]}"#,
        Edit::AddMount(bind("/x", "/h", &[])),
        "mounts[0].options[0]: expected string, found number",
    );
}

#[test]
fn mounts_are_only_sorted_when_one_is_added() {
    let before = r#"{"mounts":[{"destination":"/a/b","options":["gid=5","ro","gid=5"]},{"destination":"/c"},{"destination":"/d"}]}"#;
    let remove_option = |destination: &str| Edit::RemoveMountOption {
        destination: destination.into(),
        option: "gid=5".to_owned(),
    };
    let remove = |destination: &str| Edit::RemoveMount {
        destination: destination.into(),
    };
    becomes(
        before,
        [remove("/c/"), remove_option("/a/b")],
        r#"{"mounts":[{"destination":"/a/b","options":["ro"]},{"destination":"/d"}]}"#,
    );
    stays(
        before,
        [remove("/e"), remove_option("/c"), remove_option("/e")],
    );
    stays("{}", [remove("/e")]);
    // Removed and added again: at its old place, however often.
    becomes(
        r#"{"mounts":[{"destination":"/a"},{"destination":"/b"}]}"#,
        [
            remove("/a"),
            Edit::AddMount(bind("/a", "/h", &[])),
            Edit::AddMount(bind("/c", "/h", &[])),
        ],
        r#"{"mounts":[{"destination":"/a","source":"/h"},{"destination":"/b"},{"destination":"/c","source":"/h"}]}"#,
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
