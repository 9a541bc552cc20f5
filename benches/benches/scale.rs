//! From 1 to 10,000 consumers: time and memory, of the tool and of the floor, in turns.

use std::io;
use std::path::Path;

use propagation_benches::machine::Neighbours;
use propagation_benches::memory::{Meter, Peak};
use propagation_benches::options;
use propagation_benches::statistics::Samples;
use propagation_benches::table::{Table, against, heading, milliseconds, note};
use propagation_benches::{run_floor, run_tool};

/// How many consumers, and how often.
const SIZES: [(u32, usize); 5] = [(1, 15), (10, 15), (100, 11), (1_000, 7), (10_000, 3)];

/// The project's limits for 10,000 consumers, and for the cost of one there against 1,000.
const LIMIT_MS: f64 = 5_000.0;
const LIMIT_BYTES: f64 = 1024.0 * 1024.0 * 1024.0;
const LIMIT_GROWTH: f64 = 1.5;

/// What was measured at one size.
#[derive(Default)]
struct Size {
    consumers: f64,
    verdict: Samples,
    whole: Samples,
    total: Samples,
    kernel: Samples,
    floor_whole: Samples,
    floor_total: Samples,
}

fn main() -> io::Result<()> {
    let floor = Path::new(env!("CARGO_BIN_EXE_floor"));
    let tool = run_tool::find(floor)?;
    let scratch = tempfile::tempdir()?;
    let meter = Meter::find();
    let most = options::number("most", 10_000);
    let neighbours = Neighbours::watch();
    let mut sizes = Vec::new();
    for (consumers, rounds) in SIZES.into_iter().filter(|(count, _)| *count as usize <= most) {
        sizes.push(measure(&tool, floor, scratch.path(), &meter, consumers, rounds)?);
    }
    heading(
        "scale",
        &[
            "The whole process of `propagation run --consumers N`, and `floor --consumers N`, in",
            "turns after one of each to warm up; medians. The tool starts half of its consumers",
            "before the mount, the floor one more than N in all. Cost per consumer: the time or",
            "memory beyond that of 1 consumer, by the number of further ones.",
            &format!("{}; {}.", meter.describe(), neighbours.describe()),
        ],
    );
    print_sizes(&sizes);
    print_costs(&sizes);
    Ok(())
}

fn measure(
    tool: &Path,
    floor: &Path,
    scratch: &Path,
    meter: &Meter,
    consumers: u32,
    rounds: usize,
) -> io::Result<Size> {
    let mut size = Size { consumers: f64::from(consumers), ..Size::default() };
    let count = consumers.to_string();
    for round in 0..=rounds {
        let arguments = ["--consumers", count.as_str()];
        let (run, peak) = meter.measure(|| run_tool::run(tool, scratch, &arguments))?;
        let (floor_run, floor_peak) = meter.measure(|| run_floor::run(floor, &arguments))?;
        if round == 0 {
            continue;
        }
        size.verdict.push(run.decided_ms);
        size.whole.push(run.ended_ms);
        size.total.push(bytes(peak));
        size.kernel.push(peak.kernel_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        size.floor_whole.push(floor_run.whole_ms);
        size.floor_total.push(bytes(floor_peak));
    }
    Ok(size)
}

fn bytes(peak: Peak) -> f64 {
    peak.total_bytes as f64
}

fn mebibytes(bytes: f64) -> String {
    if bytes.is_nan() { "not known".into() } else { format!("{:.1} MiB", bytes / 1024.0 / 1024.0) }
}

fn print_sizes(sizes: &[Size]) {
    let mut table = Table::new([
        "consumers",
        "rounds",
        "to the verdict",
        "whole process",
        "memory",
        "of it kernel",
        "floor",
        "floor's memory",
    ]);
    for size in sizes {
        table.row([
            size.consumers.to_string(),
            size.whole.len().to_string(),
            milliseconds(size.verdict.median()),
            milliseconds(size.whole.median()),
            mebibytes(size.total.median()),
            mebibytes(size.kernel.median()),
            milliseconds(size.floor_whole.median()),
            mebibytes(size.floor_total.median()),
        ]);
    }
    table.print();
}

fn print_costs(sizes: &[Size]) {
    let Some(first) = sizes.first() else { return };
    let cost = |size: &Size, what: fn(&Size) -> &Samples| {
        (what(size).median() - what(first).median()) / (size.consumers - first.consumers)
    };
    let mut table = Table::new([
        "cost of one consumer",
        "tool, whole",
        "tool, to the verdict",
        "floor",
        "tool / floor",
        "tool's memory",
        "floor's memory",
    ]);
    for size in sizes.iter().skip(1) {
        let (tool, floor) = (cost(size, |s| &s.whole), cost(size, |s| &s.floor_whole));
        let memory = |bytes: f64| format!("{:.1} KiB", bytes / 1024.0);
        table.row([
            format!("at {}", size.consumers),
            milliseconds(tool),
            milliseconds(cost(size, |s| &s.verdict)),
            milliseconds(floor),
            format!("{:.1}", tool / floor),
            memory(cost(size, |s| &s.total)),
            memory(cost(size, |s| &s.floor_total)),
        ]);
    }
    table.print();
    let find = |count: f64| sizes.iter().find(|size| size.consumers == count);
    let Some((thousand, most)) = find(1_000.0).zip(find(10_000.0)) else { return };
    let (wall, memory) = (most.whole.median(), most.total.median());
    let growth = cost(most, |s| &s.whole) / cost(thousand, |s| &s.whole);
    let floor_growth = cost(most, |s| &s.floor_whole) / cost(thousand, |s| &s.floor_whole);
    note(&format!(
        "Limits at 10,000: {} in {}: {}; {} of {}: {}.\nCost at 10,000 against that at 1,000: \
         {growth:.2}, limit {LIMIT_GROWTH}: {} (floor: {floor_growth:.2}).\n",
        milliseconds(wall),
        milliseconds(LIMIT_MS),
        against(wall, LIMIT_MS),
        mebibytes(memory),
        mebibytes(LIMIT_BYTES),
        against(memory, LIMIT_BYTES),
        against(growth, LIMIT_GROWTH),
    ));
}
