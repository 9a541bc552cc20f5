//! The diagnosis: why a run came out as it did, and the smallest change that helps.
//!
//! [`explain`] turns a report into causes. It is pure: a saved report has the same causes again. It goes by
//! observations, mount tables and the runtime's words of the time in question, not by the plan. `history` knows
//! which actors were wrong, and when. Each cause is found by a small rule; the rules lie in files by subject:
//!
//! | file | causes |
//! |---|---|
//! | `host` | `fuse-device-unusable`, `fusermount3-absent`, `user-allow-other-missing`, `covering-private`, `covering-slave`, `bridge-unusable` |
//! | `runtime` | `control-positive`, `producer-not-shared`, `mount-outside-volume`, `source-type-mismatch`, `runtime-own-namespace`, `user-namespace-boundary`, `consumer-not-connected`, `propagation-not-applied` |
//! | `permission` | `allow-other-missing`, `daemon-denies`, `file-mode-denies`, `lsm-denies`, `capability-missing` |
//! | `below` | `lower-mount-lost` |
//! | `overlay` | `overlay-lower-died` |
//! | `propagation` | `consumer-mode-none`, `consumer-frozen-copy`, `bind-not-recursive`, `volume-is-mountpoint`, `file-volume-pins-mount`, `subpath-pins-mount`, `subpath-before-mount`, `consumer-pins-mount`, `stale-publish-path`, `fresh-mount-hidden` |
//! | `hang` | `daemon-stopped`, `daemon-killed-keeper-holds`, `daemon-slow`, `not-yet-served`, `mount-type-unexpected` |
//! | `lifetime` | `recovery-before-mount`, `daemon-dead`, `daemon-dies-with-parent`, `daemon-out-of-memory`, `unmount-busy`, `daemon-answers-errors`, `stale-source-blocks-start`, `subpath-on-dead-dentry`, `descriptor-held`, `mount-outlives-daemon`, `consumer-died` |
//! | `read_only` | `mount-read-only` |
//! | `stacking` | `clean-unmount-where-stack-needed`, `stacked-layers`, `mounts-of-several-producers` |
//! | `growth` | `mounts-multiply` |
//! | `silent` | `lower-filesystem-written`, `source-made-as-directory`, `lower-filesystem-exposed`, `mount-gone`, `mounted-but-wrong-content`, `deleted-through-mount`, `mount-left-behind`, `unmount-from-shared-copy`, `consumer-did-not-notice`, `unexplained`, `nothing-wrong` |
//!
//! [`host`], [`runtime_apart`] and [`chain`] examine a host on which nothing runs yet. [`visibility`]
//! answers a question: would a mount made here show there, and if not, at which link does it stop?

mod below;
mod chain;
mod dead;
mod growth;
mod hang;
mod host;
mod lifetime;
mod overlay;
mod permission;
mod propagation;
mod read_only;
mod runtime;
mod scene;
mod silent;
mod stacking;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;
mod visibility;

use propagation_model::cause;

pub use cause::{Cause, CauseId, Confidence, Fix, FixKind};
pub use chain::{chain, draw_chain};
pub use host::host;
pub use runtime::runtime_apart;
pub use visibility::{Broken, Explanation, Place, visibility};

use crate::report::Report;
use scene::Scene;

/// The rules, from what prevents everything to what is a hazard. This is the order of causes.
const RULES: [fn(&Scene<'_>) -> Vec<Cause>; 13] = [
    host::rule,
    permission::rule_of_mounts,
    runtime::rule,
    permission::rule,
    below::rule,
    overlay::rule,
    lifetime::rule_of_recovery,
    propagation::rule,
    hang::rule,
    lifetime::rule,
    stacking::rule,
    growth::rule,
    silent::rule,
];

/// Order of causes: those that last, those that are over, then mere hazards. An empty directory is a hazard where
/// the unmount was wanted.
fn weight(scene: &Scene<'_>, cause: &Cause, pinned: bool, held_only: bool) -> (u8, bool) {
    let growing = cause.id == CauseId::StackedLayers && cause.mounts.len() >= stacking::GROWING;
    let class = match cause.id {
        CauseId::MountsOfSeveralProducers => 2,
        CauseId::StackedLayers if !growing => 2,
        CauseId::LowerFilesystemExposed if pinned || silent::is_wanted(scene, cause) => 2,
        // An open file that stays behind is what is left of something else.
        CauseId::DescriptorHeld if !held_only => 1,
        _ => u8::from(cause.is_over()),
    };
    (class, !growing)
}

/// The causes of what a run showed: those that last before those that are over, then the most severe first, and
/// within one subject the most likely first.
///
/// A run in which no actor was ever wrong has exactly one, `nothing-wrong`; so do five phases that come out as they
/// should, although they break the mount themselves. Trouble that no rule explains gives `unexplained`. A run that
/// was cut short or could not be carried out may have none.
pub fn explain(report: &Report) -> Vec<Cause> {
    let scene = Scene::new(report);
    let mut causes: Vec<Cause> = Vec::new();
    for rule in RULES {
        let mut found = rule(&scene);
        found.sort_by_key(|cause| cause.confidence);
        found.iter_mut().for_each(|cause| scene.history.stamp(cause));
        causes.extend(found);
    }
    let pinned = causes.iter().any(|cause| cause.id == CauseId::ConsumerPinsMount);
    causes.retain(|cause| !(pinned && cause.id == CauseId::MountGone));
    let held_only = !causes
        .iter()
        .any(|cause| !matches!(cause.id, CauseId::DescriptorHeld | CauseId::DaemonDead));
    causes.sort_by_key(|cause| weight(&scene, cause, pinned, held_only));
    tell_once(&mut causes);
    if causes.is_empty() {
        causes.extend(silent::otherwise(&scene));
    }
    causes
}

/// Two rules may come to the same cause from different evidence: the first one counts. It is another one where it
/// concerns other actors and other mounts.
fn tell_once(causes: &mut Vec<Cause>) {
    let mut told: Vec<Cause> = Vec::new();
    for cause in causes.drain(..) {
        let same = |known: &Cause| known.id == cause.id && !is_of_others(known, &cause);
        if !told.iter().any(same) {
            told.push(cause);
        }
    }
    *causes = told;
}

/// Whether two causes concern different actors, and no mount of both.
fn is_of_others(one: &Cause, other: &Cause) -> bool {
    let named = !one.actors.is_empty() && !other.actors.is_empty();
    let apart = !one.actors.iter().any(|actor| other.actors.contains(actor));
    named && apart && !one.mounts.iter().any(|mount| other.mounts.contains(mount))
}
