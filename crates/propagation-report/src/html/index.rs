//! The index page of many reports: of all nodes, or of a matrix.

use maud::html;

use super::{outcome_look, page, shown};
use crate::words::duration;
use propagation_model::report::Report;
use propagation_model::verdict::{RunOutcome, ScenarioOutcome, VerdictOutcome};

/// One report on an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// What was run: a node's or a scenario's name.
    pub name: String,
    /// Where its report is, relative to the index, such as `k3s-w2/report.html`.
    pub address: String,
    /// Its outcome; none without a report.
    pub outcome: Option<RunOutcome>,
    /// The first cause, or the verdict's sentence, or the error.
    pub summary: String,
    /// How long it took.
    pub duration_ms: f64,
}

impl IndexEntry {
    /// The entry of a report that lies at `address`.
    pub fn of(name: impl Into<String>, address: impl Into<String>, report: &Report) -> Self {
        let cause = report.diagnosis.first().map(|cause| cause.title.clone());
        Self {
            name: name.into(),
            address: address.into(),
            outcome: Some(report.verdict.outcome()),
            summary: cause.unwrap_or_else(|| report.verdict.summary().to_owned()),
            duration_ms: report.duration_ms,
        }
    }
}

/// One page with a line for each report and the counts of their verdicts.
pub fn index(entries: &[IndexEntry]) -> String {
    let answers = [
        VerdictOutcome::FundamentalFailure,
        VerdictOutcome::PartialSuccess,
        VerdictOutcome::Inconclusive,
        VerdictOutcome::FullSuccess,
    ];
    let scenarios = [
        ScenarioOutcome::Otherwise,
        ScenarioOutcome::Inconclusive,
        ScenarioOutcome::Skipped,
        ScenarioOutcome::AsExpected,
    ];
    let all = answers.map(|outcome| Some(RunOutcome::Answer(outcome))).into_iter();
    let all = all.chain(scenarios.map(|outcome| Some(RunOutcome::Scenario(outcome))));
    let all = all.chain([None]);
    let count = |wanted| entries.iter().filter(|entry| entry.outcome == wanted).count();
    let counts = all.map(|outcome| (outcome, count(outcome))).filter(|(_, n)| *n > 0);
    let counts: Vec<_> = counts.collect();
    let body = html! {
        header class="banner index" {
            p class="question" { "Can a FUSE mount made in one container be used from another?" }
            h1 { (entries.len()) " reports" }
            ul class="counts" {
                @for (outcome, count) in counts { li { (outcome_badge(outcome)) " " (count) } }
            }
        }
        main id="content" tabindex="-1" {
            div class="scroll" tabindex="0" role="region" aria-label="all reports" {
                table {
                    caption { "All reports, in the order in which they were run" }
                    thead {
                        tr {
                            th scope="col" { "What" } th scope="col" { "Verdict" }
                            th scope="col" { "Why" } th scope="col" { "Took" }
                        }
                    }
                    tbody {
                        @for entry in entries {
                            tr {
                                th scope="row" {
                                    @if is_relative(&entry.address) {
                                        a href=(entry.address) { (shown(&entry.name)) }
                                    } @else { (shown(&entry.name)) }
                                }
                                td { (outcome_badge(entry.outcome)) }
                                td { (shown(&entry.summary)) }
                                td { (duration(entry.duration_ms)) }
                            }
                        }
                    }
                }
            }
        }
    };
    page("FUSE propagation: all reports", body).into_string()
}

/// Whether an address leads to a file beside the index. Everything else, such as `javascript:`, is
/// not made a link.
pub fn is_relative(address: &str) -> bool {
    let before_slash = address.split('/').next().unwrap_or_default();
    !address.is_empty()
        && !address.starts_with(['/', '\\'])
        && !before_slash.contains(':')
        && !address.chars().any(char::is_control)
}

fn outcome_badge(outcome: Option<RunOutcome>) -> maud::Markup {
    let (class, sign, words) = outcome.map_or(("open", "?", "No report"), outcome_look);
    html! {
        span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, address: &str, outcome: Option<RunOutcome>) -> IndexEntry {
        IndexEntry {
            name: name.into(),
            address: address.into(),
            outcome,
            summary: "why".into(),
            duration_ms: 12.0,
        }
    }

    #[test]
    fn every_report_has_a_line_and_every_verdict_a_count() {
        let page = index(&[
            entry(
                "k3s-w1",
                "k3s-w1/report.html",
                Some(RunOutcome::Answer(VerdictOutcome::FullSuccess)),
            ),
            entry(
                "k3s-w2",
                "k3s-w2/report.html",
                Some(RunOutcome::Answer(VerdictOutcome::FullSuccess)),
            ),
            entry("k3s-w3", "", None),
        ]);
        assert!(page.contains("<h1>3 reports</h1>"));
        assert!(page.contains(r#"<a href="k3s-w2/report.html">k3s-w2</a>"#));
        assert!(page.contains("Full success</span> 2"), "{page}");
        assert!(page.contains("No report</span> 1"));
    }

    #[test]
    fn only_files_beside_the_index_become_links() {
        for bad in
            ["javascript:alert(1)", "https://example.org/", "//x/y", "/etc/passwd", "a\nb", ""]
        {
            assert!(!index(&[entry("n", bad, None)]).contains("<a href=\"j"), "{bad}");
            assert!(!is_relative(bad), "{bad}");
        }
        assert!(is_relative("k3s-w2/report.html"));
    }
}
