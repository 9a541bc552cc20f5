//! What is wrong and what to do: the causes, the verdict with its fix, what follows from it.

use std::fmt::Write;

use propagation_model::cause::{Cause, CauseId, FixKind};
use propagation_model::report::{Experiment, Report, Status};

use super::Detail;
use super::layout::{Colour, VERBATIM};
use crate::advice::Advised;
use crate::words::{fix_lines, one_line};
use crate::{Decision, reproduce};

/// The causes, in order.
fn wrong(report: &Report) -> impl Iterator<Item = &Cause> {
    report.diagnosis.iter().filter(|cause| cause.id != CauseId::NothingWrong)
}

/// How many causes are shown, unless all are asked for; all are in the JSON form.
const CAUSES: usize = 3;

pub(super) fn write_causes(out: &mut String, report: &Report, colour: Colour, all: bool) {
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

/// One cause: what is wrong, what shows it, what to do, how to see that it helped; for
/// [`lay_out`](super::lay_out).
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
    for line in fix_lines(&cause.fix) {
        let _ = writeln!(out, "{VERBATIM}      {}", one_line(&line));
    }
    if !verify.is_empty() {
        let _ = writeln!(out, "{VERBATIM}    verify: {}", one_line(verify));
    }
    if !cause.source.is_empty() {
        let _ = writeln!(out, "    source: {}", one_line(&cause.source));
    }
}

/// The answer, and what removes its first cause: the last lines, which fit on one screen.
pub(super) fn write_verdict(out: &mut String, report: &Report, colour: Colour, detail: Detail) {
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
        for line in fix_lines(&cause.fix) {
            let _ = writeln!(out, "{VERBATIM}    {}", one_line(&line));
        }
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

/// What follows from the answer; nothing for a scenario.
pub(super) fn write_decision(out: &mut String, report: &Report, colour: Colour) {
    let Some(decision) = Decision::of(report) else { return };
    let _ = writeln!(out, "\n{}", colour.bold("What follows"));
    let _ = writeln!(out, "  Decision: {}", one_line(&decision.decision));
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
