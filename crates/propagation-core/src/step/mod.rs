//! Steps: what a scenario does, one after the other, and what must then be seen.
//!
//! A step is a [`Phase`] like the five, which are steps too. It does one thing (`act`),
//! lets every actor look (`look`), and compares what was seen with what is expected (`judge`).

mod judge;
mod look;
#[cfg(all(test, feature = "fake"))]
mod tests;

use async_trait::async_trait;

use crate::act;
use crate::context::{Done, RunContext};
use crate::error::Error;
use crate::phase::{self, Phase};
use crate::plan::{Action, Plan, Step};
use crate::report::{Check, CheckId};

/// The phases that carry out the steps of a plan, in order, repetitions unrolled.
pub fn phases(plan: &Plan) -> Vec<Box<dyn Phase>> {
    let mut phases: Vec<Box<dyn Phase>> = Vec::new();
    unroll(&plan.steps, "", "", &mut phases);
    phases
}

/// Appends the phases of `steps`. The number of a step is `before` and its own; its round `after`.
fn unroll(steps: &[Step], before: &str, after: &str, phases: &mut Vec<Box<dyn Phase>>) {
    for (index, step) in steps.iter().enumerate() {
        let number = format!("{before}{}", index + 1);
        match &step.action {
            Action::Phase(name) => {
                phases.push(Box::new(PhaseStep { inner: phase::named(*name), step: step.clone() }));
            }
            Action::Repeat { times, steps } => {
                for round in 1..=*times {
                    unroll(steps, &format!("{number}."), &format!("{after}#{round}"), phases);
                }
                if !step.expect.is_empty() {
                    let id = format!("{number}-{}{after}", step.name.as_deref().unwrap_or("after"));
                    let step = Step { action: Action::Observe, ..step.clone() };
                    phases.push(Box::new(OneStep { id, step }));
                }
            }
            action => {
                let name = step.name.clone().unwrap_or_else(|| word(action).to_owned());
                let id = format!("{number}-{name}{after}");
                phases.push(Box::new(OneStep { id, step: step.clone() }));
            }
        }
    }
}

/// Default name of an action in a scenario.
fn word(action: &Action) -> &'static str {
    match action {
        Action::Phase(name) => name.as_str(),
        Action::Start(_) => "start",
        Action::Stop(_) => "stop",
        Action::Restart(_) => "restart",
        Action::Recreate(_) => "recreate",
        Action::Publish(_) => "publish",
        Action::Unpublish(_) => "unpublish",
        Action::Reopen(_) => "reopen",
        Action::Fault(_) => "fault",
        Action::Repair(_) => "repair",
        Action::Execute { .. } => "run",
        Action::Observe => "observe",
        Action::Wait(_) => "wait",
        Action::Pause(_) => "pause",
        Action::Repeat { .. } => "repeat",
    }
}

/// A step that does one thing.
struct OneStep {
    id: String,
    step: Step,
}

#[async_trait]
impl Phase for OneStep {
    fn id(&self) -> &str {
        &self.id
    }

    fn requires(&self) -> Vec<&str> {
        Vec::new()
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let done = act::act(context, &self.step).await?;
        if context.gave_up().is_some() {
            return Ok(());
        }
        match self.step.action {
            Action::Wait(limit_ms) => look::until_expected(context, &self.step, limit_ms).await?,
            _ => look::and_judge(context, &self.step, &done).await?,
        }
        if context.checks().is_empty() {
            let did = word(&self.step.action);
            context.check(Check::new(CheckId::Step, true, "the step is done", did));
        }
        Ok(())
    }
}

/// One of the five phases, with what a scenario expects of it.
struct PhaseStep {
    inner: Box<dyn Phase>,
    step: Step,
}

#[async_trait]
impl Phase for PhaseStep {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn requires(&self) -> Vec<&str> {
        self.inner.requires()
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        self.inner.run(context).await?;
        // The phase has its own checks for what could not start or mount.
        context.new_failures();
        if self.step.expect.is_empty() {
            return Ok(());
        }
        look::and_judge(context, &self.step, &Done::Ok).await
    }
}
