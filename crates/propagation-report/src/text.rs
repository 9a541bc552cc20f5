//! The text rendering: what a person reads in a terminal.

use std::fmt::Write;

use super::accounting::Accounting;
use super::advice::Advised;
use super::graph::{self, Picture};
pub use super::words::one_line;
use super::words::{beside, untouched, where_it_ran};
use super::words::{first_lines, short};
use super::{Decision, reproduce, time};
use propagation_model::cause::{Cause, CauseId, FixKind};
use propagation_model::report::{Check, Cleanup, Experiment, PhaseReport, Report, Status};

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI colours.
    Ansi,
    /// None.
    Plain,
}

impl Colour {
    /// `text` in the colour of a status.
    pub fn paint(self, status: Status, text: &str) -> String {
        let code = match status {
            Status::Passed => "32",
            Status::Failed | Status::Errored => "31",
            Status::Skipped => "33",
        };
        self.wrap(code, text)
    }

    /// `text` in bold.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The sign of a status: `✓`, `✗`, `-`, `!`.
pub fn sign(status: Status) -> &'static str {
    match status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Skipped => "-",
        Status::Errored => "!",
    }
}

/// The amount of detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// The verdict and the fix of its first cause.
    Brief,
    /// A line for each phase, and the checks that did not pass with their evidence.
    Normal,
    /// Every check with its evidence, the mount graph and the logs.
    Full,
}

/// The style of a report as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colour.
    pub colour: Colour,
    /// The amount of detail.
    pub detail: Detail,
    /// Columns of the terminal; none does not wrap lines.
    pub width: Option<usize>,
}

impl Style {
    /// Without colour and unwrapped, for files.
    pub fn plain(detail: Detail) -> Self {
        Self { colour: Colour::Plain, detail, width: None }
    }
}

/// The whole report as text; the verdict and the fix of its first cause come last.
pub fn render(report: &Report, style: Style) -> String {
    whole(report, style, true)
}

/// The report of a run that is decided and not cleaned up yet; [`render_cleanup`] is the rest.
pub fn render_decided(report: &Report, style: Style) -> String {
    whole(report, style, false)
}

/// The clean-up that follows a decided report.
pub fn render_cleanup(report: &Report, style: Style) -> String {
    let cleanup = &report.cleanup;
    let mut out = String::new();
    let is_left = !cleanup.could_not.is_empty() || !cleanup.kept.is_empty();
    if style.detail > Detail::Brief || is_left {
        let took = if cleanup.kept.is_empty() { cleaned_up(cleanup) } else { "kept".into() };
        let _ = writeln!(out, "Run {}: {took}", one_line(&report.run_id));
        write_left(&mut out, cleanup);
    }
    lay_out(&out, style.width)
}

fn whole(report: &Report, style: Style, is_cleaned: bool) -> String {
    let Style { colour, detail, width } = style;
    let mut out = String::new();
    if detail > Detail::Brief {
        let all = detail == Detail::Full;
        write_scenario(&mut out, report, colour);
        for (number, phase) in report.phases.iter().enumerate() {
            write_phase(&mut out, number + 1, phase, colour, all);
        }
        write_measurements(&mut out, report);
        write_causes(&mut out, report, colour, all);
        write_accounting(&mut out, report, colour, all);
        if all {
            write_mounts(&mut out, report, colour);
            write_logs(&mut out, report, colour);
        }
        write_decision(&mut out, report, colour);
        write_run(&mut out, report, is_cleaned);
    } else if is_cleaned {
        write_left(&mut out, &report.cleanup);
    }
    write_verdict(&mut out, report, colour, detail);
    lay_out(&out, width)
}

/// Before a line that is not wrapped, because it is copied: no text of a report has it.
const VERBATIM: char = '\u{1}';

/// The least number of columns that is worth wrapping for.
const NARROWEST: usize = 30;

/// Wraps lines at a width, each with a hanging indent; commands and manifests are left as they are.
pub fn lay_out(text: &str, width: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let width = width.map(|width| width.max(NARROWEST));
        match (line.strip_prefix(VERBATIM), width) {
            (Some(verbatim), _) => out.push_str(verbatim),
            (None, Some(width)) if textwrap::core::display_width(line) > width => {
                let indent = line.len() - line.trim_start_matches(' ').len();
                let (first, next) = (" ".repeat(indent), " ".repeat(indent + 2));
                let options = textwrap::Options::new(width)
                    .initial_indent(&first)
                    .subsequent_indent(&next)
                    .break_words(false)
                    .word_separator(textwrap::WordSeparator::AsciiSpace)
                    .word_splitter(textwrap::WordSplitter::NoHyphenation);
                out.push_str(&textwrap::fill(&line[indent..], options));
            }
            (None, _) => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

fn write_scenario(out: &mut String, report: &Report, colour: Colour) {
    let plan = &report.plan;
    let Some(name) = &plan.name else { return };
    let _ = write!(out, "{}", colour.bold(&format!("Scenario {}", one_line(name))));
    if let Some(title) = &plan.title {
        let _ = write!(out, ": {}", one_line(title));
    }
    out.push('\n');
    for (what, words) in [("source", &plan.source), ("note", &plan.note)] {
        if let Some(words) = words {
            let _ = writeln!(out, "  {what}: {}", one_line(words));
        }
    }
    out.push('\n');
}

fn write_phase(out: &mut String, number: usize, phase: &PhaseReport, colour: Colour, all: bool) {
    let status = colour.paint(phase.status, phase.status.as_str());
    let title = colour.bold(&format!("Phase {number} {}", one_line(&phase.id)));
    let _ = write!(out, "{title}: {status}");
    match &phase.reason {
        Some(reason) => {
            let _ = writeln!(out, " ({})", one_line(reason));
        }
        None => {
            let _ = write!(out, " in {:.1} ms", phase.duration_ms);
            let passed = phase.checks.iter().filter(|check| check.status == Status::Passed).count();
            let _ = match (all, passed) {
                (true, _) | (false, 0) => writeln!(out),
                (false, 1) => writeln!(out, ", 1 check passed"),
                (false, passed) => writeln!(out, ", {passed} checks passed"),
            };
        }
    }
    for check in phase.checks.iter().filter(|check| all || check.status != Status::Passed) {
        write_check(out, check, colour, all);
    }
}

fn write_check(out: &mut String, check: &Check, colour: Colour, all: bool) {
    let mark = colour.paint(check.status, sign(check.status));
    let _ = writeln!(
        out,
        "  {mark} {}: {}",
        one_line(&check.id.to_string()),
        one_line(&check.observed)
    );
    if check.status == Status::Failed {
        let _ = writeln!(out, "      expected: {}", one_line(&check.expected));
    }
    if check.status == Status::Failed || all {
        for line in &check.evidence {
            let _ = writeln!(out, "      evidence: {}", one_line(line));
        }
    }
}

fn write_measurements(out: &mut String, report: &Report) {
    let measured = &report.measurements;
    let mut lines = Vec::new();
    if !measured.mount_to_visible_ms.is_empty() {
        let times: Vec<String> =
            measured.mount_to_visible_ms.iter().map(|ms| format!("{ms:.1} ms")).collect();
        lines.push(format!("mount to a consumer's own first read: {}", times.join(", ")));
    }
    let times = time::measured(report);
    lines.extend(time::never(report).map(|never| format!("{}: {never}", time::BY_THEMSELVES)));
    lines.extend(times.into_iter().map(|(what, ms)| format!("{what}: {ms:.1} ms")));
    if !lines.is_empty() {
        let _ = writeln!(out, "\nMeasured");
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
}

/// What follows from the answer; nothing for a scenario.
fn write_decision(out: &mut String, report: &Report, colour: Colour) {
    let Some(decision) = Decision::of(report) else { return };
    let _ = writeln!(out, "\n{}", colour.bold("What follows"));
    let _ = writeln!(out, "  Decision: {}", one_line(decision.decision));
    for (number, step) in decision.next_steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {}", number + 1, one_line(step));
    }
    let _ = writeln!(out, "  Migration: {}", one_line(decision.migration_timeline));
    if let Some(probe) = &decision.liveness_probe {
        let _ = writeln!(out, "  Liveness probe for consumers:");
        for line in probe.lines() {
            let _ = writeln!(out, "{VERBATIM}    {}", one_line(line));
        }
    }
}

/// The answer, and what removes its first cause: the last lines, which fit on one screen.
fn write_verdict(out: &mut String, report: &Report, colour: Colour, detail: Detail) {
    let verdict = &report.verdict;
    let status = match verdict.outcome().status() {
        Status::Errored => Status::Skipped,
        other => other,
    };
    let letter = Decision::of(report).and_then(|decision| decision.letter);
    let letter = letter.map(|letter| format!(" (scenario {letter})")).unwrap_or_default();
    let head = format!("Verdict: {}{letter}", verdict.outcome().as_str());
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{}", colour.bold(&colour.paint(status, &head)));
    let _ = writeln!(out, "  {}", one_line(verdict.summary()));
    let heals = report.experiments.iter().any(Experiment::heals);
    if let Some(advice) = Advised::of(report).filter(|_| heals) {
        write_cause_in_short(out, report, &advice);
        let _ = writeln!(out, "  Fix: {}", colour.bold(&one_line(advice.head)));
        if detail > Detail::Brief {
            write_advice(out, &advice, detail == Detail::Full);
        }
        return;
    }
    if let Some(advice) = Advised::of(report).filter(|_| detail > Detail::Brief) {
        let _ = writeln!(out, "  {}", one_line(advice.head));
        write_advice(out, &advice, detail == Detail::Full);
    }
    let as_wanted = verdict.outcome().status() == Status::Passed;
    let Some(cause) = wrong(report).next().filter(|_| !as_wanted) else { return };
    if !verdict.summary().contains(cause.title.trim_end_matches('.')) {
        let _ = writeln!(out, "  Cause: {}", one_line(&cause.title));
    }
    let _ = writeln!(out, "  Fix: {}", one_line(&cause.fix.words));
    if cause.fix.kind == FixKind::Command {
        for line in cause.fix.text.lines() {
            let _ = writeln!(out, "{VERBATIM}    {}", one_line(line));
        }
    }
}

/// The causes, in order.
fn wrong(report: &Report) -> impl Iterator<Item = &Cause> {
    report.diagnosis.iter().filter(|cause| cause.id != CauseId::NothingWrong)
}

/// How many causes are shown, unless all are asked for; all are in the JSON form.
const CAUSES: usize = 3;

fn write_causes(out: &mut String, report: &Report, colour: Colour, all: bool) {
    let wrong: Vec<&Cause> = wrong(report).collect();
    if wrong.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", colour.bold("Why"));
    let shown = if all { wrong.len() } else { CAUSES };
    for cause in wrong.iter().take(shown) {
        write_cause(out, cause, &reproduce::verify(report, cause), colour);
    }
    if wrong.len() > shown {
        let _ = writeln!(out, "  … and {} more with --evidence", wrong.len() - shown);
    }
}

/// One cause: what is wrong, what shows it, what to do, how to see that it helped; for [`lay_out`].
pub fn write_cause(out: &mut String, cause: &Cause, verify: &str, colour: Colour) {
    let head = colour.bold(&format!("Cause: {}", one_line(&cause.title)));
    let _ = writeln!(
        out,
        "  {head} ({}; {})",
        one_line(&cause.standing()),
        one_line(cause.id.as_str())
    );
    for line in &cause.evidence {
        let _ = writeln!(out, "    evidence: {}", one_line(line));
    }
    let _ = writeln!(out, "    fix: {}", one_line(&cause.fix.words));
    for line in cause.fix.text.lines() {
        let _ = writeln!(out, "{VERBATIM}      {}", one_line(line));
    }
    if !verify.is_empty() {
        let _ = writeln!(out, "{VERBATIM}    verify: {}", one_line(verify));
    }
    if !cause.source.is_empty() {
        let _ = writeln!(out, "    source: {}", one_line(&cause.source));
    }
}

fn write_accounting(out: &mut String, report: &Report, colour: Colour, all: bool) {
    let accounting = Accounting::of(report);
    if accounting.growth.is_empty() && !all {
        return;
    }
    let _ = writeln!(out, "\n{}", colour.bold("Mounts and processes after every step"));
    for growth in &accounting.growth {
        let _ = writeln!(out, "  {}", one_line(&growth.to_string()));
    }
    if all {
        for row in &accounting.rows {
            let mounts = row.mounts_in_words();
            let (step, mounts) = (one_line(&row.step), one_line(&mounts));
            let _ = write!(out, "  {step}: {mounts}; FUSE superblocks {}", row.superblocks);
            let usage = &row.usage;
            for (what, count) in [
                ("in state D", usage.blocked_processes),
                ("FUSE connections", usage.fuse_connections),
            ] {
                if let Some(count) = count {
                    let _ = write!(out, ", {what} {count}");
                }
            }
            out.push('\n');
        }
    }
}

fn write_mounts(out: &mut String, report: &Report, colour: Colour) {
    let Some(capture) = graph::telling(report) else { return };
    let title = format!("Mount graph after {}", one_line(&capture.step));
    let _ = writeln!(out, "\n{}", colour.bold(&title));
    for line in Picture::of(report, capture).to_string().lines() {
        let _ = writeln!(out, "{VERBATIM}  {line}");
    }
}

fn write_logs(out: &mut String, report: &Report, colour: Colour) {
    let (logs, _) = first_lines(&report.logs);
    for log in logs {
        let title = format!("Log of {}", one_line(&log.workload));
        let _ = writeln!(out, "\n{}", colour.bold(&title));
        let (lines, left_out) = first_lines(&log.lines);
        for line in lines {
            let _ = writeln!(out, "{VERBATIM}  {}", short(line));
        }
        if left_out > 0 {
            let _ = writeln!(out, "  … and {left_out} more lines in report.json");
        }
    }
}

fn write_run(out: &mut String, report: &Report, is_cleaned: bool) {
    let cleaned = match is_cleaned {
        true => format!(", {}", cleaned_up(&report.cleanup)),
        false => String::new(),
    };
    let _ = writeln!(
        out,
        "\nRun {} on {}, {:.1} ms to the verdict{cleaned}",
        one_line(&report.run_id),
        where_it_ran(report),
        report.duration_ms,
    );
    for words in untouched(report).into_iter().chain(beside(report)) {
        let _ = writeln!(out, "{words}");
    }
    let command = reproduce::commands(report).join(" && ");
    if !command.is_empty() {
        let _ = writeln!(out, "{VERBATIM}Reproduce: {}", one_line(&command));
    }
    write_left(out, &report.cleanup);
}

/// How long the clean-up took, and how much of it others were waited for.
fn cleaned_up(cleanup: &Cleanup) -> String {
    let mut took = format!("cleaned up in {:.1} ms", cleanup.duration_ms);
    let (kubelet, namespace) = (cleanup.kubelet_ms, cleanup.namespace_ms);
    if kubelet.is_some() || namespace.is_some() {
        let of = |name: &str, ms: Option<f64>| ms.map(|ms| format!("{name} {ms:.1}"));
        let ours = cleanup.duration_ms - kubelet.unwrap_or(0.0) - namespace.unwrap_or(0.0);
        let parts = [
            of("waited for the kubelet", kubelet),
            of("for the namespace", namespace),
            of("ours", Some(ours.max(0.0))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let _ = write!(took, ": {}", parts.join(", "));
    }
    took
}

fn write_left(out: &mut String, cleanup: &Cleanup) {
    for kept in &cleanup.kept {
        let _ = writeln!(out, "  kept: {}", one_line(kept));
    }
    for failure in &cleanup.could_not {
        let _ = writeln!(out, "  could not clean up: {}", one_line(failure));
    }
}

/// The first cause, without the words that the summary has said.
fn write_cause_in_short(out: &mut String, report: &Report, advice: &Advised<'_>) {
    let Some(cause) = advice.cause else { return };
    let said = report.verdict.summary().contains(cause.title.trim_end_matches('.'));
    let words = match said {
        true => format!("{}, {}", cause.id, cause.standing()),
        false => format!("{} ({}; {})", cause.title, cause.standing(), cause.id),
    };
    let _ = writeln!(out, "  Cause: {}", one_line(&words));
}

/// The text of the first change, and the others that heal.
fn write_advice(out: &mut String, advice: &Advised<'_>, all: bool) {
    for line in advice.text.lines() {
        let _ = writeln!(out, "{VERBATIM}      {}", one_line(line));
    }
    for (title, list) in [("Also for good", &advice.for_good), ("For now", &advice.now)] {
        let shown = if all { list.len() } else { OTHERS };
        for other in list.iter().take(shown) {
            let words = format!("{title}: {}: {}.", other.words, other.outcome());
            let _ = writeln!(out, "  {}", one_line(&words));
            let side_effects = other.tried().map_or(&[][..], |tried| &tried.side_effects);
            for effect in side_effects.iter().take(shown) {
                let _ = writeln!(out, "      {}", one_line(&effect.to_string()));
            }
        }
    }
    if all {
        for one in &advice.in_vain {
            let words = format!("{}: {}.", one.words, one.outcome());
            let _ = writeln!(out, "  {}", one_line(&words));
        }
    }
    let _ = writeln!(out, "  {}", one_line(&advice.count));
}

/// How many changes beside the first are shown of each kind, unless all are asked for.
const OTHERS: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_reach_the_terminal() {
        let hostile = "a\u{1b}[2Jb\nc\td\u{7}e\u{9b}f";
        assert_eq!(one_line(hostile), "a\\u{1b}[2Jb\\nc\\td\\u{7}e\\u{9b}f");
        let check = Check::new("c", false, hostile, hostile).with_evidence([hostile.to_owned()]);
        let mut out = String::new();
        write_check(&mut out, &check, Colour::Plain, true);
        assert!(out.chars().all(|c| c == '\n' || !c.is_control()), "{out:?}");
        assert_eq!(out.lines().count(), 3, "{out}");
    }

    #[test]
    fn evidence_is_shown_for_failures_or_when_asked_for() {
        let check = |ok| Check::new("c", ok, "e", "o").with_evidence(["proof".to_owned()]);
        for (ok, all, shown) in
            [(true, false, false), (true, true, true), (false, false, true), (false, true, true)]
        {
            let mut out = String::new();
            write_check(&mut out, &check(ok), Colour::Plain, all);
            assert_eq!(out.contains("proof"), shown, "ok {ok}, all {all}");
        }
    }

    #[test]
    fn lines_are_wrapped_with_a_hanging_indent_and_what_is_copied_is_not() {
        let command = "x".repeat(50);
        let text =
            format!("    evidence: {}\n{VERBATIM}  {command} {command}\n", "word ".repeat(12));
        let wrapped = lay_out(&text, Some(40));
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines[0].starts_with("    evidence: word"), "{wrapped}");
        assert!(lines[1].starts_with("      word"), "{wrapped}");
        assert!(lines.iter().all(|line| line.len() <= 40 || line.contains(&command)), "{wrapped}");
        assert_eq!(lines.last().copied(), Some(&*format!("  {command} {command}")));
        assert_eq!(lay_out(&text, None).lines().count(), 2);
        assert!(!wrapped.contains(VERBATIM));
    }

    #[test]
    fn colours_do_not_count_as_columns() {
        let line = format!("{} {}", Colour::Ansi.paint(Status::Passed, "ab"), "c".repeat(27));
        assert_eq!(lay_out(&line, Some(30)).lines().count(), 1);
    }

    #[test]
    fn the_verdict_and_its_fix_come_last() {
        let report = crate::tests::report("mountpoint_volume");
        let text = render(&report, Style::plain(Detail::Normal));
        let (_, last) = text.rsplit_once("Verdict: ").expect("a verdict");
        assert!(last.contains(&report.diagnosis[0].fix.words), "{last}");
        assert!(last.lines().count() < 6, "{last}");
        assert!(!text.contains("✓"), "passed checks are folded: {text}");
        let brief = render(&report, Style::plain(Detail::Brief));
        assert_eq!(brief, format!("Verdict: {last}"));
    }

    #[test]
    fn a_scenario_is_named() {
        let mut report = crate::tests::report("full_success");
        report.plan.name = Some("decypharr".into());
        report.plan.title = Some("consumers keep the dead mount".into());
        report.plan.source = Some("https://example.org/1".into());
        let text = render(&report, Style::plain(Detail::Normal));
        assert!(text.starts_with("Scenario decypharr: consumers keep the dead mount\n"), "{text}");
        assert!(text.contains("  source: https://example.org/1\n"), "{text}");
    }
}
