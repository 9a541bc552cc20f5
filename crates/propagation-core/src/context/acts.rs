//! What is done in a run, recorded when it happens.

use super::RunContext;
use crate::act::Done;
use crate::program::Refusal;
use crate::report::{Act, Deed};

/// An act that has begun and is not over.
#[derive(Debug)]
#[must_use = "an act that is begun is ended"]
pub struct OpenAct(usize);

impl RunContext<'_> {
    /// Records that something begins to be done to workloads, or to the node where none is named. Call it
    /// before it is asked for, so that nothing that follows from it lies before it.
    pub fn begin_act(&mut self, deed: Deed, on: impl IntoIterator<Item = String>) -> OpenAct {
        let from_us = self.node.now_us();
        self.acts.push(Act {
            step: self.step().to_owned(),
            from_us,
            until_us: from_us,
            deed,
            on: on.into_iter().collect(),
            proof: Vec::new(),
            refused: None,
            refusal: None,
        });
        OpenAct(self.acts.len() - 1)
    }

    /// Records that an act is over, what proves it, and why it was refused, if it was.
    pub fn finish_act(&mut self, act: OpenAct, proof: Vec<String>, refused: Option<String>) {
        let now_us = self.node.now_us();
        if let Some(act) = self.acts.get_mut(act.0) {
            act.until_us = now_us;
            act.proof = proof;
            act.refused = refused;
        }
    }

    /// Records why the kernel refuses an act that is going on; the first time counts.
    pub(crate) fn refuse_act(&mut self, act: &OpenAct, refusal: Refusal) {
        if let Some(act) = self.acts.get_mut(act.0) {
            act.refusal.get_or_insert(refusal);
        }
    }

    /// Records that an act is over, and how it came out.
    pub(crate) fn end_act(&mut self, act: OpenAct, proof: Vec<String>, done: &Done) {
        let refused = match done {
            Done::Failed(words) => Some(words.clone()),
            Done::Ok | Done::Ran(_) => None,
        };
        self.finish_act(act, proof, refused);
    }

    /// When the latest fault began, in microseconds of the run; none before the first.
    pub fn fault_at_us(&self) -> Option<u64> {
        let faults = self.acts.iter().rev();
        let mut done = faults.filter(|act| matches!(act.deed, Deed::Fault { .. }));
        done.next().map(|act| act.from_us)
    }
}
