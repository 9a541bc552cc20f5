//! Acts of a run, recorded when they happen.

use super::{Done, RunContext};
use crate::act::ended_by_probe;
use crate::report::{Act, Deed};

/// An act that has begun and is not over.
#[derive(Debug)]
#[must_use = "an act that is begun is ended"]
pub struct OpenAct(usize);

impl RunContext<'_> {
    /// Records that an act on workloads begins, or on the node where none is named. Call it before the request, so
    /// that no consequence is dated before it.
    pub fn begin_act(&mut self, deed: Deed, on: impl IntoIterator<Item = String>) -> OpenAct {
        let from_us = self.node.now_us();
        self.acts.push(Act::new(self.step(), from_us, deed, on));
        OpenAct(self.acts.len() - 1)
    }

    /// Records that an act is over, its evidence, and why it was refused, if it was.
    pub fn finish_act(&mut self, act: OpenAct, proof: Vec<String>, refused: Option<String>) {
        let now_us = self.node.now_us();
        if let Some(act) = self.acts.get_mut(act.0) {
            act.until_us = now_us;
            act.proof = proof;
            act.refused = refused;
        }
    }

    /// Records that an act is over, and how it came out.
    pub(crate) fn end_act(&mut self, act: OpenAct, proof: Vec<String>, done: &Done) {
        let failed = match done {
            Done::Failed(failed) => Some(failed),
            Done::Ok | Done::Ran(_) => None,
        };
        if let Some(act) = self.acts.get_mut(act.0) {
            act.refusal = failed.and_then(|failed| failed.refusal);
        }
        self.finish_act(act, proof, failed.map(|failed| failed.words.clone()));
    }

    /// When the liveness probe of a producer had ended its daemon, in microseconds of the run; none where none did.
    pub(crate) fn ended_by_probe_at_us(&self) -> Option<u64> {
        self.acts.iter().rev().find(|act| ended_by_probe(act)).map(|act| act.until_us)
    }

    /// When the latest fault began, in microseconds of the run; none before the first.
    pub fn fault_at_us(&self) -> Option<u64> {
        let faults = self.acts.iter().rev();
        let mut done = faults.filter(|act| matches!(act.deed, Deed::Fault { .. }));
        done.next().map(|act| act.from_us)
    }

    /// When the latest restart after the latest fault began, in microseconds of the run; none before the first.
    pub(crate) fn restarted_at_us(&self) -> Option<u64> {
        let fault_us = self.fault_at_us()?;
        let mut restarts = self
            .acts
            .iter()
            .rev()
            .filter(|act| matches!(act.deed, Deed::Restart { .. }) && act.from_us >= fault_us);
        restarts.next().map(|act| act.from_us)
    }
}
