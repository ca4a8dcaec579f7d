//! What a list of device rules comes to: a default and its exceptions.
//!
//! Rules apply in order; the result is what the v1 devices controller of the
//! kernel holds (`security/device_cgroup.c`), which runc emulates for both
//! cgroup versions so that one `config.json` means the same on each. We do the
//! same: [`Policy`] is the single meaning of a rule list, from which the v1
//! writes and the v2 program are made.
//!
//! # When an access is allowed
//!
//! A request names a device and one or more of `r`, `w`, `m` (an `O_RDWR` open
//! asks for `rw` at once).
//!
//! - Default *deny*: allowed when **one** exception covers everything that is
//!   asked. Exceptions for the same device merge their bits, so `r` in one rule
//!   and `w` in another allow `rw`; those for different sets of devices do not
//!   (`c 1:* r` and `c 1:3 w` do not allow `rw` on 1:3).
//! - Default *allow*: denied when an exception touches **anything** that is
//!   asked. (runc's v2 program wants the exception to cover all of it: there,
//!   after a denied `w`, `rw` opens. v1 denies it, and so do we.)
//!
//! # Where we differ from runc
//!
//! Never to allow what it denies, with the one purpose that no rule is silently
//! without effect where that would leave more open than the list says:
//!
//! - A deny that covers an earlier, narrower allow takes it back. In runc, and
//!   in the kernel, only a deny with the same numbers does.
//! - A deny that only overlaps an earlier allow (`c *:3` after `c 5:*`) is an
//!   error, as the hole in a wildcard is in runc.
//! - An allow without a type but with numbers, or with less than `rwm`, means
//!   these numbers and accesses for both kinds, as the OCI specification says;
//!   runc opens every device.
//!   (A deny without a type is everything in both, whatever else it says.)
//! - Numbers that no device can have match nothing. (The kernel's v1 files read
//!   4294967295 as `*`.)
//!
//! Pure: values in, values out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::rules::{access_text, defaults, number_text, text};
use crate::edit::{Access, DeviceKind, DeviceRule};

/// The largest major number of a device: 12 bits (`MINORBITS` is 20).
const MAX_MAJOR: u32 = (1 << 12) - 1;
/// The largest minor number of a device: 20 bits.
const MAX_MINOR: u32 = (1 << 20) - 1;

/// Why a list of rules has no policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// A type that only nodes can have.
    #[error("{position}: invalid cgroup device type \"p\": use a, b or c")]
    Kind {
        /// Which rule.
        position: Position,
    },
    /// No access at all.
    #[error("{position}: device access cannot be empty: use any of r, w, m")]
    EmptyAccess {
        /// Which rule.
        position: Position,
    },
    /// The rule takes a part of a wildcard back, which runc refuses too.
    #[error(
        "{position}: rule \"{rule}\" not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule \"{wildcard}\"): name the devices one by one instead"
    )]
    Hole {
        /// Which rule.
        position: Position,
        /// The rule, with its verdict.
        rule: String,
        /// The exception it would split, with its verdict.
        wildcard: String,
    },
}

/// Which rule of a list an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// An element of `linux.resources.devices`, from 0.
    User(usize),
    /// One that runc, and so we, append.
    Default,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(index) => write!(f, "linux.resources.devices[{index}]"),
            Self::Default => f.write_str("default device rule"),
        }
    }
}

/// The two kinds of device that the kernel asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// `b`
    Block,
    /// `c`
    Char,
}

impl NodeKind {
    fn letter(self) -> char {
        match self {
            Self::Block => 'b',
            Self::Char => 'c',
        }
    }

    fn rule_kind(self) -> DeviceKind {
        match self {
            Self::Block => DeviceKind::Block,
            Self::Char => DeviceKind::Char,
        }
    }
}

/// A set of devices of one kind. The order is the one runc writes rules in:
/// major, minor, kind, wildcards first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// `None` is any major.
    pub major: Option<u32>,
    /// `None` is any minor.
    pub minor: Option<u32>,
    /// Block or character.
    pub kind: NodeKind,
}

impl Selector {
    /// Whether every device of `other` is one of `self`'s.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Whether some device is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// The selectors that cover this one without being it.
    fn wider(self) -> impl Iterator<Item = Self> {
        let majors = [self.major, None];
        let minors = [self.minor, None];
        majors
            .into_iter()
            .flat_map(move |major| minors.into_iter().map(move |minor| (major, minor)))
            .map(move |(major, minor)| Self {
                major,
                minor,
                kind: self.kind,
            })
            .filter(move |selector| *selector != self)
    }

    /// The rule about these devices.
    #[must_use]
    pub fn rule(&self, allow: bool, access: Access) -> DeviceRule {
        DeviceRule {
            allow,
            kind: self.kind.rule_kind(),
            major: self.major,
            minor: self.minor,
            access,
        }
    }

    /// Whether any device can have these numbers.
    fn exists(&self) -> bool {
        self.major.is_none_or(|major| major <= MAX_MAJOR)
            && self.minor.is_none_or(|minor| minor <= MAX_MINOR)
    }
}

/// A default verdict and the exceptions to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    allow_by_default: bool,
    exceptions: BTreeMap<Selector, Access>,
}

impl Policy {
    /// The policy of exactly these rules, applied in order to *deny everything*.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule that cannot be honoured.
    pub fn from_rules(rules: &[DeviceRule]) -> Result<Self, RuleError> {
        let mut policy = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            policy.apply(rule, Position::User(index))?;
        }
        Ok(policy)
    }

    /// The policy of a container: the user's rules, then runc's defaults (see
    /// [`effective_beside`](super::rules::effective_beside)).
    ///
    /// # Errors
    /// As [`Policy::from_rules`].
    pub fn for_container(user: &[DeviceRule], declared: &[&Path]) -> Result<Self, RuleError> {
        let mut policy = Self::from_rules(user)?;
        for rule in defaults(declared) {
            policy.apply(&rule, Position::Default)?;
        }
        Ok(policy)
    }

    fn apply(&mut self, rule: &DeviceRule, position: Position) -> Result<(), RuleError> {
        if rule.access.is_empty() {
            return Err(RuleError::EmptyAccess { position });
        }
        let whole = rule.major.is_none() && rule.minor.is_none() && rule.access.is_all();
        let kinds: &[NodeKind] = match rule.kind {
            DeviceKind::Fifo => return Err(RuleError::Kind { position }),
            DeviceKind::Char => &[NodeKind::Char],
            DeviceKind::Block => &[NodeKind::Block],
            DeviceKind::All if rule.allow && !whole => &[NodeKind::Block, NodeKind::Char],
            DeviceKind::All => {
                *self = Self {
                    allow_by_default: rule.allow,
                    exceptions: BTreeMap::new(),
                };
                return Ok(());
            }
        };
        for &kind in kinds {
            let selector = Selector {
                major: rule.major,
                minor: rule.minor,
                kind,
            };
            if !selector.exists() {
                continue;
            }
            if rule.allow == self.allow_by_default {
                self.take_back(selector, rule, position)?;
            } else {
                *self
                    .exceptions
                    .entry(selector)
                    .or_insert_with(Access::empty) |= rule.access;
            }
        }
        Ok(())
    }

    /// Applies a rule whose verdict is the default one: it can only end exceptions.
    fn take_back(
        &mut self,
        selector: Selector,
        rule: &DeviceRule,
        position: Position,
    ) -> Result<(), RuleError> {
        let deny_by_default = !self.allow_by_default;
        let splits = |exception: &Selector| {
            if deny_by_default {
                // What is denied must be closed afterwards.
                exception.overlaps(&selector) && !selector.covers(exception)
            } else {
                // What stays denied is safe: v1 and runc keep narrower denials.
                exception.covers(&selector) && *exception != selector
            }
        };
        if let Some((exception, access)) = self
            .exceptions
            .iter()
            .find(|(exception, access)| access.intersects(rule.access) && splits(exception))
        {
            let verdict = |allow| if allow { "allow" } else { "deny" };
            return Err(RuleError::Hole {
                position,
                rule: format!("{} {}", verdict(rule.allow), text(rule)),
                wildcard: format!("{} {}", verdict(!rule.allow), line(exception, *access)),
            });
        }
        self.exceptions.retain(|exception, access| {
            let ended = if deny_by_default {
                selector.covers(exception)
            } else {
                *exception == selector
            };
            if ended {
                access.remove(rule.access);
            }
            !access.is_empty()
        });
        Ok(())
    }

    /// Whether what no exception names is allowed.
    #[must_use]
    pub fn allows_by_default(&self) -> bool {
        self.allow_by_default
    }

    /// Whether nothing is denied to anybody: a privileged container.
    #[must_use]
    pub fn is_allow_all(&self) -> bool {
        self.allow_by_default && self.exceptions.is_empty()
    }

    /// The exceptions, in the order in which runc writes them.
    pub fn exceptions(&self) -> impl ExactSizeIterator<Item = (Selector, Access)> + '_ {
        self.exceptions
            .iter()
            .map(|(selector, access)| (*selector, *access))
    }

    /// The access an exception for exactly this selector has.
    #[must_use]
    pub fn exception(&self, selector: &Selector) -> Access {
        self.exceptions
            .get(selector)
            .copied()
            .unwrap_or(Access::empty())
    }

    /// Whether a request for all of `access` on one device succeeds: the v1
    /// kernel's rule, and the definition that the v2 program must meet.
    #[must_use]
    pub fn allows(&self, kind: NodeKind, major: u32, minor: u32, access: Access) -> bool {
        let device = Selector {
            major: Some(major),
            minor: Some(minor),
            kind,
        };
        let mut exceptions = device
            .wider()
            .chain([device])
            .filter_map(|selector| self.exceptions.get(&selector));
        if self.allow_by_default {
            !exceptions.any(|exception| exception.intersects(access))
        } else {
            exceptions.any(|exception| exception.contains(access))
        }
    }

    /// The shortest list of rules with this policy, starting from *deny
    /// everything*: what runc's emulator gives for the same input.
    #[must_use]
    pub fn rules(&self) -> Vec<DeviceRule> {
        let everything = self.allow_by_default.then(|| DeviceRule {
            allow: true,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: Access::all(),
        });
        everything
            .into_iter()
            .chain(
                self.exceptions()
                    .map(|(selector, access)| selector.rule(!self.allow_by_default, access)),
            )
            .collect()
    }

    /// A policy from its parts.
    pub(super) fn new(allow_by_default: bool, exceptions: BTreeMap<Selector, Access>) -> Self {
        Self {
            allow_by_default,
            exceptions,
        }
    }

    /// Whether one exception says all of this.
    pub(super) fn covers(&self, selector: &Selector, access: Access) -> bool {
        selector
            .wider()
            .chain([*selector])
            .any(|selector| self.exception(&selector).contains(access))
    }

    /// The exceptions that a wider one does not already say.
    pub(super) fn needed(&self) -> impl Iterator<Item = (Selector, Access)> + '_ {
        self.exceptions().filter(|(selector, access)| {
            !selector
                .wider()
                .any(|wider| self.exception(&wider).contains(*access))
        })
    }

    /// SHA-256 over the policy's text, in lower-case hexadecimal: equal for rule
    /// lists that mean the same.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.to_string());
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// One exception in the words of the kernel's v1 files.
pub(super) fn line(selector: &Selector, access: Access) -> String {
    format!(
        "{} {}:{} {}",
        selector.kind.letter(),
        number_text(selector.major),
        number_text(selector.minor),
        access_text(access)
    )
}

/// Reads one exception; `None` when the text is not one.
pub(super) fn parse_line(text: &str) -> Option<(Selector, Access)> {
    let mut words = text.split(' ');
    let (kind, numbers, letters) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || letters.is_empty() {
        return None;
    }
    let kind = match kind {
        "b" => NodeKind::Block,
        "c" => NodeKind::Char,
        _ => return None,
    };
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (major, minor) = numbers.split_once(':')?;
    let mut access = Access::empty();
    for letter in letters.chars() {
        access |= match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            'm' => Access::MKNOD,
            _ => return None,
        };
    }
    let selector = Selector {
        major: number(major)?,
        minor: number(minor)?,
        kind,
    };
    Some((selector, access))
}

/// One line a verdict: the default, then each exception, as in
/// `deny a *:* rwm` and `allow c 1:3 rwm`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (default, exception) = if self.allow_by_default {
            ("allow", "deny")
        } else {
            ("deny", "allow")
        };
        write!(f, "{default} a *:* rwm")?;
        for (selector, access) in self.exceptions() {
            write!(f, "\n{exception} {}", line(&selector, access))?;
        }
        Ok(())
    }
}

/// The text is not a policy's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a device policy: line {0:?}")]
pub struct ParsePolicyError(String);

/// Reads what [`Display`](fmt::Display) writes, and nothing else.
impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        let bad = |line: &str| ParsePolicyError(line.to_owned());
        let mut lines = text.lines();
        let (allow_by_default, prefix) = match lines.next().unwrap_or_default() {
            "deny a *:* rwm" => (false, "allow "),
            "allow a *:* rwm" => (true, "deny "),
            other => return Err(bad(other)),
        };
        let mut exceptions = BTreeMap::new();
        for text in lines {
            let (selector, access) = text
                .strip_prefix(prefix)
                .and_then(parse_line)
                .ok_or_else(|| bad(text))?;
            if exceptions.insert(selector, access).is_some() {
                return Err(bad(text));
            }
        }
        Ok(Self {
            allow_by_default,
            exceptions,
        })
    }
}

/// A list of the lines that [`Display`](fmt::Display) writes, for `state.json`.
impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.to_string().lines())
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .join("\n")
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
