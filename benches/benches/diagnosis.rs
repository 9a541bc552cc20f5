//! How long an explanation takes: of real runs, small and large.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::hint::black_box;
    use std::io;
    use std::time::Instant;

    use propagation_backend_local::LocalBackend;
    use propagation_benches::machine::Neighbours;
    use propagation_benches::options;
    use propagation_benches::statistics::Samples;
    use propagation_benches::table::{Table, against, heading, milliseconds};
    use propagation_core::diagnosis::explain;
    use propagation_core::plan::{Plan, StartOrder, Volume, WorkloadSpec};
    use propagation_core::{Report, Runner};

    /// The setups: what they are called, how many consumers, which volume they have, and the
    /// project's limit in milliseconds.
    const SETUPS: [(&str, u32, Volume, f64); 4] = [
        ("2 consumers, in order", 2, Volume::Bridge, 5.0),
        ("2 consumers, the mountpoint as volume", 2, Volume::Mountpoint, 5.0),
        ("10,000 consumers, in order", 10_000, Volume::Bridge, 500.0),
        ("10,000 consumers, the mountpoint as volume", 10_000, Volume::Mountpoint, 500.0),
    ];

    pub(super) fn main() -> io::Result<()> {
        let rounds = options::number("rounds", 200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let neighbours = Neighbours::watch();
        let mut table = Table::new(["explanation of", "observations", "median", "p99", "limit"]);
        for (name, consumers, volume, limit) in SETUPS {
            let report = runtime.block_on(run(consumers, &volume)).map_err(io::Error::other)?;
            let times = time(&report, rounds);
            table.row([
                format!("{name}: {}", ids(&report)),
                report.timeline.len().to_string(),
                milliseconds(times.median()),
                milliseconds(times.percentile(99)),
                format!("{limit:.0} ms, {}", against(times.percentile(99), limit)),
            ]);
        }
        heading(
            "Diagnosis",
            &[
                &format!("`explain` on the reports of real runs, {rounds} times each;"),
                &format!("{}.", neighbours.describe()),
            ],
        );
        table.print();
        Ok(())
    }

    fn ids(report: &Report) -> String {
        let ids: Vec<&str> = report.diagnosis.iter().map(|cause| cause.id.as_str()).collect();
        ids.join(", ")
    }

    async fn run(consumers: u32, volume: &Volume) -> Result<Report, propagation_core::Error> {
        let consumer = |name: &str, order| {
            WorkloadSpec::consumer(name, order).with(|spec| {
                spec.replicas = consumers / 2;
                spec.volume = volume.clone();
            })
        };
        let plan = Plan::default().with(|plan| {
            plan.workloads = vec![
                WorkloadSpec::producer(),
                consumer("consumer-early", StartOrder::BeforeMount),
                consumer("consumer-late", StartOrder::AfterMount),
                WorkloadSpec::control(),
            ];
            plan.deadlines.probe_ms = 20_000;
        });
        Runner::new(plan)?.run(&LocalBackend::new()).await
    }

    fn time(report: &Report, rounds: usize) -> Samples {
        let time = |_| {
            let started = Instant::now();
            black_box(explain(black_box(report)));
            started.elapsed().as_secs_f64() * 1e3
        };
        (0..rounds).map(time).collect()
    }
}
