//! What measuring costs beside fio: both read the same file of the same FUSE mount at the same rate, in turn.

use std::time::Duration;

use propagation_backend_local::LocalBackend;
use propagation_core::marker::Marker;
use propagation_core::observation::Actor;
use propagation_core::plan::{Action, Bridge, Looks, Plan, Propagation, Role, Step, WorkloadSpec};
use propagation_core::protocol::measure::{MEDIA_FILE, SpawnState, Spawned, Task, Work};
use propagation_core::{Backend, Node, Run, RunId};

use crate::fio::{Failed, Turn, of_fio, of_measuring};

/// Bytes for each second: a film of the highest quality.
const RATE: u64 = 16 << 20;

/// How long each of them reads, in milliseconds.
const TURN_MS: u64 = 3_000;

/// Size of the file: no turn reads all of it.
const BYTES: u64 = 64 << 20;

/// The agent, which executes what runs in a container.
const AGENT: &str = "/proc/self/exe";

/// Processor time of reading at a rate, as a share of one core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) measuring: f64,
    pub(crate) fio: f64,
    /// The median over turns of what measuring took more than fio.
    pub(crate) more: f64,
}

/// Medians over turns.
pub(crate) fn cost(turns: usize) -> Result<Cost, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let run = Run::new(RunId::generate()?);
        let plan = plan();
        let node = LocalBackend::new().open(&plan, &run).await?;
        let found = of_node(&*node, &plan, turns).await;
        node.close().await;
        found
    })
}

fn plan() -> Plan {
    let producer = WorkloadSpec::new("producer", Role::Consumer)
        .with(|spec| spec.propagation = Propagation::Bidirectional);
    let workloads = vec![producer, WorkloadSpec::new("consumer", Role::Consumer)];
    // Containers in which programs run have those of the machine.
    let steps = workloads.iter().map(|workload| {
        let (command, inside) = (vec![AGENT.into(), "version".into()], workload.name.clone());
        Step::from(Action::Execute { command, inside })
    });
    Plan::default().with(|plan| {
        plan.bridge = Bridge { path: "/srv/cost".into(), mountpoint: "fuse".into() };
        plan.steps = steps.collect();
        plan.workloads = workloads.clone();
        plan.looks = Looks::Asked;
    })
}

async fn of_node(node: &dyn Node, plan: &Plan, turns: usize) -> Result<Cost, Failed> {
    let (producer, consumer) = (Actor::workload("producer"), Actor::workload("consumer"));
    let bytes = BYTES.to_string();
    let set = ["dataset", "/srv/cost/data", "--entries", "1", "--bytes", &bytes];
    execute(node, &Actor::Node, AGENT, &set).await?;
    let marker = Marker { started: String::new(), generation: 1, nonce: "cost".into() };
    let started = node.start(&plan.workloads, &marker).await?;
    let _containers = started
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|refused| Failed::from(refused.to_string()))?;
    let spawn = ["spawn", "--tag", "cost", "--log", "/tmp/log", "--mounted", "/mnt/fuse"];
    let mirror = ["--", AGENT, "mirror", "/mnt/data", "--mountpoint", "/mnt/fuse"];
    let printed = execute(node, &producer, AGENT, &[&spawn[..], &mirror].concat()).await?;
    let spawned: Spawned = serde_json::from_str(&printed)?;
    if spawned.state != SpawnState::Ready {
        return Err(format!("the filesystem does not stand: {spawned:?}").into());
    }
    let mut pairs = Vec::new();
    for turn in 0..turns {
        pairs.push(if turn % 2 == 0 {
            let own = measuring(node, &consumer).await?;
            (own, fio(node, &consumer).await?)
        } else {
            let fio = fio(node, &consumer).await?;
            (measuring(node, &consumer).await?, fio)
        });
    }
    let middle = |of: fn(&(Turn, Turn)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    // One that could not keep the rate has not done the same.
    let kept = |turn: &Turn| (0.8..=1.2).contains(&(turn.rate * 1e9 / RATE as f64));
    if !pairs.iter().any(|(own, fio)| kept(own) && kept(fio)) {
        return Err(format!("the rate was not kept: {pairs:#?}").into());
    }
    Ok(Cost {
        measuring: middle(|(own, _)| own.core()),
        fio: middle(|(_, fio)| fio.core()),
        more: middle(|(own, fio)| own.core() - fio.core()),
    })
}

async fn measuring(node: &dyn Node, consumer: &Actor) -> Result<Turn, Failed> {
    let work = Work::Play { bytes_per_s: RATE, duration_ms: TURN_MS };
    let task = Task { directory: "/mnt/fuse".into(), entries: 1, deadline_ms: 60_000, work };
    let task = serde_json::to_string(&task)?;
    of_measuring(execute(node, consumer, AGENT, &["measure", &task]).await?.as_bytes())
}

async fn fio(node: &dyn Node, consumer: &Actor) -> Result<Turn, Failed> {
    let words = [
        "--name=play".to_owned(),
        "--ioengine=psync".into(),
        "--thread".into(),
        "--invalidate=0".into(),
        "--readonly".into(),
        "--rw=read".into(),
        "--bs=128k".into(),
        "--output-format=json".into(),
        format!("--filename=/mnt/fuse/{MEDIA_FILE}"),
        format!("--size={BYTES}"),
        format!("--rate={RATE}"),
        "--time_based".into(),
        format!("--runtime={TURN_MS}ms"),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let printed = execute(node, consumer, "fio", &words).await?;
    // Notes come before.
    of_fio(&printed.as_bytes()[printed.find('{').ok_or("fio printed no JSON")?..])
}

async fn execute(
    node: &dyn Node,
    actor: &Actor,
    program: &str,
    words: &[&str],
) -> Result<String, Failed> {
    let command: Vec<String> =
        std::iter::once(program).chain(words.iter().copied()).map(str::to_owned).collect();
    let executed = node.execute(actor, &command, Duration::from_secs(60)).await?;
    let executed = executed.map_err(|refused| Failed::from(refused.reason))?;
    match executed.exit_code() {
        Some(0) => Ok(executed.output),
        _ => Err(format!("{program}: {executed:?}").into()),
    }
}
