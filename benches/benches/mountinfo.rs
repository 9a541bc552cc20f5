//! The parser and the mount graph on 50,000 lines of mountinfo.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput};
use propagation_benches::machine::Neighbours;
use propagation_benches::statistics::Samples;
use propagation_benches::table::{Table, against, heading, milliseconds, note};
use propagation_core::mountinfo::{MountGraph, MountRef, MountTable};

/// The project's limit for both, with 50,000 lines in all.
const LIMIT_MS: f64 = 100.0;

/// Namespaces and lines in each.
const SHAPES: [(usize, usize); 2] = [(1, 50_000), (10_000, 5)];

/// How often the whole is timed for the table; criterion's own numbers come before it.
const ROUNDS: usize = 50;

/// The texts of the namespaces: a root, a bridge, FUSE mounts in it. The first is the node, whose
/// mounts are shared; the mounts of the others are slaves of them. Every tenth path has escapes.
fn texts((namespaces, lines): (usize, usize)) -> Vec<(String, String)> {
    let mut mount_id = 20;
    let mut text_of = |namespace: usize| {
        let mut text = String::new();
        let root = mount_id;
        for line in 0..lines {
            let (parent, point) = match line {
                0 => (1, "/".to_owned()),
                1 => (root, "/mnt".to_owned()),
                _ if line % 10 == 2 => (root + 1, format!("/mnt/volume\\040{line}\\011of/dfs")),
                _ => (root + 1, format!("/mnt/volume-{line}/dfs")),
            };
            let tag = if namespace == 0 { "shared" } else { "master" };
            let kind = if line < 2 { "tmpfs tmpfs" } else { "fuse.propagation propagation-run" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{mount_id} {parent} 0:{} / {point} rw,nosuid,nodev,relatime {tag}:{} - {kind} \
                 rw,user_id=0,group_id=0,allow_other",
                line + 40,
                line + 1,
            );
            mount_id += 1;
        }
        text
    };
    (0..namespaces)
        .map(|namespace| (format!("namespace-{namespace}"), text_of(namespace)))
        .collect()
}

fn parse(texts: &[(String, String)]) -> Vec<(String, MountTable)> {
    let parse = |text: &String| MountTable::parse(text.as_bytes()).expect("well-formed");
    texts.iter().map(|(label, text)| (label.clone(), parse(text))).collect()
}

/// Everything that a run asks of captures: the tables, the graph, the index behind lookups, and who
/// hears of a mount made at the node's second line.
fn answer(texts: &[(String, String)]) -> usize {
    let tables = parse(texts);
    let found = tables.iter().filter(|(_, table)| table.at(&"/mnt".into()).is_some()).count();
    let bridge = MountRef::new("namespace-0", 21);
    found + MountGraph::build(tables).reach(&bridge).len()
}

fn main() {
    let neighbours = Neighbours::watch();
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::new(["50,000 lines", "size", "median", "p99", "of the limit"]);
    let mut words = Vec::new();
    for shape in SHAPES {
        let texts = texts(shape);
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let name = format!("{} namespaces x {} lines", shape.0, shape.1);
        bench(&mut criterion, &name, &texts, bytes);
        let times = time_whole(&texts);
        let median = times.median();
        table.row([
            name,
            format!("{:.1} MB", bytes as f64 / 1e6),
            milliseconds(median),
            milliseconds(times.percentile(99)),
            format!("{:.0} %", 100.0 * median / LIMIT_MS),
        ]);
        words.push(against(median, LIMIT_MS));
    }
    criterion.final_summary();
    heading(
        "mountinfo",
        &[
            &format!(
                "Parsing, the index of every table, the graph, and one question to it, {ROUNDS}"
            ),
            "times in this process, by one thread; criterion's numbers for the parts are above;",
            &format!("{}.", neighbours.describe()),
        ],
    );
    table.print();
    note(&format!("Limit {LIMIT_MS:.0} ms: {}.\n", words.join(", ")));
}

fn bench(criterion: &mut Criterion, name: &str, texts: &[(String, String)], bytes: usize) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
    group.bench_function("parse", |bencher| bencher.iter_with_large_drop(|| parse(texts)));
    group.bench_function("graph", |bencher| {
        let build = |tables: Vec<(String, MountTable)>| MountGraph::build(tables);
        bencher.iter_batched(|| parse(texts), build, BatchSize::PerIteration);
    });
    group.bench_function("parse, index, graph, question", |bencher| {
        bencher.iter(|| answer(black_box(texts)));
    });
    group.finish();
}

fn time_whole(texts: &[(String, String)]) -> Samples {
    let time = |_| {
        let started = Instant::now();
        black_box(answer(black_box(texts)));
        started.elapsed().as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(time).collect()
}
