//! Parts of a document as typed values, and errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::RuntimeError;
use crate::error::Result;

/// Reads `value`, which `origin` names, as in `config.json: process`.
///
/// # Errors
/// A value of the wrong type: its path below `origin`, what it is and what it
/// ought to be.
pub fn read<T: DeserializeOwned>(value: &Value, origin: &str) -> Result<T> {
    // Through text: numbers kept as written are numbers to every reader only there.
    let text = value.to_string();
    let mut reader = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let joint = joint(origin);
        let field = match path.as_str() {
            "." => origin.to_owned(),
            path if path.starts_with('[') => format!("{origin}{path}"),
            path => format!("{origin}{joint}{path}"),
        };
        RuntimeError::Refused(format!("{field}: {}", reason(&error.into_inner()))).into()
    })
}

/// What stands between the name of a file, or of a field in one, and a field.
pub fn joint(origin: &str) -> &'static str {
    if origin.contains(": ") { "." } else { ": " }
}

/// Without the place in a text that nobody has seen, and without the names of
/// our types.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    match text.split_once("expected struct ") {
        Some((found, _)) => format!("{found}expected an object"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[allow(dead_code)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[allow(dead_code)]
        number: u32,
    }

    #[track_caller]
    fn refused(value: &Value, origin: &str, message: &str) {
        let error = read::<Outer>(value, origin).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn errors_name_the_field_and_nothing_of_ours() {
        refused(
            &json!({"inner": [{"number": 1}, {"number": -1}]}),
            "config.json: process",
            "config.json: process.inner[1].number: invalid value: integer `-1`, expected u32",
        );
        refused(
            &json!({"inner": [7]}),
            "config.json",
            "config.json: inner[0]: invalid type: integer `7`, expected an object",
        );
        refused(
            &json!(true),
            "process.json",
            "process.json: invalid type: boolean `true`, expected an object",
        );
    }
}
