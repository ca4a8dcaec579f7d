use std::path::PathBuf;

use super::Document;
use crate::edit::{Access, DeviceKind, HookStage, NamespaceKind};

fn parse(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    match Document::parse(text.as_bytes()) {
        Ok(_) => panic!("{text} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_bytes_are_the_inputs() {
    for text in [
        "{}",
        " {\r\n\t\"b\" : 1E5 , \"a\":[ ] }\n\n",
        r#"{"x":{"y":[1.10,-0,1e400,123456789012345678901234567890]},"\u0061b":"\u00e9\/"}"#,
    ] {
        assert_eq!(parse(text).as_bytes(), text.as_bytes());
    }
}

#[test]
fn key_order_and_number_text_survive_in_the_tree() {
    let document = parse(r#"{"z":1E5,"a":{"q":1e5,"b":1.10},"m":[-0,1e-7,2e+3]}"#);
    let compact = serde_json::to_string(document.value()).unwrap();
    assert_eq!(
        compact,
        r#"{"z":1E5,"a":{"q":1e5,"b":1.10},"m":[-0,1e-7,2e+3]}"#
    );
}

#[test]
fn an_edited_document_is_indented_with_tabs() {
    let document = parse(r#"{"a":{"b":[1]}}"#);
    let mut value = document.value().clone();
    value["a"]["c"] = "d".into();
    let edited = document.with_edited_value(value).unwrap();
    assert_eq!(
        std::str::from_utf8(edited.as_bytes()).unwrap(),
        "{\n\t\"a\": {\n\t\t\"b\": [\n\t\t\t1\n\t\t],\n\t\t\"c\": \"d\"\n\t}\n}\n"
    );
}

#[test]
fn a_repeated_key_is_an_error_that_says_where() {
    for (text, expected) in [
        (
            "{\"a\":1,\n  \"a\":2}",
            "config.json: a: duplicate key at line 2 column 3",
        ),
        (
            r#"{"linux":{"devices":[{},{"path":"x","path":"x"}]}}"#,
            "config.json: linux.devices[1].path: duplicate key at line 1 column 37",
        ),
        // The same key, spelled with an escape.
        (
            r#"{"annotations":{"k.io/x":"","\u006b.io/x":""}}"#,
            r#"config.json: annotations["k.io/x"]: duplicate key at line 1 column 29"#,
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn what_is_no_document_is_one_line_that_says_where() {
    for (text, expected) in [
        (
            "",
            "the document ends where a value should be at line 1 column 1",
        ),
        ("[]", "expected object, found array"),
        ("null", "expected object, found null"),
        ("{} {}", "something follows the document at line 1 column 4"),
        ("{\"a\":}", "a: expected a value at line 1 column 6"),
        (
            "{\"a\" 1}",
            "a: expected ':' after the key at line 1 column 6",
        ),
        ("{\"a\":[1,]}", "a[1]: expected a value at line 1 column 9"),
        ("{\"a\":1,}", "expected a key in quotes at line 1 column 8"),
        ("{\"a\":01}", "a: invalid number at line 1 column 6"),
        ("{\"a\":1.}", "a: invalid number at line 1 column 6"),
        (
            "{\"a\":\"\\x\"}",
            "a: invalid escape in a string at line 1 column 6",
        ),
        (
            "{\"a\":\"\\ud800\"}",
            "a: invalid escape in a string at line 1 column 6",
        ),
        (
            "{\"a\":\"b\nc\"}",
            "a: control character in a string at line 1 column 8",
        ),
        ("{\"a\":\"b", "a: a string has no end at line 1 column 6"),
        ("{\"a\":\"b\\", "a: a string has no end at line 1 column 6"),
        ("{\"a\":tru}", "a: expected a value at line 1 column 6"),
        ("{\"a\":1", "expected ',' or '}' at line 1 column 7"),
        (
            "{\"$serde_json::private::Number\":\"1\"}",
            "[\"$serde_json::private::Number\"]: this key is reserved",
        ),
        (
            "{\"a\":\"\n\"",
            "a: control character in a string at line 1 column 7",
        ),
    ] {
        assert_eq!(error(text), format!("config.json: {expected}"), "{text:?}");
    }
    let not_utf8 = Document::parse(b"{\"a\":\n\"\xff\"}")
        .unwrap_err()
        .to_string();
    assert_eq!(not_utf8, "config.json: not UTF-8 at line 2 column 2");
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| {
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    parse(&nested(Document::MAX_DEPTH));
    // What is accepted here can be read by the next program too.
    let at_limit = nested(Document::MAX_DEPTH);
    serde_json::from_str::<serde_json::Value>(&at_limit).unwrap();
    assert!(error(&nested(Document::MAX_DEPTH + 1)).contains("nested too deep at line 1"));
    assert!(error(&nested(1_000_000)).len() < 1000);

    let mut large = vec![b' '; Document::MAX_BYTES - 2];
    large.extend(b"{}");
    Document::parse(&large).unwrap();
    large.push(b' ');
    assert_eq!(
        Document::parse(&large).unwrap_err().to_string(),
        "config.json: 67108865 bytes are more than the limit of 64 MiB"
    );
}

#[test]
fn hostile_keys_stay_on_one_short_line() {
    let key = "\\n".repeat(5000);
    let message = error(&format!("{{\"{key}\":x}}"));
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
}

#[test]
fn absent_and_null_are_the_same() {
    for text in [
        "{}",
        r#"{"process":null,"linux":null,"annotations":null,"mounts":null,"hooks":null,"root":null}"#,
        r#"{"process":{"env":null,"user":null},"linux":{"resources":null,"namespaces":null,"cgroupsPath":null}}"#,
    ] {
        let document = parse(text);
        assert!(document.annotations().unwrap().is_empty());
        assert!(document.env().unwrap().is_empty());
        assert!(document.mounts().unwrap().is_empty());
        assert!(document.namespaces().unwrap().is_empty());
        assert!(document.device_rules().unwrap().is_empty());
        assert!(document.devices().unwrap().is_empty());
        assert!(document.hooks().unwrap().is_empty());
        assert!(document.bounding_capabilities().unwrap().is_empty());
        assert_eq!(document.cgroups_path().unwrap(), None);
        assert_eq!(document.root_path().unwrap(), None);
        assert_eq!(document.process_user().unwrap().uid, 0);
    }
}

#[test]
fn views_read_what_is_written() {
    let document = parse(
        r#"{
        "annotations": {"b": "2", "a": "1"},
        "root": {"path": "rootfs"},
        "process": {
            "env": ["A=1", "B=x=y", "A=2", "bare"],
            "user": {"uid": 1000, "gid": 4294967295, "additionalGids": [44, 109]},
            "capabilities": {"bounding": ["CAP_CHOWN"]}
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
        "linux": {
            "cgroupsPath": "",
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}, {"type": "user", "path": ""}],
            "devices": [{"path": "/dev/x", "type": "u", "major": 195, "minor": 255, "fileMode": 438}],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 195, "minor": -1, "access": "mr"}
            ]}
        },
        "hooks": {"createRuntime": [{"path": "/bin/b"}], "prestart": [{"path": "/bin/a", "args": ["a"], "timeout": 3}]}
    }"#,
    );
    assert_eq!(document.annotations().unwrap(), [("b", "2"), ("a", "1")]);
    assert_eq!(document.env().unwrap().len(), 4);
    assert_eq!(document.env_value("A").unwrap(), Some("2"));
    assert_eq!(document.env_value("B").unwrap(), Some("x=y"));
    assert_eq!(document.env_value("bare").unwrap(), Some(""));
    assert_eq!(document.env_value("C").unwrap(), None);
    let user = document.process_user().unwrap();
    assert_eq!((user.uid, user.gid), (1000, u32::MAX));
    assert_eq!(user.additional_gids, [44, 109]);
    assert_eq!(document.bounding_capabilities().unwrap(), ["CAP_CHOWN"]);
    assert_eq!(document.root_path().unwrap(), Some("rootfs"));
    assert_eq!(document.cgroups_path().unwrap(), None);
    assert_eq!(document.mounts().unwrap()[0].kind.as_deref(), Some("proc"));
    let namespaces = document.namespaces().unwrap();
    assert_eq!(namespaces[1].kind, NamespaceKind::Network);
    assert_eq!(namespaces[1].path, Some(PathBuf::from("/run/netns/x")));
    assert_eq!(namespaces[2].path, None);
    let node = &document.devices().unwrap()[0];
    assert_eq!(
        (node.kind, node.major, node.minor, node.file_mode),
        (DeviceKind::Char, 195, 255, Some(0o666))
    );
    let rules = document.device_rules().unwrap();
    assert_eq!((rules[0].kind, rules[0].major), (DeviceKind::All, None));
    assert!(!rules[0].allow);
    assert_eq!((rules[1].major, rules[1].minor), (Some(195), None));
    assert_eq!(rules[1].access, Access::READ | Access::MKNOD);
    let hooks = document.hooks().unwrap();
    assert_eq!(hooks[0].0, HookStage::Prestart);
    assert_eq!(hooks[0].1.timeout, Some(3));
    assert_eq!(hooks[1].0, HookStage::CreateRuntime);
}

#[test]
fn a_wrong_field_is_named() {
    type Read = fn(&Document) -> String;
    fn text<T: std::fmt::Debug>(result: Result<T, super::DocumentError>) -> String {
        result.unwrap_err().to_string()
    }
    let rules: Read = |document| text(document.device_rules());
    let devices: Read = |document| text(document.devices());
    let mounts: Read = |document| text(document.mounts());
    let namespaces: Read = |document| text(document.namespaces());
    let hooks: Read = |document| text(document.hooks());
    let user: Read = |document| text(document.process_user());
    let env: Read = |document| text(document.env());
    let cgroup: Read = |document| text(document.cgroups_path());
    let annotations: Read = |document| text(document.annotations());
    let cases: &[(Read, &str, &str)] = &[
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":"rwa"},{"access":"x"}]}}}"#,
            r#"linux.resources.devices[1].access: "x" has none of r, w and m"#,
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":""}]}}}"#,
            "linux.resources.devices[0].access: cannot be empty, expected letters of rwm",
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"allow":true}]}}}"#,
            "linux.resources.devices[0].access: missing",
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":"r","type":"p"}]}}}"#,
            r#"linux.resources.devices[0].type: invalid cgroup device type "p", expected a, b or c"#,
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":"r","major":-2}]}}}"#,
            "linux.resources.devices[0].major: -2 is no device number, expected -1 (any) or 0 to 4294967295",
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":"r","minor":1e3}]}}}"#,
            r#"linux.resources.devices[0].minor: "1e3" is not a whole number of 64 bits"#,
        ),
        (
            rules,
            r#"{"linux":{"resources":{"devices":[{"access":"r","allow":"yes"}]}}}"#,
            "linux.resources.devices[0].allow: expected boolean, found string",
        ),
        (
            rules,
            r#"{"linux":{"resources":[]}}"#,
            "linux.resources: expected object, found array",
        ),
        (
            devices,
            r#"{"linux":{"devices":[{"path":"/dev/x"}]}}"#,
            "linux.devices[0].type: missing",
        ),
        (
            devices,
            r#"{"linux":{"devices":[{"path":"/dev/x","type":"a"}]}}"#,
            r#"linux.devices[0].type: invalid device type "a", expected b, c, u or p"#,
        ),
        (
            devices,
            r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":-1}]}}"#,
            "linux.devices[0].major: -1 is not between 0 and 4294967295",
        ),
        (
            mounts,
            r#"{"mounts":[{"source":"x"}]}"#,
            "mounts[0].destination: missing",
        ),
        (
            mounts,
            r#"{"mounts":[{"destination":"/x","options":"ro"}]}"#,
            "mounts[0].options: expected array, found string",
        ),
        (
            namespaces,
            r#"{"linux":{"namespaces":[{"type":"net"}]}}"#,
            r#"linux.namespaces[0].type: namespace "net" does not exist"#,
        ),
        (
            hooks,
            r#"{"hooks":{"poststop":[{"path":"/x","timeout":0}]}}"#,
            "hooks.poststop[0].timeout: 0 seconds would end the hook at once, expected above zero",
        ),
        (
            hooks,
            r#"{"hooks":{"poststop":[{"args":["x"]}]}}"#,
            "hooks.poststop[0].path: missing",
        ),
        (
            user,
            r#"{"process":{"user":{"uid":-1}}}"#,
            "process.user.uid: -1 is not between 0 and 4294967295",
        ),
        (
            user,
            r#"{"process":{"user":{"gid":"root"}}}"#,
            "process.user.gid: expected number, found string",
        ),
        (
            env,
            r#"{"process":{"env":["A=1",2]}}"#,
            "process.env[1]: expected string, found number",
        ),
        (
            env,
            r#"{"process":7}"#,
            "process: expected object, found number",
        ),
        (
            cgroup,
            r#"{"linux":{"cgroupsPath":{}}}"#,
            "linux.cgroupsPath: expected string, found object",
        ),
        (
            annotations,
            r#"{"annotations":{"a.b/c":true}}"#,
            r#"annotations["a.b/c"]: expected string, found boolean"#,
        ),
    ];
    for (read, text, expected) in cases {
        assert_eq!(read(&parse(text)), format!("config.json: {expected}"));
    }
}
