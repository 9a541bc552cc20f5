//! The explanation and all renderings of a report: of 4 actors, and of 10,000 consumers.

use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use propagation_benches::machine::Neighbours;
use propagation_benches::statistics::Samples;
use propagation_benches::table::{Table, against, heading, milliseconds, note};
use propagation_core::Report;
use propagation_core::diagnosis::explain;
use propagation_core::observation::{Actor, Observation, Via};
use propagation_report::graph::{self, Picture};
use propagation_report::text::{Detail, Style};
use propagation_report::{html, junit, markdown, text};

/// Consumers, the project's limit for them in milliseconds, and how often the whole is timed.
const SIZES: [(u32, f64, usize); 2] = [(2, 20.0, 200), (10_000, 1_000.0, 20)];

/// The project's limit for a page, in bytes.
const PAGE_LIMIT: usize = 5_000_000;

/// A run of the five phases with four actors, as it was saved.
const SAVED: &str = include_str!("../../crates/propagation-report/src/fixtures/full_success.json");

/// That run with so many consumers. What was looked at of the two is there for all of them.
fn report(consumers: u32) -> Report {
    let mut report = Report::from_json(SAVED.as_bytes()).expect("a report");
    let each = consumers / 2;
    let copies = |observation: &Observation| -> Vec<Observation> {
        match (&observation.actor, observation.via) {
            (Actor::Workload { name, .. }, Via::Probe) if name.starts_with("consumer-") => (0
                ..each)
                .map(|replica| Observation {
                    actor: Actor::Workload { name: name.clone(), replica },
                    ..observation.clone()
                })
                .collect(),
            _ => vec![observation.clone()],
        }
    };
    report.timeline = report.timeline.iter().flat_map(copies).collect();
    for workload in &mut report.plan.workloads {
        if workload.name.starts_with("consumer-") {
            workload.replicas = each;
        }
    }
    report
}

fn drawing(report: &Report) -> (String, String) {
    let capture = graph::telling(report).expect("mount tables");
    let picture = Picture::of(report, capture);
    (graph::dot::render(&picture), graph::svg::standalone(&picture))
}

/// Everything that `run --report` makes of a report; the size of the page.
fn everything(report: &Report) -> usize {
    black_box(explain(report));
    black_box(text::render(report, Style::plain(Detail::Full)));
    black_box(report.to_json().expect("JSON"));
    black_box(markdown::render(report));
    black_box(junit::render(report));
    black_box(drawing(report));
    black_box(html::render(report)).len()
}

fn main() {
    let neighbours = Neighbours::watch();
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::new(["consumers", "observations", "median", "p99", "limit", "page"]);
    let mut words = Vec::new();
    for (consumers, limit_ms, rounds) in SIZES {
        let report = report(consumers);
        bench(&mut criterion, &format!("{consumers} consumers"), &report);
        let page = everything(&report);
        let time = |_| {
            let started = Instant::now();
            black_box(everything(black_box(&report)));
            started.elapsed().as_secs_f64() * 1e3
        };
        let times: Samples = (0..rounds).map(time).collect();
        table.row([
            consumers.to_string(),
            report.timeline.len().to_string(),
            milliseconds(times.median()),
            milliseconds(times.percentile(99)),
            milliseconds(limit_ms),
            format!("{:.0} kB", page as f64 / 1e3),
        ]);
        words.push(against(times.median(), limit_ms).to_owned());
        words.push(format!("page {}", against(page as f64, PAGE_LIMIT as f64)));
    }
    criterion.final_summary();
    heading(
        "render",
        &[
            "The explanation, and the report as text, JSON, Markdown, JUnit XML, DOT, SVG and HTML;",
            "times in this process, by one thread; criterion's numbers for the parts are above;",
            &format!("{}.", neighbours.describe()),
        ],
    );
    table.print();
    note(&format!("{}.\n", words.join(", ")));
}

fn bench(criterion: &mut Criterion, name: &str, report: &Report) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.bench_function("explain", |bencher| bencher.iter(|| explain(report)));
    group.bench_function("text", |bencher| {
        bencher.iter(|| text::render(report, Style::plain(Detail::Full)));
    });
    group.bench_function("json", |bencher| bencher.iter(|| report.to_json()));
    group.bench_function("markdown", |bencher| bencher.iter(|| markdown::render(report)));
    group.bench_function("junit", |bencher| bencher.iter(|| junit::render(report)));
    group.bench_function("dot, svg", |bencher| bencher.iter(|| drawing(report)));
    group.bench_function("html", |bencher| bencher.iter(|| html::render(report)));
    group.finish();
}
