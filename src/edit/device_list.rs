//! What a list of device rules already allows, by the one meaning that such
//! lists have here: [`device::policy`](crate::device::policy).

use super::{Access, DeviceKind, DeviceRule};
use crate::device::policy::{NodeKind, Policy, Selector};

/// Whether an access to any device that `wanted` names, with all of its
/// accesses at once, succeeds.
pub(super) fn allows(policy: &Policy, wanted: &DeviceRule) -> bool {
    if wanted.access.is_empty() {
        return true;
    }
    kinds(wanted.kind).iter().all(|&kind| {
        let selector = Selector {
            major: wanted.major,
            minor: wanted.minor,
            kind,
        };
        let mut exceptions = policy.exceptions();
        if policy.allows_by_default() {
            !exceptions.any(|(exception, access)| {
                exception.overlaps(&selector) && access.intersects(wanted.access)
            })
        } else {
            exceptions.any(|(exception, access)| {
                exception.covers(&selector) && access.contains(wanted.access)
            })
        }
    })
}

/// The accesses that succeed one by one. Two of them may still fail together,
/// where each comes from another rule.
pub(super) fn granted(policy: &Policy, wanted: &DeviceRule) -> Access {
    Access::all()
        .iter()
        .filter(|&access| {
            let wanted = DeviceRule {
                access,
                ..wanted.clone()
            };
            allows(policy, &wanted)
        })
        .collect()
}

/// Whether the rule names exactly one device.
pub(super) fn is_exact(rule: &DeviceRule) -> bool {
    rule.kind != DeviceKind::All && rule.major.is_some() && rule.minor.is_some()
}

/// Whether both rules name the same devices.
pub(super) fn same_region(a: &DeviceRule, b: &DeviceRule) -> bool {
    (a.kind, a.major, a.minor) == (b.kind, b.major, b.minor)
}

fn kinds(kind: DeviceKind) -> &'static [NodeKind] {
    match kind {
        DeviceKind::All => &[NodeKind::Block, NodeKind::Char],
        DeviceKind::Block => &[NodeKind::Block],
        DeviceKind::Char => &[NodeKind::Char],
        DeviceKind::Fifo => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, allows, granted};
    use crate::edit::{Access, DeviceKind, DeviceRule};

    fn rule(text: &str) -> DeviceRule {
        let mut words = text.split([' ', ':']);
        let allow = words.next() == Some("allow");
        let kind = match words.next().unwrap() {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            _ => DeviceKind::Char,
        };
        let mut number = || words.next().unwrap().parse().ok();
        let (major, minor) = (number(), number());
        let access = Access::from_letters(words.next().unwrap()).unwrap();
        DeviceRule {
            allow,
            kind,
            major,
            minor,
            access,
        }
    }

    #[test]
    fn a_device_is_allowed_where_one_rule_covers_the_access() {
        for (list, wanted, expected, bits) in [
            ("", "allow c 195:0 rwm", false, ""),
            ("allow a *:* rwm", "allow c 195:0 rwm", true, "rwm"),
            (
                "allow a *:* rwm|deny c 195:* w",
                "allow c 195:0 rw",
                false,
                "rm",
            ),
            (
                "deny a *:* rwm|allow c 195:* rw",
                "allow c 195:0 rw",
                true,
                "rw",
            ),
            (
                "allow c 195:* rw|deny a *:* rwm",
                "allow c 195:0 r",
                false,
                "",
            ),
            ("allow b 195:* rwm", "allow c 195:0 r", false, ""),
            ("allow c 195:1 rwm", "allow c 195:0 r", false, ""),
            // Opening read-write asks for both at once: two rules do not add up.
            ("allow c 1:* r|allow c 1:3 w", "allow c 1:3 rw", false, "rw"),
            ("allow c 1:3 r|allow c 1:3 w", "allow c 1:3 rw", true, "rw"),
            // A region is allowed only as a whole.
            ("allow c 195:0 rwm", "allow c 195:* r", false, ""),
            ("allow c *:* rwm", "allow a *:* rwm", false, ""),
            (
                "allow c *:* rwm|allow b *:* rwm",
                "allow a *:* rwm",
                true,
                "rwm",
            ),
        ] {
            let rules: Vec<_> = list
                .split('|')
                .filter(|text| !text.is_empty())
                .map(rule)
                .collect();
            let policy = Policy::from_rules(&rules).unwrap();
            let wanted = rule(wanted);
            assert_eq!(allows(&policy, &wanted), expected, "{list} for {wanted:?}");
            assert_eq!(
                granted(&policy, &wanted).letters(),
                bits,
                "{list} for {wanted:?}"
            );
        }
    }
}
