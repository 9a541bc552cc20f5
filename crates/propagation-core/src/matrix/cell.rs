//! The result of one cell.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::CellPlan;
use super::axes::CONSUMER;
use crate::Class;
use crate::backend::{Backend, refusal};
use crate::error::{Error, ErrorKind};
use crate::observation::{Access, Actor};
use crate::plan::Plan;
use crate::report::{CheckId, PhaseReport, Report, Status};
use crate::run::Runner;

/// The observed steps of a cell: before the fault, after it, and after the repair.
pub const STEPS: [&str; 3] = ["start", "fault", "repair"];

/// Classes that the two actors of a cell observed after each of its [`STEPS`]; where one did not look,
/// `create_error` if its container was refused, otherwise `gone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The consumer.
    pub consumer: Vec<Class>,
    /// The node.
    pub node: Vec<Class>,
}

/// One cell that has been run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// As in [`CellPlan`].
    pub id: String,
    /// As in [`CellPlan`].
    pub axes: BTreeMap<String, String>,
    /// The observed classes; none when the cell could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The classes that the model predicts; none where it does not know the axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Seen>,
    /// How many mounts are stacked at the consumer's path at the end.
    pub layers: u64,
    /// Why it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it failed, if the tool did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The lines of evidence: what each actor saw, with its mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// From the start to the last look, in milliseconds.
    pub duration_ms: f64,
    /// Where its whole report is, relative to the atlas, if it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

impl Cell {
    /// Whether the kernel did what the model predicts; `None` when either result is missing.
    pub fn agrees(&self) -> Option<bool> {
        Some(self.seen.as_ref()? == self.predicted.as_ref()?)
    }

    /// The consumer's last class; `skipped` or `failed` where there is none.
    pub fn outcome(&self) -> String {
        let last = self.seen.as_ref().and_then(|seen| seen.consumer.last());
        match (last, &self.skipped) {
            (Some(class), _) => class.to_string(),
            (None, Some(_)) => Class::Skipped.to_string(),
            (None, None) => "failed".to_owned(),
        }
    }
}

/// Runs one cell on a backend and on the model. Every failure is part of the cell; the report is that of the
/// backend, if there is one.
pub fn run_cell<'a>(
    cell: &'a CellPlan,
    backend: &'a dyn Backend,
    model: Option<&'a dyn Backend>,
) -> BoxFuture<'a, (Cell, Option<Report>)> {
    Box::pin(compare(cell, backend, model))
}

async fn compare(
    cell: &CellPlan,
    backend: &dyn Backend,
    model: Option<&dyn Backend>,
) -> (Cell, Option<Report>) {
    let mut done = Cell {
        id: cell.id.clone(),
        axes: cell.axes.clone(),
        seen: None,
        predicted: None,
        layers: 0,
        skipped: None,
        failed: None,
        evidence: Vec::new(),
        duration_ms: 0.0,
        report: None,
    };
    if let Some(problem) = cell.plan.problems().into_iter().next() {
        done.skipped = Some(format!("{}: {}", problem.at, problem.reason));
        return (done, None);
    }
    if let Some(model) = model
        && refusal(model, &cell.plan).is_none()
        && let Ok(report) = run(&cell.plan, model).await
        && not_done(&report).is_none()
    {
        done.predicted = Some(seen(&report));
    }
    match run(&cell.plan, backend).await {
        Ok(report) => {
            done.duration_ms = report.duration_ms;
            match not_done(&report) {
                Some((Status::Errored, reason)) => done.failed = Some(reason),
                Some((_, reason)) => done.skipped = Some(reason),
                None => done.seen = Some(seen(&report)),
            }
            done.layers = layers(&report);
            done.evidence = evidence(&report);
            return (done, Some(report));
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            done.skipped = Some(error.reason().to_owned());
        }
        Err(error) => done.failed = Some(error.to_string()),
    }
    (done, None)
}

async fn run(plan: &Plan, backend: &dyn Backend) -> Result<Report, Error> {
    Runner::new(plan.clone())?.run(backend).await
}

/// Why a report has no result, if so.
fn not_done(report: &Report) -> Option<(Status, String)> {
    if let Some(phase) = report.phases.iter().find(|phase| phase.status == Status::Errored) {
        let reason = phase.reason.clone().unwrap_or_default();
        return Some((Status::Errored, format!("{}: {reason}", phase.id)));
    }
    let possible = report.phases.iter().flat_map(|phase| &phase.checks);
    let not =
        possible.into_iter().find(|c| c.id == CheckId::Possible && c.status == Status::Skipped);
    not.map(|check| (Status::Skipped, check.observed.clone()))
}

/// The classes of a report. The last step of a cell counts as its repair, whatever its name.
fn seen(report: &Report) -> Seen {
    let ids: Vec<&str> = report.phases.iter().map(|phase| phase.id.as_str()).collect();
    let picked = [ids.first(), ids.get(1), ids.last()].map(|id| id.copied().unwrap_or_default());
    let class = |actor: &Actor, step: &str, name: &str| {
        // Where it is not seen, its last start was refused, if any was.
        let id = CheckId::DoneBy(name.to_owned());
        let failed = |phase: &PhaseReport| {
            phase.check(&id).is_some_and(|check| check.status == Status::Failed)
        };
        let refused = report.phases.iter().any(failed);
        let looked = report.timeline.iter().rev().find(|o| {
            o.actor == *actor
                && o.step == step
                && o.access == Access::Read
                && o.via == crate::observation::Via::Probe
        });
        match looked {
            Some(seen) => seen.outcome.class(),
            None if refused => Class::CreateError,
            None => Class::Gone,
        }
    };
    let of = |actor: Actor, name: &str| -> Vec<Class> {
        picked.iter().map(|step| class(&actor, step, name)).collect()
    };
    Seen { consumer: of(Actor::workload(CONSUMER), CONSUMER), node: of(Actor::Node, "node") }
}

fn layers(report: &Report) -> u64 {
    let bridge = &report.plan.bridge;
    let consumer = report.plan.workload(CONSUMER);
    let Some(path) = consumer.map(|spec| spec.paths(bridge).fuse) else { return 0 };
    let table = report.captures.last().and_then(|c| c.table(&Actor::workload(CONSUMER)));
    table.map_or(0, |table| table.stack_at(&path.as_str().into()).len() as u64)
}

fn evidence(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for phase in &report.phases {
        let failed = phase.checks.iter().filter(|check| check.status == Status::Failed);
        lines.extend(failed.map(|check| format!("{}: {}", phase.id, check.observed)));
        let looks = report
            .timeline
            .iter()
            .filter(|o| o.step == phase.id && o.via == crate::observation::Via::Probe);
        lines.extend(looks.map(|o| format!("{}: {o}", phase.id)));
    }
    lines
}
