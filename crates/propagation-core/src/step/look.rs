//! Looking from every actor after a step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::judge::{Sight, judge, unexpected};
use crate::Class;
use crate::act::actor;
use crate::context::{Done, RunContext};
use crate::errno::Errno;
use crate::error::Error;
use crate::node::Look;
use crate::observation::{Access, Actor, Observation};
use crate::plan::{Action, Aspect, Looks, Plan, Step, Subject};
use crate::program::LoadReport;
use crate::workload::Workload;

/// How often a step that waits looks again: nothing tells of everything that can be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks from every actor and records a check for everything that is expected.
pub(super) async fn and_judge(
    context: &mut RunContext<'_>,
    step: &Step,
    done: &Done,
) -> Result<(), Error> {
    let sight = look(context, step).await?;
    let mut checks = unexpected(step, context.new_failures());
    checks.extend(judge(context, step, done, &sight));
    for check in checks {
        context.check(check);
    }
    Ok(())
}

/// Looks again and again until everything is as expected, or the time has passed.
pub(super) async fn until_expected(
    context: &mut RunContext<'_>,
    step: &Step,
    limit_ms: u64,
) -> Result<(), Error> {
    let end = Instant::now() + Duration::from_millis(limit_ms);
    loop {
        let sight = look(context, step).await?;
        let checks = judge(context, step, &Done::Ok, &sight);
        let met = checks.iter().all(|check| check.status != crate::report::Status::Failed);
        if met || Instant::now() >= end {
            for check in checks {
                context.check(check);
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Captures the mount tables, reads the marker from everywhere, and does what else is expected.
async fn look(context: &mut RunContext<'_>, step: &Step) -> Result<Sight, Error> {
    context.capture_with_usage().await?;
    let present: Vec<Actor> = context.captured_actors();
    let mut sight = Sight::default();
    if context.marker().is_err() {
        return Ok(sight);
    }
    let subjects: Vec<Subject> =
        step.expect.keys().filter_map(|key| Subject::parse(key).ok()).collect();
    let asked = |actor: &Actor| match context.plan.looks {
        Looks::All => true,
        Looks::Asked => is_asked(context.plan, actor, step, &subjects),
    };
    let looking: Vec<Actor> = present.iter().filter(|actor| asked(actor)).cloned().collect();
    let seen = context.observe(&looking, &Look::default()).await?;
    let readers: BTreeSet<Actor> =
        seen.iter().filter(|o| o.outcome.is_ok()).map(|o| o.actor.clone()).collect();
    let denied = denied_inside(&seen);
    sight.observations.extend(seen);

    let outside = match context.plan.looks {
        Looks::All => denied,
        Looks::Asked => BTreeSet::new(),
    };
    for uid in outside {
        // Whether a container, or the mount itself, is in the way.
        context.observe(&[Actor::Node], &Look::by(Access::Read).as_users(&[uid])).await?;
    }
    let can = context.capabilities().accesses;
    let wanted = wanted(context.plan, &subjects, &present).into_iter();
    for ((access, uid), actors) in wanted.filter(|((access, _), _)| can.contains(access)) {
        let seen = context.observe(&actors, &Look::by(access).as_users(&[uid])).await?;
        sight.observations.extend(seen);
    }
    hold(context, &readers, &sight.observations).await?;
    for subject in subjects.iter().filter(|subject| subject.aspect == Aspect::Load) {
        if let Some(workload) = context.workload(&subject.actor) {
            let load = busy(&*workload, context.plan.probe_deadline()).await?;
            sight.loads.extend(load.map(|load| (subject.actor.clone(), load)));
        }
    }
    let about_programs =
        |subject: &&Subject| matches!(subject.aspect, Aspect::Program | Aspect::Log | Aspect::Read);
    for subject in subjects.iter().filter(about_programs) {
        if let Some(workload) = context.workload(&subject.actor) {
            let status = workload.status().await?;
            sight.programs.insert(subject.actor.clone(), status.program);
            if subject.aspect == Aspect::Log {
                sight.logs.insert(subject.actor.clone(), workload.log().await?);
            }
        }
    }
    Ok(sight)
}

/// Non-root users who are denied in a container: whether they are denied outside of it too tells why.
fn denied_inside(seen: &[Observation]) -> BTreeSet<u32> {
    let denied = seen.iter().filter(|one| {
        one.uid != 0
            && matches!(one.actor, Actor::Workload { .. })
            && matches!(one.outcome.class(), Class::Errno(Errno::EACCES | Errno::EPERM))
    });
    denied.map(|one| one.uid).collect()
}

/// Whether a step expects an outcome of an actor's reading.
fn is_asked(plan: &Plan, who: &Actor, step: &Step, subjects: &[Subject]) -> bool {
    // An invalid key is refused with the file.
    subjects.iter().zip(step.expect.values()).any(|(subject, expected)| {
        let usual = subject.uid.is_none_or(|uid| uid == plan.uid_of(who));
        let reads = subject.aspect == Aspect::Read && usual && !expected.outcome.is_empty();
        reads && actor(&subject.actor) == *who
    })
}

/// Load of the readers and writers, once one of their operations has ended: without one it says nothing about the
/// mount.
async fn busy(workload: &dyn Workload, limit: Duration) -> Result<Option<LoadReport>, Error> {
    let end = Instant::now() + limit;
    loop {
        let load = workload.load().await?;
        let idle = load.as_ref().is_some_and(|load| load.operations == 0);
        if !idle || Instant::now() >= end {
            return Ok(load);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Accesses and users that expectations need from each actor, in addition to reading as its own user.
fn wanted(
    plan: &Plan,
    subjects: &[Subject],
    present: &[Actor],
) -> BTreeMap<(Access, u32), Vec<Actor>> {
    let mut wanted: BTreeMap<(Access, u32), Vec<Actor>> = BTreeMap::new();
    for subject in subjects {
        let actor = actor(&subject.actor);
        let usual = plan.uid_of(&actor);
        let uid = subject.uid.unwrap_or(usual);
        let access = subject.aspect.access();
        let access = access.filter(|access| (*access, uid) != (Access::Read, usual));
        if let Some(access) = access.filter(|_| present.contains(&actor)) {
            wanted.entry((access, uid)).or_default().push(actor);
        }
    }
    wanted
}

/// Opens a descriptor from every actor of which a held one is expected anywhere in the scenario, as
/// soon as it can read.
async fn hold(
    context: &mut RunContext<'_>,
    readers: &BTreeSet<Actor>,
    seen: &[Observation],
) -> Result<(), Error> {
    if !context.capabilities().accesses.contains(&Access::Held) {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    holders(&context.plan.steps, &mut names);
    let just_held =
        |actor: &Actor| seen.iter().any(|o| o.actor == *actor && o.access == Access::Held);
    let actors: Vec<Actor> = names
        .iter()
        .map(|name| actor(name))
        .filter(|actor| readers.contains(actor) && !just_held(actor) && !context.holds(actor))
        .collect();
    context.observe(&actors, &Look::by(Access::Held)).await?;
    Ok(())
}

fn holders(steps: &[Step], names: &mut BTreeSet<String>) {
    for step in steps {
        let subjects = step.expect.keys().filter_map(|key| Subject::parse(key).ok());
        names.extend(subjects.filter(|s| s.aspect == Aspect::Held).map(|s| s.actor));
        if let Action::Repeat { steps, .. } = &step.action {
            holders(steps, names);
        }
    }
}
