//! Progress on standard error: one line for each phase; on a terminal a bar below them.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use propagation_core::Event;
use propagation_report::text::{Colour, one_line, sign};

use crate::log::Log;
use crate::output;

/// Shows and logs the events of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    colour: Colour,
    log: Arc<Log>,
    /// Whether nothing is shown.
    quiet: bool,
    /// Before every line: which of many runs it is.
    prefix: String,
    /// Whether the node is one whose phases take long enough to be announced.
    takes_long: AtomicBool,
}

/// The backend whose phases are over at once.
const LOCAL: &str = "local";

impl Progress {
    /// Begins; the bar is drawn on a terminal only.
    pub(crate) fn new(log: Arc<Log>, phases: u64) -> Self {
        let bar = ProgressBar::new(phases);
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self {
            bar,
            colour: output::colour(&io::stderr()),
            log,
            quiet: false,
            prefix: String::new(),
            takes_long: AtomicBool::default(),
        }
    }

    /// Only logs: for one of many runs.
    pub(crate) fn quiet(log: Arc<Log>) -> Self {
        let bar = ProgressBar::hidden();
        let (colour, prefix, takes_long) = (Colour::Plain, String::new(), AtomicBool::default());
        Self { bar, colour, log, quiet: true, prefix, takes_long }
    }

    /// One of many runs at a time: lines without a bar, each with the node's name.
    pub(crate) fn of_many(log: Arc<Log>, node: &str) -> Self {
        let (bar, colour) = (ProgressBar::hidden(), output::colour(&io::stderr()));
        let prefix = format!("{}: ", one_line(node));
        Self { bar, colour, log, quiet: false, prefix, takes_long: AtomicBool::default() }
    }

    /// Takes one event.
    pub(crate) fn take(&self, event: &Event<'_>) {
        match event {
            Event::NodeReady { backend, node } => {
                self.takes_long.store(*backend != LOCAL, Ordering::Relaxed);
                self.note(&format!("{backend} node {node} is ready"))
            }
            Event::PhaseStarted { phase } => {
                self.bar.set_message(one_line(phase).into_owned());
                self.log.line(&format!("phase {phase} started"));
                // A phase on a cluster takes seconds.
                if self.bar.is_hidden() && self.takes_long.load(Ordering::Relaxed) {
                    self.show(&format!("phase {}", one_line(phase)));
                }
            }
            Event::Checked { phase, check } => {
                let status = check.status.as_str();
                self.log.line(&format!("{phase} {} {status}: {}", check.id, check.observed));
                for line in &check.evidence {
                    self.log.line(&format!("{phase} {} evidence: {line}", check.id));
                }
            }
            Event::Observed(observation) => {
                self.log.line(&format!("saw {observation}"));
            }
            Event::PhaseEnded(phase) => {
                let status = phase.status.as_str();
                self.bar.inc(1);
                self.log.line(&format!("phase {} {status}", phase.id));
                let mark = self.colour.paint(phase.status, sign(phase.status));
                let name = one_line(&phase.id);
                // On a terminal the bar has shown it, and the report follows.
                if self.bar.is_hidden() {
                    self.show(&format!("{mark} {name} {status} ({:.1} ms)", phase.duration_ms));
                }
            }
            Event::Decided(report) => {
                let verdict = &report.verdict;
                let outcome = verdict.outcome().as_str();
                let words = format!("verdict {outcome}: {}", verdict.summary());
                self.log.line(&words);
                // Cleaning up a cluster takes longer than the run did. On a terminal the report follows.
                if self.bar.is_hidden() {
                    self.show(&one_line(&words));
                }
                self.bar.set_message(format!("{outcome}; cleaning up"));
            }
            Event::Cleaned(cleanup) => {
                let lines = cleanup.undone.iter().chain(&cleanup.kept).chain(&cleanup.could_not);
                lines.for_each(|line| self.log.line(&format!("cleanup: {line}")));
            }
            _ => {}
        }
    }

    fn note(&self, text: &str) {
        self.log.line(text);
        self.show(&one_line(text));
    }

    fn show(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.bar.is_hidden() {
            say(&format!("{}{line}", self.prefix));
        } else {
            self.bar.println(format!("{}{line}", self.prefix));
        }
    }

    /// Writes to standard output, beside the bar.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes the bar away and says where the log is.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        if let Some(path) = self.log.path().filter(|_| !self.quiet) {
            say(&format!("{}log: {}", self.prefix, one_line(&path.display().to_string())));
        }
    }
}

/// A line on standard error. Without a reader the run goes on.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
