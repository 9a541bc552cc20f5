//! How many single changes are tried in a second, after a run of the five phases that needs one.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::time::Duration;

    use propagation_backend_local::LocalBackend;
    use propagation_benches::machine::Neighbours;
    use propagation_benches::options;
    use propagation_benches::statistics::Samples;
    use propagation_benches::table::{Table, against, heading};
    use propagation_core::experiments::{self, Budget};
    use propagation_core::plan::{Plan, Propagation, StartOrder, Volume, WorkloadSpec};
    use propagation_core::{Error, Report, Runner};
    use tokio_util::sync::CancellationToken;

    /// The project's limit: changes that are tried within a second.
    const LIMIT: f64 = 100.0;

    /// The setups: what they are called, the volume and the propagation of the consumers.
    const SETUPS: [(&str, Volume, Propagation); 2] = [
        ("the mountpoint as volume", Volume::Mountpoint, Propagation::HostToContainer),
        ("private volumes", Volume::Bridge, Propagation::None),
    ];

    /// As many consumers as make enough changes to try.
    const CONSUMERS: usize = 8;

    pub(super) fn main() -> io::Result<()> {
        let rounds = options::number("rounds", 10);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let neighbours = Neighbours::watch();
        let mut table = Table::new(["experiments of", "changes", "tried in 1 s (median)", "limit"]);
        for (name, volume, propagation) in SETUPS {
            let report = runtime.block_on(run(&volume, propagation)).map_err(io::Error::other)?;
            let mut changes = 0;
            let mut counts = Vec::new();
            for _ in 0..rounds {
                let tried = runtime.block_on(within_a_second(&report));
                changes = tried.len();
                counts.push(tried.iter().filter(|one| one.tried().is_some()).count() as f64);
            }
            let median = counts.into_iter().collect::<Samples>().median();
            let verdict = against(LIMIT, median);
            table.row([
                name.to_owned(),
                changes.to_string(),
                format!("{median:.0}"),
                format!("{LIMIT:.0} or more, {verdict}"),
            ]);
        }
        heading(
            "Experiments",
            &[
                &format!("Single changes tried within 1 s, two at a time, {rounds} times each;"),
                &format!("{}.", neighbours.describe()),
            ],
        );
        table.print();
        Ok(())
    }

    async fn within_a_second(report: &Report) -> Vec<propagation_core::report::Experiment> {
        let budget = Budget::of(Duration::from_secs(1));
        experiments::run(report, &LocalBackend::new(), budget, &CancellationToken::new()).await
    }

    async fn run(volume: &Volume, propagation: Propagation) -> Result<Report, Error> {
        let mut plan = Plan::default();
        plan.workloads = vec![WorkloadSpec::producer()];
        for number in 0..CONSUMERS {
            let order =
                if number % 2 == 0 { StartOrder::BeforeMount } else { StartOrder::AfterMount };
            let mut consumer = WorkloadSpec::consumer(format!("consumer-{number}"), order);
            consumer.volume = volume.clone();
            consumer.propagation = propagation;
            plan.workloads.push(consumer);
        }
        plan.workloads.push(WorkloadSpec::control());
        plan.deadlines.marker_ms = 1_000;
        plan.deadlines.recovery_ms = 200;
        Runner::new(plan)?.run(&LocalBackend::new()).await
    }
}
