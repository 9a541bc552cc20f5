//! A comparison as one HTML file, as reports are.

use maud::{Markup, html};
use propagation_model::comparison::{Comparison, Metric};

use super::figures::{cpu, median, metrics, mib, sign, time, trouble};
use super::{Answer, pictures};
use crate::html::page_with;
use crate::words::{duration, short};

const STYLE: &str = include_str!("style.css");

/// The whole comparison as an HTML file.
pub fn render(comparison: &Comparison) -> String {
    let answer = Answer::of(comparison);
    let sections: Vec<(&str, &str, Markup)> = vec![
        ("answer", "The answer", answered(&answer)),
        ("table", "Medians", table(comparison)),
        ("bars", "Side by side", pictures::bars(comparison)),
        ("curves", "How long single operations take", pictures::curves(comparison)),
        ("die", "When the server dies", died(comparison, &answer)),
        ("cost", "What it costs", costs(comparison)),
        ("how", "How each was made", made(comparison)),
    ];
    let body = html! {
        header class="banner index" {
            p class="question" { "Which transport between containers is faster, what does it cost, what happens when its server dies?" }
            h1 { "Transports between containers" }
            @if let Some(line) = answer.speed.first() { p class="cause" { (short(line)) } }
            (facts(comparison))
        }
        nav aria-label="sections" { ul {
            @for (id, title, _) in &sections { li { a href={ "#" (id) } { (title) } } }
        } }
        main id="content" tabindex="-1" {
            @for (id, title, content) in &sections {
                section id=(id) aria-labelledby={ "h-" (id) } { h2 id={ "h-" (id) } { (title) } (content) }
            }
        }
        footer { p { "Written by propagation " (short(&comparison.tool_version)) ", run " (short(&comparison.run_id)) "." } }
    };
    page_with("Transports between containers", STYLE, body)
}

fn facts(comparison: &Comparison) -> Markup {
    let (machine, data) = (&comparison.machine, &comparison.data_set);
    html! {
        dl class="facts" {
            div { dt { "Kernel" } dd { "Linux " (short(&machine.kernel_release)) } }
            div { dt { "Processors" } dd { (machine.processors) } }
            div { dt { "Containers by" } dd { (short(&machine.engine)) } }
            div { dt { "Rounds" } dd { (comparison.rounds) @if comparison.cut_short { ", cut short" } } }
            div { dt { "Seed" } dd { (comparison.seed) } }
            div { dt { "Took" } dd { (duration(comparison.duration_ms)) } }
            div { dt { "Data" } dd { (mib(data.media_bytes)) ", " (data.entries) " files of " (data.entry_bytes) " bytes" } }
        }
        p class="note" { "The data lie in " (short(&data.medium)) ". Cold: " (short(&comparison.cold)) "." }
    }
}

fn answered(answer: &Answer) -> Markup {
    let lists = [
        ("Faster by how much for what", &answer.speed),
        ("What fails how", &answer.death),
        ("What it costs", &answer.cost),
        ("What one would give up", &answer.trade),
    ];
    html! {
        @for (title, lines) in lists {
            @if !lines.is_empty() {
                h3 { (title) }
                ul { @for line in lines { li { (short(line)) } } }
            }
        }
        p class="note" { (short(&answer.noise)) }
    }
}

fn table(comparison: &Comparison) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="medians" {
            table {
                caption {
                    "Medians over rounds. Against native: + better, − worse, = no difference shown. "
                    @if let Some(words) = super::figures::too_few(comparison) { (words) }
                }
                thead { tr {
                    th scope="col" { "What" }
                    @for one in comparison.measured() { th scope="col" class="number" { (one.transport) } }
                } }
                tbody {
                    @for metric in metrics(comparison) {
                        tr {
                            th scope="row" { (metric.title()) ", " (metric.unit()) }
                            @for one in comparison.measured() {
                                @let measure = one.measure(metric);
                                td class="number" {
                                    (median(measure)) " "
                                    (sign(measure.and_then(|measure| measure.against_native.as_ref())))
                                }
                            }
                        }
                    }
                }
            }
        }
        @if comparison.transports.iter().any(|one| one.skipped.is_some()) {
            ul {
                @for one in &comparison.transports {
                    @if let Some(skip) = &one.skipped {
                        li {
                            strong { (one.transport) } " was left out: " (short(&skip.reason))
                            @if let Some(fix) = &skip.fix { " (" (short(fix)) ")" }
                        }
                    }
                }
            }
        }
    }
}

fn died(comparison: &Comparison, answer: &Answer) -> Markup {
    match pictures::deaths(comparison) {
        None => html! { p { "No server was killed." } },
        Some(picture) => html! {
            (picture)
            (ends(comparison))
            ul { @for line in &answer.death { li { (short(line)) } } }
        },
    }
}

/// How each transport ends, a row for each.
fn ends(comparison: &Comparison) -> Markup {
    let [_, titles @ ..] = super::ends::TITLES;
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="how transports end" {
            table {
                caption { "A stale mount says ENOTCONN, ECONNABORTED or ESTALE; an access hangs that takes a second or more." }
                thead { tr {
                    th scope="col" { "Transport" }
                    @for title in titles { th scope="col" { (title) } }
                } }
                tbody {
                    @for [transport, cells @ ..] in super::ends::rows(comparison) {
                        tr {
                            th scope="row" { (transport) }
                            @for cell in cells { td { (short(&cell)) } }
                        }
                    }
                }
            }
        }
    }
}

fn costs(comparison: &Comparison) -> Markup {
    let shown: Vec<Metric> = metrics(comparison);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="processor time" {
            table {
                caption { "Processor time of the measuring client and of the transport's own programs, switches between processes, and the most memory of these programs." }
                thead { tr {
                    th scope="col" { "What" } th scope="col" { "Transport" } th scope="col" { "For" }
                    th scope="col" { "Client" } th scope="col" { "Its programs" } th scope="col" { "Of that in the kernel" }
                    th scope="col" { "Switches" } th scope="col" { "Memory" }
                } }
                tbody {
                    @for metric in shown {
                        @for one in comparison.measured() {
                            @if let Some(measure) = one.measure(metric) {
                                @if let Some((client, server, unit)) = cpu(measure) {
                                    tr {
                                        th scope="row" { (metric.title()) }
                                        td { (one.transport) } td { (unit) }
                                        td class="number" { (time(client)) } td class="number" { (time(server)) }
                                        td class="number" { (time(measure.server.kernel_ms)) " of " (time(measure.server.cpu_ms)) }
                                        td class="number" { (measure.client.switches + measure.server.switches) }
                                        td class="number" { (mib(measure.server.peak_bytes)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn made(comparison: &Comparison) -> Markup {
    html! {
        @for one in comparison.measured() {
            h3 { (one.transport) }
            @if let Some(ready) = one.ready_ms { p class="note" { "Ready after " (time(ready)) "." } }
            pre tabindex="0" { @for how in &one.how { (short(how)) "\n" } }
            @let trouble = trouble(&one.measures);
            @if !trouble.is_empty() { ul { @for line in trouble { li { (short(&line)) } } } }
        }
    }
}
