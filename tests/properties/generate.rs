//! Documents and plans by chance. Names and numbers come from small pools, so
//! that edits meet what is already there.

use kusabi::device::policy::Policy;
use kusabi::document::Document;
use kusabi::edit::{
    Access, DeviceKind, DeviceNode, DeviceRule, Edit, Hook, HookStage, IdMapping, IntelRdt, Mount,
    NamespaceKind, Origin, Plan, Rule,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A JSON value as text can write it: numbers keep their spelling.
#[derive(Debug, Clone)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn string(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    pub fn number(number: i64) -> Self {
        Self::Number(number.to_string())
    }

    pub fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// Text with this between tokens.
    pub fn write(&self, space: &str) -> String {
        let mut out = space.to_owned();
        self.write_to(&mut out, space);
        out.push_str(space);
        out
    }

    fn write_to(&self, out: &mut String, space: &str) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => out.push_str(&serde_json::to_string(text).unwrap()),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    out.push_str(space);
                    item.write_to(out, space);
                    out.push_str(space);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    out.push_str(space);
                    out.push_str(&serde_json::to_string(key).unwrap());
                    out.push_str(space);
                    out.push(':');
                    out.push_str(space);
                    value.write_to(out, space);
                    out.push_str(space);
                }
                out.push('}');
            }
        }
    }
}

/// Members in any order, each key once.
pub fn object_of(
    members: impl Strategy<Value = Vec<(String, Json)>>,
) -> impl Strategy<Value = Json> {
    members.prop_shuffle().prop_map(|members| {
        let mut unique: Vec<(String, Json)> = Vec::new();
        for (key, value) in members {
            if unique.iter().all(|(other, _)| *other != key) {
                unique.push((key, value));
            }
        }
        Json::Object(unique)
    })
}

pub fn number() -> impl Strategy<Value = Json> {
    let odd = [
        "0",
        "-0",
        "1.0",
        "1.10",
        "1E5",
        "1e5",
        "1e+5",
        "1E-07",
        "2.50e400",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "0.1e00",
    ];
    prop_oneof![
        select(odd.to_vec()).prop_map(|text| Json::Number(text.to_owned())),
        any::<i64>().prop_map(Json::number),
    ]
}

/// Any JSON value, a few levels deep.
pub fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number(),
        ".{0,6}".prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            object_of(vec((key(), inner), 0..4)),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,3}", ".{0,4}"]
}

const SPACES: [&str; 4] = ["", " ", "\n\t", "\r\n  "];

pub fn space() -> impl Strategy<Value = &'static str> {
    select(SPACES.to_vec())
}

fn strings(pool: &'static [&'static str], most: usize) -> impl Strategy<Value = Json> {
    let items = vec(select(pool.to_vec()), 0..=most);
    items.prop_map(|items| Json::Array(items.into_iter().map(Json::string).collect()))
}

fn member(
    key: &str,
    value: impl Strategy<Value = Json> + 'static,
) -> BoxedStrategy<Option<(String, Json)>> {
    let key = key.to_owned();
    option::weighted(0.7, value.prop_map(move |value| (key.clone(), value))).boxed()
}

/// An object of these members and one that no specification knows.
fn fields(members: Vec<BoxedStrategy<Option<(String, Json)>>>) -> BoxedStrategy<Json> {
    let extension = option::of((Just("x-extension".to_owned()), json()));
    let all = (members, extension)
        .prop_map(|(members, extension)| members.into_iter().flatten().chain(extension).collect());
    object_of(all).boxed()
}

/// A `config.json` that every typed view can read.
pub fn config() -> impl Strategy<Value = Json> {
    let user = fields(vec![
        member("uid", Just(Json::number(0))),
        member(
            "additionalGids",
            vec(0_i64..4, 0..3)
                .prop_map(|ids| Json::Array(ids.into_iter().map(Json::number).collect())),
        ),
    ]);
    let process = fields(vec![
        member(
            "env",
            strings(&["A=1", "B=2", "A=3", "C", "D=x=y", "E="], 5),
        ),
        member("user", user),
        member(
            "capabilities",
            fields(vec![member("bounding", strings(&["CAP_CHOWN"], 1))]),
        ),
        member("noNewPrivileges", any::<bool>().prop_map(Json::Bool)),
    ]);
    let namespaces = strings(&["pid", "network", "mount", "ipc"], 4).prop_map(|list| {
        let Json::Array(list) = list else {
            unreachable!("strings makes arrays")
        };
        let entries = list.into_iter().map(|kind| Json::object([("type", kind)]));
        Json::Array(entries.collect())
    });
    let linux = fields(vec![
        member("devices", vec(device_json(), 0..4).prop_map(Json::Array)),
        member(
            "resources",
            fields(vec![
                member("devices", rules_json()),
                member(
                    "pids",
                    number().prop_map(|limit| Json::object([("limit", limit)])),
                ),
            ]),
        ),
        member("namespaces", namespaces),
        member("seccomp", fields(vec![])),
        member("maskedPaths", strings(&["/proc/kcore"], 1)),
        member(
            "cgroupsPath",
            select(vec!["/a", "/b"]).prop_map(Json::string),
        ),
        member("uidMappings", Just(Json::Array(Vec::new()))),
    ]);
    let hook = select(vec!["/bin/a", "/bin/b"])
        .prop_map(|path| Json::object([("path", Json::string(path))]));
    fields(vec![
        member("ociVersion", Just(Json::string("1.2.0"))),
        member(
            "root",
            Just(Json::object([("path", Json::string("rootfs"))])),
        ),
        member("process", process),
        member("linux", linux),
        member("mounts", vec(mount_json(), 0..5).prop_map(Json::Array)),
        member(
            "hooks",
            fields(vec![member(
                "prestart",
                vec(hook, 0..3).prop_map(Json::Array),
            )])
            .prop_map(without_extension),
        ),
        member(
            "annotations",
            object_of(vec(
                (
                    select(vec!["k1", "k2", "k3", "k4"]).prop_map(str::to_owned),
                    Just(Json::string("v")),
                ),
                2..8,
            )),
        ),
    ])
}

fn without_extension(object: Json) -> Json {
    match object {
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .filter(|(key, _)| key != "x-extension")
                .collect(),
        ),
        other => other,
    }
}

fn device_json() -> impl Strategy<Value = Json> {
    let path = select(vec!["/dev/a", "/dev//a", "/dev/b", "/dev/c"]);
    (
        path,
        select(vec!["c", "u", "b"]),
        0_i64..3,
        0_i64..3,
        option::of(Just(0o660)),
    )
        .prop_map(|(path, kind, major, minor, mode)| {
            let mut members = vec![
                ("path".to_owned(), Json::string(path)),
                ("type".to_owned(), Json::string(kind)),
                ("major".to_owned(), Json::number(major)),
                ("minor".to_owned(), Json::number(minor)),
            ];
            members.extend(mode.map(|mode| ("fileMode".to_owned(), Json::number(mode))));
            Json::Object(members)
        })
}

fn rule_json() -> impl Strategy<Value = Json> {
    let kind = select(vec!["", "a", "b", "c"]);
    let access = select(vec!["r", "w", "m", "rw", "rwm", "mwr"]);
    (any::<bool>(), kind, -1_i64..3, -1_i64..3, access).prop_map(
        |(allow, kind, major, minor, access)| {
            Json::object([
                ("allow", Json::Bool(allow)),
                ("type", Json::string(kind)),
                ("major", Json::number(major)),
                ("minor", Json::number(minor)),
                ("access", Json::string(access)),
            ])
        },
    )
}

/// Rules that have a policy together: one that has none is left out.
fn rules_json() -> impl Strategy<Value = Json> {
    vec(rule_json(), 0..5).prop_map(|rules| {
        let mut kept = Vec::new();
        for rule in rules {
            kept.push(rule);
            let linux = Json::object([(
                "resources",
                Json::object([("devices", Json::Array(kept.clone()))]),
            )]);
            let text = Json::object([("linux", linux)]).write("");
            let document = Document::parse(text.as_bytes()).unwrap();
            if Policy::from_rules(&document.device_rules().unwrap()).is_err() {
                kept.pop();
            }
        }
        Json::Array(kept)
    })
}

const DESTINATIONS: [&str; 7] = ["/a", "/a/", "/a/b", "/a/b/c", "/d", "//d/e", "/f"];

fn mount_json() -> impl Strategy<Value = Json> {
    (
        select(DESTINATIONS.to_vec()),
        strings(&["ro", "gid=5", "nosuid"], 3),
    )
        .prop_map(|(destination, options)| {
            Json::object([
                ("destination", Json::string(destination)),
                ("options", options),
            ])
        })
}

pub fn node() -> impl Strategy<Value = DeviceNode> {
    let kind = select(vec![DeviceKind::Char, DeviceKind::Block, DeviceKind::Fifo]);
    let path = select(vec!["/dev/a", "/dev/b", "/dev/d"]);
    (
        path,
        kind,
        0_u32..3,
        0_u32..3,
        option::of(Just(0o660)),
        option::of(0_u32..2),
    )
        .prop_map(|(path, kind, major, minor, file_mode, uid)| DeviceNode {
            path: path.into(),
            host_path: path.into(),
            kind,
            major,
            minor,
            file_mode,
            uid,
            gid: None,
        })
}

/// A rule that an edit may make; empty access is CDI's `none`.
pub fn rule() -> impl Strategy<Value = DeviceRule> {
    let kind = select(vec![DeviceKind::Char, DeviceKind::Block]);
    (
        kind,
        option::weighted(0.9, 0_u32..3),
        option::weighted(0.9, 0_u32..3),
        0_u8..8,
    )
        .prop_map(|(kind, major, minor, access)| DeviceRule {
            allow: true,
            kind,
            major,
            minor,
            access: Access::from_bits_truncate(access),
        })
}

fn mount() -> impl Strategy<Value = Mount> {
    let options = vec(select(vec!["ro", "gid=5"]), 0..2);
    (
        select(DESTINATIONS.to_vec()),
        select(vec!["/h1", "/h2"]),
        options,
    )
        .prop_map(|(destination, source, options)| Mount {
            destination: destination.into(),
            kind: None,
            source: Some(source.into()),
            options: options.into_iter().map(str::to_owned).collect(),
        })
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || select(vec!["A", "B", "C", "Z"]).prop_map(str::to_owned);
    let value = || select(vec!["", "1", "x=y"]).prop_map(str::to_owned);
    let place = || select(DESTINATIONS.to_vec());
    let hook =
        (select(vec!["/bin/a", "/bin/n"]), option::of(1_u32..3)).prop_map(|(path, timeout)| Hook {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            timeout,
        });
    let line = IdMapping {
        container_id: 0,
        host_id: 1000,
        size: 1,
    };
    let namespace = select(vec![
        NamespaceKind::User,
        NamespaceKind::Cgroup,
        NamespaceKind::Network,
    ]);
    prop_oneof![
        3 => (name(), value()).prop_map(|(name, value)| Edit::SetEnv { name, value }),
        2 => (name(), value()).prop_map(|(name, value)| Edit::DefaultEnv { name, value }),
        3 => node().prop_map(Edit::AddDevice),
        2 => node().prop_map(|node| Edit::RemoveDevice { path: node.path }),
        4 => rule().prop_map(Edit::AllowDevice),
        1 => Just(Edit::DropDeviceRules),
        2 => rule().prop_map(Edit::RevokeDevice),
        4 => mount().prop_map(Edit::AddMount),
        2 => place().prop_map(|place| Edit::RemoveMount { destination: place.into() }),
        2 => place().prop_map(|place| Edit::RemoveMountOption {
            destination: place.into(),
            option: "gid=5".to_owned(),
        }),
        2 => (select(HookStage::ALL.to_vec()), hook).prop_map(|(stage, hook)| Edit::AddHook(stage, hook)),
        1 => (select(HookStage::ALL.to_vec()), select(vec!["/bin/a", "/bin/b"])).prop_map(|(stage, path)| Edit::RemoveHook { stage, path: path.into() }),
        2 => (0_u32..5).prop_map(Edit::AddGid),
        1 => (name(), value()).prop_map(|(host, name)| Edit::AddNetDevice { host, name }),
        1 => option::of(value()).prop_map(|clos_id| Edit::SetRdt(IntelRdt { clos_id, ..IntelRdt::default() })),
        1 => Just(Edit::MapIds { uid: vec![line], gid: vec![line] }),
        1 => namespace.prop_map(Edit::AddNamespace),
        1 => select(vec!["/a", "/c"]).prop_map(|path| Edit::SetCgroupsPath(path.to_owned())),
        2 => select(vec!["k1", "k2", "k5"]).prop_map(|key| Edit::RemoveAnnotation { key: key.to_owned() }),
    ]
}

pub fn plan_of(edits: Vec<Edit>) -> Plan {
    let mut plan = Plan::default();
    for edit in edits {
        let rule = Rule::Builtin("test");
        let sources = Vec::new();
        plan.push(edit, Origin { rule, sources });
    }
    plan
}

pub fn plan() -> impl Strategy<Value = Plan> {
    // A mount that is removed and added again, as rootless conversion does.
    let moved = mount().prop_map(|mount| {
        let destination = mount.destination.clone();
        vec![Edit::RemoveMount { destination }, Edit::AddMount(mount)]
    });
    let edits = prop_oneof![
        6 => edit().prop_map(|edit| vec![edit]),
        1 => moved,
    ];
    vec(edits, 0..8).prop_map(|edits| plan_of(edits.concat()))
}

/// The document with one value, anywhere in it, replaced by any other.
pub fn broken_config() -> impl Strategy<Value = Json> {
    (config(), json(), any::<Index>()).prop_map(|(mut document, value, place)| {
        let count = count(&document);
        if count > 1 {
            let mut place = 1 + place.index(count - 1);
            replace(&mut document, &mut place, &value);
        }
        document
    })
}

fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(members) => members.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

fn replace(json: &mut Json, place: &mut usize, value: &Json) -> bool {
    if *place == 0 {
        *json = value.clone();
        return true;
    }
    *place -= 1;
    match json {
        Json::Array(items) => items.iter_mut().any(|item| replace(item, place, value)),
        Json::Object(members) => members
            .iter_mut()
            .any(|(_, member)| replace(member, place, value)),
        _ => false,
    }
}
