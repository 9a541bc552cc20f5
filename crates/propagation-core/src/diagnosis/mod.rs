//! The diagnosis: why a run came out as it did, and the smallest change that helps.
//!
//! [`explain`] turns a report into causes. It is pure: everything it knows is in the report, so a
//! saved report is explained the same way again. It goes by what was seen (observations, mount
//! tables, the runtime's words), not by what was planned. Each cause is found by a small rule of
//! its own; the rules lie in files by subject:
//!
//! | file | causes |
//! |---|---|
//! | `host` | `fuse-device-unusable`, `fusermount3-absent`, `user-allow-other-missing`, `covering-private`, `covering-slave`, `shared-only-at-top`, `bridge-unusable` |
//! | `runtime` | `control-positive`, `producer-not-shared`, `runtime-own-namespace`, `user-namespace-boundary`, `consumer-not-connected`, `propagation-not-applied` |
//! | `permission` | `allow-other-missing`, `lsm-denies`, `capability-missing` |
//! | `below` | `lower-mount-lost` |
//! | `propagation` | `consumer-mode-none`, `consumer-frozen-copy`, `volume-is-mountpoint`, `fresh-mount-hidden` |
//! | `lifetime` | `daemon-stopped`, `not-yet-served`, `mount-type-unexpected`, `daemon-dead`, `daemon-answers-errors`, `stale-source-blocks-start`, `subpath-on-dead-dentry`, `mount-outlives-daemon`, `consumer-died` |
//! | `stacking` | `clean-unmount-where-stack-needed`, `stacked-layers`, `mounts-of-several-producers` |
//! | `growth` | `mounts-multiply` |
//! | `silent` | `lower-filesystem-written`, `lower-filesystem-exposed`, `mounted-but-wrong-content`, `consumer-did-not-notice`, `unexplained`, `nothing-wrong` |
//!
//! [`host`], [`runtime_apart`] and [`chain`] are for a look at a host on which nothing runs yet;
//! [`visibility`] answers a question instead: would a mount made here show there, and if not, at
//! which link does it stop?

mod below;
mod chain;
mod growth;
mod host;
mod lifetime;
mod permission;
mod propagation;
mod runtime;
mod scene;
mod silent;
mod stacking;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;
mod visibility;

use propagation_model::cause;

pub use cause::{Cause, Confidence, Fix, FixKind, NOTHING_WRONG};
pub use chain::{chain, draw_chain};
pub use host::host;
pub use runtime::runtime_apart;
pub use visibility::{Broken, Explanation, Place, visibility};

use crate::report::Report;
use scene::Scene;

/// The rules, from what prevents everything to what is a hazard. This is the order of causes.
const RULES: [fn(&Scene<'_>) -> Vec<Cause>; 9] = [
    host::rule,
    runtime::rule,
    permission::rule,
    below::rule,
    propagation::rule,
    lifetime::rule,
    stacking::rule,
    growth::rule,
    silent::rule,
];

/// The causes of what a run showed, the most severe first, and of one subject the most likely.
///
/// A run in which everything is as it should be has exactly one, `nothing-wrong`. A check that
/// failed and that no rule explains gives `unexplained`. A run that was cut short or could not be
/// carried out may have none.
pub fn explain(report: &Report) -> Vec<Cause> {
    let scene = Scene::new(report);
    let mut causes: Vec<Cause> = Vec::new();
    for rule in RULES {
        let mut found = rule(&scene);
        found.sort_by_key(|cause| cause.confidence);
        // Two rules may come to the same cause from different evidence: the first one counts.
        found.retain(|cause| causes.iter().all(|known| known.id != cause.id));
        causes.extend(found);
    }
    if causes.is_empty() {
        causes.extend(silent::otherwise(&scene));
    }
    causes
}
