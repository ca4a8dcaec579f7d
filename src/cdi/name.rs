//! `vendor/class=device` names (CDI specification, "Fully-qualified name").

use std::fmt;
use std::str::FromStr;

use super::CdiError;

/// A fully qualified CDI device name whose parts have been validated.
///
/// Ordered by vendor, then class, then device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    vendor: String,
    class: String,
    device: String,
}

/// Which part of a name a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Starts with a letter.
    Vendor,
    /// Starts with a letter.
    Class,
    /// Starts with a letter or digit, and may contain `:`.
    Device,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Class => "class",
            Self::Device => "device name",
        }
    }

    fn starts(self, c: char) -> bool {
        match self {
            Self::Vendor | Self::Class => c.is_ascii_alphabetic(),
            Self::Device => c.is_ascii_alphanumeric(),
        }
    }

    fn contains(self, c: char) -> bool {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '-' | '.')
            || (self == Self::Device && c == ':')
    }

    /// Checks one part by itself; the error is the reason alone.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        let word = self.word();
        let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else {
            return Err(format!("the {word} is empty"));
        };
        if !self.starts(first) {
            let wanted = match self {
                Self::Vendor | Self::Class => "a letter",
                Self::Device => "a letter or digit",
            };
            return Err(format!(
                "{word} {text:?} starts with {first:?}, it must start with {wanted}"
            ));
        }
        if let Some(bad) = text.chars().find(|&c| !self.contains(c)) {
            let wanted = match self {
                Self::Vendor | Self::Class => "letters, digits, '_', '-' and '.'",
                Self::Device => "letters, digits, '_', '-', '.' and ':'",
            };
            return Err(format!(
                "{word} {text:?} contains {bad:?}, only {wanted} are allowed"
            ));
        }
        if !last.is_ascii_alphanumeric() {
            return Err(format!(
                "{word} {text:?} ends with {last:?}, it must end with a letter or digit"
            ));
        }
        Ok(())
    }
}

/// Splits `vendor/class`, the `kind` of a specification, and checks both parts.
pub(super) fn parse_kind(kind: &str) -> Result<(&str, &str), String> {
    let Some((vendor, class)) = kind.split_once('/') else {
        return Err(format!("kind {kind:?} has no '/', expected vendor/class"));
    };
    Part::Vendor.check(vendor)?;
    Part::Class.check(class)?;
    Ok((vendor, class))
}

impl QualifiedName {
    /// Parses `vendor/class=device`.
    ///
    /// # Errors
    /// [`CdiError::Name`] that says which part is missing or which character of
    /// which part is not allowed.
    pub fn parse(name: &str) -> Result<Self, CdiError> {
        Self::split(name).map_err(|reason| CdiError::Name {
            name: name.to_owned(),
            reason,
        })
    }

    /// Joins a specification's vendor and class with one of its devices.
    ///
    /// # Errors
    /// [`CdiError::Name`], as [`parse`](Self::parse).
    pub fn new(vendor: &str, class: &str, device: &str) -> Result<Self, CdiError> {
        Self::parse(&format!("{vendor}/{class}={device}"))
    }

    fn split(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("it is empty, expected vendor/class=device".into());
        }
        if name.starts_with('/') {
            return Err("it is a path, expected vendor/class=device".into());
        }
        let Some((kind, device)) = name.split_once('=') else {
            return Err("it has no '=', expected vendor/class=device".into());
        };
        let (vendor, class) = parse_kind(kind)?;
        Part::Device.check(device)?;
        Ok(Self {
            vendor: vendor.to_owned(),
            class: class.to_owned(),
            device: device.to_owned(),
        })
    }

    /// The vendor, as in `nvidia.com`.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The class, as in `gpu`.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The device, as in `0` or `all`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// `vendor/class`.
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{}/{}", self.vendor, self.class)
    }
}

impl FromStr for QualifiedName {
    type Err = CdiError;

    fn from_str(name: &str) -> Result<Self, CdiError> {
        Self::parse(name)
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.vendor, self.class, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_as_it_was_parsed() {
        for name in ["a/b=c", "vendor.com/class=0", "v-1.com/c_2.x=dev_1:2.3"] {
            assert_eq!(QualifiedName::parse(name).unwrap().to_string(), name);
        }
        let name = QualifiedName::parse("nvidia.com/gpu=all").unwrap();
        assert_eq!(
            (name.vendor(), name.class(), name.device()),
            ("nvidia.com", "gpu", "all")
        );
        assert_eq!(name.kind(), "nvidia.com/gpu");
    }

    #[test]
    fn an_error_names_the_part_and_the_character() {
        for (name, want) in [
            ("", "it is empty"),
            ("/dev/null", "it is a path"),
            ("vendor.com/class", "it has no '='"),
            ("class=dev", "kind \"class\" has no '/'"),
            ("class=a/b", "kind \"class\" has no '/'"),
            ("/class=dev", "it is a path"),
            ("vendor/=dev", "the class is empty"),
            ("vendor/class=", "the device name is empty"),
            ("1v/class=dev", "vendor \"1v\" starts with '1'"),
            ("v/cla ss=dev", "class \"cla ss\" contains ' '"),
            ("v/c/d=dev", "class \"c/d\" contains '/'"),
            ("v/c=a=b", "device name \"a=b\" contains '='"),
            ("v:1/c=a", "vendor \"v:1\" contains ':'"),
            ("v/c=a\u{e9}b", "device name \"a\u{e9}b\" contains '\u{e9}'"),
            ("v/c=dev:", "device name \"dev:\" ends with ':'"),
        ] {
            let error = QualifiedName::parse(name).unwrap_err().to_string();
            assert!(error.contains(want), "{name:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}
