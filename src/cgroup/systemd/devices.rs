//! The device filter in systemd's words. Pure.
//!
//! What is in force is our own program (version 2) or what we wrote (version 1).
//! systemd has rules of its own for the unit, and puts them in force again
//! whenever it likes: on `daemon-reload`, after `set-property`, when it is
//! restarted. So the unit says the same as the filter. On version 2 both programs
//! must allow an access, so the unit can only take away, and does not; on
//! version 1 there is one list, which systemd writes as we did.
//!
//! Where systemd cannot say what the filter says, on version 2 it is told nothing
//! (`DevicePolicy=auto`), and our program stands alone. On version 1 that would
//! open everything at the next reload, so there it gets the strictest list that
//! it can say, and a warning.

use super::message::Value;
use super::properties::Property;
use crate::device::policy::{NodeKind, Policy, Selector};
use crate::edit::Access;

/// systemd takes `char-MAJOR` from this version on; before, names of
/// `/proc/devices`.
const MAJOR_NUMBERS: u32 = 240;

/// The unit's device properties.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProperties {
    /// `DevicePolicy` and `DeviceAllow`. The list replaces an earlier one.
    pub properties: Vec<Property>,
    /// What systemd will take away at the next reload, version 1 only: rules
    /// that it has no words for.
    pub lost: Vec<String>,
}

/// Says a policy as properties, for a systemd of this version. `group` finds the
/// name of a major number in `/proc/devices`.
pub fn properties(
    policy: &Policy,
    v2: bool,
    version: u32,
    group: &dyn Fn(NodeKind, u32) -> Option<String>,
) -> DeviceProperties {
    if policy.is_allow_all() {
        return say("auto", Vec::new(), Vec::new());
    }
    let mut allow = Vec::new();
    let mut lost = Vec::new();
    if policy.allows_by_default() {
        lost.push("everything that is not denied".to_owned());
    } else {
        for (selector, access) in policy.exceptions() {
            match name(&selector, version, group) {
                Some(name) => allow.push((name, access)),
                None => lost.push(crate::device::rules::text(&selector.rule(true, access))),
            }
        }
    }
    match (lost.is_empty(), v2) {
        (false, true) => say("auto", Vec::new(), Vec::new()),
        _ => say("strict", allow, lost),
    }
}

fn say(policy: &str, allow: Vec<(String, Access)>, lost: Vec<String>) -> DeviceProperties {
    let list = |entries| Property::new("DeviceAllow", Value::Array("(ss)".into(), entries));
    let entries: Vec<Value> = allow
        .into_iter()
        .map(|(name, access)| Value::Struct(vec![Value::Str(name), Value::str(access.letters())]))
        .collect();
    let mut properties = vec![
        Property::new("DevicePolicy", Value::str(policy)),
        // An empty list empties it; another adds to it.
        list(Vec::new()),
    ];
    if !entries.is_empty() {
        properties.push(list(entries));
    }
    DeviceProperties { properties, lost }
}

/// systemd's word for a set of devices.
fn name(
    selector: &Selector,
    version: u32,
    group: &dyn Fn(NodeKind, u32) -> Option<String>,
) -> Option<String> {
    let kind = match selector.kind {
        NodeKind::Block => "block",
        NodeKind::Char => "char",
    };
    match (selector.major, selector.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) if version >= MAJOR_NUMBERS => Some(format!("{kind}-{major}")),
        (Some(major), None) => group(selector.kind, major).map(|name| format!("{kind}-{name}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}

/// The name of a major number in the text of `/proc/devices`.
#[must_use]
pub fn group_of(text: &str, kind: NodeKind, major: u32) -> Option<String> {
    let title = match kind {
        NodeKind::Block => "Block devices:",
        NodeKind::Char => "Character devices:",
    };
    text.lines()
        .skip_while(|line| *line != title)
        .skip(1)
        .take_while(|line| !line.ends_with(':'))
        .filter_map(|line| line.trim().split_once(' '))
        .find(|(number, _)| number.parse() == Ok(major))
        .map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::{DeviceKind, DeviceRule};

    fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: Access::all(),
        }
    }

    fn said(rules: &[DeviceRule], v2: bool, version: u32) -> (String, Vec<String>, Vec<String>) {
        let policy = Policy::from_rules(rules).unwrap();
        let group = |_: NodeKind, major: u32| (major == 136).then(|| "pts".to_owned());
        let all = properties(&policy, v2, version, &group);
        let mut list = Vec::new();
        let mut word = String::new();
        for property in &all.properties {
            match (property.name.as_str(), &property.value) {
                ("DevicePolicy", value) => word = value.as_str().unwrap().to_owned(),
                ("DeviceAllow", Value::Array(_, entries)) if entries.is_empty() => list.clear(),
                ("DeviceAllow", Value::Array(_, entries)) => {
                    for entry in entries {
                        let Value::Struct(fields) = entry else {
                            panic!()
                        };
                        let text: Vec<_> = fields.iter().filter_map(Value::as_str).collect();
                        list.push(text.join(" "));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        (word, list, all.lost)
    }

    #[test]
    fn the_unit_says_what_the_filter_says() {
        let rules = [
            rule(true, DeviceKind::Char, Some(226), Some(128)),
            rule(true, DeviceKind::Char, Some(136), None),
            rule(true, DeviceKind::Block, None, None),
        ];
        let list = |pts: &str| {
            vec![
                "block-* rwm".to_owned(),
                format!("{pts} rwm"),
                "/dev/char/226:128 rwm".to_owned(),
            ]
        };
        for (v2, version, pts) in [
            (true, 252, "char-136"),
            (false, 252, "char-136"),
            (false, 239, "char-pts"),
        ] {
            let (word, got, lost) = said(&rules, v2, version);
            assert_eq!((word.as_str(), got), ("strict", list(pts)), "{version}");
            assert!(lost.is_empty());
        }
    }

    #[test]
    fn what_systemd_cannot_say_is_left_to_our_program_or_reported() {
        let hole = [rule(true, DeviceKind::Char, None, Some(3))];
        let all_but = [
            rule(true, DeviceKind::All, None, None),
            rule(false, DeviceKind::Char, Some(1), Some(3)),
        ];
        for rules in [&hole[..], &all_but[..]] {
            assert_eq!(said(rules, true, 252), ("auto".into(), vec![], vec![]));
            let (word, list, lost) = said(rules, false, 252);
            assert_eq!((word.as_str(), list.len(), lost.len()), ("strict", 0, 1));
        }
        let everything = [rule(true, DeviceKind::All, None, None)];
        for v2 in [false, true] {
            assert_eq!(said(&everything, v2, 252), ("auto".into(), vec![], vec![]));
        }
    }

    #[test]
    fn names_come_from_the_right_half_of_proc_devices() {
        let text =
            "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n259 blkext\n";
        let name = |kind, major| group_of(text, kind, major);
        assert_eq!(name(NodeKind::Char, 1).as_deref(), Some("mem"));
        assert_eq!(name(NodeKind::Block, 1).as_deref(), Some("ramdisk"));
        assert_eq!(name(NodeKind::Char, 259), None);
    }
}
