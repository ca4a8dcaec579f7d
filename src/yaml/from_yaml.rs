//! YAML by `saphyr-parser`'s events, so that scalars keep the text they were
//! written with: YAML 1.1 and 1.2 read `0666` differently, and the field that
//! it is for decides.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::{
    Entry, MAX_ALIASED, MAX_DEPTH, MAX_VALUES, Node, Position, SyntaxError, Value, check_new_key,
};

pub(super) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event
            .map_err(|error| SyntaxError::new(position(error.marker()), error.info().to_owned()))?;
        if builder.event(event, span)? {
            break;
        }
    }
    match builder.root {
        Some(root) => Ok(Rc::into_inner(root)),
        None => Ok(None),
    }
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// A finished value and what it costs to walk it.
#[derive(Clone)]
struct Built {
    node: Rc<Node>,
    /// Values in it, itself included, aliases expanded.
    size: usize,
    /// Levels below it.
    height: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    size: usize,
    height: usize,
    body: Body,
}

enum Body {
    List(Vec<Rc<Node>>),
    Map(MapBody),
}

#[derive(Default)]
struct MapBody {
    entries: Vec<Entry>,
    seen: HashSet<String>,
    /// The key whose value comes next.
    key: Option<(String, Position)>,
    /// Whether that key is `<<`, written plain.
    merging: bool,
    /// Values of `<<`, to be taken where the map has no such key itself.
    merged: Vec<(Position, Rc<Node>)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    root: Option<Rc<Node>>,
    documents: usize,
    values: usize,
    aliased: usize,
}

impl Builder {
    /// Takes one event; `true` at the end of the stream.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, SyntaxError> {
        let at = position(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(true),
            Event::DocumentStart(_) => self.documents += 1,
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), at)?;
                if let Some(text) = self.wants_key(&value, at)? {
                    let plain = style == ScalarStyle::Plain;
                    self.key(text, plain, at)?;
                } else {
                    let node = Rc::new(Node { at, value });
                    let built = Built {
                        node,
                        size: 1,
                        height: 0,
                    };
                    self.finish(anchor, built)?;
                }
            }
            Event::Alias(anchor) => {
                let built = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    SyntaxError::new(at, "an alias stands for the value it is part of")
                })?;
                self.aliased = self.aliased.saturating_add(built.size);
                if self.aliased > MAX_ALIASED {
                    return Err(SyntaxError::new(
                        at,
                        format!("aliases expand to more than {MAX_ALIASED} values"),
                    ));
                }
                if let Some(text) = self.wants_key(&built.node.value, at)? {
                    self.key(text, false, at)?;
                } else {
                    self.finish(0, built)?;
                }
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", at)?;
                self.start(at, anchor, Body::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map", at)?;
                self.start(at, anchor, Body::Map(MapBody::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
        }
        Ok(false)
    }

    /// The text of a value that stands where a key must.
    fn wants_key(&self, value: &Value, at: Position) -> Result<Option<String>, SyntaxError> {
        match self.open.last().map(|open| &open.body) {
            Some(Body::Map(map)) if map.key.is_none() => match value {
                Value::Scalar { text, .. } => Ok(Some(text.clone())),
                Value::Null => Ok(Some("null".into())),
                Value::List(_) | Value::Map(_) => Err(complex_key(at)),
            },
            _ => Ok(None),
        }
    }

    fn key(&mut self, text: String, plain: bool, at: Position) -> Result<(), SyntaxError> {
        if let Some(Open {
            body: Body::Map(map),
            ..
        }) = self.open.last_mut()
        {
            check_new_key(&mut map.seen, &text, at)?;
            map.merging = plain && text == "<<";
            map.key = Some((text, at));
        }
        Ok(())
    }

    fn start(&mut self, at: Position, anchor: usize, body: Body) -> Result<(), SyntaxError> {
        if let Some(Open {
            body: Body::Map(map),
            ..
        }) = self.open.last()
            && map.key.is_none()
        {
            return Err(complex_key(at));
        }
        self.open.push(Open {
            at,
            anchor,
            size: 1,
            height: 0,
            body,
        });
        self.check_depth(at, 0)
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.body {
            Body::List(items) => Value::List(items),
            Body::Map(map) => Value::Map(merge(map)?),
        };
        let built = Built {
            node: Rc::new(Node { at: open.at, value }),
            size: open.size,
            height: open.height,
        };
        self.finish(open.anchor, built)
    }

    /// Hands a finished value to the collection around it.
    fn finish(&mut self, anchor: usize, built: Built) -> Result<(), SyntaxError> {
        let at = built.node.at;
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(SyntaxError::new(
                at,
                format!("more than {MAX_VALUES} values"),
            ));
        }
        self.check_depth(at, built.height)?;
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.open.last_mut() else {
            return self.document(built.node);
        };
        open.size = open.size.saturating_add(built.size);
        open.height = open.height.max(built.height + 1);
        match &mut open.body {
            Body::List(items) => items.push(built.node),
            Body::Map(map) => {
                if let Some((key, at)) = map.key.take() {
                    if map.merging {
                        map.merged.push((at, built.node));
                    } else {
                        map.entries.push(Entry {
                            key,
                            at,
                            node: built.node,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn document(&mut self, node: Rc<Node>) -> Result<(), SyntaxError> {
        // A trailing `---` opens an empty document, which says nothing.
        if self.documents > 1 && node.value == Value::Null {
            return Ok(());
        }
        if self.root.is_some() {
            return Err(SyntaxError::new(
                node.at,
                "a second YAML document, which nobody would read; give it a file of its own",
            ));
        }
        // Anchors end with their document, and would keep the root shared.
        self.anchors.clear();
        self.root = Some(node);
        Ok(())
    }

    fn check_depth(&self, at: Position, height: usize) -> Result<(), SyntaxError> {
        if self.open.len() + height > MAX_DEPTH {
            return Err(SyntaxError::new(
                at,
                format!("nested deeper than {MAX_DEPTH}"),
            ));
        }
        Ok(())
    }
}

fn complex_key(at: Position) -> SyntaxError {
    SyntaxError::new(at, "a list or map cannot be a key")
}

/// Adds what `<<` brings: keys of the map itself win, then earlier maps.
fn merge(map: MapBody) -> Result<Vec<Entry>, SyntaxError> {
    let MapBody {
        mut entries,
        mut seen,
        merged,
        ..
    } = map;
    for (at, node) in merged {
        let sources: Vec<&Node> = match &node.value {
            Value::Map(_) => vec![&node],
            Value::List(items) => items.iter().map(Rc::as_ref).collect(),
            _ => vec![],
        };
        if sources.is_empty() || sources.iter().any(|s| !matches!(s.value, Value::Map(_))) {
            return Err(SyntaxError::new(at, "<< takes a map or a list of maps"));
        }
        for source in sources {
            if let Value::Map(more) = &source.value {
                for entry in more {
                    if seen.insert(entry.key.clone()) {
                        entries.push(Entry {
                            key: entry.key.clone(),
                            at: entry.at,
                            node: Rc::clone(&entry.node),
                        });
                    }
                }
            }
        }
    }
    Ok(entries)
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Position,
) -> Result<Value, SyntaxError> {
    let plain = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => false,
            "int" | "float" | "bool" => true,
            "null" => return Ok(Value::Null),
            _ => return Err(unknown_tag(tag, at)),
        },
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => false,
        Some(tag) => return Err(unknown_tag(tag, at)),
    };
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    Ok(Value::Scalar {
        text: text.to_owned(),
        plain,
    })
}

fn collection_tag(tag: Option<&Tag>, suffix: &str, at: Position) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == suffix) => {
            Err(unknown_tag(tag, at))
        }
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, at: Position) -> SyntaxError {
    let tag = if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        tag.to_string()
    };
    SyntaxError::new(at, format!("tag {tag} means nothing here"))
}
