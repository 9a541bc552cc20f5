//! What untrusted bytes are fed to, and what has to hold for each.
//!
//! A target takes any bytes and panics when something does not hold. The smoke test beside it runs all
//! of them on changed seeds under `cargo test`; `fuzz/` runs them under libFuzzer, guided by coverage.
//!
//! The panics are the findings.
#![cfg(target_os = "linux")]

mod frames;
mod seeds;

use propagation_core::mountinfo::{MountGraph, MountTable, diff};
use propagation_core::{Report, diagnosis, scenario};
use propagation_report::graph::{self, Picture};
use propagation_report::text::{self, Detail, Style};
use propagation_report::{html, junit, markdown};

pub use frames::frames;

/// One thing that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as of the binary in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Takes any bytes. Panics when something that has to hold does not.
    pub run: fn(&[u8]),
    /// Inputs from the repository's own files.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "mountinfo", run: mountinfo, seeds: seeds::mountinfo },
    Target { name: "scenario", run: scenario, seeds: seeds::scenarios },
    Target { name: "report", run: report, seeds: seeds::reports },
    Target { name: "frames", run: frames, seeds: frames::seeds },
];

/// `/proc/PID/mountinfo`: what is read is printed so that it is read the same again.
pub fn mountinfo(bytes: &[u8]) {
    let Ok(table) = MountTable::parse(bytes) else { return };
    let printed = table.to_string();
    let again = MountTable::parse(printed.as_bytes());
    assert_eq!(again.as_ref(), Ok(&table), "printed as {printed:?}");
    let _ = diff(&table, &table);
    let graph = MountGraph::build([("a".into(), table.clone()), ("b".into(), table.clone())]);
    expect_plain(&graph.to_string());
    for entry in table.iter() {
        let _ = table.covering(&entry.mount_point);
    }
}

/// A scenario file: one that is accepted is written so that it is accepted the same again.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let plan = match scenario::parse("fuzz.yaml", text) {
        Ok(plan) => plan,
        Err(error) => {
            let words = error.to_string();
            assert!(words.contains("fuzz.yaml"), "an error without its place: {words}");
            return;
        }
    };
    let json = serde_json::to_value(&plan).expect("a plan is written");
    let again = scenario::from_value(json).expect("an accepted plan is accepted again");
    assert_eq!(again, plan);
}

/// A saved report: every rendering of it is text that a terminal, a browser and a CI system can be given.
pub fn report(bytes: &[u8]) {
    let Ok(report) = Report::from_json(bytes) else { return };
    let json = report.to_json().expect("a report is written");
    let again = Report::from_json(json.as_bytes()).expect("and read again");
    assert_eq!(again.to_json().expect("written"), json);
    let _ = diagnosis::explain(&report);
    for detail in [Detail::Brief, Detail::Normal, Detail::Full] {
        expect_plain(&text::render(&report, Style { width: Some(80), ..Style::plain(detail) }));
    }
    expect_plain(&markdown::render(&report));
    expect_plain(&junit::render(&report));
    expect_inert(&html::render(&report));
    if let Some(capture) = graph::telling(&report) {
        let picture = Picture::of(&report, capture);
        expect_plain(&graph::dot::render(&picture));
        expect_inert(&graph::svg::standalone(&picture));
    }
}

/// Nothing that a terminal would obey.
fn expect_plain(text: &str) {
    let bad = text.chars().find(|c| c.is_control() && *c != '\n');
    assert!(bad.is_none(), "{bad:?} in {text:?}");
}

/// Nothing that a browser would run or ask for.
fn expect_inert(text: &str) {
    expect_plain(text);
    let lower = text.to_ascii_lowercase();
    for bad in
        ["<script", "<iframe", "javascript:\"", "href=\"javascript:", " onload=", " onerror="]
    {
        assert!(!lower.contains(bad), "{bad:?} in {text:?}");
    }
}
