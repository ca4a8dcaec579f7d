//! What the unit tests of this module share: rules from text and from chance.

use proptest::prelude::*;

use super::policy::{Policy, parse_line};
use crate::edit::{Access, DeviceKind, DeviceRule};

/// A rule from the words of the kernel's v1 files; `a` is a kind here.
pub fn rule(allow: bool, text: &str) -> DeviceRule {
    let all = text.strip_prefix("a ");
    let (selector, access) =
        parse_line(&all.map_or_else(|| text.to_owned(), |rest| format!("c {rest}")))
            .unwrap_or_else(|| panic!("bad rule {text}"));
    let kind = match text.as_bytes()[0] {
        b'a' => DeviceKind::All,
        b'b' => DeviceKind::Block,
        _ => DeviceKind::Char,
    };
    DeviceRule {
        allow,
        kind,
        major: selector.major,
        minor: selector.minor,
        access,
    }
}

/// Rules as in `deny a *:* rwm; allow c 1:3 rw`.
pub fn rules(text: &str) -> Vec<DeviceRule> {
    text.split("; ")
        .filter(|text| !text.is_empty())
        .map(|text| match text.split_once(' ') {
            Some(("allow", text)) => rule(true, text),
            Some(("deny", text)) => rule(false, text),
            _ => panic!("bad rule {text}"),
        })
        .collect()
}

/// Few numbers, so that rules and requests meet.
pub fn number() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![
        4 => Just(None),
        12 => (0_u32..4).prop_map(Some),
        1 => Just(Some(4095)),
        1 => Just(Some(1_048_575)),
        1 => Just(Some(u32::MAX)),
    ]
}

/// Any rule over these numbers.
pub fn any_rule() -> impl Strategy<Value = DeviceRule> {
    let kind = prop_oneof![
        1 => Just(DeviceKind::All),
        4 => Just(DeviceKind::Block),
        8 => Just(DeviceKind::Char),
    ];
    (any::<bool>(), kind, number(), number(), 1_u8..8).prop_map(
        |(allow, kind, major, minor, bits)| DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: Access::from_bits_truncate(bits),
        },
    )
}

/// Those rules that can be honoured in turn.
pub fn honoured(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut kept: Vec<DeviceRule> = Vec::new();
    for rule in rules {
        kept.push(rule.clone());
        if Policy::from_rules(&kept).is_err() {
            kept.pop();
        }
    }
    kept
}

/// Their policy.
pub fn lenient(rules: &[DeviceRule]) -> Policy {
    Policy::from_rules(&honoured(rules)).unwrap()
}
