//! Unit properties from annotations: `org.systemd.property.NAME`, whose value is
//! in GVariant's text format ("GVariant Text Format" of GLib), as runc reads it.
//! Pure.

use super::error::SystemdError;
use super::message::{Value, split_type};
use super::properties::Property;

const PREFIX: &str = "org.systemd.property.";

/// The properties that annotations ask for.
///
/// # Errors
/// A name that is none, or a value that cannot be read.
pub fn properties(annotations: &[(&str, &str)]) -> Result<Vec<Property>, SystemdError> {
    annotations
        .iter()
        .filter_map(|(key, text)| key.strip_prefix(PREFIX).map(|name| (name, *text)))
        .map(|(name, text)| {
            property(name, text).map_err(|reason| SystemdError::Annotation {
                name: name.to_owned(),
                reason,
            })
        })
        .collect()
}

fn property(name: &str, text: &str) -> Result<Property, String> {
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err("name incorrect: use at least three letters and nothing else".into());
    }
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None)?;
    if !parser.rest.trim().is_empty() {
        return Err(format!(
            "value {text:?}: unexpected {:?}",
            parser.rest.trim()
        ));
    }
    // Documented with seconds, set in microseconds.
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => Ok(Property::new(
            format!("{stem}USec"),
            Value::U64(
                microseconds(&value).ok_or_else(|| format!("value {text:?}: not a number"))?,
            ),
        )),
        _ => Ok(Property::new(name, value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    let seconds = match value {
        Value::Byte(v) => u64::from(*v),
        Value::U16(v) => u64::from(*v),
        Value::U32(v) => u64::from(*v),
        Value::U64(v) => *v,
        Value::I16(v) => u64::try_from(*v).ok()?,
        Value::I32(v) => u64::try_from(*v).ok()?,
        Value::I64(v) => u64::try_from(*v).ok()?,
        Value::F64(v) if v.is_finite() && *v >= 0.0 && *v < 1e12 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 1e18"
            )]
            return Some((*v * 1e6) as u64);
        }
        _ => return None,
    };
    seconds.checked_mul(SECOND)
}

/// The words that say a number's or text's type.
const TYPES: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// A value, of a type that is known or that it says itself.
    fn value(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        if let Some(after) = self.rest.strip_prefix('@') {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (signature, rest) = after.split_at(end);
            if !matches!(split_type(signature), Ok((_, ""))) {
                return Err(format!("type {signature:?}: not one complete type"));
            }
            self.rest = rest;
            return self.value(Some(signature));
        }
        for (word, signature) in TYPES {
            if let Some(after) = self.rest.strip_prefix(word)
                && after.starts_with(char::is_whitespace)
            {
                self.rest = after;
                return self.value(Some(signature));
            }
        }
        match self.rest.chars().next() {
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('<') => {
                self.rest = &self.rest[1..];
                let inner = self.value(None)?;
                self.expect('>')?;
                Ok(Value::Variant(Box::new(inner)))
            }
            Some(quote @ ('\'' | '"')) => self.text(quote, wanted),
            Some(_) => self.word(wanted),
            None => Err("empty value".into()),
        }
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let mut element = match wanted {
            None => None,
            Some(signature) => Some(
                signature
                    .strip_prefix('a')
                    .ok_or("an array where none is wanted")?
                    .to_owned(),
            ),
        };
        let items = self.list(']', &mut |parser| {
            let item = parser.value(element.as_deref())?;
            let of = item.signature();
            if *element.get_or_insert_with(|| of.clone()) != of {
                return Err("an array of several types".into());
            }
            Ok(item)
        })?;
        let element = element.ok_or("an empty array: say its type, as in @as []")?;
        Ok(Value::Array(element, items))
    }

    fn tuple(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let mut types = match wanted {
            None => None,
            Some(signature) => Some(
                signature
                    .strip_prefix('(')
                    .and_then(|s| s.strip_suffix(')'))
                    .ok_or("a tuple where none is wanted")?
                    .to_owned(),
            ),
        };
        let fields = self.list(')', &mut |parser| match &mut types {
            None => parser.value(None),
            Some(rest) => {
                let (first, after) = split_type(rest).map_err(|_| "a tuple of too many values")?;
                let value = parser.value(Some(first))?;
                let after = after.to_owned();
                *rest = after;
                Ok(value)
            }
        })?;
        if types.is_some_and(|rest| !rest.is_empty()) || fields.is_empty() {
            return Err("a tuple of too few values".into());
        }
        Ok(Value::Struct(fields))
    }

    /// What stands between brackets, separated by commas.
    fn list(
        &mut self,
        end: char,
        item: &mut dyn FnMut(&mut Self) -> Result<Value, String>,
    ) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        self.rest = self.rest[1..].trim_start();
        while !self.rest.starts_with(end) {
            items.push(item(self)?);
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(',') {
                Some(after) => self.rest = after.trim_start(),
                None => break,
            }
        }
        self.expect(end)?;
        Ok(items)
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        self.rest = self
            .rest
            .strip_prefix(wanted)
            .ok_or_else(|| format!("{wanted:?} is missing at {:?}", self.rest))?;
        Ok(())
    }

    fn text(&mut self, quote: char, wanted: Option<&str>) -> Result<Value, String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c @ ('\\' | '\'' | '"'))) => text.push(c),
                    other => return Err(format!("unknown escape {:?}", other.map(|(_, c)| c))),
                },
                '\0' => return Err("text with a zero byte".into()),
                c if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return match wanted {
                        None | Some("s") => Ok(Value::Str(text)),
                        Some("o") => Ok(Value::Path(text)),
                        Some("g") => Ok(Value::Signature(text)),
                        Some(other) => Err(format!("text where {other:?} is wanted")),
                    };
                }
                c => text.push(c),
            }
        }
        Err("text without its end".into())
    }

    fn word(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let bad = || match wanted {
            Some(signature) => format!("{word:?}: not a value of type {signature:?}"),
            None => format!("{:?}: not a value (text needs quotes)", self.rest),
        };
        let signature = wanted.unwrap_or(match word {
            "true" | "false" => "b",
            _ if word.contains(['.', 'e', 'E']) && !word.starts_with("0x") => "d",
            _ => "i",
        });
        let value = match signature {
            "b" => word.parse().ok().map(Value::Bool),
            "y" => integer(word).map(Value::Byte),
            "n" => integer(word).map(Value::I16),
            "q" => integer(word).map(Value::U16),
            "i" => integer(word).map(Value::I32),
            "u" => integer(word).map(Value::U32),
            "x" => integer(word).map(Value::I64),
            "t" => integer(word).map(Value::U64),
            "d" => word.parse().ok().map(Value::F64),
            _ => None,
        };
        let value = value.ok_or_else(bad)?;
        self.rest = rest;
        Ok(value)
    }
}

/// Decimal, or hexadecimal or octal with C's prefixes.
fn integer<T: TryFrom<i128>>(word: &str) -> Option<T> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    T::try_from(if negative { -number } else { number }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Property, String> {
        let key = format!("{PREFIX}{name}");
        let annotations = [(key.as_str(), text), ("other", "x")];
        properties(&annotations)
            .map(|mut all| all.remove(0))
            .map_err(|e| e.to_string())
    }

    fn value(text: &str) -> Option<Value> {
        read("Some", text).ok().map(|p| p.value)
    }

    #[test]
    fn values_are_read_as_glib_writes_them() {
        for (text, want) in [
            ("true", Value::Bool(true)),
            ("-5", Value::I32(-5)),
            ("uint64 0x10", Value::U64(16)),
            ("@t 7", Value::U64(7)),
            ("byte 255", Value::Byte(255)),
            ("1.5", Value::F64(1.5)),
            ("'a\\'b'", Value::str("a'b")),
            ("\"x y\"", Value::str("x y")),
            ("objectpath '/a'", Value::Path("/a".into())),
            (
                "['a', 'b',]",
                Value::Array("s".into(), vec![Value::str("a"), Value::str("b")]),
            ),
            ("@as []", Value::Array("s".into(), vec![])),
            (
                "@a(ss) [('/dev/null', 'r')]",
                Value::Array(
                    "(ss)".into(),
                    vec![Value::Struct(vec![
                        Value::str("/dev/null"),
                        Value::str("r"),
                    ])],
                ),
            ),
            ("<uint32 1>", Value::Variant(Box::new(Value::U32(1)))),
        ] {
            assert_eq!(value(text), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "text",
            "'open",
            "[1, 'a']",
            "[]",
            "byte 256",
            "uint32 -1",
            "1 2",
            "(1",
            "@ 1",
            "@ii 1",
            "@s 1",
            "99999999999",
            "@(ss) ('a')",
            "@(s) ('a', 'b')",
            "--1",
            "'\\q'",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        for name in ["", "ab", "A_b", "A b", "Añb"] {
            assert!(read(name, "1").is_err(), "{name}");
        }
        assert_eq!(
            read("Kill", "SIGKILL").unwrap_err(),
            "annotation org.systemd.property.Kill: \"SIGKILL\": not a value (text needs quotes)"
        );
    }

    #[test]
    fn seconds_become_microseconds() {
        for (name, text, want) in [
            ("TimeoutStopSec", "2", Some(("TimeoutStopUSec", 2_000_000))),
            ("RuntimeMaxSec", "0.5", Some(("RuntimeMaxUSec", 500_000))),
            ("RuntimeMaxSec", "'5'", None),
            ("RuntimeMaxSec", "-5", None),
        ] {
            let got = read(name, text).ok();
            let want = want.map(|(name, number)| Property::new(name, Value::U64(number)));
            assert_eq!(got, want, "{name} {text}");
        }
        assert_eq!(
            read("CPUSec", "1").unwrap(),
            Property::new("CPUSec", Value::I32(1))
        );
    }
}
