use super::*;

fn all() -> Vec<Value> {
    vec![
        Value::Byte(1),
        Value::Bool(true),
        Value::I16(-2),
        Value::U16(3),
        Value::I32(-4),
        Value::U32(5),
        Value::I64(-6),
        Value::U64(u64::MAX),
        Value::F64(0.5),
        Value::str("ü"),
        Value::Path("/a".into()),
        Value::Signature("a(sv)".into()),
        Value::Array("t".into(), vec![Value::U64(7)]),
        Value::Array("(ss)".into(), vec![]),
        Value::Struct(vec![
            Value::str("x"),
            Value::Variant(Box::new(Value::Array("y".into(), vec![Value::Byte(9)]))),
        ]),
    ]
}

#[test]
fn a_message_is_read_as_it_was_written() {
    let mut message = Message::call("a.b", "/p", "i.f", "M", all());
    message.serial = 77;
    message.reply_to = Some(3);
    let bytes = message.encode();
    assert_eq!(
        Message::length(&bytes[..FIXED_HEADER]).unwrap(),
        bytes.len()
    );
    assert_eq!(Message::decode(&bytes).unwrap(), message);
}

/// From the specification's rules by hand, not by this encoder.
#[test]
fn bytes_are_those_of_the_specification() {
    let mut message = Message::call(
        "d",
        "/p",
        "i",
        "M",
        vec![Value::Array("u".into(), vec![Value::U32(258)])],
    );
    message.serial = 1;
    #[rustfmt::skip]
    let want = [
        b'l', 1, 0, 1, 8, 0, 0, 0, 1, 0, 0, 0,
        // Length of the fields.
        72, 0, 0, 0,
        1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0, 0, 0, 0, 0, 0,
        2, 1, b's', 0, 1, 0, 0, 0, b'i', 0, 0, 0, 0, 0, 0, 0,
        3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0,
        6, 1, b's', 0, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0,
        8, 1, b'g', 0, 2, b'a', b'u', 0,
        4, 0, 0, 0, 2, 1, 0, 0,
    ];
    assert_eq!(message.encode(), want);
}

#[test]
fn what_is_cut_off_or_nonsense_is_an_error() {
    let mut message = Message::call("a.b", "/p", "i.f", "M", all());
    message.serial = 1;
    let bytes = message.encode();
    for end in 0..bytes.len() {
        assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        for byte in [0, 1, b'a', b'(', b'v', 255] {
            let mut broken = bytes.clone();
            broken[at] = byte;
            // Whatever it says: no panic, no endless loop.
            let _ = Message::decode(&broken);
            let _ = Message::length(&broken[..FIXED_HEADER]);
        }
    }
}

#[test]
fn types_are_split_where_they_end() {
    for (signature, want) in [
        ("ss", Some(("s", "s"))),
        ("a(sv)u", Some(("a(sv)", "u"))),
        ("aay", Some(("aay", ""))),
        ("a{sv}o", Some(("a{sv}", "o"))),
        ("(s(u)", None),
        ("a", None),
        (")", None),
        ("z", None),
    ] {
        assert_eq!(split_type(signature).ok(), want, "{signature}");
    }
}
