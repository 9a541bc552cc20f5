//! The page that leads to many reports: of all nodes, or of a matrix.

use maud::html;

use super::{page, shown, verdict_look, verdict_words};
use crate::words::duration;
use propagation_model::VerdictOutcome;
use propagation_model::report::Report;

/// One report on an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// What was run: a node's or a scenario's name.
    pub name: String,
    /// Where its report is, relative to the index, such as `k3s-w2/report.html`.
    pub address: String,
    /// How it came out; none when there is no report.
    pub outcome: Option<VerdictOutcome>,
    /// The first cause, or the verdict's sentence, or why there is no report.
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
            outcome: Some(report.verdict.outcome),
            summary: cause.unwrap_or_else(|| report.verdict.summary.clone()),
            duration_ms: report.duration_ms,
        }
    }
}

/// One page with a line for each report and the counts of their verdicts.
pub fn index(entries: &[IndexEntry]) -> String {
    let all = [
        Some(VerdictOutcome::FundamentalFailure),
        Some(VerdictOutcome::PartialSuccess),
        Some(VerdictOutcome::Inconclusive),
        Some(VerdictOutcome::FullSuccess),
        None,
    ];
    let count = |wanted| entries.iter().filter(|entry| entry.outcome == wanted).count();
    let counts = all.into_iter().map(|outcome| (outcome, count(outcome))).filter(|(_, n)| *n > 0);
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

fn outcome_badge(outcome: Option<VerdictOutcome>) -> maud::Markup {
    let (class, sign, words) = match outcome {
        Some(outcome) => {
            let (class, sign) = verdict_look(outcome);
            (class, sign, verdict_words(outcome))
        }
        None => ("open", "?", "No report"),
    };
    html! {
        span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, address: &str, outcome: Option<VerdictOutcome>) -> IndexEntry {
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
            entry("k3s-w1", "k3s-w1/report.html", Some(VerdictOutcome::FullSuccess)),
            entry("k3s-w2", "k3s-w2/report.html", Some(VerdictOutcome::FullSuccess)),
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
