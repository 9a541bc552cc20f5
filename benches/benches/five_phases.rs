//! The five phases: the tool as a user starts it, and the floor, in turns.

use std::io;
use std::path::Path;

use propagation_benches::machine::Neighbours;
use propagation_benches::options;
use propagation_benches::run_floor::{self, FloorRun};
use propagation_benches::run_tool::{self, ToolRun};
use propagation_benches::statistics::Samples;
use propagation_benches::table::{Table, against, heading, milliseconds, note};

/// The project's limits: from the start to the verdict, and in floors.
const LIMIT_MS: f64 = 40.0;
const LIMIT_FLOORS: f64 = 10.0;

/// Ways to run the floor.
const FLOORS: [(&str, &[&str]); 3] =
    [("floor", &[]), ("floor --pidns", &["--pidns"]), ("floor --processes", &["--processes"])];

fn main() -> io::Result<()> {
    let floor = Path::new(env!("CARGO_BIN_EXE_floor"));
    let tool = run_tool::find(floor)?;
    let scratch = tempfile::tempdir()?;
    let (pairs, warm_up) = (options::number("pairs", 100), options::number("warm-up", 5));

    let mut tools = Vec::new();
    let mut floors = vec![Vec::new(); FLOORS.len()];
    let neighbours = Neighbours::watch();
    for pair in 0..warm_up + pairs {
        let run = run_tool::run::<&str>(&tool, scratch.path(), &[])?;
        if pair >= warm_up {
            tools.push(run);
        }
        for ((_, arguments), runs) in FLOORS.iter().zip(&mut floors) {
            let run = run_floor::run(floor, arguments)?;
            if pair >= warm_up {
                runs.push(run);
            }
        }
    }
    heading(
        "five_phases",
        &[
            &format!("{pairs} rounds after {warm_up} to warm up; in each the tool runs once, then"),
            "the floor once in each way. The tool is a process, `propagation run`, from just before",
            "it is started; the verdict is timed by its line in the tool's log. The floor is such a",
            &format!(
                "process too, and times its phases itself besides; {}.",
                neighbours.describe()
            ),
        ],
    );
    print_times(&tools, &floors);
    print_ratios(&tools, &floors);
    print_stages(&tools);
    Ok(())
}

fn pick(tools: &[ToolRun], what: impl Fn(&ToolRun) -> f64) -> Samples {
    tools.iter().map(what).collect()
}

fn print_times(tools: &[ToolRun], floors: &[Vec<FloorRun>]) {
    let mut table = Table::new(["time", "median", "p99", "least"]);
    let mut row = |name: String, samples: &Samples| {
        table.row([
            name,
            milliseconds(samples.median()),
            milliseconds(samples.percentile(99)),
            milliseconds(samples.percentile(0)),
        ]);
    };
    let verdict = pick(tools, |run| run.decided_ms);
    row("tool: start to the verdict".into(), &verdict);
    row("tool: start to the first byte of the result".into(), &pick(tools, |run| run.printed_ms));
    row("tool: start to the end, all cleaned up".into(), &pick(tools, |run| run.ended_ms));
    for ((name, _), runs) in FLOORS.iter().zip(floors) {
        row(
            format!("{name}: start of the process to the end of the phases"),
            &runs.iter().map(|run| run.process_ms).collect(),
        );
        row(format!("{name}: five phases alone"), &runs.iter().map(|run| run.phases_ms).collect());
        row(format!("{name}: with its teardown"), &runs.iter().map(|run| run.whole_ms).collect());
    }
    table.print();
    let median = verdict.median();
    note(&format!(
        "Limit for the verdict {LIMIT_MS:.0} ms: {} ({:.1} ms, {:.0} % of it).\n",
        against(median, LIMIT_MS),
        median,
        100.0 * median / LIMIT_MS
    ));
}

fn print_ratios(tools: &[ToolRun], floors: &[Vec<FloorRun>]) {
    let mut table = Table::new([
        "tool / floor, pair by pair (median)",
        "both processes",
        "phases alone",
        "with the clean-up",
    ]);
    let verdict = pick(tools, |run| run.decided_ms);
    let ended = pick(tools, |run| run.ended_ms);
    let mut words = Vec::new();
    for ((name, _), runs) in FLOORS.iter().zip(floors) {
        let process = verdict.ratio_to(&runs.iter().map(|run| run.process_ms).collect()).median();
        let phases = verdict.ratio_to(&runs.iter().map(|run| run.phases_ms).collect()).median();
        let whole = ended.ratio_to(&runs.iter().map(|run| run.whole_ms).collect()).median();
        let shown = |ratio: f64| format!("{ratio:.1}");
        table.row([(*name).to_owned(), shown(process), shown(phases), shown(whole)]);
        words.push(format!("{} by `{name}`", against(process, LIMIT_FLOORS)));
    }
    table.print();
    note(&format!("Limit {LIMIT_FLOORS:.0} floors, process by process: {}.\n", words.join(", ")));
}

fn print_stages(tools: &[ToolRun]) {
    let mut table = Table::new(["where the tool's time goes (medians, by its log)", "time"]);
    let names = tools.first().map_or(&[][..], |run| &run.stages);
    for (name, _) in names {
        let times: Samples = tools
            .iter()
            .filter_map(|run| run.stages.iter().find(|stage| stage.0 == *name))
            .map(|(_, ms)| *ms)
            .collect();
        table.row([name.clone(), milliseconds(times.median())]);
    }
    table.print();
}
