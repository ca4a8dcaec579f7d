//! From limits to control files: which value goes into which file, in which
//! order.
//!
//! Pure. Every conversion is a function from [`Resources`] and a few facts to a
//! list of [`Write`]s; one writer (`super::writer`) carries the list out. What
//! the kernel may do in between (refuse a period until the quota is known, lack a
//! file, clamp a value) is part of the list, so tables can test it.
//!
//! libcgroups is not used for this: its `Controller` traits are private, its
//! managers write at once what `oci-spec` kept of the document, it has no order
//! for values that depend on each other, no leaf weights, no update, and its
//! errors are not the ones engines match on.

use std::borrow::Cow;

pub mod v1;
pub mod v2;

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose hierarchy, on version 1; on version 2 just the name.
    pub controller: &'static str,
    /// The file, without directories.
    pub file: Cow<'static, str>,
    /// What is written, in one `write`.
    pub value: String,
    /// What may go wrong without harm.
    pub rule: Rule,
}

/// The text of a value: numbers in decimal.
struct Value(String);

macro_rules! value_from {
    ($($type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self(value.to_string())
            }
        }
    )*};
}

value_from!(i64, u64, u32, u16, &str, &String);

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self(value)
    }
}

/// What a [`Write`] tolerates or demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// An absent file is no error: the kernel is too old, or the setting off.
    pub optional: bool,
    /// `EINVAL` may only mean that this file must be written first: try again
    /// after it.
    pub retry_after: Option<&'static str>,
    /// The kernel clamps silently: read back and compare.
    pub read_back: bool,
    /// A key of `linux.resources.unified`, whose errors have words of their own.
    pub unified: bool,
}

impl Write {
    fn new(
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<Value>,
    ) -> Self {
        Self {
            controller,
            file: file.into(),
            value: value.into().0,
            rule: Rule::default(),
        }
    }

    fn optional(mut self) -> Self {
        self.rule.optional = true;
        self
    }

    fn retry_after(mut self, file: Option<&'static str>) -> Self {
        self.rule.retry_after = file;
        self
    }

    fn read_back(mut self) -> Self {
        self.rule.read_back = true;
        self
    }
}

/// The writes, and the limits that this version of cgroups cannot express.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversion {
    /// In order.
    pub writes: Vec<Write>,
    /// Dotted paths below `linux.resources`, with the reason.
    pub dropped: Vec<(&'static str, &'static str)>,
}

/// `pids.max` for a limit. Zero is 1, as systemd has it and runc for its sake.
fn pids_max(limit: i64) -> String {
    match limit {
        0 => "1".to_owned(),
        1.. => limit.to_string(),
        _ => "max".to_owned(),
    }
}

fn rdma(device: &super::resources::Rdma) -> Write {
    let mut value = device.device.clone();
    for (key, limit) in [
        ("hca_handle", device.hca_handles),
        ("hca_object", device.hca_objects),
    ] {
        if let Some(limit) = limit {
            value += &format!(" {key}={limit}");
        }
    }
    Write::new("rdma", "rdma.max", value)
}

#[cfg(test)]
mod tests;
