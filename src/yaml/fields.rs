//! From a tree to types: reads the fields of a map, names what is wrong with
//! each, and goes on, so that one run reports every mistake of a file.

use std::cell::RefCell;
use std::fmt;

use super::{Entry, Node, Position, Value};
use crate::error::one_line;

/// How many problems of one file are worth telling.
const MAX_PROBLEMS: usize = 50;

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key of a map.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// The way from the root to a value; prints as `devices[0].name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(Vec<Step>);

impl Trail {
    /// One key further.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// One list item further.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Where the value is, or, where it is missing, what would hold it.
    #[must_use]
    pub fn locate(&self, root: &Node) -> Position {
        let mut node = root;
        for step in &self.0 {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(entries)) => {
                    let folded = |entry: &&Entry| entry.key.eq_ignore_ascii_case(key);
                    let same = entries.iter().find(|entry| entry.key == *key);
                    same.or_else(|| entries.iter().find(folded))
                        .map(|entry| &entry.node)
                }
                (Step::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Place in the file.
    pub at: Position,
    /// Dotted path of the field; empty for the file as a whole.
    pub field: String,
    /// What is wrong: one line, lower case.
    pub reason: String,
    /// What would fix it, if that is not obvious.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", one_line(&self.field))?;
        }
        f.write_str(&one_line(&self.reason))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub struct Report {
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Adds a problem; after the first fifty of a file, nothing.
    pub fn add(
        &self,
        at: Position,
        field: &Trail,
        reason: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(Problem {
                at,
                field: field.to_string(),
                reason: reason.into(),
                hint,
            });
        }
    }

    /// Everything found, in the order of the file.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.at);
        problems
    }
}

/// The fields of one map. Keys match regardless of case; reading a field takes
/// it, and [`finish`](Self::finish) reports those that nobody took.
pub struct Fields<'n, 'r> {
    node: &'n Node,
    trail: Trail,
    report: &'r Report,
    known: Vec<&'static str>,
    taken: Vec<bool>,
}

impl<'n, 'r> Fields<'n, 'r> {
    /// Starts reading a map; anything else is a problem and gives `None`.
    pub fn new(node: &'n Node, trail: Trail, report: &'r Report) -> Option<Self> {
        if let Value::Map(entries) = &node.value {
            return Some(Self {
                node,
                trail,
                report,
                known: Vec::new(),
                taken: vec![false; entries.len()],
            });
        }
        report.add(
            node.at,
            &trail,
            format!("expected a map, found {}", node.value.kind()),
            None,
        );
        None
    }

    /// The way to one of this map's fields.
    #[must_use]
    pub fn trail(&self, key: &str) -> Trail {
        self.trail.key(key)
    }

    /// The field's node, unless it is missing or null.
    pub fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let mut found = None;
        for (entry, taken) in entries.iter().zip(&mut self.taken) {
            if !entry.key.eq_ignore_ascii_case(key) {
                continue;
            }
            *taken = true;
            if found.is_some() {
                self.report.add(
                    entry.at,
                    &self.trail.key(key),
                    format!(
                        "duplicate key {:?}; keys match regardless of case",
                        entry.key
                    ),
                    None,
                );
            } else {
                found = Some(entry.node.as_ref());
            }
        }
        found.filter(|node| node.value != Value::Null)
    }

    /// The field's node, which must be there; without it, a problem.
    pub fn required_node(&mut self, key: &'static str) -> Option<&'n Node> {
        let node = self.node(key);
        if node.is_none() {
            self.report
                .add(self.node.at, &self.trail.key(key), "missing", None);
        }
        node
    }

    /// A string, as [`text`] reads it.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        text(node, &self.trail.key(key), self.report)
    }

    /// A string that must be there; without it, a problem and `""`.
    pub fn required(&mut self, key: &'static str) -> String {
        self.required_node(key)
            .and_then(|node| text(node, &self.trail.key(key), self.report))
            .unwrap_or_default()
    }

    /// An integer that fits `T`, as [`integer`] reads it.
    pub fn number<T: TryFrom<i128> + Bounds>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        number(node, &self.trail.key(key), self.report)
    }

    /// A boolean: `true` or `false`, or one of the other words of YAML 1.1.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        if let Value::Scalar { text, plain: true } = &node.value {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => return Some(true),
                "false" | "no" | "off" | "n" => return Some(false),
                _ => {}
            }
        }
        self.report.add(
            node.at,
            &self.trail.key(key),
            format!("expected true or false, found {}", node.value.kind()),
            None,
        );
        None
    }

    /// A list, each item read by `item`; those it cannot read are left out.
    /// `None` where the field is missing.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        item: impl FnMut(&'n Node, Trail, &'r Report) -> Option<T>,
    ) -> Option<Vec<T>> {
        let node = self.node(key)?;
        self.items(key, node, item)
    }

    /// A list that must be there; without it, a problem and no items.
    pub fn required_list<T>(
        &mut self,
        key: &'static str,
        item: impl FnMut(&'n Node, Trail, &'r Report) -> Option<T>,
    ) -> Vec<T> {
        self.required_node(key)
            .and_then(|node| self.items(key, node, item))
            .unwrap_or_default()
    }

    fn items<T>(
        &self,
        key: &str,
        node: &'n Node,
        mut item: impl FnMut(&'n Node, Trail, &'r Report) -> Option<T>,
    ) -> Option<Vec<T>> {
        let trail = self.trail.key(key);
        let Value::List(nodes) = &node.value else {
            self.report.add(
                node.at,
                &trail,
                format!("expected a list, found {}", node.value.kind()),
                None,
            );
            return None;
        };
        let items = nodes
            .iter()
            .enumerate()
            .filter_map(|(i, node)| item(node, trail.index(i), self.report));
        Some(items.collect())
    }

    /// A list of strings; empty where the field is missing.
    pub fn strings(&mut self, key: &'static str) -> Vec<String> {
        self.list(key, |node, trail, report| text(node, &trail, report))
            .unwrap_or_default()
    }

    /// A map of strings, whose keys are not folded.
    pub fn string_map(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let trail = self.trail.key(key);
        let Value::Map(entries) = &node.value else {
            self.report.add(
                node.at,
                &trail,
                format!("expected a map, found {}", node.value.kind()),
                None,
            );
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|entry| {
                let value = text(&entry.node, &trail.key(&entry.key), self.report)?;
                Some((entry.key.clone(), value))
            })
            .collect()
    }

    /// Reports every key that no call above has asked for. `gone` explains
    /// keys that existed once, or exist elsewhere.
    pub fn finish(self, gone: &[(&str, &str)]) {
        let Value::Map(entries) = &self.node.value else {
            return;
        };
        for (entry, taken) in entries.iter().zip(&self.taken) {
            if *taken {
                continue;
            }
            let hint = gone
                .iter()
                .find(|(key, _)| entry.key.eq_ignore_ascii_case(key))
                .map_or_else(
                    || suggestion(&entry.key, &self.known),
                    |(_, hint)| (*hint).to_owned(),
                );
            self.report.add(
                entry.at,
                &self.trail,
                format!("unknown key {:?}", entry.key),
                Some(hint),
            );
        }
    }
}

/// The known key that was probably meant, or all of them.
fn suggestion(key: &str, known: &[&str]) -> String {
    let key = key.to_ascii_lowercase();
    // A third of the letters wrong is another word.
    let most = (key.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| {
            (
                strsim::osa_distance(&key, &known.to_ascii_lowercase()),
                known,
            )
        })
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(
            || format!("known here: {}", known.join(", ")),
            |(_, meant)| format!("did you mean {meant}?"),
        )
}

/// A scalar as a string. One written without quotes counts as it stands, even
/// if YAML would call it a number: `name: 0` names a device `0`.
pub fn text(node: &Node, trail: &Trail, report: &Report) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Null => Some(String::new()),
        other => {
            report.add(
                node.at,
                trail,
                format!("expected a string, found {}", other.kind()),
                None,
            );
            None
        }
    }
}

/// The range of an integer type, for error messages.
pub trait Bounds {
    /// Smallest value.
    const MIN: i128;
    /// Largest value.
    const MAX: i128;
}

macro_rules! bounds {
    ($($t:ty),*) => {$(
        impl Bounds for $t {
            const MIN: i128 = <$t>::MIN as i128;
            const MAX: i128 = <$t>::MAX as i128;
        }
    )*};
}
bounds!(u32, i64);

/// An integer that fits `T`; quoted ones are strings and do not count.
pub fn number<T: TryFrom<i128> + Bounds>(node: &Node, trail: &Trail, report: &Report) -> Option<T> {
    let found = match &node.value {
        Value::Scalar { text, plain: true } => match integer(text) {
            Some(value) => match T::try_from(value) {
                Ok(value) => return Some(value),
                Err(_) => {
                    report.add(
                        node.at,
                        trail,
                        format!("{value} is out of range, {} to {}", T::MIN, T::MAX),
                        None,
                    );
                    return None;
                }
            },
            None => format!("{text:?}"),
        },
        Value::Scalar { text, .. } => format!("the string {text:?}"),
        other => other.kind().to_owned(),
    };
    report.add(
        node.at,
        trail,
        format!("expected an integer, found {found}"),
        None,
    );
    None
}

/// An integer as YAML 1.1 and Go read it, which is what CDI files are written
/// for: `438`, `0666` and `0o666` (octal), `0x1b6`, `0b1`, `_` between digits.
/// Also one in the clothes of a float (`438.0`, `1e3`), as JSON Schema has it.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = whole(digits).or_else(|| whole_float(digits))?;
    Some(if negative { -magnitude } else { magnitude })
}

fn whole(digits: &str) -> Option<i128> {
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let digits: String = digits.chars().filter(|&c| c != '_').collect();
    // Rust's own parser would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i128::from_str_radix(&digits, radix).ok()
}

fn whole_float(digits: &str) -> Option<i128> {
    /// Up to here every integer has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.chars().all(number) {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    if value.fract() != 0.0 || value > EXACT {
        return None;
    }
    format!("{value:.0}").parse().ok()
}
