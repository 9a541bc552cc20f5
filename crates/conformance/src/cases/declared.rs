//! One case for every fault, repair and access that a node declares, made from the sets: each is done in its own
//! scenario, and its effect must be seen.

use propagation_core::observation::Access;
use propagation_core::plan::{
    Action, Expected, Fault, FaultKind, FuseSpec, Looks, Names, Plan, Propagation, Repair, Stale,
    StartOrder, Step, Volume,
};
use propagation_core::report::Status;
use propagation_core::verdict::ScenarioOutcome;
use propagation_core::{Class, Errno, RunOutcome, Runner};

use super::{consumer, early};
use crate::case::{Case, Does};
use crate::failure::{Checked, Failure, ensure};
use crate::lab::{DEAD, Lab};
use crate::need::Need;

/// The cases, of everything that can be declared.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    let faults = FaultKind::ALL.iter().map(|fault| made(Does::Fault(*fault)));
    // Waiting asks a node for nothing.
    let repairs = Repair::ALL.into_iter().filter(|repair| *repair != Repair::Wait);
    let repairs = repairs.map(|repair| made(Does::Repair(repair)));
    let accesses = Access::ALL.into_iter().map(|access| made(Does::Access(access)));
    faults.chain(repairs).chain(accesses)
}

/// A case, with what it needs beyond its subject.
fn made(does: Does) -> Case {
    Case::made(
        does,
        match does {
            Does::Fault(FaultKind::Continue) => &[Need::STOP_FAULT],
            Does::Repair(Repair::HandOver) => &[Need::KEEPER],
            _ => &[],
        },
    )
}

/// Does a fault, and sees that it has happened, and no other.
pub(crate) async fn fault(lab: &Lab, kind: FaultKind) -> Checked {
    /// What a look may take: far below what a daemon is told to wait.
    const PROBE_MS: u64 = 500;
    let plain = || lab.plan_of(&[early()]);
    let both =
        |class: Class| vec![("node", Expected::from(class)), ("early", Expected::from(class))];
    let mut plan = plain();
    plan.steps = vec![start(both(Class::Ok))];
    let mut does = |fault: Fault, expect| plan.steps.push(step(Action::Fault(fault), expect));
    match kind {
        FaultKind::Kill | FaultKind::KillParent | FaultKind::Oom | FaultKind::Abort => {
            does(kind.sample(), both(DEAD));
        }
        FaultKind::Terminate | FaultKind::Exit | FaultKind::Delete | FaultKind::ForceDelete => {
            does(kind.sample(), both(Class::Absent));
        }
        FaultKind::Stop => {
            does(kind.sample(), both(Class::Hang));
            plan.deadlines.probe_ms = PROBE_MS;
        }
        FaultKind::Continue => {
            does(Fault::Stop, both(Class::Hang));
            does(kind.sample(), both(Class::Ok));
            plan.deadlines.probe_ms = PROBE_MS;
        }
        FaultKind::Slow => {
            does(Fault::slow(4 * PROBE_MS), both(Class::Hang));
            does(Fault::slow(0), vec![]);
            plan.deadlines.probe_ms = PROBE_MS;
        }
        FaultKind::Errors => {
            does(Fault::errors(Errno::EIO), both(Class::Errno(Errno::EIO)));
            does(Fault::errors(Errno::NONE), both(Class::Ok));
        }
        // Who reads keeps a mount in use.
        FaultKind::Unmount | FaultKind::LazyUnmount => {
            plan = lab.plan_of(&[]);
            plan.steps = vec![
                start(vec![("node", Class::Ok.into())]),
                step(Action::Fault(kind.sample()), vec![("node", Class::Absent.into())]),
            ];
        }
    }
    as_expected(lab, plan).await
}

/// Does a repair where it is needed, and sees that it has helped.
pub(crate) async fn repair(lab: &Lab, repair: Repair) -> Checked {
    let fresh = |layers: u64| Expected { layers: Some(layers), ..Class::Ok.into() };
    let then = |repair, expect| step(Action::Repair(repair), expect);
    let stack = FuseSpec { stale: Stale::Stack, ..FuseSpec::default() };
    let killed = |expect| step(Action::Fault(Fault::Kill), expect);
    let plan = match repair {
        Repair::Wait => return Err(Failure::not_applicable("a node is asked for nothing")),
        Repair::Remount => lab.plan_of(&[early()]).with(|plan| {
            plan.steps = vec![
                start(vec![("early", Class::Ok.into())]),
                killed(vec![("early", DEAD.into())]),
                then(repair, vec![("node", fresh(1)), ("early", fresh(1))]),
            ]
        }),
        Repair::MountOnTop => lab.plan_of(&[early()]).with(|plan| {
            plan.steps = vec![
                start(vec![("early", Class::Ok.into())]),
                killed(vec![("early", DEAD.into())]),
                then(repair, vec![("node", fresh(2)), ("early", fresh(2))]),
            ]
        }),
        // The producer would mount on top of what is there. Who reads keeps a mount in use.
        Repair::UnmountMount => lab.plan_of(&[]).with(|plan| {
            plan.fuse = stack;
            plan.steps = vec![
                start(vec![("node", Class::Ok.into())]),
                killed(vec![("node", DEAD.into())]),
                then(repair, vec![("node", fresh(1))]),
            ];
        }),
        Repair::LazyUnmountMount => lab.plan_of(&[early()]).with(|plan| {
            plan.fuse = stack;
            plan.steps = vec![
                start(vec![("early", Class::Ok.into())]),
                killed(vec![("early", DEAD.into())]),
                then(repair, vec![("node", fresh(1)), ("early", fresh(1))]),
            ];
        }),
        Repair::RebindHost => lab.plan_of(&[early()]).with(|plan| {
            plan.steps = vec![
                start(vec![("early", fresh(1))]),
                then(repair, vec![("node", fresh(2)), ("early", fresh(2))]),
            ]
        }),
        Repair::RebindHostDeduplicated => lab.plan_of(&[early()]).with(|plan| {
            plan.fuse = stack;
            plan.steps = vec![
                start(vec![("early", Class::Ok.into())]),
                killed(vec![("early", DEAD.into())]),
                then(Repair::Remount, vec![("node", fresh(2))]),
                then(repair, vec![("node", fresh(1))]),
            ];
        }),
        Repair::HandOver => lab.plan_of(&[early()]).with(|plan| {
            plan.fuse = FuseSpec { keeper: true, ..FuseSpec::default() };
            plan.steps = vec![
                start(vec![("early", Class::Ok.into())]),
                step(Action::Fault(Fault::Kill), vec![]),
                then(repair, vec![("node", fresh(1)), ("early", fresh(1))]),
            ];
        }),
        Repair::ReconnectConsumer => {
            let mode = Propagation::None;
            let private = consumer("private", StartOrder::BeforeMount, mode, Volume::Bridge);
            let remounted = |expect| then(Repair::Remount, expect);
            lab.plan_of(&[private]).with(|plan| {
                plan.steps = vec![
                    start(vec![("node", Class::Ok.into()), ("private", Class::Absent.into())]),
                    then(repair, vec![("private", Class::Ok.into())]),
                    killed(vec![("private", DEAD.into())]),
                    remounted(vec![("private", Class::Ok.into())]),
                ]
            })
        }
        Repair::RebindConsumer
        | Repair::LivenessProbe
        | Repair::RestartConsumer
        | Repair::RecreateConsumer => {
            let mode = Propagation::HostToContainer;
            let stale = consumer("stale", StartOrder::AfterMount, mode, Volume::Mountpoint);
            lab.plan_of(&[stale]).with(|plan| {
                plan.steps = vec![
                    start(vec![("stale", Class::Ok.into())]),
                    killed(vec![("stale", DEAD.into())]),
                    then(Repair::Remount, vec![("node", Class::Ok.into()), ("stale", DEAD.into())]),
                    then(repair, vec![("stale", Class::Ok.into())]),
                ]
            })
        }
    };
    as_expected(lab, plan).await
}

/// Looks by an access at a mount that is there and at one that is dead.
pub(crate) async fn access(lab: &Lab, access: Access) -> Checked {
    let key = match access {
        Access::Read => "early",
        Access::List => "early.list",
        Access::Stat => "early.stat",
        Access::Statfs => "early.df",
        Access::Write => "early.write",
        Access::Held => "early.held",
    };
    let looked = |class: Class| vec![(key, Expected::from(class))];
    let plan = lab.plan_of(&[early()]).with(|plan| {
        plan.steps = vec![
            start(vec![("early", Class::Ok.into())]),
            step(Action::Observe, looked(Class::Ok)),
            step(Action::Fault(Fault::Kill), looked(DEAD)),
        ]
    });
    as_expected(lab, plan).await
}

fn start(expect: Vec<(&str, Expected)>) -> Step {
    step(Action::Start(Names::One(Names::ALL.into())), expect)
}

fn step(action: Action, expect: Vec<(&str, Expected)>) -> Step {
    let expect = expect.into_iter().map(|(key, expected)| (key.to_owned(), expected)).collect();
    Step { expect, ..Step::from(action) }
}

/// Runs a scenario that has to come out as expected.
async fn as_expected(lab: &Lab, mut plan: Plan) -> Checked {
    plan.looks = Looks::Asked;
    let fault = plan.steps.iter().find_map(|step| match &step.action {
        Action::Fault(fault) => Some(fault.kind()),
        _ => None,
    });
    let runner = Runner::new(plan)?;
    lab.note(runner.run_id().clone());
    let report = runner.run(&*lab.backend).await?;
    let outcome = report.verdict.outcome();
    // A machine may have no control groups of memory.
    if fault == Some(FaultKind::Oom) && outcome == RunOutcome::Scenario(ScenarioOutcome::Skipped) {
        return Err(Failure::not_applicable("the memory of a daemon cannot be limited here"));
    }
    let otherwise = report.phases.iter().flat_map(|phase| {
        let failed = phase
            .checks
            .iter()
            .filter(|check| check.status != Status::Passed && check.id.is_expectation());
        let words =
            failed.map(|c| format!("{} {}: {}, not {}", phase.id, c.id, c.observed, c.expected));
        words.chain(phase.reason.clone()).collect::<Vec<String>>()
    });
    let otherwise: Vec<String> = otherwise.collect();
    ensure!(
        outcome == RunOutcome::Scenario(ScenarioOutcome::AsExpected) && otherwise.is_empty(),
        "{}: {}",
        outcome.as_str(),
        otherwise.join("; ")
    );
    Ok(())
}
