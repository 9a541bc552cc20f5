//! A comparison as Markdown.

use std::fmt::Write;

use propagation_model::comparison::{Comparison, TransportResult};

use super::Answer;
use super::figures::{interval, median, metrics, rounds, sign, trouble};
use crate::words::{duration, one_line};

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

/// The title of what happens when a server dies.
const DEATH: &str = "When the server dies";

/// The whole comparison.
pub fn render(comparison: &Comparison) -> String {
    let mut out = String::new();
    let (answer, machine) = (Answer::of(comparison), &comparison.machine);
    let _ = writeln!(out, "# Transports between containers\n");
    let _ = writeln!(
        out,
        "What a decision between FUSE and SMB needs: what is faster by how much for what, what fails how \
         when the server dies, what it costs, and what one would give up. Every figure is of one run of \
         `propagation compare`.\n"
    );
    let _ = writeln!(
        out,
        "Measured on Linux {} {} with {} processors, containers by {}: {} in {}, seed {}, \
         propagation {}{}.\n",
        text(&machine.kernel_release),
        text(&machine.architecture),
        machine.processors,
        text(&machine.engine),
        rounds(comparison),
        duration(comparison.duration_ms),
        comparison.seed,
        text(&comparison.tool_version),
        if comparison.cut_short { "; it was cut short" } else { "" },
    );
    let data = &comparison.data_set;
    let _ = writeln!(
        out,
        "Data: {} MiB in one file and {} files of {} bytes, in {}. Cold: {}.\n",
        data.media_bytes / (1 << 20),
        data.entries,
        data.entry_bytes,
        text(&data.medium),
        text(&comparison.cold)
    );
    write_table(&mut out, comparison);
    for (title, lines) in [
        ("FUSE against SMB", &answer.speed),
        (DEATH, &answer.death),
        ("What it costs", &answer.cost),
        ("What one would give up", &answer.trade),
    ] {
        write_list(&mut out, title, lines);
        if title == DEATH {
            write_timelines(&mut out, comparison);
            write_ends(&mut out, comparison);
        }
    }
    write_list(&mut out, "Noise", std::slice::from_ref(&answer.noise));
    write_ratios(&mut out, comparison);
    write_how(&mut out, comparison);
    out
}

fn write_table(out: &mut String, comparison: &Comparison) {
    let shown: Vec<&TransportResult> = comparison.measured().collect();
    let _ = write!(out, "| |");
    for one in &shown {
        let _ = write!(out, " {} |", one.transport);
    }
    let _ = write!(out, "\n|---|");
    shown.iter().for_each(|_| out.push_str("---:|"));
    out.push('\n');
    for metric in metrics(comparison) {
        let _ = write!(out, "| {}, {} |", metric.title(), metric.unit());
        for one in &shown {
            let measure = one.measure(metric);
            let mark = sign(measure.and_then(|measure| measure.against_native.as_ref()));
            let cell = format!("{} {mark}", text(&median(measure)));
            let _ = write!(out, " {} |", cell.trim_end());
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "\nMedians over rounds. Against native: + better, − worse, = no difference shown (the 95 % bootstrap \
         interval of the ratio holds 1).\n"
    );
    if let Some(words) = super::figures::too_few(comparison) {
        let _ = writeln!(out, "{words}\n");
    }
    for one in &comparison.transports {
        let Some(skip) = &one.skipped else { continue };
        let fix = skip.fix.as_ref().map(|fix| format!(" ({})", text(fix))).unwrap_or_default();
        let _ = writeln!(out, "- {} was left out: {}{fix}.", one.transport, text(&skip.reason));
    }
    if comparison.transports.iter().any(|one| one.skipped.is_some()) {
        out.push('\n');
    }
}

fn write_list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "## {title}\n");
    for line in lines {
        let _ = writeln!(out, "- {}", text(line));
    }
    out.push('\n');
}

/// Nothing where no server was killed.
fn write_timelines(out: &mut String, comparison: &Comparison) {
    let mut lines = String::new();
    super::timelines::write(&mut lines, comparison, "");
    if !lines.is_empty() {
        let _ = writeln!(out, "```text\n{}\n```\n", lines.trim_end());
    }
}

/// How each transport ends, a row for each.
fn write_ends(out: &mut String, comparison: &Comparison) {
    let rows = super::ends::rows(comparison);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "| {} |\n|---|---|---|---|", super::ends::TITLES.join(" | ").trim());
    for row in rows {
        let _ = writeln!(out, "| {} |", row.map(|cell| text(&cell)).join(" | "));
    }
    out.push('\n');
}

fn write_ratios(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(out, "## How many times as good as native\n");
    let _ = writeln!(out, "| | ratio, 95 % interval | operations p50, p99, µs |\n|---|---|---:|");
    for one in comparison.measured() {
        for measure in &one.measures {
            let Some(ratio) = &measure.against_native else { continue };
            let quantile = |share| {
                measure.quantile_us(share).map_or_else(|| "-".into(), super::figures::number)
            };
            let _ = writeln!(
                out,
                "| {}: {} | {} | {}, {} |",
                one.transport,
                measure.metric.title(),
                interval(ratio),
                quantile(0.5),
                quantile(0.99)
            );
        }
    }
    out.push('\n');
}

fn write_how(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(out, "## How each was made\n");
    for one in comparison.measured() {
        let how: Vec<String> =
            one.how.iter().map(|how| format!("`{}`", one_line(how).replace('`', "'"))).collect();
        let _ = writeln!(out, "- {}: {}", one.transport, how.join(", then "));
        for line in trouble(&one.measures) {
            let _ = writeln!(out, "  - {}", text(&line));
        }
    }
}

/// Text in which nothing is markup.
fn text(text: &str) -> String {
    let mut out = String::new();
    for character in one_line(text).chars() {
        if matches!(character, '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
