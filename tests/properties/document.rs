//! `Document`: lossless, strict, and the language of JSON.

use kusabi::document::{Document, DocumentError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use crate::generate::{Json, broken_config, config, json, object_of, space};

fn any_object() -> impl Strategy<Value = Json> {
    object_of(vec((".{0,4}", json()), 0..5))
}

/// Every view, so that none is forgotten where one is tried.
fn views(document: &Document) -> Vec<Option<DocumentError>> {
    vec![
        document.annotations().err(),
        document.env().err(),
        document.env_value("A").err(),
        document.process_user().err(),
        document.bounding_capabilities().err(),
        document.mounts().err(),
        document.namespaces().err(),
        document.cgroups_path().err(),
        document.device_rules().err(),
        document.devices().err(),
        document.hooks().err(),
        document.root_path().err(),
    ]
}

fn is_one_line(error: &DocumentError) -> bool {
    let text = error.to_string();
    text.starts_with("config.json: ") && !text.contains('\n') && text.len() < 1000
}

/// What `serde_json` accepts and a document does not.
fn is_stricter(error: &DocumentError) -> bool {
    match error {
        DocumentError::DuplicateKey { .. } => true,
        DocumentError::Parse(reason) => {
            reason.starts_with("expected object") || reason.contains("nested too deep")
        }
        DocumentError::Value { reason, .. } => reason == "this key is reserved",
        _ => false,
    }
}

/// The tree that `serde_json` alone reads has the same shape; it only spells
/// exponents in its own way.
fn same_but_exponents(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let plain = |text: &str| text.to_lowercase().replace("e+", "e");
            plain(a.as_str()) == plain(b.as_str())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but_exponents(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((key, a), (other, b))| key == other && same_but_exponents(a, b))
        }
        (a, b) => a == b,
    }
}

fn agrees_with_serde_json(bytes: &[u8]) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_slice::<Value>(bytes);
    match (Document::parse(bytes), theirs) {
        (Ok(document), Ok(theirs)) => {
            prop_assert_eq!(document.as_bytes(), bytes);
            prop_assert!(same_but_exponents(document.value(), &theirs));
        }
        (Ok(_), Err(error)) => prop_assert!(false, "serde_json refuses it: {}", error),
        (Err(error), Ok(_)) => {
            prop_assert!(is_one_line(&error), "{}", error);
            prop_assert!(is_stricter(&error), "serde_json reads it: {}", error);
        }
        (Err(error), Err(_)) => prop_assert!(is_one_line(&error), "{}", error),
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_read_is_given_back(object in any_object(), space in space()) {
        let text = object.write(space);
        let document = Document::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(document.as_bytes(), text.as_bytes());
        // Key order and the spelling of numbers are in the tree as well.
        prop_assert_eq!(document.value().to_string(), object.write(""));
        agrees_with_serde_json(text.as_bytes())?;
    }

    #[test]
    fn the_indented_form_is_the_same_document(object in any_object(), space in space()) {
        let document = Document::parse(object.write(space).as_bytes()).unwrap();
        let pretty = Document::parse(&document.pretty().unwrap()).unwrap();
        prop_assert_eq!(pretty.value().to_string(), object.write(""));
    }

    #[test]
    fn a_duplicate_key_is_an_error_wherever_it_stands(
        object in any_object(), key in "[a-z]{1,3}", values in (json(), json()), nest in 0_usize..5,
    ) {
        let (first, second) = values;
        let twice = |key: &str| Json::Object(vec![
            (key.to_owned(), first.clone()),
            ("between".to_owned(), object.clone()),
            (key.to_owned(), second.clone()),
        ]);
        let nested = (0..nest).fold(twice(&key), |inner, level| match level % 2 {
            0 => Json::Array(vec![Json::Null, inner]),
            _ => Json::object([("n", inner)]),
        });
        let text = Json::object([("top", nested)]).write("\n");
        let error = Document::parse(text.as_bytes()).unwrap_err();
        prop_assert!(is_one_line(&error));
        match error {
            DocumentError::DuplicateKey { field, line, column } => {
                prop_assert!(field.starts_with("top") && field.ends_with(&format!(".{key}")), "{}", field);
                let at = text.split('\n').nth(line - 1).unwrap();
                let at = at.as_bytes().get(column - 1..).unwrap();
                let quoted = format!("\"{key}\"");
                prop_assert!(at.starts_with(quoted.as_bytes()));
            }
            other => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64)) {
        agrees_with_serde_json(&bytes)?;
    }

    #[test]
    fn text_that_looks_like_json_never_panics(text in r#"[\[\]{}:,"\\ \n\t0-9.eE+\-a-fnrstul/]{0,40}"#) {
        agrees_with_serde_json(text.as_bytes())?;
        agrees_with_serde_json(format!("{{\"k\":{text}}}").as_bytes())?;
        agrees_with_serde_json(format!("{{\"{text}\":1}}").as_bytes())?;
    }

    #[test]
    fn a_damaged_document_never_panics(
        object in config(), space in space(), at in any::<Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = object.write(space).into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        agrees_with_serde_json(&bytes)?;
    }

    #[test]
    fn views_read_every_config(object in config()) {
        let document = Document::parse(object.write("").as_bytes()).unwrap();
        for error in views(&document) {
            prop_assert_eq!(error, None);
        }
    }

    #[test]
    fn views_name_what_is_wrong_and_never_panic(object in broken_config()) {
        let text = object.write("");
        if let Ok(document) = Document::parse(text.as_bytes()) {
            for error in views(&document).into_iter().flatten() {
                prop_assert!(is_one_line(&error), "{}", error);
                prop_assert!(
                    matches!(error, DocumentError::Type { .. } | DocumentError::Value { .. }),
                    "{}", error
                );
            }
        }
    }
}
