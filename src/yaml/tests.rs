use super::*;

fn tree(text: &str) -> Node {
    parse(text).unwrap().unwrap()
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// Every scalar and key with its place, depth first.
fn places(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Null => vec![format!("{} null", node.at)],
        Value::Scalar { text, plain } => {
            let quote = if *plain { "" } else { "\"" };
            vec![format!("{} {quote}{text}{quote}", node.at)]
        }
        Value::List(items) => items.iter().flat_map(|item| places(item)).collect(),
        Value::Map(entries) => entries
            .iter()
            .flat_map(|entry| {
                let mut all = vec![format!("{} {}:", entry.at, entry.key)];
                all.extend(places(&entry.node));
                all
            })
            .collect(),
    }
}

#[test]
fn yaml_and_json_give_the_same_tree() {
    let yaml = places(&tree("a: 1\nb:\n  - \"x\"\n  - ~\n"));
    assert_eq!(yaml, ["1:1 a:", "1:4 1", "2:1 b:", "3:5 \"x\"", "4:5 null"]);
    let json = places(&tree("{\n\t\"a\": 1,\n \"b\": [\"x\",\nnull]}"));
    assert_eq!(json, ["2:2 a:", "2:7 1", "3:2 b:", "3:8 \"x\"", "4:1 null"]);
}

#[test]
fn columns_count_characters() {
    assert_eq!(places(&tree("{\"é\": \"ü\", \"x\": 1}"))[3], "1:17 1");
    assert_eq!(places(&tree("{\"é\": \"ü\", \"x\": 1}"))[2], "1:12 x:");
    assert_eq!(places(&tree("{é: ü, x: 1}"))[3], "1:11 1");
}

#[test]
fn json_strings_may_use_surrogate_pairs() {
    assert_eq!(
        places(&tree(r#"{"a": "\ud83d\ude00\/"}"#))[1],
        "1:7 \"😀/\""
    );
    assert_eq!(
        error(r#"{"a": "\ud83d"}"#),
        "1:7: unexpected end of hex escape"
    );
}

#[test]
fn a_flow_map_that_is_not_json_is_yaml() {
    assert_eq!(
        places(&tree("{a: 1}")),
        ["1:2 a:", "1:3 1"].map(|s| s.replace("1:3", "1:5"))
    );
}

#[test]
fn text_that_is_neither_is_reported_as_the_json_it_looks_like() {
    assert_eq!(error("{\"a\": 1\n \"b\": 2}"), "2:2: expected `,` or `}`");
}

#[test]
fn nothing_is_not_an_error() {
    for text in ["", "\n", "# a comment\n"] {
        assert!(parse(text).unwrap().is_none(), "{text:?}");
    }
    assert_eq!(tree("---\n").value, Value::Null);
}

#[test]
fn duplicate_keys_are_errors_with_a_place() {
    assert_eq!(error("a: 1\nb: 2\na: 3\n"), "3:1: duplicate key \"a\"");
    assert_eq!(error("{\"a\": 1,\n \"a\": 1}"), "2:2: duplicate key \"a\"");
    assert_eq!(error("x:\n  - {a: 1, a: 2}\n"), "2:12: duplicate key \"a\"");
}

#[test]
fn a_second_document_is_an_error_but_a_trailing_marker_is_not() {
    assert!(error("a: 1\n---\nb: 2\n").starts_with("3:1: a second YAML document"));
    assert_eq!(places(&tree("---\na: 1\n---\n")).len(), 2);
    assert_eq!(places(&tree("---\na: 1\n...\n")).len(), 2);
}

#[test]
fn aliases_and_merges_resolve() {
    let node = tree("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nlist: *b\n");
    let mut all = places(&node);
    all.retain(|place| place.ends_with(['1', '2', '3']));
    assert_eq!(
        all,
        ["1:14 1", "1:20 2", "4:6 3", "1:14 1", "1:14 1", "1:20 2"]
    );
}

#[test]
fn a_quoted_merge_key_is_an_ordinary_key() {
    assert_eq!(places(&tree("\"<<\": 1\n"))[0], "1:1 <<:");
    assert_eq!(error("<<: 1\n"), "1:1: << takes a map or a list of maps");
}

#[test]
fn an_alias_cannot_contain_itself() {
    assert_eq!(
        error("a: &a\n  - *a\n"),
        "2:5: an alias stands for the value it is part of"
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    assert!(error(&bomb).ends_with("aliases expand to more than 100000 values"));
}

#[test]
fn depth_is_bounded_in_every_way_to_nest() {
    for text in [
        format!("{}1{}", "[".repeat(65), "]".repeat(65)),
        format!("{{\"a\": {}1{}}}", "[".repeat(65), "]".repeat(65)),
        "- ".repeat(70) + "x",
        "[".repeat(100_000),
        format!("{{\"a\": {}{}}}", "[".repeat(9000), "]".repeat(9000)),
        // Two levels by brackets, the rest through aliases.
        (1..80).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
            format!("{text}a{i}: &a{i} [*a{}]\n", i - 1)
        }),
    ] {
        let error = error(&text);
        assert!(
            error.contains("nested deeper than 64") || error.contains("recursion limit"),
            "{error}"
        );
    }
    assert!(parse(&format!("{}1{}", "[".repeat(60), "]".repeat(60))).is_ok());
}

#[test]
fn too_many_values_are_refused() {
    let text = format!("[{}1]", "1,".repeat(500_001));
    assert!(error(&text).contains("more than 500000 values"));
    let text = format!("{{\"a\": {text}}}");
    assert!(error(&text).contains("more than 500000 values"));
}

#[test]
fn tags_other_than_the_core_ones_are_refused() {
    assert_eq!(error("a: !foo x\n"), "1:4: tag !foo means nothing here");
    assert_eq!(
        error("a: !!binary x\n"),
        "1:4: tag !!binary means nothing here"
    );
    assert_eq!(places(&tree("a: !!str 5\n"))[1], "1:4 \"5\"");
    assert_eq!(places(&tree("a: !!map {b: 1}\n"))[2], "1:14 1");
}

#[test]
fn integers_read_as_yaml_1_1_and_go_do() {
    for (text, want) in [
        ("438", Some(438)),
        ("0666", Some(0o666)),
        ("0o666", Some(0o666)),
        ("0x1B6", Some(0x1b6)),
        ("0b11", Some(3)),
        ("1_000", Some(1000)),
        ("-7", Some(-7)),
        ("+7", Some(7)),
        ("0", Some(0)),
        ("", None),
        ("-", None),
        ("--7", None),
        ("-+7", None),
        ("0x", None),
        ("089", Some(89)),
        ("1.0", Some(1)),
        ("-1e3", Some(-1000)),
        ("1.5", None),
        ("1e400", None),
        ("1e30", None),
        (".0", None),
        ("inf", None),
        ("infinity", None),
        ("nan", None),
        ("0e", None),
        ("1e-1", None),
        ("seven", None),
        ("99999999999999999999999999999999999999999", None),
    ] {
        assert_eq!(fields::integer(text), want, "{text:?}");
    }
}

#[test]
fn fields_report_everything_that_is_wrong() {
    let node = tree("name: [1]\nNUM: 5000000000\nflag: maybe\nlist: x\nList: y\nother: 1\n");
    let report = Report::default();
    let mut fields = Fields::new(&node, Trail::default().key("top"), &report).unwrap();
    assert_eq!(fields.string("name"), None);
    assert_eq!(fields.number::<u32>("num"), None);
    assert_eq!(fields.boolean("flag"), None);
    assert!(fields.strings("list").is_empty());
    assert_eq!(fields.required("gone"), "");
    fields.finish(&[]);
    let problems: Vec<_> = report
        .into_problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "1:1: top.gone: missing",
            "1:7: top.name: expected a string, found a list",
            "2:6: top.num: 5000000000 is out of range, 0 to 4294967295",
            "3:7: top.flag: expected true or false, found a string",
            "4:7: top.list: expected a list, found a string",
            "5:1: top.list: duplicate key \"List\"; keys match regardless of case",
            "6:1: top: unknown key \"other\" (known here: name, num, flag, list, gone)",
        ]
    );
}

#[test]
fn a_trail_finds_its_value_or_what_would_hold_it() {
    let node = tree("a:\n  - b: 1\n    C: 2\n");
    let b = Trail::default().key("a").index(0);
    assert_eq!(b.key("c").to_string(), "a[0].c");
    assert_eq!(b.key("c").locate(&node).to_string(), "3:8");
    assert_eq!(b.key("missing").locate(&node).to_string(), "2:5");
    assert_eq!(Trail::default().key("x").locate(&node), Position::START);
}
