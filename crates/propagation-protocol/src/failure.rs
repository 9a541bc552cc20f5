//! What an agent could not do.

use propagation_model::error::ErrorKind;
use propagation_model::program::{Refusal, RefusalKind, Refused};
use serde::{Deserialize, Serialize};

/// A failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// The attempted operation.
    pub operation: String,
    /// The reason.
    pub reason: String,
    /// The fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Kind of the kernel's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Failure {
    /// Converts the failure to a refusal, when the kernel, the runtime or a daemon refused the call. A machine that
    /// ran out of a resource did not refuse, and neither did an agent that failed.
    ///
    /// # Errors
    /// The failure itself, when it is not a refusal.
    pub fn refused(self) -> Result<Refused, Self> {
        let exhausted = self.refusal.is_some_and(|it| it.kind == RefusalKind::NoRoom);
        match self.kind {
            ErrorKind::Environment | ErrorKind::Timeout if !exhausted => {
                let Self { operation, reason, refusal, fix, .. } = self;
                Ok(Refused { operation, reason, refusal, fix })
            }
            _ => Err(self),
        }
    }
}

impl From<Failure> for propagation_model::Error {
    fn from(failure: Failure) -> Self {
        let errno = failure.refusal.and_then(|refusal| refusal.errno);
        let error = Self::new(failure.kind, failure.operation, failure.reason).with_errno(errno);
        match failure.fix {
            Some(fix) => error.with_fix(fix),
            None => error,
        }
    }
}
