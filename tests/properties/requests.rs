//! `request`: order and repeats do not matter, and nothing panics.

use kusabi::document::Document;
use kusabi::policy::Policy;
use kusabi::request::{Flags, Request, RequestError, merge};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

fn collect(document: &Document, flags: &Flags) -> Result<Vec<Request>, RequestError> {
    kusabi::request::collect(document, flags, &Policy::default()).map(|requests| requests.devices)
}

fn flags(devices: &[String]) -> Flags {
    Flags {
        devices: devices.to_vec(),
        ..Flags::default()
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a.com/gpu=0",
        "a.com/gpu=1",
        "b.com/gpu=all",
        "b.com/nic=0:1",
    ])
}

fn list() -> impl Strategy<Value = String> {
    vec(name(), 1..4).prop_map(|names| names.join(","))
}

fn document(annotations: &[(String, String)]) -> Document {
    let map: Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    Document::parse(json!({ "annotations": map }).to_string().as_bytes()).unwrap()
}

fn annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(list(), 0..4).prop_map(|lists| {
        let keyed = lists.into_iter().enumerate();
        keyed
            .map(|(index, list)| (format!("cdi.k8s.io/k{index}"), list))
            .collect()
    })
}

proptest! {
    #[test]
    fn order_and_repeats_do_not_matter(
        (first, second) in vec(list(), 0..4).prop_flat_map(|flags| (Just(flags.clone()), Just(flags).prop_shuffle())),
        (noted, shuffled) in annotations().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        let one = collect(&document(&noted), &flags(&first)).unwrap();
        let repeated = [second, first].concat();
        let two = collect(&document(&shuffled), &flags(&repeated)).unwrap();
        prop_assert_eq!(&one, &two);
        prop_assert!(one.is_sorted());
        let merged = merge(&one);
        prop_assert_eq!(&merged, &merge(&two));
        let sources: usize = merged.values().map(|asked| asked.sources.len()).sum();
        prop_assert_eq!(sources, one.len());
    }

    #[test]
    fn arbitrary_text_is_an_error_of_one_line(flag in ".{0,40}", key in ".{0,10}", value in ".{0,40}") {
        let flags = flags(std::slice::from_ref(&flag));
        let annotations = [(format!("cdi.k8s.io/{key}"), value.clone())];
        for (flags, annotations, text) in [
            (flags, &[][..], flag),
            (Flags::default(), &annotations[..], value),
        ] {
            match collect(&document(annotations), &flags) {
                Ok(requests) => {
                    // Only what is really a list of names is one.
                    prop_assert_eq!(text.split(',').all(|name| name.contains('/') && name.contains('=')), true);
                    prop_assert!(!requests.is_empty());
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
            }
        }
    }
}
