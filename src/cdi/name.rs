//! `vendor/class=device` names (CDI specification, "Fully-qualified name").

use std::fmt;

/// A fully qualified CDI device name whose parts have been validated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    vendor: String,
    class: String,
    device: String,
}

impl QualifiedName {
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

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.vendor, self.class, self.device)
    }
}
