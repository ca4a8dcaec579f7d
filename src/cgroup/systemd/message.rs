//! The D-Bus wire format: values and messages as bytes.
//!
//! Pure. As much of the "D-Bus Specification", version 0.38, "Type System" and
//! "Message Protocol", as a client of systemd's manager needs: every type but
//! dictionaries and file descriptors, little-endian out, both orders in.

use std::fmt;

/// No message is longer, nor may one be (the specification allows 128 MiB).
const MAX_MESSAGE: usize = 1 << 20;
/// How deep values may be nested ("Valid Signatures" says 64 in all).
const MAX_DEPTH: u32 = 32;

/// The fixed part of a header, with the length of its array of fields.
pub(super) const FIXED_HEADER: usize = 16;

/// A value of one complete D-Bus type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`, with the type of its elements, which all have it.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn str(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// Its type.
    #[must_use]
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::F64(_) => "d".into(),
            Self::Str(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => {
                let inner: String = fields.iter().map(Self::signature).collect();
                format!("({inner})")
            }
            Self::Variant(_) => "v".into(),
        }
    }

    /// The text of a string, object path or signature.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }
}

/// Why bytes are not a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a D-Bus message: {0}")]
pub struct WireError(&'static str);

type Wire<T> = Result<T, WireError>;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
    /// To be ignored, as the specification says.
    Unknown,
}

/// A message, without what only routers look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub kind: Kind,
    pub serial: u32,
    pub reply_to: Option<u32>,
    pub path: Option<String>,
    pub interface: Option<String>,
    pub member: Option<String>,
    pub error: Option<String>,
    pub destination: Option<String>,
    pub body: Vec<Value>,
}

impl Message {
    /// A method call.
    pub(super) fn call(
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> Self {
        Self {
            kind: Kind::Call,
            serial: 0,
            reply_to: None,
            path: Some(path.to_owned()),
            interface: Some(interface.to_owned()),
            member: Some(member.to_owned()),
            error: None,
            destination: Some(destination.to_owned()),
            body,
        }
    }

    /// The bytes that go over the wire.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        for value in &self.body {
            body.value(value);
        }
        let kind = match self.kind {
            Kind::Unknown => 0,
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        let signature: String = self.body.iter().map(Value::signature).collect();
        let mut fields = Vec::new();
        let mut field = |code: u8, value: Value| {
            let value = Value::Variant(Box::new(value));
            fields.push(Value::Struct(vec![Value::Byte(code), value]));
        };
        let text = |text: &Option<String>| text.clone().map(Value::Str);
        if let Some(path) = &self.path {
            field(1, Value::Path(path.clone()));
        }
        for (code, value) in [
            (2, text(&self.interface)),
            (3, text(&self.member)),
            (4, text(&self.error)),
            (5, self.reply_to.map(Value::U32)),
            (6, text(&self.destination)),
        ] {
            if let Some(value) = value {
                field(code, value);
            }
        }
        if !signature.is_empty() {
            field(8, Value::Signature(signature));
        }
        let mut header = Writer::default();
        header.bytes.extend([b'l', kind, 0, 1]);
        header.u32(length(body.bytes.len()));
        header.u32(self.serial);
        header.value(&Value::Array("(yv)".into(), fields));
        header.align(8);
        header.bytes.extend(body.bytes);
        header.bytes
    }

    /// How long the message is that starts with these [`FIXED_HEADER`] bytes.
    pub(super) fn length(start: &[u8]) -> Wire<usize> {
        let mut reader = Reader::new(start)?;
        reader.at = 4;
        let body = reader.length()?;
        reader.at = 12;
        let fields = reader.length()?;
        let whole = (FIXED_HEADER + fields).next_multiple_of(8) + body;
        if whole > MAX_MESSAGE {
            return Err(WireError("too long"));
        }
        Ok(whole)
    }

    /// Reads a whole message.
    pub(super) fn decode(bytes: &[u8]) -> Wire<Self> {
        let mut reader = Reader::new(bytes)?;
        let mut message = Self {
            kind: match bytes.get(1) {
                Some(1) => Kind::Call,
                Some(2) => Kind::Return,
                Some(3) => Kind::Error,
                Some(4) => Kind::Signal,
                _ => Kind::Unknown,
            },
            serial: 0,
            reply_to: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            destination: None,
            body: Vec::new(),
        };
        reader.at = 8;
        message.serial = reader.u32()?;
        let Value::Array(_, fields) = reader.value("a(yv)", 0)? else {
            return Err(WireError("header without fields"));
        };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(parts) = field else {
                continue;
            };
            let [Value::Byte(code), Value::Variant(value)] = parts.as_slice() else {
                continue;
            };
            let text = value.as_str().map(str::to_owned);
            match (code, &**value) {
                (1, _) => message.path = text,
                (2, _) => message.interface = text,
                (3, _) => message.member = text,
                (4, _) => message.error = text,
                (5, Value::U32(serial)) => message.reply_to = Some(*serial),
                (6, _) => message.destination = text,
                (8, _) => signature = text.unwrap_or_default(),
                _ => {}
            }
        }
        reader.align(8)?;
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            let (first, after) = split_type(rest)?;
            message.body.push(reader.value(first, 0)?);
            rest = after;
        }
        Ok(message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = self.member.as_deref().unwrap_or("reply");
        write!(f, "{:?} {member} {:?}", self.kind, self.body)
    }
}

fn length(bytes: usize) -> u32 {
    // Nothing that we write comes near it.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.number(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(v) => self.bytes.push(*v),
            Value::Bool(v) => self.u32(u32::from(*v)),
            Value::I16(v) => self.number(v.to_le_bytes()),
            Value::U16(v) => self.number(v.to_le_bytes()),
            Value::I32(v) => self.number(v.to_le_bytes()),
            Value::U32(v) => self.u32(*v),
            Value::I64(v) => self.number(v.to_le_bytes()),
            Value::U64(v) => self.number(v.to_le_bytes()),
            Value::F64(v) => self.number(v.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => {
                self.u32(length(text.len()));
                self.text(text);
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.text(text);
            }
            Value::Array(element, items) => {
                self.u32(0);
                let at = self.bytes.len() - 4;
                self.align(alignment(element));
                // Padding before the first element does not count.
                let start = self.bytes.len();
                for item in items {
                    self.value(item);
                }
                let count = length(self.bytes.len() - start);
                self.bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            }
            Value::Struct(fields) => {
                self.align(8);
                for field in fields {
                    self.value(field);
                }
            }
            Value::Variant(inner) => {
                self.value(&Value::Signature(inner.signature()));
                self.value(inner);
            }
        }
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// The first complete type of a signature, and what follows it.
pub(super) fn split_type(signature: &str) -> Wire<(&str, &str)> {
    let bytes = signature.as_bytes();
    let mut at = 0;
    let mut depth = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'(' | b'{' => depth += 1,
            b')' | b'}' if depth > 0 => depth -= 1,
            b'a' => continue,
            b if b"ybnqiuxtdsogvh".contains(b) => {}
            _ => return Err(WireError("unknown type")),
        }
        if depth == 0 {
            return Ok(signature.split_at(at));
        }
    }
    Err(WireError("incomplete type"))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Wire<Self> {
        let big_endian = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => return Err(WireError("unknown byte order")),
        };
        Ok(Self {
            bytes,
            at: 0,
            big_endian,
        })
    }

    fn take(&mut self, count: usize) -> Wire<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(WireError("too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError("cut off"))?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Wire<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn number<const N: usize>(&mut self) -> Wire<[u8; N]> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn u32(&mut self) -> Wire<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Wire<usize> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(WireError("too long"));
        }
        Ok(length)
    }

    fn text(&mut self, length: usize) -> Wire<String> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| WireError("text is not UTF-8"))?;
        match self.take(1)? {
            [0] => Ok(text.to_owned()),
            _ => Err(WireError("text without its end")),
        }
    }

    fn signature(&mut self) -> Wire<String> {
        let length = usize::from(self.take(1)?[0]);
        self.text(length)
    }

    fn value(&mut self, signature: &str, depth: u32) -> Wire<Value> {
        if depth > MAX_DEPTH {
            return Err(WireError("nested too deeply"));
        }
        Ok(match signature.as_bytes() {
            b"y" => Value::Byte(self.take(1)?[0]),
            b"b" => Value::Bool(self.u32()? != 0),
            b"n" => Value::I16(i16::from_le_bytes(self.number()?)),
            b"q" => Value::U16(u16::from_le_bytes(self.number()?)),
            b"i" => Value::I32(i32::from_le_bytes(self.number()?)),
            b"u" | b"h" => Value::U32(self.u32()?),
            b"x" => Value::I64(i64::from_le_bytes(self.number()?)),
            b"t" => Value::U64(u64::from_le_bytes(self.number()?)),
            b"d" => Value::F64(f64::from_le_bytes(self.number()?)),
            b"s" => {
                let length = self.length()?;
                Value::Str(self.text(length)?)
            }
            b"o" => {
                let length = self.length()?;
                Value::Path(self.text(length)?)
            }
            b"g" => Value::Signature(self.signature()?),
            b"v" => {
                let inner = self.signature()?;
                let (first, "") = split_type(&inner)? else {
                    return Err(WireError("variant of several types"));
                };
                Value::Variant(Box::new(self.value(first, depth + 1)?))
            }
            [b'a', ..] => self.array(&signature[1..], depth)?,
            [b'(', .., b')'] | [b'{', .., b'}'] => {
                self.align(8)?;
                let mut fields = Vec::new();
                let mut rest = &signature[1..signature.len() - 1];
                while !rest.is_empty() {
                    let (first, after) = split_type(rest)?;
                    fields.push(self.value(first, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            _ => return Err(WireError("unknown type")),
        })
    }

    fn array(&mut self, element: &str, depth: u32) -> Wire<Value> {
        let (_, "") = split_type(element)? else {
            return Err(WireError("array of several types"));
        };
        let length = self.length()?;
        self.align(alignment(element))?;
        let end = self.at + length;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(element, depth + 1)?);
            if self.at == before {
                return Err(WireError("array of nothing"));
            }
        }
        if self.at != end {
            return Err(WireError("array with a broken element"));
        }
        Ok(Value::Array(element.to_owned(), items))
    }
}

#[cfg(test)]
mod tests;
