//! The verdict, what to do, and why it came out so.

use maud::{Markup, html};

use super::{block, outcome_look, shown};
use crate::Decision;
use crate::reproduce;
use crate::time;
use crate::words::{beside, duration, fix_lines, resolved, untouched, where_it_ran};
use propagation_model::cause::{Cause, FixKind};
use propagation_model::report::Report;

/// The head of the page: the answer, and where it comes from.
pub(super) fn banner(report: &Report) -> Markup {
    let verdict = &report.verdict;
    let (class, sign, words) = outcome_look(verdict.outcome());
    let decision = Decision::of(report);
    html! {
        header class={ "banner " (class) } {
            p class="question" { "Can a FUSE mount made in one container be used from another?" }
            h1 {
                span class="verdict-sign" aria-hidden="true" { (sign) } " " (words)
                @if let Some(letter) = decision.as_ref().and_then(|decision| decision.letter) {
                    " " span class="letter" { "scenario " (letter) }
                }
            }
            p class="cause" { (shown(verdict.summary())) }
            (scenario(report))
            @if let Some(decision) = &decision {
                p class="decision" { strong { "Decision: " } (shown(&decision.decision)) }
            }
            dl class="facts" {
                (fact("Where", html! { (where_it_ran(report)) }))
                (fact("Started", html! { time { (shown(&to_the_second(&report.started_at))) } }))
                (fact("Took", html! { (duration(report.duration_ms)) }))
                (fact("Run", html! { code { (shown(&report.run_id)) } }))
            }
            (measured(report))
            @for words in resolved(report) { p class="untouched" { (shown(&words)) } }
            @if let Some(words) = untouched(report) { p class="untouched" { (words) } }
            @if let Some(words) = beside(report) { p class="untouched" { (shown(&words)) } }
        }
    }
}

/// Which scenario it was, where it has a name.
fn scenario(report: &Report) -> Markup {
    let plan = &report.plan;
    html! {
        @if let Some(name) = &plan.name {
            p class="scenario" {
                strong { "Scenario " (shown(name)) }
                @if let Some(title) = &plan.title { ": " (shown(title)) }
            }
            @for (what, words) in [("Source", &plan.source), ("Note", &plan.note)] {
                @if let Some(words) = words {
                    p class="scenario" { (what) ": " (shown(words)) }
                }
            }
        }
    }
}

/// A timestamp without the parts of its second; anything else as it is.
fn to_the_second(timestamp: &str) -> String {
    match timestamp.split_once('.') {
        Some((second, rest)) if rest.ends_with('Z') => format!("{second}Z"),
        _ => timestamp.to_owned(),
    }
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// With a capital at its beginning.
fn sentence(words: &str) -> String {
    let (first, rest) = words.split_at_checked(1).unwrap_or_default();
    format!("{}{rest}", first.to_uppercase())
}

fn measured(report: &Report) -> Markup {
    let measured = &report.measurements;
    let visible = measured.mount_to_visible_ms.iter().copied().reduce(f64::max);
    let visible = visible.map(|ms| ("mount to a consumer's own first read", ms));
    let times: Vec<_> = visible.into_iter().chain(time::measured(report)).collect();
    let intervention = measured.smallest_intervention;
    html! {
        @if intervention.is_some() || !times.is_empty() {
            dl class="facts measured" {
                @if let Some(never) = time::never(report) {
                    (fact(&sentence(time::BY_THEMSELVES), html! { (never) }))
                }
                @for (name, ms) in times { (fact(&sentence(name), html! { (duration(ms)) })) }
                @if let Some(intervention) = intervention {
                    (fact("Smallest intervention", html! { (intervention.to_string()) }))
                }
            }
        }
    }
}

/// Next steps, migration, liveness probe; nothing for a scenario.
pub(super) fn next_steps(report: &Report) -> Option<Markup> {
    let decision = Decision::of(report)?;
    Some(html! {
        ol class="steps" {
            @for step in &decision.next_steps { li { (shown(step)) } }
        }
        p { strong { "Migration: " } (decision.migration_timeline) }
        @if let Some(probe) = &decision.liveness_probe {
            h3 { "Liveness probe for consumers" }
            (block(&probe.lines().map(str::to_owned).collect::<Vec<_>>()))
        }
    })
}

/// The causes, the first one unfolded.
pub(super) fn causes(report: &Report) -> Option<Markup> {
    if report.diagnosis.is_empty() {
        return None;
    }
    Some(html! {
        ol class="causes" {
            @for (number, cause) in report.diagnosis.iter().enumerate() {
                li { (one_cause(report, cause, number == 0)) }
            }
        }
    })
}

fn one_cause(report: &Report, cause: &Cause, open: bool) -> Markup {
    let actors: Vec<String> = cause.actors.iter().map(ToString::to_string).collect();
    html! {
        details open[open] {
            summary {
                strong { (shown(&cause.title)) } " "
                span class="badge plain" { (shown(&cause.standing())) }
            }
            div class="inside" {
                @if !actors.is_empty() { p { "Concerns " (shown(&actors.join(", "))) "." } }
                @if !cause.evidence.is_empty() {
                    h3 { "What shows it" }
                    (block(&cause.evidence))
                }
                h3 { "What removes it" }
                p { (shown(&cause.fix.words)) }
                @if cause.fix.kind != FixKind::None {
                    (block(&fix_lines(&cause.fix)))
                }
                @let verify = reproduce::verify(report, cause);
                @if !verify.is_empty() {
                    h3 { "How to see that it has worked" }
                    (block(std::slice::from_ref(&verify)))
                }
                p class="note" {
                    code { (shown(cause.id.as_str())) }
                    @if !cause.source.is_empty() { " · " (shown(&cause.source)) }
                }
            }
        }
    }
}
