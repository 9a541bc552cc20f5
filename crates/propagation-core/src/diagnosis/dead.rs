//! What rules about dead and hung mounts share.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::text::{FUSE_CONNECTIONS, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::MountPath;
use crate::observation::Observation;

/// A likely cause, of nobody in particular yet.
pub(super) fn cause(
    id: CauseId,
    title: String,
    evidence: Vec<String>,
    fix: Fix,
    verify: String,
) -> Cause {
    Cause {
        id,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence,
        fix,
        verify,
        source: FUSE_CONNECTIONS.into(),
    }
}

/// A look at a mount of the node that gives up by itself.
pub(super) fn probe(at: &MountPath) -> String {
    format!("propagation probe {} --timeout 4s   # ok, exit status 0", shell(&at.to_string_lossy()))
}

/// Whether an observation is of a mount whose connection has ended.
pub(super) fn is_dead(seen: &Observation) -> bool {
    matches!(seen.outcome.class(), Class::Errno(Errno::ENOTCONN | Errno::ECONNABORTED))
}
