//! How a case ends early: it found something wrong, or it cannot be done here.

use std::fmt;

use propagation_core::Error;
use propagation_core::program::{Refused, StartRefused};

use crate::skip::Skip;

/// Why a case did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The backend does not keep the contract.
    Broken(String),
    /// There is nothing to be tested on this node.
    Skipped(Skip),
}

impl Failure {
    pub(crate) fn new(words: impl fmt::Display) -> Self {
        Self::Broken(words.to_string())
    }

    /// There is nothing to be tested on this node.
    pub(crate) fn not_applicable(reason: impl fmt::Display) -> Self {
        Self::Skipped(Skip::NotApplicable { reason: reason.to_string() })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let fix = error.fix().map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
        Self::Broken(format!("{} error: {error}{fix}", error.kind().as_str()))
    }
}

impl From<StartRefused> for Failure {
    fn from(refusal: StartRefused) -> Self {
        Self::Broken(format!("the runtime refuses it: {refusal}"))
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Broken(format!("it is refused: {refused}"))
    }
}

/// What a case gives.
pub(crate) type Checked = Result<(), Failure>;

/// Ends the case when the condition does not hold; says it in the contract's words.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::new(format_args!($($words)+)));
        }
    };
}

/// Ends the case when the two values are not equal; says what they are of.
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($words:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => if *found != *wanted {
                return Err($crate::failure::Failure::new(format_args!(
                    "{}: found {found:?}, wanted {wanted:?}",
                    format_args!($($words)+),
                )));
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};
