//! The device rules that runc gives to every container, and the order in which
//! they and the user's apply.
//!
//! `linux.resources.devices` is never the whole list: runc appends rules of its
//! own (`AllowedDevices` in its `specconv`), after the user's, so that a user
//! can neither leave them out nor deny them. Engines depend on it: the default
//! list of Docker does not name `/dev/net/tun`. The same holds for an empty or
//! missing list, which is therefore *not* unrestricted: everything is denied,
//! then the default rules are allowed.
//!
//! Pure: values in, values out.

use std::path::Path;

use crate::edit::{Access, DeviceKind, DeviceRule};

/// One of runc's rules, and the node that runc makes with it, if any.
struct DefaultRule {
    /// A spec that declares a node of this path itself takes the rule away too.
    path: Option<&'static str>,
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

/// A default rule about one character device with all accesses.
const fn char_device(path: Option<&'static str>, major: u32, minor: Option<u32>) -> DefaultRule {
    DefaultRule {
        path,
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        access: Access::all(),
    }
}

/// A default rule that lets nodes of this kind be made, but not opened.
const fn mknod_any(kind: DeviceKind) -> DefaultRule {
    DefaultRule {
        path: None,
        kind,
        major: None,
        minor: None,
        access: Access::MKNOD,
    }
}

/// In runc's order.
const DEFAULTS: [DefaultRule; 11] = [
    mknod_any(DeviceKind::Char),
    mknod_any(DeviceKind::Block),
    char_device(Some("/dev/null"), 1, Some(3)),
    char_device(Some("/dev/random"), 1, Some(8)),
    char_device(Some("/dev/full"), 1, Some(7)),
    char_device(Some("/dev/tty"), 5, Some(0)),
    char_device(Some("/dev/zero"), 1, Some(5)),
    char_device(Some("/dev/urandom"), 1, Some(9)),
    // Unix98 pseudo-terminals and the node that makes them.
    char_device(None, 136, None),
    char_device(None, 5, Some(2)),
    // /dev/net/tun: gone in runc 1.2.0-rc.1, missed by many, back in 1.2.
    char_device(None, 10, Some(200)),
];

/// The rules of a container whose spec declares no node of its own at a default
/// path: the user's, then runc's defaults.
#[must_use]
pub fn effective(user: &[DeviceRule]) -> Vec<DeviceRule> {
    effective_beside(user, &[])
}

/// As [`effective`], where `declared` holds the paths of `linux.devices`.
///
/// A node that the spec declares at the path of a default node replaces it, and
/// runc then leaves the default *rule* out as well: a spec with its own
/// `/dev/null` must allow its numbers itself. Paths are compared as written.
#[must_use]
pub fn effective_beside(user: &[DeviceRule], declared: &[&Path]) -> Vec<DeviceRule> {
    let mut rules = user.to_vec();
    rules.extend(defaults(declared));
    rules
}

/// runc's default rules, without those whose node `declared` replaces.
pub fn defaults<'a>(declared: &'a [&Path]) -> impl Iterator<Item = DeviceRule> + 'a {
    DEFAULTS
        .iter()
        .filter(|rule| {
            rule.path.is_none_or(|path| {
                !declared
                    .iter()
                    .any(|node| node.as_os_str().as_encoded_bytes() == path.as_bytes())
            })
        })
        .map(|rule| DeviceRule {
            allow: true,
            kind: rule.kind,
            major: rule.major,
            minor: rule.minor,
            access: rule.access,
        })
}

/// A rule in the words of the kernel's v1 files, as in `c 195:* rw`, without the
/// verdict.
#[must_use]
pub fn text(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceKind::All => 'a',
        DeviceKind::Char => 'c',
        DeviceKind::Block => 'b',
        DeviceKind::Fifo => 'p',
    };
    format!(
        "{kind} {}:{} {}",
        number_text(rule.major),
        number_text(rule.minor),
        access_text(rule.access)
    )
}

/// A number, or `*`.
pub(super) fn number_text(number: Option<u32>) -> String {
    number.map_or_else(|| "*".to_owned(), |number| number.to_string())
}

/// The letters of an access in the kernel's order, `rwm`.
pub(super) fn access_text(access: Access) -> String {
    [
        (Access::READ, 'r'),
        (Access::WRITE, 'w'),
        (Access::MKNOD, 'm'),
    ]
    .into_iter()
    .filter(|(bit, _)| access.contains(*bit))
    .map(|(_, letter)| letter)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rules: &[DeviceRule]) -> Vec<String> {
        rules
            .iter()
            .map(|rule| {
                format!(
                    "{} {}",
                    if rule.allow { "allow" } else { "deny" },
                    text(rule)
                )
            })
            .collect()
    }

    #[test]
    fn defaults_follow_the_users_rules_in_runcs_order() {
        let user = [DeviceRule {
            allow: false,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: Access::all(),
        }];
        assert_eq!(
            texts(&effective(&user)),
            [
                "deny a *:* rwm",
                "allow c *:* m",
                "allow b *:* m",
                "allow c 1:3 rwm",
                "allow c 1:8 rwm",
                "allow c 1:7 rwm",
                "allow c 5:0 rwm",
                "allow c 1:5 rwm",
                "allow c 1:9 rwm",
                "allow c 136:* rwm",
                "allow c 5:2 rwm",
                "allow c 10:200 rwm",
            ]
        );
    }

    #[test]
    fn a_declared_node_takes_the_default_rule_away() {
        let with = texts(&effective(&[]));
        let without = texts(&effective_beside(
            &[],
            &[Path::new("/dev/null"), Path::new("/dev/net/tun")],
        ));
        let gone: Vec<_> = with.iter().filter(|rule| !without.contains(rule)).collect();
        assert_eq!(gone, ["allow c 1:3 rwm"]);
    }

    #[test]
    fn declared_paths_are_compared_as_written() {
        let declared = [Path::new("/dev/./null"), Path::new("/dev/null/")];
        assert_eq!(effective_beside(&[], &declared), effective(&[]));
    }
}
