//! Outcomes of actions.

use crate::program::{Executed, Refusal, Refused};

/// How the action of a step came out; what `expect: {run: …}` is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was done.
    Ok,
    /// Kernel, runtime or daemon refused it, or no workload was there to act on; a finding.
    Failed(Failed),
    /// A program was run.
    Ran(Executed),
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Reason in words, with the workload that it concerns.
    pub(crate) words: String,
    /// The first refusal that is known by its type.
    pub(crate) refusal: Option<Refusal>,
}

/// Combined outcome of one action on several workloads, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    words: Vec<String>,
    refusal: Option<Refusal>,
}

impl Failures {
    /// Notes a reason why it could not be done.
    pub(crate) fn note(&mut self, words: impl Into<String>) {
        self.words.push(words.into());
    }

    /// Notes a refusal, if there is one, with the workload that it concerns.
    pub(crate) fn take<T>(&mut self, whose: Option<&str>, result: Result<T, Refused>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(refused) => {
                self.refusal = self.refusal.or(refused.refusal);
                self.words.push(match whose {
                    Some(whose) => format!("{whose}: {refused}"),
                    None => refused.to_string(),
                });
                None
            }
        }
    }
}

impl From<Failures> for Done {
    fn from(failures: Failures) -> Self {
        let Failures { words, refusal } = failures;
        if words.is_empty() {
            return Self::Ok;
        }
        Self::Failed(Failed { words: words.join("; "), refusal })
    }
}
