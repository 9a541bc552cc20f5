//! What is done in a run, recorded when it happens.

use super::RunContext;
use crate::act::Done;
use crate::report::{Act, Deed};

/// An act that goes on.
#[derive(Debug)]
#[must_use = "an act that is begun is ended"]
pub(crate) struct Going(usize);

impl RunContext<'_> {
    /// Records that something begins to be done, before it is asked for.
    pub(crate) fn begin_act(&mut self, deed: Deed, on: impl IntoIterator<Item = String>) -> Going {
        let from_us = self.node.now_us();
        self.acts.push(Act {
            step: self.step().to_owned(),
            from_us,
            until_us: from_us,
            deed,
            on: on.into_iter().collect(),
            proof: Vec::new(),
            refused: None,
        });
        Going(self.acts.len() - 1)
    }

    /// Records that it is over, and how it came out.
    pub(crate) fn end_act(&mut self, act: Going, proof: Vec<String>, done: &Done) {
        let now_us = self.node.now_us();
        if let Some(act) = self.acts.get_mut(act.0) {
            act.until_us = now_us;
            act.proof = proof;
            if let Done::Failed(words) = done {
                act.refused = Some(words.clone());
            }
        }
    }

    /// When the latest fault began, in microseconds of the run; none before the first.
    pub fn fault_at_us(&self) -> Option<u64> {
        let faults = self.acts.iter().rev();
        let mut done = faults.filter(|act| matches!(act.deed, Deed::Fault { .. }));
        done.next().map(|act| act.from_us)
    }
}
