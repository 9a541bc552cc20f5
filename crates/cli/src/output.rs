//! Results on standard output.

use std::io::{self, IsTerminal, Write};

use propagation_core::{Error, ErrorKind};
use propagation_report::text::{Colour, Detail, Style};
use serde::Serialize;

/// Writes text and its end of line.
pub(crate) fn text(text: &str) -> Result<(), Error> {
    let mut line = text.trim_end().to_owned();
    line.push('\n');
    bytes(line.as_bytes())
}

/// Writes indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Error> {
    let written = serde_json::to_string_pretty(value).map_err(|error| {
        Error::from_source(ErrorKind::Internal, "write the result as JSON", error)
    })?;
    text(&written)
}

/// Writes bytes. A reader that has gone (`| head`) is not an error.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::from_source(ErrorKind::Environment, "write the result", error)
                .with_fix("free space where standard output goes, or write elsewhere"))
        }
        _ => Ok(()),
    }
}

/// Colour on a terminal, unless `NO_COLOR` is set or the terminal is dumb.
pub(crate) fn colour(stream: &impl IsTerminal) -> Colour {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if stream.is_terminal() && !forbidden { Colour::Ansi } else { Colour::Plain }
}

/// Columns of a terminal; none where the stream is not one.
#[cfg(unix)]
pub(crate) fn width(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stream)?;
    stream.is_terminal().then_some(usize::from(width.0))
}

/// Columns of a terminal; none where the stream is not one.
#[cfg(not(unix))]
pub(crate) fn width(stream: &impl IsTerminal) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size()?;
    stream.is_terminal().then_some(usize::from(width.0))
}

/// How a report is shown on standard output.
pub(crate) fn style(detail: Detail) -> Style {
    let stdout = io::stdout();
    Style { colour: colour(&stdout), detail, width: width(&stdout) }
}
