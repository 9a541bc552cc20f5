//! The phases with their checks, and the evidence to unfold.

use maud::{Markup, html};

use super::{badge, block, shown};
use crate::words::{MOST_LINES, duration};
use propagation_model::report::{Check, PhaseReport, Report, Status};

/// All phases. Failed phases and failed checks are unfolded.
pub(super) fn section(report: &Report) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="overview of the phases" {
            table {
                caption { "Overview" }
                thead {
                    tr {
                        th scope="col" { "Phase" } th scope="col" { "Result" }
                        th scope="col" { "Took" } th scope="col" { "Checks" }
                    }
                }
                tbody {
                    @for (number, phase) in report.phases.iter().enumerate() {
                        tr {
                            th scope="row" { (number + 1) " " (shown(&phase.id)) }
                            td { (badge(phase.status)) }
                            td { (duration(phase.duration_ms)) }
                            td { (counts(phase)) }
                        }
                    }
                }
            }
        }
        @for (number, phase) in report.phases.iter().enumerate() { (one_phase(number + 1, phase)) }
    }
}

fn counts(phase: &PhaseReport) -> String {
    let count = |status| phase.checks.iter().filter(|check| check.status == status).count();
    let all = [Status::Passed, Status::Failed, Status::Skipped, Status::Errored];
    let words = all.into_iter().map(|status| (count(status), status)).filter(|(n, _)| *n > 0);
    let words: Vec<String> = words.map(|(n, status)| format!("{n} {}", status.as_str())).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn one_phase(number: usize, phase: &PhaseReport) -> Markup {
    let (shown_checks, left_out) = crate::words::first_lines(&phase.checks);
    html! {
        h3 { "Phase " (number) " " (shown(&phase.id)) " " (badge(phase.status)) }
        @if let Some(reason) = &phase.reason { p { (shown(reason)) } }
        @for check in shown_checks { (one_check(check)) }
        @if left_out > 0 {
            p class="note" { (left_out) " more checks than the first " (MOST_LINES) " are in report.json." }
        }
    }
}

fn one_check(check: &Check) -> Markup {
    let head = html! {
        (badge(check.status)) " " code { (shown(&check.id.to_string())) } " "
        span class="observed" { (shown(&check.observed)) }
    };
    html! {
        details class={ "check " (check.status.as_str()) } open[check.status == Status::Failed] {
            summary { (head) }
            div class="inside" {
                dl class="pairs" {
                    dt { "Expected" } dd { (shown(&check.expected)) }
                    dt { "Observed" } dd { (shown(&check.observed)) }
                }
                @if check.evidence.is_empty() { p class="note" { "No further evidence." } }
                @else { (block(&check.evidence)) }
            }
        }
    }
}
