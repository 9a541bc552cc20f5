//! The timeline: a row for each actor with its states over time, and the acts between.

use maud::{Markup, html};

use super::shown;
use crate::timeline::{Mark, MarkKind, Row, Span, State, Timeline};
use crate::words::duration;
use propagation_model::report::Report;

const LABELS: u32 = 236;
const PLOT: u32 = 864;
const TOP: u32 = 70;
const ROW: u32 = 34;
const BAR: u32 = 22;
const LANE: u32 = 17;
/// How wide one character of a label in a bar is, at the most.
const CHARACTER: f64 = 7.2;

/// The drawing, its legend, and the same as a table.
pub(super) fn section(report: &Report) -> Option<Markup> {
    let timeline = Timeline::of(report);
    if timeline.rows.is_empty() {
        return None;
    }
    Some(html! {
        div class="scroll" tabindex="0" role="region" aria-label="timeline" { (drawing(&timeline)) }
        (legend(&timeline))
        p class="note" {
            "Stretches in which nothing happens are drawn shorter than they are. A bar fades where "
            "nobody looked between two different observations."
            @if timeline.rows_left_out > 0 {
                " " (timeline.rows_left_out) " more rows are left out."
            }
        }
        (marks(&timeline))
        details {
            summary { "The timeline as a table" }
            (table(&timeline))
        }
    })
}

/// Where a time is, in pixels.
struct Axis {
    stops: Vec<(u64, f64)>,
}

impl Axis {
    /// Every moment at which something happens gets some room, and the time between two of them
    /// room by its logarithm: microseconds and seconds are both readable.
    fn of(timeline: &Timeline) -> Self {
        let mut moments: Vec<u64> = vec![0, timeline.end_us];
        moments.extend(timeline.marks.iter().map(|mark| mark.at_us));
        moments.extend(timeline.phases.iter().map(|(_, at_us)| *at_us));
        moments.extend(timeline.rows.iter().flat_map(|row| row.spans.iter().map(|s| s.from_us)));
        moments.retain(|at_us| *at_us <= timeline.end_us);
        moments.sort_unstable();
        moments.dedup();
        let mut stops = Vec::with_capacity(moments.len());
        let (mut total, mut before) = (0.0, 0);
        for at_us in moments {
            if at_us > 0 {
                total += 0.4 + ((at_us - before) as f64 / 1e3).ln_1p();
            }
            before = at_us;
            stops.push((at_us, total));
        }
        for stop in &mut stops {
            stop.1 = f64::from(LABELS) + stop.1 / total.max(f64::MIN_POSITIVE) * f64::from(PLOT);
        }
        Self { stops }
    }

    fn at(&self, at_us: u64) -> f64 {
        let next = self.stops.partition_point(|(stop, _)| *stop < at_us);
        let Some(&(right_us, right)) = self.stops.get(next) else {
            return self.stops.last().map_or(f64::from(LABELS), |(_, x)| *x);
        };
        let Some(&(left_us, left)) = next.checked_sub(1).and_then(|left| self.stops.get(left))
        else {
            return right;
        };
        left + (right - left) * (at_us - left_us) as f64 / (right_us - left_us) as f64
    }
}

fn drawing(timeline: &Timeline) -> Markup {
    let axis = Axis::of(timeline);
    let rows = u32::try_from(timeline.rows.len()).unwrap_or_default();
    let bottom = TOP + rows * ROW;
    let (width, height) = (LABELS + PLOT + 12, bottom + 26);
    let view = format!("0 0 {width} {height}");
    html! {
        svg class="timeline" xmlns="http://www.w3.org/2000/svg" viewBox=(view) width=(width)
            height=(height) role="img" aria-label="what every actor saw against time" {
            desc { "The same is in the table below." }
            (patterns())
            (phase_bands(timeline, &axis, bottom))
            @for (index, row) in timeline.rows.iter().enumerate() {
                (row_bars(row, TOP + u32::try_from(index).unwrap_or_default() * ROW, &axis))
            }
            @for mark in &timeline.marks { (mark_line(mark, &axis, bottom)) }
        }
    }
}

/// Textures, so that states differ by more than colour.
fn patterns() -> Markup {
    html! {
        defs {
            pattern id="p-stale" width="7" height="7" patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)" {
                rect class="ground stale" width="7" height="7" {}
                rect class="texture stale" width="3" height="7" {}
            }
            pattern id="p-hang" width="8" height="8" patternUnits="userSpaceOnUse" {
                rect class="ground hang" width="8" height="8" {}
                rect class="texture hang" width="3" height="8" {}
            }
            pattern id="p-wrong" width="8" height="8" patternUnits="userSpaceOnUse" {
                rect class="ground wrong" width="8" height="8" {}
                path class="texture wrong" d="M0 0L8 8M8 0L0 8" {}
            }
            pattern id="p-error" width="7" height="7" patternUnits="userSpaceOnUse" {
                rect class="ground error" width="7" height="7" {}
                circle class="texture error" cx="3.5" cy="3.5" r="1.8" {}
            }
        }
    }
}

fn phase_bands(timeline: &Timeline, axis: &Axis, bottom: u32) -> Markup {
    let ends = timeline.phases.iter().skip(1).map(|(_, at_us)| *at_us);
    let bands = timeline.phases.iter().zip(ends.chain([timeline.end_us]));
    html! {
        @for (number, ((id, from_us), until_us)) in bands.enumerate() {
            @let (left, right) = (axis.at(*from_us), axis.at(until_us));
            @let class = if number % 2 == 0 { "band" } else { "band odd" };
            @let id = shown(id);
            g {
                title { (id) " from " (duration(*from_us as f64 / 1e3)) }
                rect class=(class) x=(px(left)) y="0" width=(px(right - left)) height=(bottom) {}
                text class="phase" x=(px(left + 5.0)) y="15" { (label(number + 1, &id, right - left)) }
                text class="tick" x=(px(left + 2.0)) y=(bottom + 17) {
                    @if right - left > 52.0 { (duration(*from_us as f64 / 1e3)) }
                }
            }
        }
        text class="tick" x=(LABELS + PLOT) y=(bottom + 17) text-anchor="end" {
            (duration(timeline.end_us as f64 / 1e3))
        }
    }
}

/// The phase's name as far as it fits.
fn label(number: usize, id: &str, width: f64) -> String {
    let whole = format!("{number} {id}");
    let fits = (width / CHARACTER) as usize;
    if whole.chars().count() <= fits { whole } else { number.to_string() }
}

fn row_bars(row: &Row, top: u32, axis: &Axis) -> Markup {
    let name = row.label();
    let y = top + (ROW - BAR) / 2;
    html! {
        g {
            text class="actor" x="4" y=(top + ROW / 2 + 5) {
                title { (shown(&name)) }
                (end_cut(&shown(&name), 32))
            }
            @for span in &row.spans { (bar(&name, span, y, axis)) }
        }
    }
}

fn bar(name: &str, span: &Span, y: u32, axis: &Axis) -> Markup {
    let (left, seen, right) =
        (axis.at(span.from_us), axis.at(span.seen_until_us), axis.at(span.until_us));
    let width = (seen - left).max(3.0);
    let fade = (right - left - width).max(0.0);
    let state = span.state.as_str();
    let words = format!(
        "{name}: {state} ({}) from {}{}",
        span.words,
        duration(span.from_us as f64 / 1e3),
        if span.looks > 1 { format!(", seen {} times", span.looks) } else { String::new() }
    );
    let room =
        if width + fade >= state.len() as f64 * CHARACTER + 8.0 { Some(left + 5.0) } else { None };
    html! {
        g {
            title { (shown(&words)) }
            @if fade > 0.0 {
                rect class={ "bar unseen " (state) } x=(px(left + width)) y=(y) width=(px(fade)) height=(BAR) {}
            }
            rect class={ "bar " (state) } x=(px(left)) y=(y) width=(px(width)) height=(BAR) rx="2" {}
            @if let Some(x) = room {
                text class="state" x=(px(x)) y=(y + 15) { (state) }
            }
        }
    }
}

/// The letter by which a mark is known in the drawing.
fn letter(kind: MarkKind) -> (&'static str, &'static str, u32) {
    match kind {
        MarkKind::Fault => ("F", "fault", 0),
        MarkKind::Repair => ("R", "repair", 1),
        MarkKind::Recovery => ("✓", "recovery", 2),
    }
}

fn mark_line(mark: &Mark, axis: &Axis, bottom: u32) -> Markup {
    let (sign, class, lane) = letter(mark.kind);
    let x = axis.at(mark.at_us);
    // One lane for each kind: marks that are close do not cover each other.
    let y = 24 + lane * (LANE - 3);
    html! {
        g class={ "mark " (class) } {
            title { (shown(&mark.words)) " at " (duration(mark.at_us as f64 / 1e3)) }
            line x1=(px(x)) y1=(y) x2=(px(x)) y2=(bottom) {}
            circle cx=(px(x)) cy=(y + 4) r="8" {}
            text x=(px(x)) y=(y + 8) text-anchor="middle" { (sign) }
        }
    }
}

fn legend(timeline: &Timeline) -> Markup {
    html! {
        ul class="legend" {
            @for state in timeline.states() {
                li {
                    svg class="timeline key" width="26" height="16" aria-hidden="true" {
                        rect class={ "bar " (state.as_str()) } x="1" y="1" width="24" height="14" rx="2" {}
                    }
                    " " strong { (state.as_str()) } ": " (State::meaning(state))
                }
            }
        }
    }
}

fn marks(timeline: &Timeline) -> Markup {
    html! {
        @if !timeline.marks.is_empty() {
            ul class="legend marks" {
                @for mark in &timeline.marks {
                    @let (sign, class, _) = letter(mark.kind);
                    li {
                        span class={ "mark-sign " (class) } aria-hidden="true" { (sign) } " "
                        (duration(mark.at_us as f64 / 1e3)) " — " (shown(&mark.words))
                    }
                }
            }
        }
    }
}

fn table(timeline: &Timeline) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="timeline as a table" {
            table {
                caption { "What every actor saw" }
                thead {
                    tr {
                        th scope="col" { "Actor" } th scope="col" { "State" } th scope="col" { "From" }
                        th scope="col" { "Last seen" } th scope="col" { "What it saw" }
                    }
                }
                tbody {
                    @for row in &timeline.rows {
                        @for (index, span) in row.spans.iter().enumerate() {
                            tr {
                                @if index == 0 {
                                    th scope="rowgroup" rowspan=(row.spans.len()) { (shown(&row.label())) }
                                }
                                td { (span.state.as_str()) }
                                td { (duration(span.from_us as f64 / 1e3)) }
                                td { (duration(span.seen_until_us as f64 / 1e3)) }
                                td { (shown(&span.words)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A length in the drawing, to a tenth of a pixel.
fn px(value: f64) -> String {
    format!("{:.1}", value.max(0.0))
}

fn end_cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
