//! YAML as JSON values with the place of each in the text.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScanError, Span};
use serde_json::{Map, Number, Value};

/// The most values in a file, aliases followed: what a hostile file could make of few bytes.
const MOST_VALUES: usize = 100_000;

/// The deepest nesting.
const MOST_DEPTH: usize = 64;

/// A position: line and column, both from 1.
pub(super) type Position = (usize, usize);

/// A document, and where everything in it is written.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    positions: HashMap<String, Position>,
}

/// What is wrong with the text itself.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) at: Option<Position>,
    pub(super) reason: String,
}

impl Document {
    /// A value that was written nowhere.
    pub(super) fn from_value(value: Value) -> Self {
        Self { value, positions: HashMap::new() }
    }

    /// Where the key of a path is written.
    pub(super) fn position_of_key(&self, path: &str) -> Option<Position> {
        self.positions.get(&key_of(path)).copied().or_else(|| self.position(path))
    }

    /// Where the value at a path is written, or the nearest that contains it.
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

/// Reads the only document of a text.
pub(super) fn read(text: &str) -> Result<Document, Malformed> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        positions: HashMap::new(),
        anchors: HashMap::new(),
        left: MOST_VALUES,
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
                return Err(malformed(span, "a second document: a scenario is one document"));
            }
        }
    }
    let value = if value.is_null() { Value::Object(Map::new()) } else { value };
    if !value.is_object() {
        let reason = "a map of keys is needed here, such as `steps:`".into();
        return Err(Malformed { at: Some((1, 1)), reason });
    }
    Ok(Document { value, positions: reader.positions })
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    positions: HashMap<String, Position>,
    anchors: HashMap<usize, Value>,
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
        self.left = self.left.checked_sub(1).ok_or_else(|| malformed(span, "too many values"))?;
        if depth > MOST_DEPTH {
            return Err(malformed(span, "nested too deeply"));
        }
        self.positions.entry(path.to_owned()).or_insert(position(span));
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref());
                let words = "a value that does not fit its tag";
                (anchor, json(scalar.ok_or_else(|| malformed(span, words))?))
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(path, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(path, depth)?),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or_else(|| malformed(span, "an alias without its anchor"))?;
                self.left = self
                    .left
                    .checked_sub(count(&value))
                    .ok_or_else(|| malformed(span, "too many values, aliases followed"))?;
                return Ok(value);
            }
            _ => return Err(malformed(span, "the end where a value is needed")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
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
                (_, span) => return Err(malformed(span, "a key that is not a word")),
            };
            if entries.contains_key(&key) {
                return Err(malformed(key_span, &format!("the key {key:?} is there twice")));
            }
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (event, span) = self.next()?;
            let value = self.value(event, span, &path, depth + 1)?;
            // An unknown key is pointed at itself; a value that is no scalar begins at its key.
            if value.is_object() || value.is_array() || value.is_null() {
                self.positions.insert(path.clone(), position(key_span));
            }
            self.positions.insert(key_of(&path), position(key_span));
            entries.insert(key, value);
        }
    }
}

/// Under what the position of a key is kept, beside that of its value.
fn key_of(path: &str) -> String {
    format!("{path}\0key")
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(count).sum::<usize>(),
        _ => 1,
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
