//! A tree against the table: shapes, forms, unknown keys, keys that do not go
//! together. Everything that is wrong is reported, with its place.

use super::form::Form;
use super::suggest;
use super::table::{Kinds, Object, Shape};
use crate::document::quote;
use crate::yaml::{Entry, Node, Report, Trail, Value};

/// Reports all that keeps `node` from being of `shape`.
pub(super) fn check(node: &Node, shape: &Shape, trail: &Trail, report: &Report) {
    match shape {
        Shape::Object(object) => check_object(node, object, trail, report),
        Shape::Map(keys, values) => check_map(node, keys, values, trail, report),
        Shape::List(items) => match &node.value {
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    check(node, items, &trail.index(index), report);
                }
            }
            other => {
                let hint = matches!(other, Value::Scalar { .. })
                    .then(|| "write [a, b], one item for each word".to_owned());
                report.add(node.at, trail, unexpected("a list", other), hint);
            }
        },
        Shape::Text(form) => check_text(node, form, trail, report),
        Shape::Word(words) => check_word(node, words, trail, report),
        Shape::Boolean => {
            if boolean(node).is_none() {
                let found = unexpected("true or false", &node.value);
                report.add(node.at, trail, found, None);
            }
        }
        Shape::Integer(min, max) => check_integer(node, *min, *max, trail, report),
        Shape::Anything => {}
    }
}

/// `true` or `false`, in YAML 1.2's spellings.
pub(super) fn boolean(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number, in decimal.
pub(super) fn integer(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Scalar { text, plain: true } => whole(text),
        _ => None,
    }
}

fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let decimal = digits.bytes().all(|b| b.is_ascii_digit());
    // A zero in front means octal to some readers of YAML.
    let plain = !digits.is_empty() && decimal && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn check_object(node: &Node, object: &'static Object, trail: &Trail, report: &Report) {
    let Value::Map(entries) = &node.value else {
        report.add(node.at, trail, unexpected("a map", &node.value), None);
        return;
    };
    for entry in entries {
        let field = object.fields.iter().find(|field| field.key == entry.key);
        let Some(field) = field else {
            let hint = suggest::for_key(&entry.key, object);
            let reason = format!("unknown key {}", quote(&entry.key));
            report.add(entry.at, trail, reason, Some(hint));
            continue;
        };
        let trail = trail.key(field.key);
        if entry.node.value == Value::Null {
            let hint = "give it a value or leave the key out";
            report.add(entry.at, &trail, "has no value", Some(hint.to_owned()));
        } else {
            check(&entry.node, &field.shape, &trail, report);
        }
    }
    for field in object.fields.iter().filter(|field| field.required) {
        if !has(entries, field.key) {
            report.add(node.at, &trail.key(field.key), "missing", None);
        }
    }
    if let Some(kinds) = &object.kinds {
        check_kinds(node, entries, kinds, trail, report);
    }
}

fn has(entries: &[Entry], key: &str) -> bool {
    entries.iter().any(|entry| entry.key == key)
}

fn check_kinds(node: &Node, entries: &[Entry], kinds: &Kinds, trail: &Trail, report: &Report) {
    let word = entries
        .iter()
        .find(|entry| entry.key == kinds.key)
        .and_then(|entry| scalar(&entry.node));
    let row = word.and_then(|word| kinds.rows.iter().find(|row| row.0 == word));
    if word.is_some() && row.is_none() {
        // Reported already, as a word that is none of the known.
        return;
    }
    if let Some((word, must, _)) = row {
        for key in must.iter().filter(|key| !has(entries, key)) {
            let reason = format!("missing, {} {word} needs it", kinds.key);
            report.add(node.at, &trail.key(key), reason, None);
        }
    }
    for entry in entries {
        let of = |row: &(&str, &[&str], &[&str])| {
            row.1.contains(&entry.key.as_str()) || row.2.contains(&entry.key.as_str())
        };
        let owners: Vec<&str> = kinds
            .rows
            .iter()
            .filter(|row| of(row))
            .map(|row| row.0)
            .collect();
        if owners.is_empty() || row.is_some_and(of) {
            continue;
        }
        let reason = match word {
            Some(word) => format!("does not go with {} {word}", kinds.key),
            None => format!("does not go without {}", kinds.key),
        };
        let hint = format!("it is for {} {}", kinds.key, owners.join(", "));
        report.add(entry.at, &trail.key(&entry.key), reason, Some(hint));
    }
}

fn check_map(node: &Node, keys: &Form, values: &'static Shape, trail: &Trail, report: &Report) {
    let Value::Map(entries) = &node.value else {
        report.add(node.at, trail, unexpected("a map", &node.value), None);
        return;
    };
    for entry in entries {
        if let Err(reason) = (keys.check)(&entry.key) {
            report.add(entry.at, trail, reason, None);
            continue;
        }
        let trail = trail.key(&entry.key);
        if entry.node.value == Value::Null {
            let hint = match values {
                Shape::Text(_) => "write \"\" for an empty one",
                _ => "give it a value or leave the key out",
            };
            report.add(entry.at, &trail, "has no value", Some(hint.to_owned()));
        } else {
            check(&entry.node, values, &trail, report);
        }
    }
}

fn check_text(node: &Node, form: &Form, trail: &Trail, report: &Report) {
    match scalar(node) {
        Some(text) => {
            if let Err(reason) = (form.check)(text) {
                report.add(node.at, trail, reason, None);
            }
        }
        None => report.add(node.at, trail, unexpected("a string", &node.value), None),
    }
}

fn check_word(node: &Node, words: &[&'static str], trail: &Trail, report: &Report) {
    let Some(text) = scalar(node) else {
        report.add(node.at, trail, unexpected("a string", &node.value), None);
        return;
    };
    if words.contains(&text) {
        return;
    }
    let (reason, hint) = match words {
        [word] => (format!("{} is not {word}", quote(text)), None),
        _ => (
            format!("{} is none of {}", quote(text), words.join(", ")),
            suggest::nearest(text, words.iter().copied())
                .map(|word| format!("did you mean {word:?}?")),
        ),
    };
    report.add(node.at, trail, reason, hint);
}

fn check_integer(node: &Node, min: i64, max: i64, trail: &Trail, report: &Report) {
    let Value::Scalar { text, plain } = &node.value else {
        let reason = unexpected("a whole number", &node.value);
        report.add(node.at, trail, reason, None);
        return;
    };
    let reason = match whole(text) {
        Some(_) if !plain => format!("expected a whole number, found the string {}", quote(text)),
        Some(number) if (min..=max).contains(&number) => return,
        Some(number) => format!("{number} is not between {min} and {max}"),
        None if is_digits(text) => format!("{} is not between {min} and {max}", quote(text)),
        None if text.parse::<f64>().is_ok_and(f64::is_finite) => {
            format!("{} is not a whole number", quote(text))
        }
        None => format!("expected a whole number, found {}", quote(text)),
    };
    report.add(node.at, trail, reason, None);
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

/// The text of a string, number or boolean.
pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn unexpected(expected: &str, found: &Value) -> String {
    format!("expected {expected}, found {}", found.kind())
}
