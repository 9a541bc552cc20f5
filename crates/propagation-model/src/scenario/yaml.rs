//! YAML as JSON values with the place of each in the text.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScanError, Span};
use serde_json::{Map, Number, Value};

/// The most bytes that the values of a file and the paths to them may take, with aliases expanded: a hostile file
/// can make much of few bytes.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Size of a value beside its text.
const VALUE_BYTES: usize = size_of::<Value>() + size_of::<Position>();

/// The deepest nesting.
const MOST_DEPTH: usize = 64;

/// A position: line and column, both from 1.
pub(super) type Position = (usize, usize);

/// A document, with the position of everything in it.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    positions: HashMap<String, Position>,
}

/// A problem of the text itself.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) at: Option<Position>,
    pub(super) reason: String,
}

impl Document {
    /// A document without positions.
    pub(super) fn from_value(value: Value) -> Self {
        Self { value, positions: HashMap::new() }
    }

    /// Position of the key of a path.
    pub(super) fn position_of_key(&self, path: &str) -> Option<Position> {
        self.positions.get(&key_of(path)).copied().or_else(|| self.position(path))
    }

    /// Position of the value at a path, or of the nearest one that contains it.
    pub(super) fn position(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.positions.get(path) {
                return Some(*position);
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }
}

/// Reads the single document of a text.
pub(super) fn read(text: &str) -> Result<Document, Malformed> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        positions: HashMap::new(),
        anchors: HashMap::new(),
        left: MOST_BYTES,
    };
    let value = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => break Value::Object(Map::new()),
            (event, span) => break reader.value(event, span, "", 0)?,
        }
    };
    loop {
        match reader.next()? {
            (Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => break,
            (_, span) => {
                return Err(malformed(span, "second document: a scenario file holds one document"));
            }
        }
    }
    let value = if value.is_null() { Value::Object(Map::new()) } else { value };
    if !value.is_object() {
        let reason = "expected a map of keys, such as `steps:`".into();
        return Err(Malformed { at: Some((1, 1)), reason });
    }
    Ok(Document { value, positions: reader.positions })
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    positions: HashMap<String, Position>,
    anchors: HashMap<usize, Value>,
    /// Number of bytes that may still be taken.
    left: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The value that begins with an event.
    fn value(
        &mut self,
        event: Event<'a>,
        span: Span,
        path: &str,
        depth: usize,
    ) -> Result<Value, Malformed> {
        // The path is kept twice, for the value and for its key.
        self.take(VALUE_BYTES + 2 * path.len(), span)?;
        if depth > MOST_DEPTH {
            return Err(malformed(span, "nested too deeply"));
        }
        self.positions.entry(path.to_owned()).or_insert(position(span));
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.take(text.len(), span)?;
                let scalar = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref());
                let words = "the value does not fit its tag";
                (anchor, json(scalar.ok_or_else(|| malformed(span, words))?))
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(path, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(path, depth)?),
            Event::Alias(anchor) => {
                let size = self.anchors.get(&anchor).map(size);
                let size = size.ok_or_else(|| malformed(span, "alias without an anchor"))?;
                self.take(size, span)?;
                return Ok(self.anchors[&anchor].clone());
            }
            _ => return Err(malformed(span, "expected a value, found the end")),
        };
        if anchor > 0 {
            self.take(size(&value), span)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn take(&mut self, bytes: usize, span: Span) -> Result<(), Malformed> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| malformed(span, "too large, aliases followed"))?;
        Ok(())
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => {
                    let path = format!("{path}[{}]", items.len());
                    items.push(self.value(event, span, &path, depth + 1)?);
                }
            }
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Value, Malformed> {
        let mut entries = Map::new();
        loop {
            let (key, key_span) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Object(entries)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), span),
                (_, span) => return Err(malformed(span, "a key must be a word")),
            };
            if entries.contains_key(&key) {
                return Err(malformed(key_span, &format!("duplicate key {key:?}")));
            }
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (event, span) = self.next()?;
            let value = self.value(event, span, &path, depth + 1)?;
            // An unknown key is pointed at itself; a value that is not a scalar begins at its key.
            if value.is_object() || value.is_array() || value.is_null() {
                self.positions.insert(path.clone(), position(key_span));
            }
            self.positions.insert(key_of(&path), position(key_span));
            entries.insert(key, value);
        }
    }
}

/// Map key for the position of a key, beside that of its value.
fn key_of(path: &str) -> String {
    format!("{path}\0key")
}

/// Size of a copy of a value, in bytes.
fn size(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(entries) => {
                entries.iter().map(|(key, value)| key.len() + size(value)).sum()
            }
            _ => 0,
        }
}

fn json(scalar: Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(value),
        Scalar::Integer(value) => Value::Number(value.into()),
        Scalar::FloatingPoint(value) => {
            Number::from_f64(value.into_inner()).map_or(Value::Null, Value::Number)
        }
        Scalar::String(text) => Value::String(text.into_owned()),
    }
}

fn position(span: Span) -> Position {
    (span.start.line(), span.start.col() + 1)
}

fn malformed(span: Span, reason: &str) -> Malformed {
    Malformed { at: Some(position(span)), reason: reason.to_owned() }
}

fn scan_error(error: &ScanError) -> Malformed {
    let marker = error.marker();
    Malformed { at: Some((marker.line(), marker.col() + 1)), reason: error.info().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_too_large(text: &str) -> bool {
        read(text).is_err_and(|problem| problem.reason.contains("too large"))
    }

    #[test]
    fn few_bytes_cannot_become_many() {
        let long = "x".repeat(200_000);
        let aliases = "- *a\n".repeat(10_000);
        assert!(is_too_large(&format!("a: &a {long}\nb:\n{aliases}")), "a long text, many aliases");
        let items = "1,".repeat(10_000);
        assert!(is_too_large(&format!("? {long}\n: [{items}]")), "a long path, many values");
        let mut doubling = "a0: &a0 [x, x]\n".to_owned();
        for n in 1..40 {
            doubling.push_str(&format!("a{n}: &a{n} [*a{m}, *a{m}]\n", m = n - 1));
        }
        assert!(is_too_large(&doubling), "aliases of aliases");
        assert!(read(&format!("a: [{}]", "1,".repeat(100_000))).is_ok(), "many small values");
    }
}
