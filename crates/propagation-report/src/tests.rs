//! The renderings, on reports of real runs and on hostile ones.

use std::sync::OnceLock;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::graph::{self, Picture};
use super::text::{Detail, Style};
use super::{html, junit, markdown, text};
use propagation_model::report::{Report, SCHEMA_VERSION};

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_str!(concat!("fixtures/", $name, ".json")))
    };
}

const FIXTURES: [(&str, &str); 5] = [
    fixture!("full_success"),
    fixture!("mountpoint_volume"),
    fixture!("stopped_daemon"),
    fixture!("consumer_none"),
    fixture!("private_host"),
];

fn reports() -> Vec<(&'static str, Report)> {
    let read = |json: &str| Report::from_json(json.as_bytes()).expect("a report of this schema");
    FIXTURES.iter().map(|(name, json)| (*name, read(json))).collect()
}

pub(crate) fn report(name: &str) -> Report {
    let found = reports().into_iter().find(|(found, _)| *found == name);
    found.expect("a fixture of that name").1
}

fn picture(report: &Report) -> Picture {
    graph::telling(report).map(|capture| Picture::of(report, capture)).unwrap_or_default()
}

/// Every rendering by its name.
fn renderings(report: &Report) -> Vec<(&'static str, String)> {
    let picture = picture(report);
    vec![
        ("text", text::render(report, Style::plain(Detail::Full))),
        ("json", report.to_json().expect("JSON")),
        ("markdown", markdown::render(report)),
        ("html", html::render(report)),
        ("junit", junit::render(report)),
        ("dot", graph::dot::render(&picture)),
        ("svg", graph::svg::standalone(&picture)),
        ("tree", picture.to_string()),
    ]
}

#[test]
fn every_rendering_of_every_report_names_its_verdict() {
    for (name, report) in reports() {
        for (format, rendered) in renderings(&report) {
            assert!(!rendered.is_empty(), "{name} as {format}");
            let words = match format {
                "html" => report.verdict.outcome().as_str().replace('_', " "),
                "dot" | "svg" | "tree" => continue,
                _ => report.verdict.outcome().as_str().to_owned(),
            };
            assert!(rendered.to_lowercase().contains(&words), "{name} as {format}");
        }
    }
}

#[test]
fn renderings_are_as_they_were() {
    for name in ["mountpoint_volume", "stopped_daemon", "consumer_none", "private_host"] {
        let report = report(name);
        for (format, rendered) in renderings(&report) {
            if matches!(format, "json" | "html") {
                continue;
            }
            insta::assert_snapshot!(format!("{name}.{format}"), rendered);
        }
    }
}

#[test]
fn the_page_is_as_it_was() {
    let page = html::render(&report("mountpoint_volume"));
    let (head, rest) = page.split_once("<style>").expect("a style sheet");
    let (_, body) = rest.split_once("</style>").expect("its end");
    // One line for each element: a change of one shows as a change of one.
    insta::assert_snapshot!(
        "mountpoint_volume.html",
        format!("{head}{body}").replace("><", ">\n<")
    );
}

#[test]
fn a_report_of_another_schema_is_refused() {
    let written = format!("\"schema_version\": {SCHEMA_VERSION}");
    for other in [1, 99] {
        let version = format!("\"schema_version\": {other}");
        let json = FIXTURES[0].1.replacen(&written, &version, 1);
        let error = Report::from_json(json.as_bytes()).expect_err("another schema");
        assert!(error.to_string().contains(&format!("schema_version {other}")), "{error}");
        assert!(error.fix().is_some());
    }
}

#[test]
fn broken_and_deaf_links_are_found() {
    let standing = |name: &str, actor: &str| {
        let picture = picture(&report(name));
        let card = picture.cards.iter().find(|card| card.names.iter().any(|name| name == actor));
        card.map(|card| card.standing.clone()).expect("the actor is in the picture")
    };
    use graph::Standing::{Broken, Deaf, Good};
    assert!(matches!(standing("mountpoint_volume", "consumer-late"), Broken(_)));
    assert_eq!(standing("mountpoint_volume", "consumer-early"), Good);
    assert!(matches!(standing("consumer_none", "consumer-early"), Broken(_)));
    assert!(matches!(standing("consumer_none", "consumer-late"), Deaf(_)));
    for actor in ["node", "producer", "consumer-early", "consumer-late", "control"] {
        assert_eq!(standing("full_success", actor), Good, "{actor}");
    }
}

/// Markup of every kind, control and direction characters, and a tail longer than any path.
fn hostile() -> String {
    let head = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`]]>&lt;--><!-- |a|\u{202e}\
                \u{1b}[31m\u{0}\r\n\u{2028}\u{fffe}${x}</pre></style></svg>";
    format!("{head}{}", "long ".repeat(900))
}

/// A real report in which every text that may be anything is hostile.
fn hostile_report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(make_hostile)
}

fn make_hostile() -> Report {
    let mut json: Value = serde_json::from_str(FIXTURES[1].1).expect("JSON");
    // A few of each are enough, and every field of them is tried.
    for (list, length) in [("captures", 5), ("timeline", 12), ("logs", 2)] {
        json[list].as_array_mut().expect(list).truncate(length);
    }
    let mut pointers = Vec::new();
    strings(&json, String::new(), &mut pointers);
    let payload = hostile();
    let mut replaced = 0;
    for pointer in pointers {
        let place = json.pointer_mut(&pointer).expect("it was found there");
        let before = std::mem::replace(place, payload.clone().into());
        if serde_json::from_value::<Report>(json.clone()).is_ok() {
            replaced += 1;
        } else {
            // A word of a fixed set, a device number, a path in its notation.
            *json.pointer_mut(&pointer).expect("it was found there") = before;
        }
    }
    assert!(replaced > 100, "only {replaced} texts could be replaced");
    serde_json::from_value(json).expect("a report")
}

fn strings(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, item)| strings(item, format!("{at}/{n}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| strings(field, format!("{at}/{name}"), found));
        }
        _ => {}
    }
}

#[test]
fn hostile_texts_stay_texts() {
    for (format, rendered) in renderings(hostile_report()) {
        if format == "json" {
            continue;
        }
        let bad = rendered.chars().find(|c| {
            *c != '\n'
                && (c.is_control()
                    || matches!(*c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{fffe}'))
        });
        assert_eq!(bad, None, "{format} has a character that does not show");
        if matches!(format, "html" | "svg" | "junit") {
            for tag in ["<script", "<img", "</pre></style>", "]]>"] {
                assert!(!rendered.contains(tag), "{format} has {tag}");
            }
        }
    }
}

#[test]
fn a_table_of_markdown_keeps_its_columns() {
    let markdown = markdown::render(hostile_report());
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut columns = None;
    for line in markdown.lines() {
        if !line.starts_with('|') {
            columns = None;
        } else if *columns.get_or_insert(bars(line)) != bars(line) {
            panic!("a row has other columns than its table: {line:.200}");
        }
    }
}

#[test]
fn what_a_run_has_left_is_in_every_rendering() {
    let mut report = report("full_success");
    report.cleanup.could_not = vec!["clean node w1: it does not answer".into()];
    for (format, rendered) in renderings(&report) {
        if !matches!(format, "dot" | "svg" | "tree") {
            assert!(rendered.contains("clean node w1: it does not answer"), "{format}: {rendered}");
        }
    }
    let mut several = junit::Several::default();
    several.add("one", &report);
    for (xml, suite) in [(junit::render(&report), "clean_up"), (several.finish(), "one/clean_up")] {
        assert!(xml.contains(&format!("<testsuite name=\"{suite}\"")), "{xml}");
        assert!(
            xml.contains("errors=\"1\"") && xml.contains("<error message=\"clean node"),
            "{xml}"
        );
    }
}

#[test]
fn xml_is_well_formed() {
    for (name, report) in [("hostile", hostile_report().clone())].into_iter().chain(reports()) {
        let svg = graph::svg::standalone(&picture(&report));
        for xml in [junit::render(&report), svg] {
            let mut reader = Reader::from_str(&xml);
            reader.config_mut().check_end_names = true;
            let mut depth = 0_i32;
            loop {
                match reader
                    .read_event()
                    .unwrap_or_else(|error| panic!("{name}: {error}\n{xml:.300}"))
                {
                    Event::Start(tag) => {
                        depth += 1;
                        for attribute in tag.attributes() {
                            attribute.expect("attributes are quoted and unique");
                        }
                    }
                    Event::End(_) => depth -= 1,
                    Event::Eof => break,
                    _ => {}
                }
            }
            assert_eq!(depth, 0, "{name}: every element is closed");
        }
    }
}

#[test]
fn many_consumers_are_summarised() {
    let report = crowd(1_000);
    let picture = picture(&report);
    assert!(picture.cards.len() < 8, "{} cards", picture.cards.len());
    assert!(picture.cards.iter().any(|card| card.title().ends_with(" alike")));
    let page = html::render(&report);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

/// A report in which the late consumer is there `count` times, each with a mount table of its own.
fn crowd(count: u32) -> Report {
    use propagation_model::observation::Actor;
    let mut report = report("full_success");
    let late = |replica| Actor::Workload { name: "consumer-late".into(), replica };
    for capture in &mut report.captures {
        let Some(table) = capture.table(&late(0)).cloned() else { continue };
        capture.tables.extend((1..count).map(|replica| {
            propagation_model::report::ActorTable::new(late(replica), table.clone())
        }));
    }
    let seen: Vec<_> = report.timeline.iter().filter(|o| o.actor == late(0)).cloned().collect();
    report.timeline.extend((1..count).flat_map(|replica| {
        let of = move |o: &propagation_model::observation::Observation| {
            propagation_model::observation::Observation { actor: late(replica), ..o.clone() }
        };
        seen.iter().map(of).collect::<Vec<_>>()
    }));
    report
}
