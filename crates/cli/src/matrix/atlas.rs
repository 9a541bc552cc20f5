//! The atlas: all cells in one HTML file, with filters. Self-contained; needs no network.

use maud::{DOCTYPE, PreEscaped, html};
use serde_json::json;

use propagation_core::matrix::{AXES, Cell};
use propagation_report::html::is_relative;

/// The HTML file. Rows are made by its script from the data in it, a page at a time, so that thousands of
/// cells open at once.
pub(crate) fn atlas(cells: &[Cell]) -> String {
    let axes: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
    let titles: Vec<&str> = AXES.iter().map(|axis| axis.title).collect();
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let values: Vec<&str> =
                axes.iter().map(|axis| cell.axes.get(*axis).map_or("", String::as_str)).collect();
            json!({
                "axes": values,
                "seen": cell.seen,
                "predicted": cell.predicted,
                "agrees": cell.agrees(),
                "outcome": cell.outcome(),
                "layers": cell.layers,
                "why": cell.skipped.as_ref().or(cell.failed.as_ref()),
                "evidence": cell.evidence,
                "ms": (cell.duration_ms * 10.0).round() / 10.0,
                "id": cell.id,
                "report": cell.report.as_deref().filter(|address| is_relative(address)),
            })
        })
        .collect();
    let data = json!({ "axes": axes, "titles": titles, "cells": rows }).to_string();
    // Inside a script element nothing may look like its end.
    let data = data.replace('<', "\\u003c").replace(['\u{2028}', '\u{2029}'], " ");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { "Atlas of FUSE mount propagation" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Which mount survives what" }
                    p { (cells.len()) " cells, each run on the real kernel: one consumer, one fault, one repair. \
                         Choose values; open a row for its evidence and the command that runs it again." }
                }
                main {
                    form id="filters" aria-label="Filters" {}
                    p id="count" role="status" {}
                    div id="summary" {}
                    div class="wide" {
                        table {
                            thead { tr id="head" {} }
                            tbody id="rows" {}
                        }
                    }
                    button id="more" type="button" { "Show more" }
                }
                noscript { p { "The table is made by a script in this file; the same data is in cells.jsonl." } }
                script type="application/json" id="data" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

const STYLE: &str = include_str!("atlas.css");
const SCRIPT: &str = include_str!("atlas.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_leave_the_data() {
        let cell: Cell = serde_json::from_value(json!({
            "id": "</script><script>alert(1)</script>",
            "axes": {"fault": "<img src=x onerror=alert(1)>"},
            "layers": 1,
            "evidence": ["<!-- <script> ]]>"],
            "duration_ms": 1.0,
            "report": "javascript:alert(1)",
        }))
        .expect("a cell");
        let page = atlas(&[cell]);
        assert_eq!(page.matches("</script>").count(), 2, "only the two script elements end");
        assert!(!page.contains("<img src=x"));
        assert!(!page.contains("javascript:"));
    }
}
