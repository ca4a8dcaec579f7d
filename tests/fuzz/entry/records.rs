//! Smaller files that somebody else writes. The first byte says which: the
//! process of an exec, the resources of an update, an image's configuration,
//! the lines of `/etc/subuid`, users of an image, a state file.

use std::path::Path;

use kusabi::cgroup::resources::Resources;
use kusabi::document::Document;
use kusabi::rootless::{User, container_map, ranges};
use kusabi::runtime::process::{ProcessSpec, inherit};
use kusabi::runtime::state::State;
use kusabi::service::{ImageConfig, ImageUser, UserDatabase};
use serde_json::{Value, json};

use super::one_line;

/// Read, or refused in one line.
pub fn run(data: &[u8]) {
    let Some((&kind, file)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => process(file),
        1 => {
            if let Some(value) = value(file)
                && let Err(error) = Resources::parse(&value)
            {
                one_line(error);
            }
        }
        2 => {
            if let Err(error) = ImageConfig::parse(file) {
                one_line(error);
            }
        }
        3 => subordinate_ids(file),
        4 => users(file),
        _ => {
            if let Ok(state) = serde_json::from_slice::<State>(file) {
                let text = serde_json::to_string(&state).expect("what was read can be written");
                serde_json::from_str::<State>(&text).expect("and read again");
            }
        }
    }
}

/// JSON with an object at its top, as the commands read it.
fn value(file: &[u8]) -> Option<Value> {
    match Document::parse(file) {
        Ok(document) => Some(document.value().clone()),
        Err(error) => {
            one_line(error);
            None
        }
    }
}

fn process(file: &[u8]) {
    let Some(process) = value(file) else { return };
    let container = json!({"capabilities": {"bounding": ["CAP_KILL"]}, "user": {"umask": 2},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}]});
    let inherited = inherit(process, &container);
    if let Err(error) = ProcessSpec::parse(&inherited, "process.json") {
        one_line(error);
    }
}

/// Ranges do not overlap, and lie behind each other in the container.
fn subordinate_ids(file: &[u8]) {
    let path = Path::new("/etc/subuid");
    let user = User {
        name: Some("user"),
        uid: 1000,
    };
    let found = match ranges(path, file, user, 1000) {
        Ok(found) => found,
        Err(error) => return one_line(error),
    };
    match container_map(path, 1000, 1000, &found) {
        Ok(map) => {
            let mut next = 0;
            for line in &map {
                assert_eq!(u64::from(line.container_id), next, "a gap in {map:?}");
                next += u64::from(line.size);
            }
            for (index, one) in map.iter().enumerate() {
                let overlaps = map[..index].iter().any(|other| {
                    let (a, b) = (u64::from(one.host_id), u64::from(other.host_id));
                    a < b + u64::from(other.size) && b < a + u64::from(one.size)
                });
                assert!(!overlaps, "{map:?}");
            }
        }
        Err(error) => one_line(error),
    }
}

/// The user as an image names it in the first line, then its passwd.
fn users(file: &[u8]) {
    let Ok(text) = std::str::from_utf8(file) else {
        return;
    };
    let (name, passwd) = text.split_once('\n').unwrap_or((text, ""));
    let database = UserDatabase::parse(passwd, "root:x:0:\nvideo:x:44:user\n");
    match ImageUser::parse(name).and_then(|user| user.resolve(Some(&database))) {
        Ok(_) => {}
        Err(error) => one_line(error),
    }
}
