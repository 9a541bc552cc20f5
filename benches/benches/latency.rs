//! How soon consumers notice: from the mount, the kill and the new mount to a consumer's own read.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::path::Path;

    use propagation_backend_local::LocalBackend;
    use propagation_benches::machine::Neighbours;
    use propagation_benches::statistics::Samples;
    use propagation_benches::table::{Table, heading, milliseconds};
    use propagation_benches::{options, run_floor};
    use propagation_core::observation::{Actor, Via};
    use propagation_core::{Class, Errno, Plan, Report, Runner, VerdictOutcome};

    /// What is measured: from what to what, which run of a report tells, and which of the floor's
    /// numbers belongs to it.
    struct Latency {
        name: &'static str,
        of_report: fn(&Report) -> Option<f64>,
        of_floor: Option<usize>,
        tool: Samples,
        floor: Samples,
    }

    impl Latency {
        fn new(
            name: &'static str,
            of_report: fn(&Report) -> Option<f64>,
            of_floor: Option<usize>,
        ) -> Self {
            Self { name, of_report, of_floor, tool: Samples::default(), floor: Samples::default() }
        }
    }

    pub(super) fn main() -> io::Result<()> {
        let rounds = options::number("rounds", 200);
        let warm_up = 5;
        let floor = Path::new(env!("CARGO_BIN_EXE_floor"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut latencies = [
            Latency::new("mount -> a consumer's own first read", mount_to_read, Some(0)),
            Latency::new("kill -> the first consumer's own ENOTCONN", first_breakage, Some(1)),
            Latency::new("kill -> the last consumer's own ENOTCONN", last_breakage, None),
            Latency::new("new mount -> the last consumer's fresh read", remount_to_read, Some(2)),
        ];
        let neighbours = Neighbours::watch();
        for round in 0..warm_up + rounds {
            let report = runtime.block_on(run()).map_err(io::Error::other)?;
            if !report.verdict.is(VerdictOutcome::FullSuccess) {
                return Err(io::Error::other(report.verdict.summary().to_owned()));
            }
            let floors = run_floor::run(floor, &["--processes"])?.latencies_ms;
            for latency in latencies.iter_mut().filter(|_| round >= warm_up) {
                if let Some(value) = (latency.of_report)(&report) {
                    latency.tool.push(value);
                }
                if let Some((values, which)) = floors.zip(latency.of_floor) {
                    latency.floor.push(values[which]);
                }
            }
        }
        heading(
            "latency",
            &[
                &format!(
                    "{rounds} runs of the five phases through the library, after {warm_up} to"
                ),
                "warm up, with `floor --processes` after each. Times are on the kernel's monotonic",
                "clock, taken by the processes themselves: after mount(2) by the producer, before",
                "the request to kill it by the runner, after the read by the consumer. Consumers of",
                "the tool wait for mount events and for the end of the descriptor they hold, the",
                &format!("floor's are told to read at once; {}.", neighbours.describe()),
            ],
        );
        print(&latencies);
        Ok(())
    }

    async fn run() -> Result<Report, propagation_core::Error> {
        Runner::new(Plan::default())?.run(&LocalBackend::new()).await
    }

    fn mount_to_read(report: &Report) -> Option<f64> {
        report.measurements.mount_to_visible_ms.first().copied()
    }

    fn last_breakage(report: &Report) -> Option<f64> {
        report.measurements.fault_to_breakage_ms
    }

    fn remount_to_read(report: &Report) -> Option<f64> {
        report.measurements.remount_to_fresh_read_ms
    }

    /// The measurement counts to the last consumer's notice; the timeline has all of them.
    fn first_breakage(report: &Report) -> Option<f64> {
        let consumers = report.plan.with_role(propagation_core::plan::Role::Consumer);
        let own: Vec<Actor> = consumers.map(|spec| Actor::workload(&spec.name)).collect();
        let notices = report.timeline.iter().filter(|seen| {
            let broken = seen.outcome.class() == Class::Errno(Errno::ENOTCONN);
            broken && seen.via == Via::Watch && own.contains(&seen.actor)
        });
        let at_us: Vec<u64> = notices.map(|seen| seen.at_us).collect();
        let (first, last) = (at_us.iter().min()?, at_us.iter().max()?);
        Some(last_breakage(report)? - (last - first) as f64 / 1e3)
    }

    fn print(latencies: &[Latency]) {
        let mut table =
            Table::new(["from -> to", "rounds", "median", "p99", "floor", "floor's p99"]);
        for latency in latencies {
            let floor = |percent| match latency.floor.is_empty() {
                true => String::from("-"),
                false => milliseconds(latency.floor.percentile(percent)),
            };
            table.row([
                latency.name.to_owned(),
                latency.tool.len().to_string(),
                milliseconds(latency.tool.median()),
                milliseconds(latency.tool.percentile(99)),
                floor(50),
                floor(99),
            ]);
        }
        table.print();
    }
}
