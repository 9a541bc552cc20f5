//! What rules about dead and hung mounts share.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::Scene;
use super::text::{FUSE_CONNECTIONS, shell};
use crate::Class;
use crate::errno::Errno;
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

/// A look that gives up by itself.
pub(super) fn probe(scene: &Scene<'_>) -> String {
    let path = scene.report.plan.bridge.fuse_path();
    format!("propagation probe {} --timeout 4s   # ok, exit status 0", shell(&path))
}

/// Whether an observation is of a mount whose connection has ended.
pub(super) fn is_dead(seen: &Observation) -> bool {
    matches!(seen.outcome.class(), Class::Errno(Errno::ENOTCONN | Errno::ECONNABORTED))
}
