//! What a list of device rules already allows.
//!
//! The list is read as the runtime enforces it: nothing is allowed at first, and
//! for each access the last rule that matches wins.

use super::{Access, DeviceKind, DeviceRule};

/// The accesses that `rules` grant to every device of the region that `wanted`
/// names (its kind and numbers; `allow` and `access` are not looked at).
///
/// Where runtimes disagree (a rule of type `a` with numbers: runc takes it for
/// every device, crun for those numbers) the answer is the smaller one: a rule
/// too many is harmless, a device without its rule is not.
#[must_use]
pub fn granted(rules: &[DeviceRule], wanted: &DeviceRule) -> Access {
    let mut undecided = Access::all();
    let mut granted = Access::empty();
    for rule in rules.iter().rev() {
        if rule.allow && covers(rule, wanted) {
            granted |= undecided & rule.access;
            undecided &= !rule.access;
        } else if !rule.allow && meets(rule, wanted) {
            let denied = match rule.kind {
                DeviceKind::All => Access::all(),
                _ => rule.access,
            };
            undecided &= !denied;
        }
        if undecided.is_empty() {
            break;
        }
    }
    granted
}

/// Whether the rule names exactly one device.
#[must_use]
pub fn is_exact(rule: &DeviceRule) -> bool {
    rule.kind != DeviceKind::All && rule.major.is_some() && rule.minor.is_some()
}

/// Whether both rules name the same devices.
#[must_use]
pub fn same_region(a: &DeviceRule, b: &DeviceRule) -> bool {
    (a.kind, a.major, a.minor) == (b.kind, b.major, b.minor)
}

/// `rule` matches every device of the region.
fn covers(rule: &DeviceRule, region: &DeviceRule) -> bool {
    let number = |rule: Option<u32>, region: Option<u32>| rule.is_none() || rule == region;
    (rule.kind == DeviceKind::All || rule.kind == region.kind)
        && number(rule.major, region.major)
        && number(rule.minor, region.minor)
}

/// `rule` matches some device of the region.
fn meets(rule: &DeviceRule, region: &DeviceRule) -> bool {
    if rule.kind == DeviceKind::All {
        return true;
    }
    let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    (region.kind == DeviceKind::All || rule.kind == region.kind)
        && number(rule.major, region.major)
        && number(rule.minor, region.minor)
}

#[cfg(test)]
mod tests {
    use super::granted;
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
    fn the_last_rule_that_matches_wins_for_each_access() {
        for (list, wanted, expected) in [
            ("", "allow c 195:0 rwm", ""),
            ("allow a *:* rwm", "allow c 195:0 rwm", "rwm"),
            ("allow a *:* rwm|deny c 195:* w", "allow c 195:0 rwm", "rm"),
            ("deny c 195:* w|allow a *:* rwm", "allow c 195:0 rwm", "rwm"),
            ("deny a *:* rwm|allow c 195:* rw", "allow c 195:0 rwm", "rw"),
            ("allow c 195:* rw|deny a *:* rwm", "allow c 195:0 rwm", ""),
            ("allow b 195:* rwm", "allow c 195:0 rwm", ""),
            ("allow c *:* m|allow c 195:0 r", "allow c 195:0 rwm", "rm"),
            ("allow c 195:1 rwm", "allow c 195:0 rwm", ""),
            // A region is granted only as a whole.
            ("allow c 195:0 rwm", "allow c 195:* rwm", ""),
            (
                "allow c 195:* rwm|deny c 195:5 m",
                "allow c 195:* rwm",
                "rw",
            ),
            ("allow c *:* rwm", "allow a *:* rwm", ""),
            // Type `a` with numbers: the reading that grants less.
            ("allow a 195:* rwm", "allow c 196:0 rwm", ""),
            ("allow a *:* rwm|deny a 195:* r", "allow c 196:0 rwm", ""),
            ("allow a *:* r", "allow c 196:0 rwm", "r"),
        ] {
            let rules: Vec<_> = list
                .split('|')
                .filter(|text| !text.is_empty())
                .map(rule)
                .collect();
            assert_eq!(
                granted(&rules, &rule(wanted)).letters(),
                expected,
                "{list} for {wanted}"
            );
        }
    }
}
