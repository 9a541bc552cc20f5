//! What cannot be read.

use thiserror::Error;

use super::escape::write_path;

/// A value in mountinfo notation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {expected}, found {}", quoted(found))]
pub struct FieldError {
    /// The expected value.
    pub expected: &'static str,
    /// The beginning of the value that was found; empty when there was none.
    pub found: String,
}

impl FieldError {
    /// Longer values are cut in messages: a field can be as long as the file.
    const FOUND_BYTES: usize = 80;

    pub(super) fn new(expected: &'static str, found: &[u8]) -> Self {
        let shown = &found[..found.len().min(Self::FOUND_BYTES)];
        let mut found = String::new();
        // Writing to a string does not fail.
        let _ = write_path(&mut found, shown);
        Self { expected, found }
    }
}

/// A line of mountinfo that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("mountinfo line {line}, {field}: expected {expected}, found {}", quoted(found))]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The name of the field.
    pub field: &'static str,
    /// The expected value.
    pub expected: &'static str,
    /// The beginning of the value that was found; empty when there was none.
    pub found: String,
}

fn quoted(found: &str) -> String {
    if found.is_empty() { "nothing".to_owned() } else { format!("\"{found}\"") }
}
