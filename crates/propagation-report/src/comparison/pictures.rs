//! The pictures of a comparison: bars with intervals, latency curves, timelines of deaths.

use maud::{Markup, html};
use propagation_model::comparison::{
    Comparison, Gave, Measure, Metric, Span, Transport, TransportResult,
};

use super::figures::{interval, metrics, number, power, time};

const LABELS: f64 = 150.0;
const PLOT: f64 = 620.0;
const VALUES: f64 = 230.0;
const ROW: f64 = 24.0;
const BAR: f64 = 13.0;

/// A bar for each transport and metric, with the range of the rounds, and the ratio to native beside it.
pub(super) fn bars(comparison: &Comparison) -> Markup {
    html! {
        @for metric in metrics(comparison) {
            @let rows: Vec<(&TransportResult, &Measure)> = comparison
                .measured()
                .filter_map(|one| Some((one, one.measure(metric)?)))
                .collect();
            @let top = rows.iter().filter_map(|(_, measure)| Some(measure.range?.1)).fold(0.0, f64::max);
            @let height = ROW * rows.len() as f64 + 4.0;
            h3 { (metric.title()) ", " (metric.unit())
                span class="note" { @if metric.more_is_better() { " (more is better)" } @else { " (less is better)" } } }
            div class="scroll" tabindex="0" role="region" aria-label=(metric.title()) {
                svg class="bars" viewBox=(format!("0 0 {} {height}", LABELS + PLOT + VALUES)) width=(LABELS + PLOT + VALUES)
                    height=(height) role="img" aria-label={ (metric.title()) " by transport" } {
                    desc { "The same is in the table above." }
                    @for (index, (one, measure)) in rows.iter().enumerate() {
                        (bar(one.transport, measure, top, ROW * index as f64))
                    }
                }
            }
        }
    }
}

fn bar(transport: Transport, measure: &Measure, top: f64, y: f64) -> Markup {
    let scale = |value: f64| value / top.max(f64::MIN_POSITIVE) * PLOT;
    let middle = y + ROW / 2.0;
    html! {
        text class="name" x="0" y=(px(middle + 4.0)) { (transport) }
        @if let (Some(median), Some((low, high))) = (measure.median, measure.range) {
            rect class=(class(transport)) x=(px(LABELS)) y=(px(middle - BAR / 2.0)) width=(px(scale(median).max(1.5))) height=(px(BAR)) rx="2" {}
            path class="whisker" d=(format!(
                "M{low} {middle}H{high}M{low} {up}V{down}M{high} {up}V{down}",
                low = px(LABELS + scale(low)), high = px(LABELS + scale(high)), middle = px(middle),
                up = px(middle - 4.0), down = px(middle + 4.0),
            )) {}
            text class="value" x=(px(LABELS + PLOT + 8.0)) y=(px(middle + 4.0)) {
                (number(median))
                @if let Some(ratio) = &measure.against_native { "  ×" (interval(ratio)) }
            }
        } @else {
            text class="value" x=(px(LABELS)) y=(px(middle + 4.0)) { (super::figures::median(Some(measure))) }
        }
    }
}

/// For each metric of single operations: which share of them took how long at the most.
pub(super) fn curves(comparison: &Comparison) -> Markup {
    const HEIGHT: f64 = 210.0;
    const FOOT: f64 = 26.0;
    let of_operations = [Metric::Seek, Metric::Open, Metric::SmallFile, Metric::ManyRead];
    let shown = metrics(comparison).into_iter().filter(|metric| of_operations.contains(metric));
    html! {
        @for metric in shown {
            @let curves: Vec<(Transport, &Measure)> = comparison.measured()
                .filter_map(|one| Some((one.transport, one.measure(metric)?)))
                .filter(|(_, measure)| !measure.latencies.is_empty())
                .collect();
            @let values = || curves.iter().flat_map(|(_, m)| m.latencies.iter().map(|(value, _)| *value as f64));
            @let low = values().fold(f64::INFINITY, f64::min).max(1.0).log10().floor();
            @let high = values().fold(0.0, f64::max).max(10.0).log10().ceil().max(low + 1.0);
            @let at = |ns: f64| LABELS + (ns.max(1.0).log10() - low) / (high - low) * PLOT;
            h3 { (metric.title()) }
            div class="scroll" tabindex="0" role="region" aria-label={ "latencies of " (metric.title()) } {
                svg class="curves" viewBox=(format!("0 0 {} {}", LABELS + PLOT + VALUES, HEIGHT + FOOT))
                    width=(LABELS + PLOT + VALUES) height=(HEIGHT + FOOT) role="img" aria-label={ "latencies of " (metric.title()) } {
                    @for decade in (low as i32)..=(high as i32) {
                        @let x = at(10_f64.powi(decade));
                        path class="grid" d=(format!("M{x:.1} 0V{HEIGHT}")) {}
                        text class="tick" x=(px(x)) y=(px(HEIGHT + 16.0)) text-anchor="middle" { (power(decade)) }
                    }
                    @for (share, name) in [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
                        @let y = height_of(share) * HEIGHT;
                        path class="grid" d=(format!("M{LABELS} {y:.1}H{}", LABELS + PLOT)) {}
                        text class="tick" x=(px(LABELS - 8.0)) y=(px(y + 4.0)) text-anchor="end" { (name) }
                    }
                    @for (transport, measure) in &curves {
                        path class={ "curve " (class(*transport)) } d=(curve(measure, at, HEIGHT)) {
                            title { (transport) }
                        }
                    }
                }
            }
        }
        ul class="legend" {
            @for one in comparison.measured() {
                li {
                    svg class="curves key" width="26" height="12" aria-hidden="true" {
                        path class={ "curve " (class(one.transport)) } d="M1 6H25" {}
                    }
                    " " (one.transport)
                }
            }
        }
    }
}

/// Where a share lies, 1 at the foot: the rare and long ones have as much room as the many.
fn height_of(share: f64) -> f64 {
    1.0 - (-(1.0 - share.min(0.9995)).log10() / 3.35).clamp(0.0, 1.0)
}

fn curve(measure: &Measure, at: impl Fn(f64) -> f64, height: f64) -> String {
    let all: u64 = measure.latencies.iter().map(|(_, count)| count).sum();
    let (mut seen, mut path) = (0, String::new());
    for (value, count) in &measure.latencies {
        let x = at(*value as f64);
        let before = height_of(seen as f64 / all as f64) * height;
        seen += count;
        let after = height_of(seen as f64 / all as f64) * height;
        let word = if path.is_empty() { 'M' } else { 'L' };
        path.push_str(&format!("{word}{x:.1} {before:.1}L{x:.1} {after:.1}"));
    }
    path
}

/// What accesses gave while the server was dead, one transport under another on one axis.
pub(super) fn deaths(comparison: &Comparison) -> Option<Markup> {
    let deaths: Vec<_> = comparison
        .measured()
        .filter_map(|one| Some((one.transport, one.death.as_ref()?)))
        .collect();
    let spans = || deaths.iter().flat_map(|(_, death)| death.fresh.iter().chain(&death.held));
    let from = spans().map(|span| span.from_ms).fold(0.0, f64::min);
    let until = spans().map(|span| span.until_ms).fold(0.0, f64::max);
    if until <= from {
        return None;
    }
    let at = |ms: f64| LABELS + (ms - from) / (until - from) * (PLOT + VALUES - 10.0);
    let bottom = 22.0 + deaths.len() as f64 * 2.0 * ROW;
    Some(html! {
        div class="scroll" tabindex="0" role="region" aria-label="what the death of servers did" {
            svg class="deaths" viewBox=(format!("0 0 {} {}", LABELS + PLOT + VALUES, bottom + 22.0))
                width=(LABELS + PLOT + VALUES) height=(bottom + 22.0) role="img" aria-label="accesses against time" {
                desc { "The same is said in the sentences below." }
                defs {
                    pattern id="d-error" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        rect class="ground" width="7" height="7" {}
                        rect class="texture" width="3" height="7" {}
                    }
                }
                @for (index, (transport, death)) in deaths.iter().enumerate() {
                    @let y = 22.0 + index as f64 * 2.0 * ROW;
                    text class="name" x="0" y=(px(y + 16.0)) { (transport) }
                    text class="tick" x="12" y=(px(y + ROW + 12.0)) { "open before" }
                    (row(&death.fresh, y + 4.0, at))
                    (row(&death.held, y + ROW, at))
                    @if let Some(back) = death.back_ms {
                        path class="back" d=(format!("M{x} {top}V{end}", x = px(at(back)), top = px(y), end = px(y + 2.0 * ROW - 4.0))) {
                            title { "its server is back after " (time(back)) }
                        }
                    }
                }
                path class="kill" d=(format!("M{x} 14V{}", px(bottom), x = px(at(0.0)))) {}
                text class="tick" x=(px(at(0.0))) y="11" text-anchor="middle" { "killed" }
                text class="tick" x=(px(LABELS + PLOT + VALUES - 10.0)) y=(px(bottom + 16.0)) text-anchor="end" { (time(until)) }
                text class="tick" x=(px(LABELS)) y=(px(bottom + 16.0)) { (time(from).replace('-', "−")) }
            }
        }
        ul class="legend" {
            @for (gave, words) in [("ok", "ok"), ("slow", "slow: more than 100 ms"), ("error", "an error"), ("hang", "no answer")] {
                li {
                    svg class="deaths key" width="26" height="14" aria-hidden="true" { rect class={ "gave " (gave) } x="1" y="1" width="24" height="12" {} }
                    " " (words)
                }
            }
            li { "dashed: the server is back" }
        }
    })
}

fn row(spans: &[Span], y: f64, at: impl Fn(f64) -> f64) -> Markup {
    let gave = |span: &Span| match span.gave {
        Gave::Ok => "ok",
        Gave::Slow => "slow",
        Gave::Hang => "hang",
        Gave::Errno(_) => "error",
    };
    html! {
        @for span in spans {
            @let (left, right) = (at(span.from_ms), at(span.until_ms));
            rect class={ "gave " (gave(span)) } x=(px(left)) y=(px(y)) width=(px((right - left).max(1.5))) height="14" {
                title { (crate::words::short(&span.gave.to_string())) ", " (span.operations) " accesses, " (time(span.from_ms)) " to " (time(span.until_ms)) }
            }
        }
    }
}

fn class(transport: Transport) -> &'static str {
    match transport {
        Transport::Native => "t-native",
        Transport::Fuse => "t-fuse",
        Transport::FusePassthrough => "t-pass",
        Transport::Daemon => "t-daemon",
        Transport::SmbRclone => "t-smb1",
        Transport::SmbSmbnetfs => "t-smb2",
        Transport::SmbCifs => "t-smb3",
        Transport::Nfs => "t-nfs",
        Transport::FuseSmbRclone => "t-re1",
        Transport::FuseSmbCifs => "t-re2",
        Transport::FuseNfs => "t-re3",
    }
}

/// A length, to a tenth of a pixel.
fn px(value: f64) -> String {
    format!("{:.1}", value.max(0.0))
}
