//! The device filter on cgroup v1: the files of the devices controller.
//!
//! `devices.allow` and `devices.deny` take one rule a write; `devices.list`
//! shows the exceptions of a cgroup that denies by default, and only
//! `a *:* rwm` for one that allows by default, whatever its exceptions: those
//! cannot be read back from the kernel at all.
//!
//! Rules are written as runc does: the fewest that lead from what the list
//! shows to what is wanted, so that an update does not take a device away for a
//! moment that stays allowed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, statfs};

use super::policy::{Policy, Selector, line, parse_line};
use super::rules::text;
use super::{DeviceError, Standing};
use crate::edit::{Access, DeviceKind, DeviceRule};

const LIST: &str = "devices.list";

/// Writes the policy into a directory of the devices controller and reads it
/// back.
///
/// # Errors
/// [`DeviceError::Write`] names the rule that the kernel refused; the cgroup
/// then holds part of the rules, never more than the old and the new together.
/// [`DeviceError::Changed`] when the list afterwards is not what was written.
pub fn install(cgroup: &Path, policy: &Policy) -> Result<(), DeviceError> {
    let current = read(cgroup)?;
    let mut allow = Control::open(cgroup, "devices.allow")?;
    let mut deny = Control::open(cgroup, "devices.deny")?;
    for rule in transition(&current, policy) {
        let file = if rule.allow { &mut allow } else { &mut deny };
        file.write(&rule)?;
    }
    match verify(cgroup, policy)? {
        Standing::Exact | Standing::ModeOnly => Ok(()),
        Standing::Narrower(missing) => Err(DeviceError::Changed(missing)),
    }
}

/// Checks that the cgroup allows no more than the policy.
///
/// Of a policy that allows by default only that default can be checked
/// ([`Standing::ModeOnly`]). Less than the policy is not an error: a device
/// taken from a parent is taken from its children too.
///
/// # Errors
/// [`DeviceError::Changed`] names what is allowed beyond the policy.
pub fn verify(cgroup: &Path, policy: &Policy) -> Result<Standing, DeviceError> {
    compare(&read(cgroup)?, policy)
        .map_err(|more| DeviceError::Changed(format!("{} has {more}", cgroup.join(LIST).display())))
}

/// What `devices.list` shows.
///
/// # Errors
/// [`DeviceError::NotDevicesCgroup`], [`DeviceError::File`], and
/// [`DeviceError::Changed`] for a line that is not the kernel's.
pub fn read(cgroup: &Path) -> Result<Policy, DeviceError> {
    let not_a_cgroup = || DeviceError::NotDevicesCgroup {
        path: cgroup.to_path_buf(),
    };
    let found = statfs(cgroup).map_err(|errno| DeviceError::File {
        action: "open",
        path: cgroup.to_path_buf(),
        source: errno.into(),
    })?;
    if found.filesystem_type() != CGROUP_SUPER_MAGIC {
        return Err(not_a_cgroup());
    }
    let path = cgroup.join(LIST);
    let list = fs::read_to_string(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => not_a_cgroup(),
        _ => DeviceError::File {
            action: "read",
            path: path.clone(),
            source,
        },
    })?;
    parse(&list)
        .map_err(|line| DeviceError::Changed(format!("{}: unknown line {line:?}", path.display())))
}

/// Reads the text of `devices.list`; the error is the line that is none.
fn parse(list: &str) -> Result<Policy, &str> {
    let mut exceptions = BTreeMap::new();
    for line in list.lines() {
        if line == "a *:* rwm" {
            return Ok(Policy::new(true, BTreeMap::new()));
        }
        let (selector, access) = parse_line(line).ok_or(line)?;
        *exceptions.entry(selector).or_insert(Access::empty()) |= access;
    }
    Ok(Policy::new(false, exceptions))
}

/// The fewest writes that lead from one policy to another, in runc's order:
/// the default if it must change, what is to go, what is to come.
fn transition(current: &Policy, target: &Policy) -> Vec<DeviceRule> {
    let mut rules = Vec::new();
    let nothing = Policy::new(target.allows_by_default(), BTreeMap::new());
    // Exceptions to an allowing default are invisible: start over.
    let reset = current.allows_by_default() || target.allows_by_default();
    let old = if reset {
        rules.push(DeviceRule {
            allow: target.allows_by_default(),
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: Access::all(),
        });
        &nothing
    } else {
        current
    };
    let mut add = |allow: bool, from: &Policy, to: &Policy| {
        rules.extend(from.exceptions().filter_map(|(selector, access)| {
            let change = access.difference(to.exception(&selector));
            (!change.is_empty()).then(|| selector.rule(allow, change))
        }));
    };
    add(target.allows_by_default(), old, target);
    add(!target.allows_by_default(), target, old);
    rules
}

/// Compares what is in force with a policy; the error says what is too much.
fn compare(current: &Policy, policy: &Policy) -> Result<Standing, String> {
    match (current.allows_by_default(), policy.allows_by_default()) {
        (true, true) => return Ok(Standing::ModeOnly),
        (true, false) => return Err("\"a *:* rwm\", which the filter denies".to_owned()),
        (false, true) => {
            return Ok(Standing::Narrower(
                "the cgroup denies by default and should allow".to_owned(),
            ));
        }
        (false, false) => {}
    }
    if let Some((selector, access)) = beyond(current, policy).next() {
        return Err(format!(
            "\"{}\", which the filter denies",
            line(&selector, access)
        ));
    }
    let missing: Vec<_> = beyond(policy, current)
        .map(|(selector, access)| format!("\"{}\"", line(&selector, access)))
        .collect();
    Ok(if missing.is_empty() {
        Standing::Exact
    } else {
        Standing::Narrower(format!("the cgroup lacks {}", missing.join(", ")))
    })
}

/// What the exceptions of `more` have that none of `less` covers.
fn beyond<'a>(more: &'a Policy, less: &'a Policy) -> impl Iterator<Item = (Selector, Access)> + 'a {
    more.exceptions()
        .filter(|(selector, access)| !less.covers(selector, *access))
        .map(|(selector, access)| (selector, access.difference(less.exception(&selector))))
}

/// One of the files that take a rule with each write.
struct Control {
    path: PathBuf,
    file: File,
}

impl Control {
    fn open(cgroup: &Path, name: &str) -> Result<Self, DeviceError> {
        let path = cgroup.join(name);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(DeviceError::File {
                action: "open",
                path,
                source,
            }),
        }
    }

    fn write(&mut self, rule: &DeviceRule) -> Result<(), DeviceError> {
        let rule = text(rule);
        self.file
            .write_all(rule.as_bytes())
            .map_err(|source| DeviceError::Write {
                rule,
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::testing::{any_rule, lenient, rules};
    use proptest::prelude::*;

    fn policy(text: &str) -> Policy {
        Policy::from_rules(&rules(text)).unwrap()
    }

    fn writes(current: &str, target: &str) -> Vec<String> {
        transition(&policy(current), &policy(target))
            .iter()
            .map(|rule| {
                let file = if rule.allow { "allow" } else { "deny" };
                format!("{file} < {}", text(rule))
            })
            .collect()
    }

    #[test]
    fn a_new_cgroup_is_denied_everything_first() {
        assert_eq!(
            writes("allow a *:* rwm", "allow c 1:3 rw; allow b 8:0 r"),
            ["deny < a *:* rwm", "allow < c 1:3 rw", "allow < b 8:0 r"]
        );
    }

    #[test]
    fn an_update_writes_only_the_difference() {
        assert_eq!(
            writes(
                "allow c 1:3 rwm; allow c 195:0 rw; allow c 10:229 rw",
                "allow c 1:3 rwm; allow c 195:1 rw; allow c 10:229 rm"
            ),
            [
                "deny < c 10:229 w",
                "deny < c 195:0 rw",
                "allow < c 10:229 m",
                "allow < c 195:1 rw"
            ]
        );
        assert!(writes("allow c 1:3 rwm", "allow c 1:3 rwm").is_empty());
    }

    #[test]
    fn allow_all_is_written_even_over_allow_all_whose_exceptions_hide() {
        assert_eq!(
            writes("allow a *:* rwm", "allow a *:* rwm"),
            ["allow < a *:* rwm"]
        );
        assert_eq!(
            writes("allow c 1:3 r", "allow a *:* rwm; deny c 10:229 w"),
            ["allow < a *:* rwm", "deny < c 10:229 w"]
        );
    }

    #[test]
    fn what_is_too_much_is_named_and_what_lacks_is_told() {
        let wanted = policy("allow c 195:* rw; allow c 1:3 rwm");
        assert_eq!(compare(&wanted, &wanted), Ok(Standing::Exact));
        assert_eq!(
            compare(&policy("allow a *:* rwm"), &wanted),
            Err("\"a *:* rwm\", which the filter denies".to_owned())
        );
        assert_eq!(
            compare(
                &policy("allow c 195:* rw; allow c 1:3 rwm; allow b 8:0 r"),
                &wanted
            ),
            Err("\"b 8:0 r\", which the filter denies".to_owned())
        );
        assert_eq!(
            compare(&policy("allow c 195:* rwm; allow c 1:3 rwm"), &wanted),
            Err("\"c 195:* m\", which the filter denies".to_owned())
        );
        assert_eq!(
            compare(&policy("allow c 195:* rw; allow c 1:3 r"), &wanted),
            Ok(Standing::Narrower(
                "the cgroup lacks \"c 1:3 wm\"".to_owned()
            ))
        );
        // The same in more words.
        assert_eq!(
            compare(
                &policy("allow c 195:* rw; allow c 195:0 r; allow c 1:3 rwm"),
                &wanted
            ),
            Ok(Standing::Exact)
        );
    }

    #[test]
    fn lists_of_the_kernel_are_read_and_others_are_not() {
        assert_eq!(parse("a *:* rwm\n"), Ok(policy("allow a *:* rwm")));
        assert_eq!(parse(""), Ok(policy("deny a *:* rwm")));
        assert_eq!(
            parse("c *:* m\nb 8:16 rw\n"),
            Ok(policy("allow c *:* m; allow b 8:16 rw"))
        );
        assert_eq!(parse("c 1:3 rw\nx 1:3 r\n"), Err("x 1:3 r"));
        assert_eq!(parse("a *:* rw\n"), Err("a *:* rw"));
    }

    proptest! {
        /// Applied to the old list, the writes give the new one.
        #[test]
        fn a_transition_arrives(
            from in prop::collection::vec(any_rule(), 0..12),
            to in prop::collection::vec(any_rule(), 0..12),
        ) {
            let (current, target) = (lenient(&from), lenient(&to));
            // Rules one by one, on exactly the entry they name, as the kernel does.
            let mut allow = current.allows_by_default();
            let mut list: BTreeMap<_, _> = current.exceptions().collect();
            for rule in transition(&current, &target) {
                if rule.kind == DeviceKind::All {
                    allow = rule.allow;
                    list.clear();
                    continue;
                }
                let (selector, access) = parse_line(&text(&rule)).unwrap();
                let entry = list.entry(selector).or_insert(Access::empty());
                entry.set(access, rule.allow != allow);
                list.retain(|_, access| !access.is_empty());
            }
            prop_assert_eq!(allow, target.allows_by_default());
            prop_assert_eq!(list, target.exceptions().collect::<BTreeMap<_, _>>());
        }

        /// What compares as no more than a policy allows nothing that it denies.
        #[test]
        fn the_comparison_is_sound(
            one in prop::collection::vec(any_rule(), 0..8),
            two in prop::collection::vec(any_rule(), 0..8),
        ) {
            let (current, wanted) = (lenient(&one), lenient(&two));
            let verdict = compare(&current, &wanted);
            prop_assume!(!wanted.allows_by_default());
            let more = (0..5_u32).flat_map(|major| (0..5).map(move |minor| (major, minor)))
                .flat_map(|(major, minor)| (1..8).map(move |bits| (major, minor, bits)))
                .any(|(major, minor, bits)| {
                    let access = Access::from_bits_truncate(bits);
                    let kind = super::super::policy::NodeKind::Char;
                    current.allows(kind, major, minor, access)
                        && !wanted.allows(kind, major, minor, access)
                });
            prop_assert!(!more || verdict.is_err(), "{}\n--\n{}", current, wanted);
        }
    }
}
