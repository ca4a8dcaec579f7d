use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::table::{FILE, Object, Shape};
use super::*;
use crate::edit::Access;

/// Every key there is, at least once.
fn full() -> Value {
    let gpu = |more: Value| {
        let mut gpu = json!({"count": 2, "vendor": "amd", "distributed": {
            "backend": "gloo", "master_addr": "head", "master_port": 1234, "world_size": 4,
            "rank": 1, "local_rank": 2, "interface": "ib0"}});
        let map = gpu.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        json!({"cpu": 2, "memory": "512Mi", "gpu": gpu})
    };
    json!({
        "version": "v1",
        "deployment": "demo",
        "services": {
            "web": {
                "rtype": "inference",
                "endpoints": [{"port": 80}],
                "image": {"name": "web:1"},
                "command": {"entrypoint": ["/bin/a"], "args": ["b"], "workdir": "/srv"},
                "env": {"A": "1"},
                "resources": gpu(json!({"sharing": "mps", "mps_pipe_dir": "/p", "mps_log_dir": "/l", "mps_shm_dir": "/s",
                    "mps_active_thread_percentage": 50, "mps_pinned_memory_limit": "0=1G"})),
                "storage": [
                    {"type": "bind", "source": "/a", "target": "/b", "readonly": true, "tier": "local"},
                    {"type": "named", "name": "n", "target": "/n"},
                    {"type": "anonymous", "target": "/c"},
                    {"type": "tmpfs", "target": "/t", "size": "1Mi", "mode": "0700"},
                    {"type": "s3", "target": "/s", "bucket": "b", "prefix": "p", "endpoint": "e",
                     "credentials": "c"},
                ],
                "devices": [{"path": "/dev/fuse", "read": true, "write": true, "mknod": true}],
                "capabilities": ["NET_ADMIN"],
                "privileged": true,
                "host_network": true,
                "hostname": "h",
                "cgroup_parent": "/p",
            },
            "worker": {"resources": gpu(json!({"sharing": "time-slice", "time_slice_index": 1,
                "time_slicing_config_path": "/c"}))},
        },
    })
}

fn parse(value: &Value) -> Result<ServiceFile, String> {
    ServiceFile::parse(value.to_string().as_bytes()).map_err(|problems| problems[0].to_string())
}

/// Pointers to every member of an object.
fn members(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{key}");
                members(value, &at, all);
                all.push(at);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                members(item, &format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut value = value.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(key).unwrap();
    value
}

#[test]
fn no_key_is_read_and_dropped() {
    let full = full();
    let whole = parse(&full).unwrap();
    let mut pointers = Vec::new();
    members(&full, "", &mut pointers);
    assert!(pointers.len() > 60, "{}", pointers.len());
    for pointer in pointers {
        if pointer.contains("/endpoints/0/") {
            continue;
        }
        if let Ok(rest) = parse(&without(&full, &pointer)) {
            assert_ne!(rest, whole, "{pointer} changes nothing");
        }
    }
}

/// `OBJECT.KEY` of everything that a value has, by the table.
fn used(value: &Value, shape: &'static Shape, seen: &mut BTreeSet<String>) {
    match (shape, value) {
        (Shape::Object(object), Value::Object(map)) => {
            for (key, value) in map {
                let field = object.fields.iter().find(|field| field.key == key).unwrap();
                seen.insert(format!("{}.{key}", object.name));
                used(value, &field.shape, seen);
            }
        }
        (Shape::Map(_, values), Value::Object(map)) => {
            for value in map.values() {
                used(value, values, seen);
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for value in list {
                used(value, items, seen);
            }
        }
        _ => {}
    }
}

fn declared(object: &'static Object, all: &mut BTreeSet<String>) {
    for field in object.fields {
        all.insert(format!("{}.{}", object.name, field.key));
        let mut shape = &field.shape;
        while let Shape::List(inner) | Shape::Map(_, inner) = shape {
            shape = inner;
        }
        if let Shape::Object(inner) = shape {
            declared(inner, all);
        }
    }
}

#[test]
fn the_full_file_has_every_key_of_the_table() {
    static ROOT: Shape = Shape::Object(&FILE);
    let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
    used(&full(), &ROOT, &mut seen);
    declared(&FILE, &mut all);
    assert_eq!(seen, all);
}

#[test]
fn values_are_what_they_say() {
    let file = parse(&full()).unwrap();
    assert_eq!(file.deployment, "demo");
    let (name, web) = &file.services[0];
    assert_eq!(name, "web");
    assert_eq!(web.resources.memory, Some(512 << 20));
    assert_eq!(web.devices[0].access, Access::all());
    assert_eq!(
        web.storage[3].kind,
        StorageKind::Tmpfs {
            size: Some(1 << 20),
            mode: Some(0o700)
        }
    );
    let gpu = web.resources.gpu.as_ref().unwrap();
    assert_eq!(gpu.count, Count::Some(2));
    assert_eq!(gpu.distributed.as_ref().unwrap().master_port, Some(1234));
    let Some(Sharing::TimeSlice { index, .. }) =
        &file.services[1].1.resources.gpu.as_ref().unwrap().sharing
    else {
        panic!("no time slice");
    };
    assert_eq!(*index, 1);
}

#[test]
fn a_device_without_any_permission_is_read_and_written() {
    for (text, want) in [
        ("{path: /dev/x}", "rw"),
        ("{path: /dev/x, read: true}", "r"),
        ("{path: /dev/x, mknod: true}", "m"),
        ("{path: /dev/x, write: true, mknod: true}", "wm"),
        ("{path: /dev/x, read: true, write: false}", "r"),
    ] {
        let text = format!("version: v1\ndeployment: d\nservices: {{w: {{devices: [{text}]}}}}\n");
        let file = ServiceFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.services[0].1.devices[0].access.letters(), want);
    }
}
