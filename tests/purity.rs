//! The parts that `src/lib.rs` calls pure are: values in, values out.
//!
//! Their sources are read as tokens, so that comments, strings and test modules
//! do not count, and every path in them is resolved, grouped imports included.
//! The same scanner holds `unsafe` in `src/sys` and the changing of documents in
//! `edit::apply`. The last tests show the scanner on sources that must fail.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Below `src`; a directory or a file, with or without `.rs`.
const PURE: &[&str] = &[
    "cli",
    "doctor",
    "document",
    "request",
    "cdi",
    "gpu",
    "edit",
    "lease/keys",
    "lease/pick",
    "policy",
    "rootless",
    "service",
    "yaml",
    "device/policy",
    "device/rules",
    "device/program",
    "cgroup/parent",
    "cgroup/path",
    "cgroup/systemd/annotation",
    "cgroup/systemd/devices",
    "cgroup/systemd/message",
    "cgroup/systemd/properties",
    "cgroup/systemd/unit",
    "host/facts",
];

/// Must be there, or this test looks at the wrong place.
const MUST_EXIST: &[&str] = &["document", "request", "cdi", "edit"];

/// Modules that only some of the others may name, so that what depends on what
/// can be read from top to bottom. `error` joins the errors of all.
const ONE_WAY: &[(&str, &[&str])] = &[
    ("command", &["main"]),
    ("bundle", &["main", "command", "error"]),
    ("resolve", &["command", "bundle"]),
    ("cli", &["main", "command", "log", "error"]),
    ("doctor", &["command", "host"]),
];

/// Paths that reach outside the values a function is given.
const FORBIDDEN_PATHS: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::thread",
    "std::time",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::os::fd",
    "std::os::linux",
    "std::os::unix::fs",
    "std::os::unix::io",
    "std::os::unix::net",
    "std::os::unix::process",
    "nix",
    "libc",
    "rustix",
    "procfs",
    "pathrs",
    "caps",
    "libcontainer",
    "libseccomp",
    "crate::host",
    "crate::sys",
    "crate::runtime",
    "crate::command",
    "crate::rootfs",
];

/// What of the forbidden is plain data, and pure itself (see [`PURE`]).
const PURE_PATHS: &[&str] = &["crate::host::facts"];

/// Methods of `Path` that ask the file system without naming it.
const FORBIDDEN_METHODS: &[&str] = &[
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Words before a `::` that are no part of the path after it.
const KEYWORDS: &[&str] = &[
    "use", "pub", "return", "in", "as", "dyn", "impl", "where", "else", "match", "if", "while",
    "mut", "break", "for", "move",
];

/// Macros that print.
const FORBIDDEN_MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Segments from the root of a crate.
    Path(String),
    Method(String),
    Macro(String),
    Unsafe,
}

/// What a source file names, with line numbers; test modules left out.
fn scan(source: &str, module: &[&str]) -> Vec<(usize, Found)> {
    let tokens: TokenStream = source.parse().expect("the source is Rust");
    let mut found = Vec::new();
    let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
    walk(tokens, &[], &module, &mut found);
    found
}

fn walk(
    tokens: TokenStream,
    prefix: &[String],
    module: &[String],
    found: &mut Vec<(usize, Found)>,
) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let punct = |index: usize, sign: char| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == sign);
    let joined = |index: usize| punct(index, ':') && punct(index + 1, ':');
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token {
            TokenTree::Punct(_) if punct(index, '#') && is_cfg_test(tokens.get(index + 1)) => {
                index = end_of_item(&tokens, index + 2);
                continue;
            }
            TokenTree::Group(group) => walk(group.stream(), &[], module, found),
            TokenTree::Ident(ident) => {
                let line = ident.span().start().line;
                let name = ident.to_string();
                if name == "unsafe" {
                    found.push((line, Found::Unsafe));
                }
                if index > 0 && punct(index - 1, '.') {
                    found.push((line, Found::Method(name)));
                    index += 1;
                    continue;
                }
                if punct(index + 1, '!') && !punct(index + 2, '=') {
                    found.push((line, Found::Macro(name.clone())));
                }
                let mut path = prefix.to_vec();
                path.push(name);
                let mut grouped = false;
                // `use ::std`: a keyword starts no path.
                while !KEYWORDS.contains(&path[0].as_str()) && joined(index + 1) {
                    match tokens.get(index + 3) {
                        Some(TokenTree::Ident(next)) => {
                            path.push(next.to_string());
                            index += 3;
                        }
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            walk(group.stream(), &path, module, found);
                            grouped = true;
                            index += 3;
                        }
                        Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                            path.push("*".to_owned());
                            index += 3;
                        }
                        _ => break,
                    }
                }
                if !grouped {
                    found.push((line, Found::Path(resolve(&path, module))));
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        index += 1;
    }
}

/// `self` and `super` at the start become the path from the crate's root.
fn resolve(path: &[String], module: &[String]) -> String {
    let mut base = module.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        relative = true;
        rest = tail;
    }
    let mut full = Vec::new();
    if relative {
        full.push("crate".to_owned());
        full.extend(base);
    }
    // `use std::fs::{self}` names `std::fs`.
    full.extend(rest.iter().filter(|name| *name != "self").cloned());
    full.join("::")
}

fn is_cfg_test(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The index after the item that starts here: its `;` or its braces.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens[start..]
        .iter()
        .position(ends)
        .map_or(tokens.len(), |length| start + length + 1)
}

/// Why a pure module may not have this in it.
fn impurity(found: &Found) -> Option<String> {
    match found {
        Found::Path(path) => {
            let whole_std = ["std", "std::*", "crate::*"].contains(&path.as_str());
            let below = |root: &str| {
                let rest = path.strip_prefix(root);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            let forbidden = FORBIDDEN_PATHS.iter().any(|bad| below(bad))
                && !PURE_PATHS.iter().any(|good| below(good));
            (whole_std || forbidden).then(|| format!("path {path}"))
        }
        Found::Method(name) => FORBIDDEN_METHODS
            .contains(&name.as_str())
            .then(|| format!("method {name}")),
        Found::Macro(name) => FORBIDDEN_MACROS
            .contains(&name.as_str())
            .then(|| format!("macro {name}!")),
        Found::Unsafe => Some("unsafe".to_owned()),
    }
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Rust files at or below a path, without test modules in files of their own.
fn rust_files(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            rust_files(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs")
        && path.file_name().is_some_and(|name| name != "tests.rs")
        && !path.components().any(|part| part.as_os_str() == "tests")
    {
        files.push(path.to_path_buf());
    }
}

/// `src/edit/apply/mod.rs` is `["edit", "apply"]`.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source_root()).unwrap().with_extension("");
    relative
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .filter(|part| !["mod", "lib", "main"].contains(&part.as_str()))
        .collect()
}

fn scan_file(file: &Path) -> Vec<(usize, Found)> {
    let source = fs::read_to_string(file).unwrap();
    let module = module_of(file);
    let module: Vec<&str> = module.iter().map(String::as_str).collect();
    scan(&source, &module)
}

#[test]
fn pure_modules_reach_nothing_but_their_arguments() {
    let mut report = Vec::new();
    for name in PURE {
        let mut files = Vec::new();
        for path in [
            source_root().join(name),
            source_root().join(format!("{name}.rs")),
        ] {
            if path.exists() {
                rust_files(&path, &mut files);
            }
        }
        assert!(
            !files.is_empty() || !MUST_EXIST.contains(name),
            "src/{name} is not there"
        );
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            for (line, found) in scan_file(&file) {
                // A method of that name which the file defines itself.
                if matches!(&found, Found::Method(name) if source.contains(&format!("fn {name}(")))
                {
                    continue;
                }
                if let Some(what) = impurity(&found) {
                    report.push(format!("{}:{line}: {what}", file.display()));
                }
            }
        }
    }
    assert!(report.is_empty(), "not pure:\n{}", report.join("\n"));
}

#[test]
fn unsafe_is_only_below_sys() {
    let mut files = Vec::new();
    rust_files(&source_root(), &mut files);
    assert!(files.len() > 10, "only {} files found", files.len());
    for file in files {
        let module = module_of(&file);
        if module.first().is_some_and(|first| first == "sys") {
            continue;
        }
        for (line, found) in scan_file(&file) {
            assert_ne!(found, Found::Unsafe, "{}:{line}", file.display());
        }
    }
}

#[test]
fn only_apply_changes_documents() {
    let mut files = Vec::new();
    rust_files(&source_root(), &mut files);
    let mut callers = Vec::new();
    for file in files {
        let method = Found::Method("with_edited_value".to_owned());
        if scan_file(&file).iter().any(|(_, found)| *found == method) {
            callers.push(module_of(&file).join("::"));
        }
    }
    assert_eq!(callers, ["edit::apply"]);
}

/// The modules of the crate that a source names, by its own module.
fn modules_named(file: &[&str], found: &[(usize, Found)]) -> Vec<(usize, String)> {
    let named = |path: &str| {
        let mut parts = path.split("::");
        let own = matches!(parts.next(), Some("crate" | "kusabi"));
        own.then(|| parts.next().map(str::to_owned)).flatten()
    };
    found
        .iter()
        .filter_map(|(line, found)| match found {
            Found::Path(path) => named(path).map(|name| (*line, name)),
            _ => None,
        })
        .filter(|(_, name)| Some(&name.as_str()) != file.first())
        .collect()
}

fn against_the_order(file: &[&str], found: &[(usize, Found)]) -> Vec<String> {
    let top = file.first().copied().unwrap_or("main");
    let allowed = |name: &str| {
        let rule = ONE_WAY.iter().find(|(module, _)| *module == name);
        rule.is_none_or(|(_, above)| above.contains(&top))
    };
    modules_named(file, found)
        .into_iter()
        .filter(|(_, name)| !allowed(name))
        .map(|(line, name)| format!("{line}: {top} names {name}"))
        .collect()
}

#[test]
fn what_stands_below_does_not_name_what_stands_above() {
    let mut files = Vec::new();
    rust_files(&source_root(), &mut files);
    let mut report = Vec::new();
    for file in files {
        let module = module_of(&file);
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        for line in against_the_order(&module, &scan_file(&file)) {
            report.push(format!("{}:{line}", file.display()));
        }
    }
    assert!(report.is_empty(), "upside down:\n{}", report.join("\n"));
    for (name, _) in ONE_WAY {
        assert!(source_root().join(name).is_dir(), "src/{name} is not there");
    }
    // The check can fail.
    let upside_down =
        |module: &[&str], source: &str| against_the_order(module, &scan(source, module));
    assert_eq!(
        upside_down(&["bundle", "facts"], "use crate::command::requests::plan;"),
        ["1: bundle names command"]
    );
    assert_eq!(
        upside_down(&["resolve"], "use super::bundle::Machine;"),
        ["1: resolve names bundle"]
    );
    assert_eq!(
        upside_down(
            &["host", "nodes"],
            "fn f() { crate::{cli::Command, doctor::x}; }"
        ),
        ["1: host names cli"]
    );
}

fn impurities(source: &str) -> Vec<String> {
    scan(source, &["edit", "apply"])
        .iter()
        .filter_map(|(line, found)| impurity(found).map(|what| format!("{line}: {what}")))
        .collect()
}

#[test]
fn the_scanner_finds_what_is_forbidden() {
    for (source, expected) in [
        ("use std::fs;", "1: path std::fs"),
        ("use std::fs::File;", "1: path std::fs::File"),
        ("use std::{path::Path, env};", "1: path std::env"),
        (
            "use std::{os::{unix::fs::MetadataExt}};",
            "1: path std::os::unix::fs::MetadataExt",
        ),
        ("use ::std::process as p;", "1: path std::process"),
        (
            "fn f() { return ::std::env::args() }",
            "1: path std::env::args",
        ),
        ("use std as s;", "1: path std"),
        ("use std::{self as s};", "1: path std"),
        ("use std::fs::{self};", "1: path std::fs"),
        ("use std::*;", "1: path std::*"),
        (
            "fn f() {\n    std::env::var(\"A\");\n}",
            "2: path std::env::var",
        ),
        (
            "fn f() { format!(\"{}\", std::process::id()) }",
            "1: path std::process::id",
        ),
        ("use nix::sys::stat::stat;", "1: path nix::sys::stat::stat"),
        ("fn f() -> libc::c_int { 0 }", "1: path libc::c_int"),
        (
            "use crate::host::Snapshot;",
            "1: path crate::host::Snapshot",
        ),
        (
            "use crate::{edit::Edit, runtime};",
            "1: path crate::runtime",
        ),
        (
            "use super::super::sys::clone3;",
            "1: path crate::sys::clone3",
        ),
        ("fn f(p: &Path) -> bool { p.exists() }", "1: method exists"),
        ("fn f() { println!(\"x\") }", "1: macro println!"),
        ("fn f() { unsafe { g() } }", "1: unsafe"),
    ] {
        assert_eq!(impurities(source), [expected], "{source}");
    }
}

#[test]
fn the_scanner_lets_the_rest_pass() {
    for source in [
        "// std::fs\nfn f() -> &'static str { \"std::fs unsafe\" }",
        "use std::path::Path; use std::{fmt, collections::BTreeMap};",
        "#[cfg(test)]\nmod tests { use std::fs; fn f() { unsafe {} } }",
        "#[cfg(test)]\nmod tests;",
        "use super::environment; fn f(host: &str, sys: u8) { host.len(); }",
        "use crate::host::facts::Snapshot; use crate::host::{facts};",
        "use crate::hostess::X; fn f(a: bool) -> bool { print != a }",
    ] {
        assert_eq!(impurities(source), Vec::<String>::new(), "{source}");
    }
}
