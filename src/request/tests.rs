use super::{Flags, Request, RequestError, Requests, Trust, What, merge};
use crate::document::Document;
use crate::edit::Source;
use crate::policy::Policy;

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap()
}

fn flags(devices: &[&str]) -> Flags {
    Flags {
        devices: devices.iter().map(|&device| device.to_owned()).collect(),
        ..Flags::default()
    }
}

fn collect(document: &Document, flags: &Flags) -> Result<Vec<Request>, RequestError> {
    super::collect(document, flags, &Policy::default()).map(|requests: Requests| requests.devices)
}

fn names(requests: &[Request]) -> Vec<String> {
    requests
        .iter()
        .map(|request| {
            let What::Cdi(name) = &request.what else {
                panic!("{request:?}");
            };
            format!("{name} by {}", request.source)
        })
        .collect()
}

#[test]
fn nothing_is_asked_for_by_default() {
    let document = document(r#"{"annotations":{"org.cdi.k8s.io/x":"","cdi.k8s.io":""}}"#);
    assert_eq!(collect(&document, &Flags::default()).unwrap(), []);
}

#[test]
fn flags_and_annotations_are_sorted_and_asked_once() {
    let document = document(
        r#"{"annotations":{"cdi.k8s.io/z":"b.com/gpu=1,a.com/gpu=0","x":"y","cdi.k8s.io/a":"b.com/gpu=1"}}"#,
    );
    let flags = flags(&["c.com/nic=x,a.com/gpu=0", "a.com/gpu=0", "a.com/gpu=0"]);
    let requests = collect(&document, &flags).unwrap();
    assert_eq!(
        names(&requests),
        [
            "a.com/gpu=0 by flag --device a.com/gpu=0",
            "a.com/gpu=0 by flag --device c.com/nic=x,a.com/gpu=0",
            "a.com/gpu=0 by annotation cdi.k8s.io/z=b.com/gpu=1,a.com/gpu=0",
            "b.com/gpu=1 by annotation cdi.k8s.io/a=b.com/gpu=1",
            "b.com/gpu=1 by annotation cdi.k8s.io/z=b.com/gpu=1,a.com/gpu=0",
            "c.com/nic=x by flag --device c.com/nic=x,a.com/gpu=0",
        ]
    );
    let merged = merge(&requests);
    let trusts: Vec<(usize, Trust)> = merged
        .values()
        .map(|asked| (asked.sources.len(), asked.trust))
        .collect();
    assert_eq!(
        trusts,
        [
            (3, Trust::Operator),
            (2, Trust::Engine),
            (1, Trust::Operator)
        ]
    );
    let first = merged.values().next().unwrap();
    assert!(first.sources.is_sorted());
    assert!(matches!(first.sources[0], Source::Flag { .. }));
}

#[test]
fn the_order_of_the_document_does_not_matter() {
    let one =
        document(r#"{"annotations":{"cdi.k8s.io/a":"x.com/c=1","cdi.k8s.io/b":"x.com/c=0"}}"#);
    let two =
        document(r#"{"annotations":{"cdi.k8s.io/b":"x.com/c=0","cdi.k8s.io/a":"x.com/c=1"}}"#);
    let (f, g) = (
        flags(&["y.com/d=1", "y.com/d=0"]),
        flags(&["y.com/d=0", "y.com/d=1"]),
    );
    assert_eq!(collect(&one, &f).unwrap(), collect(&two, &g).unwrap());
}

#[test]
fn what_cannot_be_read_is_named() {
    let annotation = |value: &str| {
        let text = serde_json::json!({"annotations": {"cdi.k8s.io/x": value}}).to_string();
        let error = collect(&document(&text), &Flags::default()).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        annotation(""),
        "annotation cdi.k8s.io/x: the value is empty, expected vendor/class=device[,vendor/class=device]"
    );
    for value in ["a.com/b=c,", ",a.com/b=c", "a.com/b=c,,a.com/b=d"] {
        assert_eq!(
            annotation(value),
            "annotation cdi.k8s.io/x: invalid CDI device name \"\": it is empty, expected vendor/class=device"
        );
    }
    for value in [
        " a.com/b=c",
        "a.com/b=c ",
        "a.com/b=c, a.com/b=d",
        "gpu0",
        "/dev/x",
        "a.com=b",
        "a.com/b",
        "a.com/b=",
        "a.com/b=c\n",
    ] {
        let message = annotation(value);
        assert!(
            message.starts_with("annotation cdi.k8s.io/x: invalid CDI device name \"")
                && !message.contains('\n'),
            "{value:?}: {message}"
        );
    }
    let empty = document("{}");
    let error = collect(&empty, &flags(&["0"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "flag --device: invalid CDI device name \"0\": it has no '=', expected vendor/class=device"
    );
    let error = collect(&empty, &flags(&[""])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("flag --device: the value is empty")
    );
    let error = collect(&document(r#"{"annotations":{"k":1}}"#), &Flags::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config.json: annotations.k: expected string, found number"
    );
    let long = annotation(&"x".repeat(1 << 20));
    assert_eq!(
        long,
        "annotation cdi.k8s.io/x: a device name of 1048576 bytes, at most 1024 are read"
    );
    let odd = document(r#"{"annotations":{"cdi.k8s.io/\n":""}}"#);
    let error = collect(&odd, &Flags::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("annotation [\"cdi.k8s.io/\\n\"]: "),
        "{error}"
    );
}

mod decided;
mod places;
mod toolkit;
