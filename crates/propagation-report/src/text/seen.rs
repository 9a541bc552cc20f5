//! What was done and seen: the scenario, its phases, measurements, mounts and logs.

use std::fmt::Write;

use propagation_model::report::{Check, PhaseReport, Report, Status};

use super::layout::{Colour, VERBATIM, sign};
use crate::accounting::Accounting;
use crate::graph::{self, Picture};
use crate::time;
use crate::words::{first_lines, one_line, short};

pub(super) fn write_scenario(out: &mut String, report: &Report, colour: Colour) {
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

pub(super) fn write_phase(
    out: &mut String,
    number: usize,
    phase: &PhaseReport,
    colour: Colour,
    all: bool,
) {
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

pub(super) fn write_measurements(out: &mut String, report: &Report) {
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

pub(super) fn write_accounting(out: &mut String, report: &Report, colour: Colour, all: bool) {
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

pub(super) fn write_mounts(out: &mut String, report: &Report, colour: Colour) {
    let Some(capture) = graph::telling(report) else { return };
    let title = format!("Mount graph after {}", one_line(&capture.step));
    let _ = writeln!(out, "\n{}", colour.bold(&title));
    for line in Picture::of(report, capture).to_string().lines() {
        let _ = writeln!(out, "{VERBATIM}  {line}");
    }
}

pub(super) fn write_logs(out: &mut String, report: &Report, colour: Colour) {
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
}
