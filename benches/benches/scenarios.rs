//! Scenarios: the default matrix, what a scenario costs over the plain five phases, and the hand-over of a
//! FUSE descriptor under load.

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
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use propagation_backend_local::LocalBackend;
    use propagation_benches::memory::Meter;
    use propagation_benches::statistics::Samples;
    use propagation_benches::table::{Table, against, heading, milliseconds, note};
    use propagation_benches::{options, run_tool};
    use propagation_core::journal::HostChange;
    use propagation_core::marker::Marker;
    use propagation_core::plan::{Fault, Plan, Role, WorkloadSpec};
    use propagation_core::workload::Until;
    use propagation_core::{Backend, Error, Run, RunId};

    const MATRIX_LIMIT_S: f64 = 30.0;
    const OVERHEAD_LIMIT_PERCENT: f64 = 10.0;
    const HAND_OVER_LIMIT_MS: f64 = 5.0;

    pub(super) fn main() -> io::Result<()> {
        let tool = run_tool::find(Path::new(env!("CARGO_BIN_EXE_floor")))?;
        overhead(&tool)?;
        hand_over()?;
        matrix(&tool)
    }

    /// The same five phases, as options describe them and as a scenario file does.
    fn overhead(tool: &Path) -> io::Result<()> {
        let rounds = options::number("pairs", 60);
        let scratch = tempfile::tempdir()?;
        let file = scratch.path().join("five-phases.yaml");
        let phases = ["host_setup", "producer", "consumer", "stale_mount", "recovery"];
        let steps: String = phases.iter().map(|phase| format!("- phase: {phase}\n")).collect();
        std::fs::write(&file, format!("steps:\n{steps}"))?;
        let (mut plain, mut scenario) = (Samples::default(), Samples::default());
        for round in 0..rounds + 5 {
            let one = ended(tool, scratch.path(), &[])?;
            let other = ended(tool, scratch.path(), &["--scenario", &file.to_string_lossy()])?;
            if round >= 5 {
                plain.push(one);
                scenario.push(other);
            }
        }
        heading(
            "scenario overhead",
            &[
                &format!(
                    "{rounds} pairs after 5 to warm up: `propagation run`, then the same five phases as"
                ),
                "a scenario file; whole processes, from just before the start to the end.",
            ],
        );
        let mut table = Table::new(["whole process", "median", "p99"]);
        for (name, samples) in [("five phases", &plain), ("as a scenario file", &scenario)] {
            table.row([
                name.into(),
                milliseconds(samples.median()),
                milliseconds(samples.percentile(99)),
            ]);
        }
        table.print();
        let percent = 100.0 * (scenario.ratio_to(&plain).median() - 1.0);
        note(&format!(
            "Limit {OVERHEAD_LIMIT_PERCENT:.0} % more: {} ({percent:.1} %, median of the pairs).\n",
            against(percent, OVERHEAD_LIMIT_PERCENT)
        ));
        Ok(())
    }

    fn ended(tool: &Path, scratch: &Path, arguments: &[&str]) -> io::Result<f64> {
        let started = Instant::now();
        let status = Command::new(tool)
            .args(["run", "--log-dir"])
            .arg(scratch)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("the tool ended with {status}")));
        }
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// From the moment the kill is known to the moment the successor serves, under 8 readers and 2
    /// writers, none of whose operations may fail.
    fn hand_over() -> io::Result<()> {
        let rounds = options::number("rounds", 50);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut serves, mut longest, mut operations) = (Samples::default(), Samples::default(), 0);
        for _ in 0..rounds {
            let one = runtime.block_on(one_hand_over()).map_err(io::Error::other)?;
            if one.failed > 0 {
                return Err(io::Error::other(format!("{} operations failed", one.failed)));
            }
            serves.push(one.serves_ms);
            longest.push(one.longest_ms);
            operations += one.operations;
        }
        heading(
            "hand-over",
            &[
                &format!(
                    "{rounds} rounds through the library: kill under 8 readers and 2 writers, then a"
                ),
                "successor takes over the kept descriptor.",
            ],
        );
        let mut table = Table::new(["time", "median", "p99"]);
        for (name, samples) in [
            ("the kill is known -> the successor serves", &serves),
            ("the longest operation of a reader or writer", &longest),
        ] {
            table.row([
                name.into(),
                milliseconds(samples.median()),
                milliseconds(samples.percentile(99)),
            ]);
        }
        table.print();
        note(&format!(
            "{operations} operations, none failed. Limit {HAND_OVER_LIMIT_MS:.0} ms: {}.\n",
            against(serves.median(), HAND_OVER_LIMIT_MS)
        ));
        Ok(())
    }

    struct HandOver {
        serves_ms: f64,
        longest_ms: f64,
        operations: u64,
        failed: u64,
    }

    async fn one_hand_over() -> Result<HandOver, Error> {
        let busy = WorkloadSpec::new("app", Role::Consumer).with(|app| {
            app.readers = 8;
            app.writers = 2;
        });
        let plan = Plan::default().with(|plan| {
            plan.workloads = vec![WorkloadSpec::producer(), busy];
            plan.fuse.keeper = true;
        });
        let run = Run::new(RunId::generate()?);
        let node = LocalBackend::new().open(&plan, &run).await?;
        for path in [plan.bridge.path.clone(), plan.bridge.fuse_path()] {
            node.apply(&HostChange::MakeDirectory { path, owner: 0 }).await?;
        }
        let marker = |generation| Marker {
            started: "now".into(),
            generation,
            nonce: format!("nonce-{generation}"),
        };
        let within = Duration::from_secs(5);
        let start = async |spec: &WorkloadSpec| {
            let started = node.start(std::slice::from_ref(spec), &marker(1)).await?.pop();
            match started {
                Some(Ok(workload)) => Ok(workload),
                other => Err(Error::new(
                    propagation_core::ErrorKind::Internal,
                    "start",
                    format!("{:?}", other.map(|result| result.err())),
                )),
            }
        };
        let producer = start(&plan.workloads[0]).await?;
        producer.wait(Until::Mounted, within).await?;
        let app = start(&plan.workloads[1]).await?;
        app.wait(Until::SeesGeneration(1), within).await?;
        // What was met until here, by readers that came before the mount was there, does not count.
        app.load().await?;
        producer.inject(&Fault::Kill).await??;
        let killed = Instant::now();
        producer.hand_over(&marker(2)).await??;
        producer.wait(Until::Mounted, within).await?;
        let serves_ms = killed.elapsed().as_secs_f64() * 1e3;
        app.wait(Until::SeesGeneration(2), within).await?;
        let load = app.load().await?.unwrap_or_default();
        node.close().await;
        Ok(HandOver {
            serves_ms,
            longest_ms: load.longest_us as f64 / 1e3,
            operations: load.operations,
            failed: load.failed,
        })
    }

    /// The default matrix, as a user runs it.
    fn matrix(tool: &Path) -> io::Result<()> {
        let scratch = tempfile::tempdir()?;
        let memory = Meter::find();
        let started = Instant::now();
        let (output, peak) = memory.measure(|| {
            Command::new(tool)
                .args(["matrix", "--out"])
                .arg(scratch.path())
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(io::Error::other(format!(
                "the tool ended with {}:\n{text}",
                output.status
            )));
        }
        let cells = std::fs::read_to_string(scratch.path().join("cells.jsonl"))?.lines().count();
        heading("matrix", &["`propagation matrix` once, with all its results written."]);
        let mut table = Table::new(["cells", "time", "per cell", "memory (peak)"]);
        table.row([
            cells.to_string(),
            format!("{seconds:.1} s"),
            milliseconds(1e3 * seconds / cells as f64),
            format!("{:.1} MiB", peak.total_bytes as f64 / 1048576.0),
        ]);
        table.print();
        note(&format!("Limit {MATRIX_LIMIT_S:.0} s: {}.\n", against(seconds, MATRIX_LIMIT_S)));
        note(&text);
        Ok(())
    }
}
