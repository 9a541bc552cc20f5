//! The mount graph of every capture, and what changed between them.

use maud::{Markup, html};

use super::{block, shown};
use crate::graph::{self, Picture};
use crate::words::duration;
use propagation_model::report::{Capture, Report};

/// One drawing for each capture; the most telling one is unfolded.
pub(super) fn section(report: &Report) -> Option<Markup> {
    let telling = graph::telling(report)?;
    let captures = &report.captures;
    Some(html! {
        p class="note" {
            "For every actor only the mounts on the way to the FUSE mount are drawn, bottom to top. "
            "A double arrow joins peers, a single one leads from a master to its slave; a dashed red "
            "line with ✗ is a link that is missing. Actors that are alike share a card."
        }
        @for (index, capture) in captures.iter().enumerate() {
            @let before = index.checked_sub(1).map(|before| &captures[before]);
            (one_capture(report, before, capture, std::ptr::eq(capture, telling)))
        }
    })
}

fn one_capture(report: &Report, before: Option<&Capture>, now: &Capture, open: bool) -> Markup {
    let picture = Picture::of(report, now);
    let label = format!("mount graph at the end of {}", now.step);
    let changes = before.map(|before| graph::changes(before, now)).unwrap_or_default();
    let broken = picture.is_broken();
    html! {
        details open[open] {
            summary {
                "After " strong { (shown(&now.step)) } ", at " (duration(now.at_us as f64 / 1e3))
                @if broken { " " span class="badge failed" { "✗ broken link" } }
            }
            div class="inside" {
                div class="scroll" tabindex="0" role="region" aria-label=(shown(&label)) {
                    (graph::svg::inline(&picture, &label))
                }
                details {
                    summary { "As text" }
                    (block(&picture.to_string().lines().map(str::to_owned).collect::<Vec<_>>()))
                }
                @if !changes.is_empty() {
                    details {
                        summary { "What changed since the capture before: " (changes.len()) " lines" }
                        (block(&changes))
                    }
                }
            }
        }
    }
}
