//! The report as Markdown: the results-recording template of a test plan, filled.

use std::fmt::Write;

use super::accounting::{self, Accounting, Row};
use super::advice::Advised;
use super::graph::{self, Picture};
use super::timeline::Timeline;
use super::words::{
    beside, duration, first_lines, fix_lines, resolved, short, untouched, where_it_ran,
};
use super::{Decision, html, reproduce, time};
use propagation_model::report::{Check, PhaseReport, Report, Status};

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write_head(&mut out, report);
    write_causes(&mut out, report);
    for (number, phase) in report.phases.iter().enumerate() {
        write_phase(&mut out, number + 1, phase);
    }
    write_measurements(&mut out, report);
    write_timeline(&mut out, report);
    write_mounts(&mut out, report);
    write_accounting(&mut out, report);
    write_advice(&mut out, report);
    write_decision(&mut out, report);
    write_rest(&mut out, report);
    out
}

fn write_head(out: &mut String, report: &Report) {
    let verdict = &report.verdict;
    let letter = Decision::of(report).and_then(|decision| decision.letter);
    let letter = letter.map(|letter| format!(", scenario {letter}")).unwrap_or_default();
    let outcome = code(verdict.outcome().as_str());
    let _ = writeln!(out, "# FUSE propagation test: {outcome}{letter}\n");
    let _ = writeln!(out, "{}\n", text(verdict.summary()));
    write_scenario(out, report);
    let kernel = report.environment.as_ref();
    let kernel =
        kernel.map(|facts| format!("Linux {} {}", facts.kernel_release, facts.architecture));
    let rows = [
        ("What", "can a FUSE mount made in one container be used from another?".to_owned()),
        ("Where", where_it_ran(report)),
        ("Kernel", kernel.unwrap_or_else(|| "not read".into())),
        ("When", report.started_at.clone()),
        ("How long", duration(report.duration_ms)),
        ("With", format!("propagation {}, run {}", report.tool_version, report.run_id)),
    ];
    out.push_str("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {} |", text(&value));
    }
    for words in resolved(report).into_iter().chain(untouched(report)).chain(beside(report)) {
        let _ = writeln!(out, "\n{}", text(&words));
    }
}

/// Which scenario it was, where it has a name.
fn write_scenario(out: &mut String, report: &Report) {
    let plan = &report.plan;
    let Some(name) = &plan.name else { return };
    let _ = write!(out, "Scenario {}", code(name));
    if let Some(title) = &plan.title {
        let _ = write!(out, ": {}", text(title));
    }
    out.push_str("\n\n");
    for (what, words) in [("Source", &plan.source), ("Note", &plan.note)] {
        if let Some(words) = words {
            let _ = writeln!(out, "{what}: {}\n", text(words));
        }
    }
}

fn write_causes(out: &mut String, report: &Report) {
    if report.diagnosis.is_empty() {
        return;
    }
    out.push_str("\n## Why\n");
    for (number, cause) in report.diagnosis.iter().enumerate() {
        let _ = writeln!(
            out,
            "\n{}. **{}** ({}, {})\n",
            number + 1,
            text(&cause.title),
            code(cause.id.as_str()),
            text(&cause.standing())
        );
        write_block(out, "   ", "text", &cause.evidence);
        let _ = writeln!(out, "   Fix: {}\n", text(&cause.fix.words));
        write_block(out, "   ", "", &fix_lines(&cause.fix));
        let verify = reproduce::verify(report, cause);
        if !verify.is_empty() {
            let _ = writeln!(out, "   Verify: {}\n", code(&verify));
        }
        if !cause.source.is_empty() {
            let _ = writeln!(out, "   Source: {}", text(&cause.source));
        }
    }
}

fn write_phase(out: &mut String, number: usize, phase: &PhaseReport) {
    let _ = write!(out, "\n## Phase {number} {}: {}", code(&phase.id), phase.status.as_str());
    match &phase.reason {
        Some(reason) => {
            let _ = writeln!(out, "\n\n{}", text(reason));
        }
        None => {
            let _ = writeln!(out, " in {}", duration(phase.duration_ms));
        }
    }
    if phase.checks.is_empty() {
        return;
    }
    out.push_str("\n| | Check | Expected | Observed |\n|---|---|---|---|\n");
    for check in &phase.checks {
        let _ = writeln!(
            out,
            "| {} {} | {} | {} | {} |",
            super::text::sign(check.status),
            check.status.as_str(),
            code(&check.id.to_string()),
            text(&check.expected),
            text(&check.observed)
        );
    }
    for check in phase.checks.iter().filter(|check| check.status == Status::Failed) {
        write_failure(out, check);
    }
}

fn write_failure(out: &mut String, check: &Check) {
    let _ = writeln!(out, "\n### {}\n", code(&check.id.to_string()));
    out.push('\n');
    write_block(out, "", "text", &check.evidence);
}

fn write_measurements(out: &mut String, report: &Report) {
    let measured = &report.measurements;
    let visible = measured.mount_to_visible_ms.iter().copied().reduce(f64::max);
    let visible = visible.map(|ms| ("mount to a consumer's own first read", ms));
    let times: Vec<_> = visible.into_iter().chain(time::measured(report)).collect();
    let never = time::never(report);
    if times.is_empty() && never.is_none() {
        return;
    }
    out.push_str("\n## Measured\n\n| What | Time |\n|---|---:|\n");
    if let Some(never) = never {
        let _ = writeln!(out, "| {} | {never} |", time::BY_THEMSELVES);
    }
    for (name, ms) in times {
        let _ = writeln!(out, "| {name} | {} |", duration(ms));
    }
}

fn write_timeline(out: &mut String, report: &Report) {
    let timeline = Timeline::of(report);
    if timeline.rows.is_empty() {
        return;
    }
    out.push_str("\n## Timeline\n\n| Actor | What it saw, and from when |\n|---|---|\n");
    for row in &timeline.rows {
        let spans = row.spans.iter().map(|span| {
            let at = duration(span.from_us as f64 / 1e3);
            format!("{} ({}) at {at}", span.state.as_str(), span.words)
        });
        let spans: Vec<String> = spans.collect();
        let _ = writeln!(out, "| {} | {} |", text(&row.label()), text(&spans.join(" → ")));
    }
    if timeline.rows_left_out > 0 {
        let _ = writeln!(out, "\n{} more rows are in report.json.", timeline.rows_left_out);
    }
    out.push('\n');
    for mark in &timeline.marks {
        let at = duration(mark.at_us as f64 / 1e3);
        let _ = writeln!(out, "- {at}: {}", text(&mark.words));
    }
}

fn write_mounts(out: &mut String, report: &Report) {
    let Some(capture) = graph::telling(report) else { return };
    let _ = writeln!(out, "\n## Mount graph after {}\n", code(&capture.step));
    let picture = Picture::of(report, capture).to_string();
    write_block(out, "", "text", &picture.lines().map(str::to_owned).collect::<Vec<_>>());
}

fn write_accounting(out: &mut String, report: &Report) {
    let accounting = Accounting::of(report);
    if accounting.rows.is_empty() {
        return;
    }
    out.push_str("\n## Mounts and processes after every step\n\n");
    for growth in &accounting.growth {
        let _ = writeln!(out, "- {}", text(&growth.to_string()));
    }
    if !accounting.growth.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "| {} |\n|---|---|---:|---:|---:|", accounting::COLUMNS.join(" | "));
    for [step, mounts, superblocks, blocked, connections] in accounting.rows.iter().map(Row::cells)
    {
        let (step, mounts) = (code(&step), text(&mounts));
        let _ = writeln!(out, "| {step} | {mounts} | {superblocks} | {blocked} | {connections} |");
    }
}

fn write_decision(out: &mut String, report: &Report) {
    let Some(decision) = Decision::of(report) else { return };
    let _ = writeln!(out, "\n## Decision\n\n{}\n", text(&decision.decision));
    if !decision.next_steps.is_empty() {
        out.push_str("## Next steps\n\n");
    }
    for (number, step) in decision.next_steps.iter().enumerate() {
        let _ = writeln!(out, "{}. {}", number + 1, text(step));
    }
    let _ = writeln!(out, "\nMigration timeline: {}", text(decision.migration_timeline));
    if let Some(probe) = &decision.liveness_probe {
        out.push_str("\nLiveness probe for consumers:\n\n");
        write_block(out, "", "yaml", &probe.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}

fn write_advice(out: &mut String, report: &Report) {
    let Some(advice) = Advised::of(report) else { return };
    let _ = writeln!(out, "\n## What was tried\n");
    if let Some(cause) = advice.cause {
        let _ = writeln!(out, "Cause: {} ({})\n", text(&cause.title), text(&cause.standing()));
    }
    let _ = writeln!(out, "**{}**\n", text(advice.head));
    write_block(out, "", "", &advice.text.lines().map(str::to_owned).collect::<Vec<_>>());
    for (title, list) in [("Also for good", &advice.for_good), ("For now", &advice.now)] {
        for one in list {
            let _ = writeln!(
                out,
                "- {title}: {}: {}; costs {}",
                text(&one.words),
                text(&one.outcome()),
                one.cost.as_str()
            );
        }
    }
    let _ = writeln!(out, "\n{}", text(&advice.count));
}

fn write_rest(out: &mut String, report: &Report) {
    if let Some(facts) = &report.environment {
        out.push_str("\n## Environment\n\n| Fact | Value |\n|---|---|\n");
        for (name, value) in html::environment_rows(facts) {
            let _ = writeln!(out, "| {name} | {} |", text(&value));
        }
    }
    out.push_str("\n## Do it again\n\n");
    write_block(out, "", "sh", &reproduce::commands(report));
    let (logs, more) = first_lines(&report.logs);
    if !logs.is_empty() {
        out.push_str("\n## Logs\n");
    }
    for log in logs {
        let _ = writeln!(out, "\n### {}\n", code(&log.workload));
        write_block(out, "", "text", &log.lines);
    }
    if more > 0 {
        let _ = writeln!(out, "\n{more} more logs are in report.json.");
    }
    let cleanup = &report.cleanup;
    let _ = writeln!(out, "\n## Clean-up\n\nTook {}.\n", duration(cleanup.duration_ms));
    for (name, lines) in [
        ("could not be undone", &cleanup.could_not),
        ("kept", &cleanup.kept),
        ("undone", &cleanup.undone),
    ] {
        for line in lines {
            let _ = writeln!(out, "- {name}: {}", text(line));
        }
    }
}

/// A block of lines as they are, in a fence that none of them can close.
fn write_block(out: &mut String, indent: &str, language: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let (first, left_out) = first_lines(lines);
    let longest = first.iter().map(|line| longest_run(line, '`')).max().unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    let _ = writeln!(out, "{indent}{fence}{language}");
    for line in first {
        let _ = writeln!(out, "{indent}{}", short(line));
    }
    if left_out > 0 {
        let _ = writeln!(out, "{indent}… and {left_out} more lines in report.json");
    }
    let _ = writeln!(out, "{indent}{fence}\n");
}

/// Text of the report: no character of it is markup, also inside a table.
fn text(words: &str) -> String {
    let words = short(words);
    let mut escaped = String::with_capacity(words.len() + 8);
    let mut before = ' ';
    let mut characters = words.chars().peekable();
    while let Some(character) = characters.next() {
        let inside_word = before.is_alphanumeric()
            && characters.peek().is_some_and(|next| next.is_alphanumeric());
        let is_markup = match character {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '!' => true,
            // In the middle of a word an underscore means itself.
            '_' => !inside_word,
            '#' | '+' | '=' | '-' => escaped.is_empty(),
            _ => false,
        };
        if is_markup {
            escaped.push('\\');
        }
        escaped.push(character);
        before = character;
    }
    escaped
}

/// A name as code: nothing in it is markup. A bar would end a table's cell even in code.
fn code(name: &str) -> String {
    let name = short(name).replace('|', "\\|");
    let fence = "`".repeat(longest_run(&name, '`') + 1);
    let space = if name.is_empty() || name.starts_with(['`', ' ']) || name.ends_with(['`', ' ']) {
        " "
    } else {
        ""
    };
    format!("{fence}{space}{name}{space}{fence}")
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            text("a|b <script> *x* `y` [z](u) & \\"),
            r"a\|b \<script\> \*x\* \`y\` \[z\](u) \& \\"
        );
        assert_eq!(text("host_setup and _this_"), r"host_setup and \_this\_");
        assert_eq!(text("# a - b"), r"\# a - b");
    }

    #[test]
    fn code_and_blocks_cannot_be_closed_from_inside() {
        assert_eq!(code("plain"), "`plain`");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`"), "`` ` ``");
        let mut out = String::new();
        write_block(&mut out, "", "text", &["````".into(), "x".into()]);
        assert_eq!(out, "`````text\n````\nx\n`````\n\n");
    }
}
