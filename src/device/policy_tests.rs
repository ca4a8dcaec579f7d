//! The policy against runc's results, the kernel's v1 list, and the order of rules.

use proptest::prelude::*;

use super::*;
use crate::device::testing::{any_rule, honoured, lenient, rules};

/// A policy's rules, as in `allow b *:* m; allow c 1:3 rwm`.
fn texts(policy: &Policy) -> String {
    policy
        .rules()
        .iter()
        .map(|rule| {
            let verdict = if rule.allow { "allow" } else { "deny" };
            format!("{verdict} {}", text(rule))
        })
        .collect::<Vec<_>>()
        .join("; ")
}

/// A list, and runc's minimal rules or the two rules it names in its error.
type Case = (
    &'static str,
    Result<&'static str, (&'static str, &'static str)>,
);

/// What the emulator of runc main (opencontainers/cgroups v0.0.8) gives for a
/// list of rules on its own: `Ok` its minimal rules, `Err` the rule and the
/// wildcard in "cannot punch hole".
const RUNC: [Case; 20] = [
    ("deny a *:* rwm", Ok("")),
    (
        "deny a *:* rwm; allow c 195:0 rw; allow c 195:255 rw; allow c 511:0 rwm",
        Ok("allow c 195:0 rw; allow c 195:255 rw; allow c 511:0 rwm"),
    ),
    ("allow a *:* rwm", Ok("allow a *:* rwm")),
    ("deny a *:* rwm; allow a *:* rwm", Ok("allow a *:* rwm")),
    ("deny a *:* r; allow c 10:229 rw", Ok("allow c 10:229 rw")),
    (
        "allow c 195:0 r; allow c 195:0 w; allow c 195:0 m",
        Ok("allow c 195:0 rwm"),
    ),
    (
        "allow c 195:* rw; allow c 195:0 rwm; allow b 8:* r",
        Ok("allow b 8:* r; allow c 195:* rw; allow c 195:0 rwm"),
    ),
    (
        "allow c 10:229 rwm; deny c 10:229 wm",
        Ok("allow c 10:229 r"),
    ),
    ("allow c 10:229 rwm; deny c 10:229 rwm", Ok("")),
    (
        "allow c 10:229 rw; deny c 10:230 rw",
        Ok("allow c 10:229 rw"),
    ),
    (
        "allow c 195:* rwm; deny c 195:3 w",
        Err(("deny c 195:3 w", "allow c 195:* rwm")),
    ),
    (
        "allow c *:* rwm; deny c 195:* w",
        Err(("deny c 195:* w", "allow c *:* rwm")),
    ),
    (
        "allow c *:3 rwm; deny c 195:3 w",
        Err(("deny c 195:3 w", "allow c *:3 rwm")),
    ),
    ("allow c 195:* rw; deny c 195:3 m", Ok("allow c 195:* rw")),
    (
        "allow a *:* rwm; deny c 10:229 rw",
        Ok("allow a *:* rwm; deny c 10:229 rw"),
    ),
    (
        "allow a *:* rwm; deny c 10:229 rw; allow c 10:229 w",
        Ok("allow a *:* rwm; deny c 10:229 r"),
    ),
    (
        "allow a *:* rwm; deny c 10:* rw; allow c 10:229 rw",
        Err(("allow c 10:229 rw", "deny c 10:* rw")),
    ),
    (
        "allow a *:* rwm; deny c 10:229 rw; allow c 10:* rw",
        Ok("allow a *:* rwm; deny c 10:229 rw"),
    ),
    (
        "allow a *:* rwm; deny c 10:229 rw; deny a *:* rwm; allow b 7:0 r",
        Ok("allow b 7:0 r"),
    ),
    (
        "allow a *:* rwm; deny b 8:0 w; deny b *:* m",
        Ok("allow a *:* rwm; deny b *:* m; deny b 8:0 w"),
    ),
];

#[test]
fn rules_come_to_what_runc_makes_of_them() {
    for (input, runc) in RUNC {
        let ours = Policy::from_rules(&rules(input));
        match runc {
            Ok(expected) => assert_eq!(texts(&ours.unwrap()), expected, "{input}"),
            Err((expected_rule, expected_wildcard)) => {
                let Err(RuleError::Hole { rule, wildcard, .. }) = ours else {
                    panic!("{input}: {ours:?}");
                };
                assert_eq!(
                    (rule.as_str(), wildcard.as_str()),
                    (expected_rule, expected_wildcard)
                );
            }
        }
    }
}

/// Each line: the input, what runc makes of it, and what we do instead.
#[test]
fn where_runc_leaves_more_open_we_do_not() {
    let differences = [
        ("allow c 5:5 rw; deny c 5:* rw", "allow c 5:5 rw", ""),
        (
            "allow a 10:229 rw",
            "allow a *:* rwm",
            "allow b 10:229 rw; allow c 10:229 rw",
        ),
        (
            "allow a *:* rw",
            "allow a *:* rwm",
            "allow b *:* rw; allow c *:* rw",
        ),
        ("allow c 4096:0 rw", "allow c 4096:0 rw", ""),
        (
            "allow c 4294967295:4294967295 rwm",
            "allow c 4294967295:4294967295 rwm",
            "",
        ),
    ];
    for (input, runc, expected) in differences {
        let ours = texts(&Policy::from_rules(&rules(input)).unwrap());
        assert_eq!(ours, expected, "{input}");
        assert_ne!(ours, runc, "{input}: no difference left, move it to RUNC");
    }
    assert!(matches!(
        Policy::from_rules(&rules("allow c 5:* rw; deny c *:5 rw")),
        Err(RuleError::Hole { .. })
    ));
}

#[test]
fn an_empty_list_is_not_unrestricted() {
    let policy = Policy::for_container(&[], &[]).unwrap();
    assert_eq!(
        texts(&policy),
        "allow b *:* m; allow c *:* m; allow c 1:3 rwm; allow c 1:5 rwm; allow c 1:7 rwm; \
         allow c 1:8 rwm; allow c 1:9 rwm; allow c 5:0 rwm; allow c 5:2 rwm; \
         allow c 10:200 rwm; allow c 136:* rwm"
    );
    assert!(policy.allows(NodeKind::Char, 195, 0, Access::MKNOD));
    assert!(!policy.allows(NodeKind::Char, 195, 0, Access::READ));
}

#[test]
fn a_privileged_list_stays_allow_all_beside_the_defaults() {
    let policy = Policy::for_container(&rules("allow a *:* rwm"), &[]).unwrap();
    assert!(policy.is_allow_all());
}

#[test]
fn errors_name_the_rule_and_the_way_out() {
    let message = |user: &str| {
        Policy::for_container(&rules(user), &[])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message("allow c 195:* rwm; deny c 195:3 w"),
        "linux.resources.devices[1]: rule \"deny c 195:3 w\" not supported by devices \
         cgroupv1 (cannot punch hole in existing wildcard rule \"allow c 195:* rwm\"): \
         name the devices one by one instead"
    );
    assert!(
        message("allow a *:* rwm; deny c 10:* rwm")
            .starts_with("default device rule: rule \"allow c 10:200 rwm\" not supported")
    );
    let mut fifo = rules("allow c 1:3 r");
    fifo[0].kind = DeviceKind::Fifo;
    assert_eq!(
        Policy::from_rules(&fifo).unwrap_err().to_string(),
        "linux.resources.devices[0]: invalid cgroup device type \"p\": use a, b or c"
    );
    let mut nothing = rules("allow c 1:3 r");
    nothing[0].access = Access::empty();
    assert_eq!(
        Policy::from_rules(&nothing).unwrap_err(),
        RuleError::EmptyAccess {
            position: Position::User(0)
        }
    );
}

#[test]
fn only_a_policys_own_text_is_read() {
    for bad in [
        "",
        "deny a *:* rw",
        "deny a *:* rwm\ndeny c 1:3 r",
        "deny a *:* rwm\nallow c 1:3 ",
        "deny a *:* rwm\nallow c +1:3 r",
        "deny a *:* rwm\nallow c 1:3 r\nallow c 1:3 w",
        "deny a *:* rwm\nallow c 99999999999:3 r",
        "deny a *:* rwm\nallow c 1:3 r x",
    ] {
        assert!(bad.parse::<Policy>().is_err(), "{bad:?}");
    }
}

/// The exception list of `security/device_cgroup.c`, fed with every rule as a
/// write to `devices.allow` or `devices.deny`: silent about holes.
#[derive(Default)]
struct Kernel {
    allow: bool,
    exceptions: Vec<(DeviceRule, Access)>,
}

impl Kernel {
    fn write(&mut self, rule: &DeviceRule) {
        if rule.kind == DeviceKind::All {
            self.allow = rule.allow;
            self.exceptions.clear();
            return;
        }
        let same = |other: &DeviceRule| {
            (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor)
        };
        let found = self.exceptions.iter_mut().find(|(other, _)| same(other));
        match (found, rule.allow == self.allow) {
            (Some((_, access)), false) => *access |= rule.access,
            (Some((_, access)), true) => access.remove(rule.access),
            (None, false) => self.exceptions.push((rule.clone(), rule.access)),
            (None, true) => {}
        }
    }

    fn allows(&self, kind: DeviceKind, major: u32, minor: u32, access: Access) -> bool {
        let hit = |asked: &dyn Fn(Access) -> bool| {
            self.exceptions.iter().any(|(rule, held)| {
                !held.is_empty()
                    && rule.kind == kind
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && asked(*held)
            })
        };
        if self.allow {
            !hit(&|held| held.intersects(access))
        } else {
            hit(&|held| held.contains(access))
        }
    }
}

/// Whether one access is allowed by the last rule that speaks of it.
fn last_word(rules: &[DeviceRule], kind: NodeKind, major: u32, minor: u32, bit: Access) -> bool {
    rules
        .iter()
        .rev()
        .find(|rule| {
            let whole = rule.major.is_none() && rule.minor.is_none() && rule.access.is_all();
            let deny_all = rule.kind == DeviceKind::All && (!rule.allow || whole);
            let kind_meets = rule.kind == DeviceKind::All || rule.kind == kind.rule_kind();
            deny_all
                || kind_meets
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access.contains(bit)
        })
        .is_some_and(|rule| rule.allow)
}

/// Every request that rules over `testing::number` can tell apart.
fn requests() -> impl Iterator<Item = (NodeKind, u32, u32, Access)> {
    let kinds = [NodeKind::Block, NodeKind::Char];
    kinds.into_iter().flat_map(|kind| {
        [0, 1, 2, 3, 4, 4095].into_iter().flat_map(move |major| {
            [0, 1, 2, 3, 4, 4095, 1_048_575]
                .into_iter()
                .flat_map(move |minor| {
                    (1..8).map(move |bits| (kind, major, minor, Access::from_bits_truncate(bits)))
                })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_allowed_that_the_v1_kernel_denies(
        rules in prop::collection::vec(any_rule(), 0..16)
    ) {
        // The one list the kernel reads otherwise on purpose: see the module.
        let rules: Vec<_> = rules
            .into_iter()
            .filter(|rule| {
                let whole = rule.major.is_none() && rule.minor.is_none() && rule.access.is_all();
                rule.kind != DeviceKind::All || !rule.allow || whole
            })
            .collect();
        let rules = honoured(&rules);
        let policy = Policy::from_rules(&rules).unwrap();
        let mut kernel = Kernel::default();
        rules.iter().for_each(|rule| kernel.write(rule));
        for (kind, major, minor, access) in requests() {
            if policy.allows(kind, major, minor, access) {
                prop_assert!(
                    kernel.allows(kind.rule_kind(), major, minor, access),
                    "{:?} {}:{} {:?}\n{}", kind, major, minor, access, policy
                );
            }
        }
    }

    #[test]
    fn nothing_is_allowed_against_the_last_word(
        rules in prop::collection::vec(any_rule(), 0..16)
    ) {
        let rules = honoured(&rules);
        let policy = Policy::from_rules(&rules).unwrap();
        for (kind, major, minor, access) in requests() {
            if policy.allows(kind, major, minor, access) {
                for bit in access.iter() {
                    prop_assert!(
                        last_word(&rules, kind, major, minor, bit),
                        "{:?} {}:{} {:?}\n{}", kind, major, minor, bit, policy
                    );
                }
            }
        }
    }

    #[test]
    fn a_policy_is_its_own_rules_text_and_json(
        rules in prop::collection::vec(any_rule(), 0..16)
    ) {
        let policy = lenient(&rules);
        prop_assert_eq!(&Policy::from_rules(&policy.rules()).unwrap(), &policy);
        prop_assert_eq!(&policy.to_string().parse::<Policy>().unwrap(), &policy);
        let json = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Policy>(&json).unwrap(), &policy);
    }

    #[test]
    fn the_digest_tells_policies_apart(
        one in prop::collection::vec(any_rule(), 0..6),
        two in prop::collection::vec(any_rule(), 0..6),
    ) {
        let (one, two) = (lenient(&one), lenient(&two));
        prop_assert_eq!(one == two, one.digest() == two.digest());
    }
}
