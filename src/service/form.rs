//! The forms a single value of the service file may have.
//!
//! A form says the same thing twice: as a check with an error for people, and as
//! a pattern for the JSON Schema. `tests/bundle` holds the two together.

use super::capability::Capability;
use super::quantity;
use crate::document::quote;

/// A kind of string.
pub struct Form {
    /// What the schema calls it.
    pub name: &'static str,
    /// A regular expression (ECMA 262, without what not every reader has, as
    /// looking ahead) that holds for every valid value and few others.
    pub pattern: &'static str,
    /// What may stand for it in JSON without quotes.
    pub unquoted: Unquoted,
    /// Decides, and says what is wrong.
    pub check: fn(&str) -> Result<(), String>,
}

impl Form {
    /// For which nothing may stand without quotes.
    const fn string(
        name: &'static str,
        pattern: &'static str,
        check: fn(&str) -> Result<(), String>,
    ) -> Self {
        Self {
            name,
            pattern,
            unquoted: Unquoted::Nothing,
            check,
        }
    }
}

/// What may stand for a string where a format tells numbers from strings.
pub enum Unquoted {
    /// Nothing.
    Nothing,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// A number or a boolean.
    Scalar,
}

/// Any string that a C program can hold.
pub const TEXT: Form = Form::string("text", "^[^\\u0000]*$", no_nul);

/// A string that says something.
pub const WORDS: Form = Form::string("words", "^[^\\u0000]+$", |text| {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    no_nul(text)
});

/// A name that becomes part of file names and of the container's id.
pub const NAME: Form = Form::string("name", "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", |text| {
    let mut bytes = text.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let goes_on = bytes.all(is_plain);
    if starts && goes_on && text.len() <= 63 {
        return Ok(());
    }
    Err(format!(
        "{} is no name: a letter or digit, then up to 62 letters, digits and _ . -",
        quote(text)
    ))
});

/// The name of an environment variable.
pub const VARIABLE: Form = Form::string("variable", "^[^=\\u0000]+$", |text| {
    if text.is_empty() || text.contains('=') {
        return Err(format!("{} is no variable's name", quote(text)));
    }
    no_nul(text)
});

/// A value of an environment variable.
pub const VALUE: Form = Form {
    name: "value",
    pattern: "^[^\\u0000]*$",
    unquoted: Unquoted::Scalar,
    check: no_nul,
};

/// An absolute path without `.`, `..` and double slashes, below the root.
pub const PATH: Form = Form::string("path", "^(/[^/\\u0000]+)+$", |text| {
    no_nul(text)?;
    if text == "/" {
        return Err("\"/\" is the root itself, name a path below it".to_owned());
    }
    directory(text)
});

/// As [`PATH`], or the root itself.
pub const DIRECTORY: Form = Form::string("directory", "^(/|(/[^/\\u0000]+)+)$", |text| {
    no_nul(text)?;
    directory(text)
});

fn directory(text: &str) -> Result<(), String> {
    let Some(below) = text.strip_prefix('/') else {
        return Err(format!("{} is not absolute", quote(text)));
    };
    if below.is_empty() {
        return Ok(());
    }
    match below
        .split('/')
        .find(|part| matches!(*part, "" | "." | ".."))
    {
        None => Ok(()),
        Some("") => Err(format!("{} has a slash too many", quote(text))),
        Some(part) => Err(format!("{} has a {part:?} in it", quote(text))),
    }
}

/// A parent cgroup: a path, absolute or not, or a systemd slice.
pub const CGROUP: Form = Form::string("cgroup", "^/?[^/\\n\\u0000]+(/[^/\\n\\u0000]+)*$", |text| {
    no_nul(text)?;
    if text.contains('\n') {
        return Err("has a line break".to_owned());
    }
    if text.trim_matches('/').is_empty() {
        return Err(format!(
            "{} is the root of the hierarchy, name a cgroup below it",
            quote(text)
        ));
    }
    directory(&format!("/{}", text.strip_prefix('/').unwrap_or(text)))
        .map_err(|_| format!("{} has an empty part, . or .. in it", quote(text)))
});

/// A host name as `sethostname(2)` takes it.
pub const HOSTNAME: Form = Form::string("hostname", "^[A-Za-z0-9_.-]{1,64}$", |text| {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_plain) {
        return Err(format!(
            "{} is no host name: 1 to 64 letters, digits and _ . -",
            quote(text)
        ));
    }
    Ok(())
});

/// A capability, with or without `CAP_`, in any case.
pub const CAPABILITY: Form = Form::string("capability", "^([Cc][Aa][Pp]_)?[A-Za-z_]+$", |text| {
    Capability::parse(text).map(|_| ())
});

/// Bytes.
pub const BYTES: Form = Form {
    name: "bytes",
    pattern: "^[0-9]*[1-9][0-9]*([KMGT]i|[kKMGT])?$",
    unquoted: Unquoted::Integer(1, i64::MAX),
    check: |text| quantity::bytes(text).map(|_| ()),
};

/// Memory of GPUs.
pub const PINNED: Form = Form::string(
    "pinned",
    "^([1-9][0-9]*[MG]i?|[0-9]+=[1-9][0-9]*[MG]i?(,[0-9]+=[1-9][0-9]*[MG]i?)*)$",
    |text| quantity::pinned(text).map(|_| ()),
);

/// Permission bits.
pub const MODE: Form = Form {
    name: "mode",
    pattern: "^(0o)?[0-7]+$",
    unquoted: Unquoted::Integer(0, 7777),
    check: |text| quantity::mode(text).map(|_| ()),
};

/// How many GPUs: a number, or all of them.
pub const COUNT: Form = Form {
    name: "count",
    pattern: "^(all|[1-9][0-9]{0,3})$",
    unquoted: Unquoted::Integer(1, 9999),
    check: |text| {
        let number = text.parse::<u32>().ok().filter(|n| (1..=9999).contains(n));
        if text == "all" || (number.is_some() && !text.starts_with(['0', '+'])) {
            return Ok(());
        }
        Err(format!(
            "{} is no number of GPUs: 1 to 9999, or all",
            quote(text)
        ))
    },
};

/// A network interface.
pub const INTERFACE: Form = Form::string("interface", "^[^/\\s\\u0000]{1,255}$", |text| {
    let odd = |c: char| c == '/' || c == '\0' || c.is_whitespace();
    if text.is_empty() || text.len() > 255 || text.contains(odd) {
        return Err(format!("{} is no interface", quote(text)));
    }
    Ok(())
});

/// Of names that become part of others.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("has a zero byte in it".to_owned());
    }
    Ok(())
}
