//! The report as one HTML file: no script, nothing from the network, light and dark, for screen,
//! keyboard, screen reader and paper.
//!
//! Every text of the report goes through `shown`, and maud escapes the result, so a path or a log cannot
//! become markup.

mod advice;
mod details;
mod index;
mod mounts;
mod phases;
mod summary;
mod timeline;

use std::borrow::Cow;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(super) use details::rows as environment_rows;
pub use index::is_relative;
pub use index::{IndexEntry, index};

use crate::words::{first_lines, short};
use propagation_model::report::{Report, Status};
use propagation_model::verdict::{RunOutcome, ScenarioOutcome, VerdictOutcome};

const STYLE: &str = include_str!("style.css");
const GRAPH_STYLE: &str = include_str!("../graph/svg.css");

/// Nothing may be loaded or run; the style is in the page.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole report as an HTML file.
pub fn render(report: &Report) -> String {
    let sections = sections(report);
    let of = report.plan.name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    let outcome = report.verdict.outcome().as_str();
    let title = format!("{of}{outcome}: FUSE propagation on {}", report.node);
    let body = html! {
        (summary::banner(report))
        nav aria-label="sections" {
            ul {
                @for section in &sections {
                    li { a href={ "#" (section.id) } { (section.title) } }
                }
            }
        }
        main id="content" tabindex="-1" {
            @for section in &sections {
                section id=(section.id) aria-labelledby={ "h-" (section.id) } {
                    h2 id={ "h-" (section.id) } { (section.title) }
                    (section.content)
                }
            }
        }
        footer {
            p {
                "Written by propagation " (shown(&report.tool_version)) ". Everything that was recorded, "
                "uncut, is in " code { "report.json" } "."
            }
        }
    };
    page(&title, body).into_string()
}

/// One part of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    content: Markup,
}

fn sections(report: &Report) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut add = |id, title, content: Option<Markup>| {
        sections.extend(content.map(|content| Section { id, title, content }));
    };
    add("causes", "Why", summary::causes(report));
    add("experiments", "What was tried", advice::section(report));
    add("next", "What to do", summary::next_steps(report));
    add("timeline", "Who could read the mount when", timeline::section(report));
    add("mounts", "Mount graph", mounts::section(report));
    add("accounting", "Mounts and processes", details::accounting(report));
    add("phases", "Phases and checks", Some(phases::section(report)));
    add("logs", "Logs of the workloads", details::logs(report));
    add("environment", "Environment", details::environment(report));
    add("reproduce", "Do it again", Some(details::reproduce(report)));
    add("cleanup", "Clean-up", Some(details::cleanup(report)));
    sections
}

/// The file around a body.
fn page(title: &str, body: Markup) -> Markup {
    styled_page(title, GRAPH_STYLE, body)
}

/// The file around a body that has a style of its own beside that of reports.
pub(crate) fn page_with(title: &str, style: &str, body: Markup) -> String {
    styled_page(title, style, body).into_string()
}

fn styled_page(title: &str, style: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (shown(title)) }
                // Without it a browser asks the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body {
                a class="skip" href="#content" { "Skip to the content" }
                (body)
            }
        }
    }
}

/// A text of the report, fit to be shown.
fn shown(text: &str) -> Cow<'_, str> {
    short(text)
}

/// Lines in one block, the first of them when there are many.
fn block(lines: &[String]) -> Markup {
    let (first, left_out) = first_lines(lines);
    html! {
        // A block that scrolls sideways must be reachable by the keyboard.
        pre tabindex="0" {
            @for line in first { (shown(line)) "\n" }
            @if left_out > 0 { "… and " (left_out) " more lines in report.json\n" }
        }
    }
}

/// A status as a word with its sign.
fn badge(status: Status) -> Markup {
    html! {
        span class={ "badge " (status.as_str()) } {
            span aria-hidden="true" { (crate::text::sign(status)) } " " (status.as_str())
        }
    }
}

/// The class, the sign and the words of an outcome, as a heading has them.
fn outcome_look(outcome: RunOutcome) -> (&'static str, &'static str, &'static str) {
    match outcome {
        RunOutcome::Answer(outcome) => match outcome {
            VerdictOutcome::FullSuccess => ("full", "✓", "Full success"),
            VerdictOutcome::PartialSuccess => ("partial", "!", "Partial success"),
            VerdictOutcome::FundamentalFailure => ("failure", "✗", "Fundamental failure"),
            VerdictOutcome::Inconclusive => ("open", "?", "Inconclusive"),
        },
        RunOutcome::Scenario(outcome) => match outcome {
            ScenarioOutcome::AsExpected => ("full", "✓", "As expected"),
            ScenarioOutcome::Otherwise => ("failure", "✗", "Otherwise than expected"),
            ScenarioOutcome::Skipped => ("open", "-", "Skipped"),
            ScenarioOutcome::Inconclusive => ("open", "?", "Inconclusive"),
        },
    }
}
