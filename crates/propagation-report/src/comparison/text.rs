//! A comparison as text, for 80 columns.

use std::fmt::Write;

use propagation_model::comparison::{Comparison, TransportResult};

use super::Answer;
use super::figures::{interval, median, metrics, rounds, sign, time, trouble};
use crate::text::Detail;
use crate::words::{duration, one_line};

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

/// Columns of a line.
const WIDTH: usize = 80;

/// Columns of the first column of a table.
const LABEL: usize = 21;

/// Columns of a transport.
const COLUMN: usize = 11;

/// The whole comparison.
pub fn render(comparison: &Comparison, detail: Detail) -> String {
    let mut out = String::new();
    let answer = Answer::of(comparison);
    write_head(&mut out, comparison);
    if detail != Detail::Brief {
        write_table(&mut out, comparison);
    }
    write_skipped(&mut out, comparison);
    write_list(&mut out, "FUSE against SMB", &answer.speed);
    write_list(&mut out, "When the server dies", &answer.death);
    if detail != Detail::Brief {
        super::timelines::write(&mut out, comparison, "  ");
        write_ends(&mut out, comparison);
        write_list(&mut out, "What it costs", &answer.cost);
    }
    write_list(&mut out, "What one would give up", &answer.trade);
    write_list(&mut out, "Noise", std::slice::from_ref(&answer.noise));
    if detail == Detail::Full {
        write_details(&mut out, comparison);
    }
    out
}

fn write_head(out: &mut String, comparison: &Comparison) {
    let (machine, data) = (&comparison.machine, &comparison.data_set);
    let _ = writeln!(
        out,
        "Transports between containers, Linux {} {}, {} processors",
        one_line(&machine.kernel_release),
        one_line(&machine.architecture),
        machine.processors
    );
    let _ = writeln!(
        out,
        "{} in {}, seed {}{}; containers by {}",
        rounds(comparison),
        duration(comparison.duration_ms),
        comparison.seed,
        if comparison.cut_short { ", cut short" } else { "" },
        one_line(&machine.engine)
    );
    let media = data.media_bytes / (1 << 20);
    wrap(
        out,
        "",
        &format!(
            "Data: {media} MiB and {} files of {} bytes, in {}. Cold: {}.",
            data.entries,
            data.entry_bytes,
            one_line(&data.medium),
            one_line(&comparison.cold)
        ),
    );
    out.push('\n');
}

fn write_table(out: &mut String, comparison: &Comparison) {
    let shown: Vec<&TransportResult> = comparison.measured().collect();
    let metrics = metrics(comparison);
    if metrics.is_empty() {
        return;
    }
    for group in shown.chunks((WIDTH - LABEL) / COLUMN) {
        write_names(out, group);
        for metric in &metrics {
            let label = format!("{} {}", short(metric.title()), metric.unit());
            let _ = write!(out, "{label:LABEL$}");
            for one in group {
                let measure = one.measure(*metric);
                let mark = sign(measure.and_then(|measure| measure.against_native.as_ref()));
                let _ = write!(out, " {:>width$} {mark}", median(measure), width = COLUMN - 3);
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out.push('\n');
    }
    wrap(out, "", "Medians over rounds. Against native: + better, − worse, = no difference shown.");
    if let Some(words) = super::figures::too_few(comparison) {
        wrap(out, "", &words);
    }
    out.push('\n');
}

/// The names of transports above their columns, in two lines where one has no room.
fn write_names(out: &mut String, group: &[&TransportResult]) {
    const ROOM: usize = COLUMN - 1;
    let names = group.iter().map(|one| {
        let name = one.transport.as_str().replace("passthrough", "pass");
        match name.rsplit_once('-') {
            Some((first, last)) if name.len() > ROOM => (format!("{first}-"), last.to_owned()),
            _ => (String::new(), name),
        }
    });
    let (above, below): (Vec<String>, Vec<String>) = names.unzip();
    let has_two = above.iter().any(|name| !name.is_empty());
    for line in has_two.then_some(above).into_iter().chain([below]) {
        let _ = write!(out, "{:LABEL$}", "");
        for name in line {
            let _ = write!(out, " {name:>ROOM$}");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
}

/// Titles as far as a column has room.
fn short(title: &str) -> String {
    title
        .replace("sequential", "seq.")
        .replace(", synced", "")
        .replace("read among many, p99", "among many p99")
}

fn write_skipped(out: &mut String, comparison: &Comparison) {
    for one in &comparison.transports {
        let Some(skip) = &one.skipped else { continue };
        let fix = skip.fix.as_ref().map(|fix| format!(" ({})", one_line(fix))).unwrap_or_default();
        wrap(out, "  ", &format!("{} left out: {}{fix}", one.transport, one_line(&skip.reason)));
    }
    if comparison.transports.iter().any(|one| one.skipped.is_some()) {
        out.push('\n');
    }
}

fn write_list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}");
    for line in lines {
        wrap(out, "  ", line);
    }
    out.push('\n');
}

/// How each transport ends, a line for each.
fn write_ends(out: &mut String, comparison: &Comparison) {
    let rows = super::ends::rows(comparison);
    if rows.is_empty() {
        return;
    }
    let titles = super::ends::TITLES.map(str::to_owned);
    for [transport, stale, hang, heals] in std::iter::once(titles).chain(rows) {
        let line = format!("  {transport:18} {stale:17} {hang:10} {heals}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push('\n');
}

fn write_details(out: &mut String, comparison: &Comparison) {
    for one in comparison.measured() {
        let _ = writeln!(out, "{}", one.transport);
        for how in &one.how {
            wrap(out, "  ", &format!("$ {}", one_line(how)));
        }
        for measure in &one.measures {
            let range = measure.range.map_or_else(String::new, |(low, high)| {
                format!(", {} to {}", super::figures::number(low), super::figures::number(high))
            });
            let ratio = measure.against_native.as_ref();
            let ratio = ratio.map(|ratio| format!("; {} of native", interval(ratio)));
            let tail = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)].into_iter().filter_map(
                |(name, share)| {
                    Some(format!(
                        "{name} {} µs",
                        super::figures::number(measure.quantile_us(share)?)
                    ))
                },
            );
            wrap(
                out,
                "  ",
                &format!(
                    "{}: {} {}{range}{}; single operations {}; client {} CPU, {} switches; server {} CPU, {} switches",
                    measure.metric.title(),
                    median(Some(measure)),
                    measure.metric.unit(),
                    ratio.unwrap_or_default(),
                    tail.collect::<Vec<_>>().join(", "),
                    time(measure.client.cpu_ms),
                    measure.client.switches,
                    time(measure.server.cpu_ms),
                    measure.server.switches,
                ),
            );
        }
        for line in trouble(&one.measures) {
            wrap(out, "  ", &line);
        }
        out.push('\n');
    }
}

/// Writes a paragraph; lines after the first are two columns further in.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let further = format!("{indent}  ");
    // Names of transports have hyphens.
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(indent)
        .subsequent_indent(&further)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    out.push_str(&textwrap::fill(&one_line(text), options));
    out.push('\n');
}
