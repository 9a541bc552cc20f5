//! The same plans on the simulated node and on a node of a real cluster: per phase, every check and
//! the class of every observation have to be the same. Where they are not, one of them is wrong, or
//! the difference is a fact that is written down here with its reason.

use std::collections::BTreeMap;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions};
use propagation_conformance::{cluster_named, skip};
use propagation_core::observation::Via;
use propagation_core::plan::{Fault, Plan, Propagation, Role, StartOrder, Volume, WorkloadSpec};
use propagation_core::{Report, RunId, Runner};

/// What differs for a reason: a check by its phase and id, and why.
const KNOWN: [(&str, &str, &str); 2] = [
    ("host_setup", "user_allow_other", "the files of two hosts"),
    ("host_setup", "kernel", "the facts of two hosts"),
];

/// A plan and its name.
type Named = (&'static str, fn() -> Plan);

const PLANS: [Named; 6] = [
    ("the_default_plan", Plan::default),
    ("volumes_at_the_mountpoint", || consumers(|spec| spec.volume = Volume::Mountpoint)),
    ("volumes_above_the_bridge", || consumers(|spec| spec.volume = Volume::Ancestor)),
    ("private_consumers", || {
        let mut plan = consumers(|spec| spec.propagation = Propagation::None);
        plan.deadlines.marker_ms = 1_500;
        plan
    }),
    ("a_clean_end", || Plan::default().with(|plan| plan.fault = Fault::Terminate)),
    ("a_hung_daemon", || {
        let mut plan = Plan::default();
        plan.fault = Fault::Stop;
        plan.deadlines.probe_ms = 400;
        plan.workloads.push(
            WorkloadSpec::consumer("consumer-twice", StartOrder::BeforeMount)
                .with(|spec| spec.replicas = 2),
        );
        plan
    }),
];

fn consumers(change: impl Fn(&mut WorkloadSpec)) -> Plan {
    let mut plan = Plan::default();
    plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer).for_each(change);
    plan
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = PLANS.map(|(name, plan)| Trial::ignorable_test(name, move || compare(plan())));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Both answers, compared; skipped without a cluster, unless one is required.
fn compare(mut plan: Plan) -> Result<Completion, Failed> {
    if let Err(reason) = cluster_named() {
        return skip("k8s", reason);
    }
    let run = RunId::generate()?;
    plan.bridge.path = format!("/tmp/propagation-{run}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (local, cluster) = runtime.block_on(both(plan))?;
    let differences = differences(&local, &cluster);
    if differences.is_empty() {
        return Ok(Completion::Completed);
    }
    Err(differences.join("\n").into())
}

async fn both(plan: Plan) -> Result<(Report, Report), propagation_core::Error> {
    let local = propagation_backend_local::LocalBackend::new();
    let local = Runner::new(plan.clone())?.run(&local).await?;
    let mut options = K8sOptions::default();
    if let Some(config) = std::env::var_os("PROPAGATION_SSH_CONFIG") {
        options.access = Access::Ssh;
        options.ssh.config = Some(config.into());
    }
    let cluster = K8sBackend::connect(options).await?;
    let cluster = Runner::new(plan)?.run(&cluster).await?;
    Ok((local, cluster))
}

/// What a report says, without times and numbers.
fn answers(report: &Report) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    answers.insert("verdict".into(), report.verdict.outcome().as_str().to_owned());
    let smallest = report.measurements.smallest_intervention;
    answers.insert("smallest intervention".into(), format!("{smallest:?}"));
    for phase in &report.phases {
        answers.insert(format!("phase {}", phase.id), phase.status.as_str().into());
        for check in &phase.checks {
            if !KNOWN.iter().any(|(id, known, _)| *id == phase.id && *known == check.id.to_string())
            {
                let key = format!("check {} {}", phase.id, check.id);
                answers.insert(key, check.status.as_str().into());
            }
        }
    }
    // The runner's own looks, in their order; what programs notice by themselves depends on when
    // they look.
    for observation in report.timeline.iter().filter(|one| one.via == Via::Probe) {
        let key = format!(
            "seen in {} by {} as uid {}",
            observation.step, observation.actor, observation.uid
        );
        let class = observation.outcome.class();
        answers
            .entry(key)
            .and_modify(|seen| *seen = format!("{seen}, {class}"))
            .or_insert(class.to_string());
    }
    answers
}

fn differences(local: &Report, cluster: &Report) -> Vec<String> {
    let (local, cluster) = (answers(local), answers(cluster));
    let keys: std::collections::BTreeSet<&String> = local.keys().chain(cluster.keys()).collect();
    let none = "nothing".to_owned();
    keys.into_iter()
        .filter_map(|key| {
            let (here, there) =
                (local.get(key).unwrap_or(&none), cluster.get(key).unwrap_or(&none));
            (here != there).then(|| format!("{key}: {here} simulated, {there} on the cluster"))
        })
        .collect()
}
