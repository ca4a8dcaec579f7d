//! One line of the log, in the shapes of logrus.
//!
//! Pure but for the clock.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One line before it has a shape.
#[derive(Clone)]
pub(super) struct Line {
    pub time: SystemTime,
    pub level: &'static str,
    pub message: String,
    /// The module that speaks; shown with `--debug` only, as logrus shows `func`.
    pub function: Option<&'static str>,
    pub fields: Map<String, Value>,
}

impl Line {
    pub fn new(level: &'static str, message: String) -> Self {
        Self {
            time: SystemTime::now(),
            level,
            message,
            function: None,
            fields: Map::new(),
        }
    }

    /// RFC 3339 to the second, in UTC.
    fn timestamp(&self) -> String {
        let time = OffsetDateTime::from(self.time);
        time.replace_nanosecond(0)
            .unwrap_or(time)
            .format(&Rfc3339)
            .unwrap_or_default()
    }

    /// All keys but those of `text`'s fixed beginning, sorted as logrus does.
    fn sorted_fields(&self) -> Vec<(String, Value)> {
        let mut fields: Vec<(String, Value)> = self
            .fields
            .iter()
            .map(|(key, value)| {
                let clashes = matches!(key.as_str(), "level" | "msg" | "time" | "func");
                let key = if clashes {
                    format!("fields.{key}")
                } else {
                    key.clone()
                };
                (key, value.clone())
            })
            .collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }

    pub fn json(&self) -> String {
        let mut fields = self.sorted_fields();
        fields.push(("level".to_owned(), self.level.into()));
        fields.push(("msg".to_owned(), self.message.as_str().into()));
        fields.push(("time".to_owned(), self.timestamp().into()));
        if let Some(function) = self.function {
            fields.push(("func".to_owned(), function.into()));
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let mut text = Value::Object(fields.into_iter().collect()).to_string();
        text.push('\n');
        text
    }

    pub fn text(&self) -> String {
        let mut text = format!("time={} level={}", quoted(&self.timestamp()), self.level);
        let mut pair = |key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = write!(text, " {key}={}", quoted(value));
        };
        if !self.message.is_empty() {
            pair("msg", &self.message);
        }
        if let Some(function) = self.function {
            pair("func", function);
        }
        for (key, value) in self.sorted_fields() {
            match value {
                Value::String(value) => pair(&key, &value),
                other => pair(&key, &other.to_string()),
            }
        }
        text.push('\n');
        text
    }
}

/// Quotes as Go's `%q` does, and only what logrus quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        Line {
            time: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_999),
            ..Line::new("error", message.to_owned())
        }
    }

    #[test]
    fn json_is_what_logrus_writes() {
        assert_eq!(
            line("open \"x\": no\nway").json(),
            "{\"level\":\"error\",\"msg\":\"open \\\"x\\\": no\\nway\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
        );
    }

    #[test]
    fn text_is_what_logrus_writes() {
        assert_eq!(
            line("container does not exist").text(),
            "time=\"2023-11-14T22:13:20Z\" level=error msg=\"container does not exist\"\n"
        );
        assert_eq!(
            line("oops").text(),
            "time=\"2023-11-14T22:13:20Z\" level=error msg=oops\n"
        );
    }

    #[test]
    fn text_quotes_as_go_does() {
        assert_eq!(quoted("a-b._/@^+9"), "a-b._/@^+9");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("q\"b\\s"), r#""q\"b\\s""#);
        assert_eq!(
            quoted("n\nt\tr\r\u{1b}[0m\u{85}é"),
            "\"n\\nt\\tr\\r\\x1b[0m\\u0085é\""
        );
    }

    #[test]
    fn fields_are_sorted_and_never_shadow_the_fixed_keys() {
        let mut line = line("m");
        line.function = Some("kusabi::x");
        for (key, value) in [("zeta", "z z"), ("level", "evil"), ("alpha", "a")] {
            line.fields.insert(key.to_owned(), value.into());
        }
        assert_eq!(
            line.json(),
            "{\"alpha\":\"a\",\"fields.level\":\"evil\",\"func\":\"kusabi::x\",\"level\":\"error\",\"msg\":\"m\",\"time\":\"2023-11-14T22:13:20Z\",\"zeta\":\"z z\"}\n"
        );
        assert_eq!(
            line.text(),
            "time=\"2023-11-14T22:13:20Z\" level=error msg=m func=\"kusabi::x\" alpha=a fields.level=evil zeta=\"z z\"\n"
        );
    }
}
