//! The text rendering: what a person reads in a terminal.

mod layout;
mod seen;
mod verdict;

use std::fmt::Write;

use propagation_model::report::{Cleanup, Report};

pub use self::layout::{Colour, lay_out, sign};
pub use self::verdict::write_cause;
pub use super::words::one_line;

use self::layout::VERBATIM;
use self::seen::{
    write_accounting, write_logs, write_measurements, write_mounts, write_phase, write_scenario,
};
use self::verdict::{write_causes, write_decision, write_verdict};
use super::reproduce;
use super::words::{beside, resolved, untouched, where_it_ran};

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

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
    for words in resolved(report).into_iter().chain(untouched(report)).chain(beside(report)) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
