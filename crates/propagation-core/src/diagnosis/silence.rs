//! Why a daemon may not answer.

use crate::plan::Fault;
use crate::report::{Act, Deed};

/// Why a daemon may not answer after something was done to it.
pub(super) enum Silence<'r> {
    Stopped,
    /// It was told to answer late.
    Slow(&'r Fault),
    /// It was ended; accesses wait where somebody holds its connection.
    Ended,
}

/// Why the daemon of a producer may not answer after an act on it.
pub(super) fn silence_after(act: &Act) -> Option<Silence<'_>> {
    match &act.deed {
        Deed::Fault { fault: Fault::Stop } => Some(Silence::Stopped),
        Deed::Fault { fault: fault @ Fault::Slow(_) } if !fault.ends_a_fault() => {
            Some(Silence::Slow(fault))
        }
        Deed::Fault { fault } if fault.ends_the_daemon() => Some(Silence::Ended),
        Deed::Stop => Some(Silence::Ended),
        _ => None,
    }
}
