//! Which kinds of devices callers may have: `[kinds]` and `[users.NAME]`.

use std::fmt;

use crate::cdi::QualifiedName;

/// `vendor/class`, in which either part may be `*`; `*` alone is every kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    vendor: Option<String>,
    class: Option<String>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self {
                vendor: None,
                class: None,
            });
        }
        let Some((vendor, class)) = text.split_once('/') else {
            return Err(format!(
                "{text:?} is no kind, expected vendor/class, vendor/* or *"
            ));
        };
        let part = |part: &str| (part != "*").then(|| part.to_owned());
        let pattern = Self {
            vendor: part(vendor),
            class: part(class),
        };
        // The names have a grammar of their own.
        QualifiedName::new(
            pattern.vendor.as_deref().unwrap_or("vendor"),
            pattern.class.as_deref().unwrap_or("class"),
            "device",
        )
        .map_err(|error| error.to_string())?;
        Ok(pattern)
    }

    /// Whether a kind is meant.
    #[must_use]
    pub fn matches(&self, vendor: &str, class: &str) -> bool {
        self.vendor.as_deref().is_none_or(|own| own == vendor)
            && self.class.as_deref().is_none_or(|own| own == class)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.vendor, &self.class) {
            (None, None) => f.write_str("*"),
            (vendor, class) => {
                let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
                write!(f, "{}/{}", part(vendor), part(class))
            }
        }
    }
}

/// What is permitted: anything in `allow`, or anything at all without such a
/// list, unless it is in `deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds {
    /// `allow`
    pub allow: Option<Vec<Pattern>>,
    /// `deny`
    pub deny: Vec<Pattern>,
}

impl Kinds {
    /// The key that forbids a kind, if one does.
    pub(super) fn objection(&self, vendor: &str, class: &str) -> Option<&'static str> {
        let any = |list: &[Pattern]| list.iter().any(|p| p.matches(vendor, class));
        if any(&self.deny) {
            Some("deny")
        } else if self.allow.as_deref().is_some_and(|list| !any(list)) {
            Some("allow")
        } else {
            None
        }
    }
}

/// Who calls kusabi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id, as the host's user database numbers it.
    pub uid: u32,
    /// The user's name, if it has one.
    pub name: Option<String>,
}

impl Caller {
    /// Whether a key of `users` means this caller.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.name.as_deref() == Some(key) || key.parse() == Ok(self.uid)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user {name}"),
            None => write!(f, "uid {}", self.uid),
        }
    }
}
