//! Forwards log records of the core and the backends to Python's `logging`.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::event::{Item, LogRecord};
use crate::job::Feed;

/// Puts what is logged in a thread into the feed of its job.
pub(crate) struct ToFeed {
    feed: Feed,
    least: u8,
}

impl ToFeed {
    /// From the level of `logging` that is the least wanted.
    pub(crate) fn new(feed: Feed, least: u8) -> Self {
        Self { feed, least }
    }
}

impl<S: Subscriber> Layer<S> for ToFeed {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = python_level(*metadata.level());
        if level < self.least {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let message = format!("{}{}", line.message, line.fields);
        let record = LogRecord { level, target: metadata.target().replace("::", "."), message };
        self.feed.push(Item::Log(record));
    }
}

/// The level of `logging` for one of `tracing`.
fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        _ => 5,
    }
}

/// A message and its fields as one line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
