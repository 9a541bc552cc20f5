//! The five phases as lists of steps. They act as the steps of a scenario do; their checks are separate.

use super::{breakage, consumer, host, ladder, producer, recovery};
use crate::act;
use crate::context::{Done, RunContext};
use crate::error::Error;
use crate::plan::{Action, Names, PhaseName, Plan, Repair, Role, StartOrder, WorkloadSpec};
use crate::report::{Check, CheckId};

/// The phase that must have passed before one makes sense.
pub(super) fn requires(phase: PhaseName) -> Option<PhaseName> {
    match phase {
        PhaseName::HostSetup => None,
        PhaseName::Producer => Some(PhaseName::HostSetup),
        PhaseName::Consumer => Some(PhaseName::Producer),
        PhaseName::StaleMount | PhaseName::Recovery => Some(PhaseName::Consumer),
    }
}

/// The steps of a phase.
pub(super) fn of(phase: PhaseName, plan: &Plan) -> Vec<Step> {
    let early = |spec: &WorkloadSpec| spec.order == StartOrder::BeforeMount;
    let waiting = |fits: &dyn Fn(&WorkloadSpec) -> bool| {
        let others = plan.workloads.iter().filter(|spec| spec.role != Role::Producer);
        others.filter(|spec| fits(spec)).cloned().collect::<Vec<WorkloadSpec>>()
    };
    let producer = plan.producer().map(|spec| Names::One(spec.name.clone()));
    match phase {
        PhaseName::HostSetup => vec![Step::See(See::Host)],
        PhaseName::Producer => {
            let mut first = waiting(&early);
            first.extend(plan.with_role(Role::Producer).cloned());
            vec![
                Step::Start(first.clone()),
                Step::See(See::Started { names: names(&first), needed: true }),
                Step::See(See::Mounted),
                Step::See(See::ShowsOnNode),
            ]
        }
        PhaseName::Consumer => {
            let late = waiting(&|spec| !early(spec));
            vec![
                Step::Start(late.clone()),
                Step::See(See::Started { names: names(&late), needed: false }),
                Step::Capture,
                Step::See(See::OwnPrograms),
                Step::See(See::AsThemselves),
                Step::See(See::AsOthers),
                Step::See(See::SlaveOfHost),
            ]
        }
        PhaseName::StaleMount => vec![
            Step::Do(Action::Fault(plan.fault.clone())),
            Step::See(See::Noticed),
            Step::See(See::Breakage),
            Step::See(See::ConsumersAlive),
            Step::Start(breakage::another_consumer(plan).into_iter().collect()),
            Step::See(See::NewConsumer),
        ],
        PhaseName::Recovery => vec![
            Step::See(See::SomethingBroke),
            match plan.served_by() {
                // The client of a server stays, and so does its mount.
                Some(_) => Step::ServeAgain,
                None => Step::Do(Action::Restart(producer.unwrap_or(Names::Several(Vec::new())))),
            },
            Step::See(See::ServesAgain),
            Step::See(See::NodeIsFresh),
            Step::Ladder(plan.recovery.clone()),
            Step::See(See::HeldDescriptors),
        ],
    }
}

fn names(specs: &[WorkloadSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}

/// A step of a phase.
#[derive(Debug)]
pub(super) enum Step {
    /// Carries out an action, as a step of a scenario does.
    Do(Action),
    /// Starts workloads together: those of the plan in their order, or one outside of it.
    Start(Vec<WorkloadSpec>),
    /// Starts the server of the producer again, and what has ended with it.
    ServeAgain,
    /// Takes the mount tables.
    Capture,
    /// Looks.
    See(See),
    /// Tries repairs, from the smallest on, until every consumer reads the new generation.
    Ladder(Vec<Repair>),
}

/// What must be seen.
#[derive(Debug)]
pub(super) enum See {
    Host,
    Started { names: Vec<String>, needed: bool },
    Mounted,
    ShowsOnNode,
    OwnPrograms,
    AsThemselves,
    AsOthers,
    SlaveOfHost,
    Noticed,
    Breakage,
    ConsumersAlive,
    NewConsumer,
    SomethingBroke,
    ServesAgain,
    NodeIsFresh,
    HeldDescriptors,
}

impl Step {
    /// Carries it out; whether the phase goes on.
    ///
    /// # Errors
    /// When the tool could not do its work.
    pub(super) async fn carry_out(self, context: &mut RunContext<'_>) -> Result<bool, Error> {
        match self {
            Self::Do(action) => done(context, action).await,
            Self::Start(specs) => act::start_together(context, &specs, None).await.map(|_| true),
            Self::ServeAgain => act::serve_again(context).await.map(|()| true),
            Self::Capture => context.capture().await.map(|_| true),
            Self::See(what) => see(context, what).await,
            Self::Ladder(rungs) => ladder::climb(context, &rungs).await.map(|()| true),
        }
    }
}

/// Carries out an action, as a step of a scenario does. A failure ends the phase, with a check that says why.
async fn done(context: &mut RunContext<'_>, action: Action) -> Result<bool, Error> {
    let expected = match &action {
        Action::Fault(fault) => format!("the fault is done: {fault}"),
        _ => "the step can be done".to_owned(),
    };
    let done = act::act(context, &action.into()).await?;
    match done {
        Done::Failed(failed) if context.gave_up().is_none() => {
            context.check(Check::new(CheckId::Done, false, expected, failed.words));
            Ok(false)
        }
        Done::Failed(_) => Ok(false),
        Done::Ok | Done::Ran(_) => Ok(true),
    }
}

async fn see(context: &mut RunContext<'_>, what: See) -> Result<bool, Error> {
    match what {
        See::Started { names, needed } => {
            return Ok(producer::started(context, &names)? || !needed);
        }
        See::Mounted => return producer::mounted(context).await,
        See::SomethingBroke => return Ok(recovery::something_broke(context)),
        See::ServesAgain => return Ok(recovery::serves_again(context)),
        See::NodeIsFresh => return recovery::node_is_fresh(context).await,
        See::Host => host::host(context).await?,
        See::ShowsOnNode => producer::shows_on_node(context).await?,
        See::OwnPrograms => consumer::own_programs(context).await?,
        See::AsThemselves => consumer::look_as_themselves(context).await?,
        See::AsOthers => consumer::look_as_others(context).await?,
        See::SlaveOfHost => consumer::slave_of_host(context),
        See::Noticed => breakage::noticed(context).await?,
        See::Breakage => breakage::breakage(context).await?,
        See::ConsumersAlive => breakage::alive(context).await?,
        See::NewConsumer => breakage::new_consumer(context).await?,
        See::HeldDescriptors => recovery::held_descriptors(context).await?,
    }
    Ok(true)
}
