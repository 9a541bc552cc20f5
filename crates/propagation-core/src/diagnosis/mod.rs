//! The diagnosis: why a run came out as it did, and the smallest change that helps.
//!
//! [`explain`] turns a report into causes. It is pure: a saved report has the same causes again. It goes by
//! observations, mount tables and the runtime's words of the time in question, not by the plan. `history` knows
//! which actors were wrong, and when. Each cause is found by a small rule; the rules lie in files by subject:
//!
//! | file | causes |
//! |---|---|
//! | `host` | `fuse-device-unusable`, `fusermount3-absent`, `user-allow-other-missing`, `covering-private`, `covering-slave`, `bridge-unusable` |
//! | `runtime` | `control-positive`, `producer-not-shared`, `mount-outside-volume`, `source-type-mismatch`, `consumer-not-connected`, `propagation-not-applied`; those of `apart` |
//! | `elsewhere` | `consumer-not-connected` and `mount-gone` of consumers whose volume is another directory |
//! | `apart` | `runtime-own-namespace`, `user-namespace-boundary` |
//! | `permission` | `allow-other-missing`, `daemon-denies`, `file-mode-denies`, `capability-missing`; with `security_module`, `lsm-denies` |
//! | `recursion` | `propagation-not-recursive` |
//! | `groups` | `caller-groups-unknown` |
//! | `nosuid` | `mounted-nosuid` |
//! | `below` | `lower-mount-lost` |
//! | `overlay` | `overlay-lower-died`, `fuse-as-upperdir` |
//! | `missing` | `source-missing` |
//! | `mountpoint` | `mountpoint-missing`, and with `permission` `lower-filesystem-written` and `mounts-of-several-producers` |
//! | `probe` | `impatient-probe` |
//! | `hidden` | `mount-hidden` |
//! | `propagation` | `consumer-mode-none`, `consumer-frozen-copy`, `bind-not-recursive`, `volume-is-mountpoint`, `file-volume-pins-mount`, `subpath-pins-mount`, `subpath-before-mount`, `consumer-pins-mount`, `stale-publish-path`, `fresh-mount-hidden`; with `volumes`, the volume as it should be |
//! | `made_private` | `covering-private` and `consumer-frozen-copy` of what was made private while a consumer ran |
//! | `programs` | `stale-publish-path`, `overlay-lower-died`, `mount-gone` and `lower-filesystem-written` that only a program met |
//! | `hang` | `daemon-stopped`, `daemon-killed-keeper-holds`, `daemon-slow`, `not-yet-served`, `mount-type-unexpected` |
//! | `blocked` | `recovery-before-mount`, `stale-source-blocks-start` |
//! | `lifetime` | `daemon-dead`, `daemon-dies-with-parent`, `daemon-out-of-memory`, `unmount-busy`, `descriptor-held`, `mount-outlives-daemon`, `consumer-died`; those of `dentry`, `errors` and `read_only` |
//! | `dentry` | `subpath-on-dead-dentry` |
//! | `errors` | `daemon-answers-errors`, `daemon-denies` |
//! | `read_only` | `mount-read-only`, `read-only-not-inherited` |
//! | `stacking` | `clean-unmount-where-stack-needed`, `stacked-layers`, `mounts-of-several-producers` |
//! | `growth` | `mounts-multiply` |
//! | `leftover` | `unmount-busy`, `mount-left-behind`, `recovery-races-unpublish` |
//! | `silent` | `lower-filesystem-written`, `source-made-as-directory`, `lower-filesystem-exposed`, `mount-gone`, `mounted-but-wrong-content`, `deleted-through-mount`, `unmount-from-shared-copy`, `consumer-did-not-notice` |
//! | `own_copy` | `mount-gone` of one consumer |
//! | `served` | `server-away` |
//! | `nothing` | `unexplained`, `nothing-wrong` |
//!
//! [`host`], [`runtime_apart`] and [`chain`] examine a host on which nothing runs yet. [`visibility`]
//! answers a question: would a mount made here show there, and if not, at which link does it stop?

mod apart;
mod below;
mod blocked;
mod chain;
mod commands;
mod dead;
mod dead_source;
mod dentry;
mod elsewhere;
mod errors;
mod groups;
mod growth;
mod hang;
mod hidden;
mod host;
mod leftover;
mod lifetime;
mod made_private;
mod missing;
mod mountpoint;
mod nosuid;
mod nothing;
mod options;
mod overlay;
mod own_copy;
mod permission;
mod place;
mod probe;
mod programs;
mod propagation;
mod read_only;
mod recursion;
mod runtime;
mod scene;
mod security_module;
mod served;
mod silence;
mod silent;
mod stacking;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;
mod visibility;
mod volumes;

use propagation_model::cause;

pub use apart::runtime_apart;
pub use cause::{Cause, CauseId, Confidence, Fix, FixKind};
pub use chain::{chain, draw_chain};
pub(crate) use hang::RESUME;
pub use host::host;
pub(crate) use served::mount_stays;
pub use visibility::{Broken, Explanation, Place, visibility};

use crate::observation::Actor;
use crate::plan::Role;
use crate::report::Report;
use scene::Scene;

/// The rules, from what prevents everything to what is a hazard. This is the order of causes.
const RULES: [fn(&Scene<'_>) -> Vec<Cause>; 21] = [
    host::rule,
    permission::rule_of_mounts,
    runtime::rule,
    recursion::rule,
    groups::rule,
    permission::rule,
    nosuid::rule,
    below::rule,
    overlay::rule,
    missing::rule,
    probe::rule,
    hidden::rule,
    blocked::rule_of_recovery,
    propagation::rule,
    hang::rule,
    lifetime::rule,
    stacking::rule,
    growth::rule,
    silent::rule,
    programs::rule,
    leftover::rule,
];

/// Causes of consumers that keep a dead mount.
const KEEPS_A_DEAD_MOUNT: [CauseId; 6] = [
    CauseId::VolumeIsMountpoint,
    CauseId::ConsumerFrozenCopy,
    CauseId::SubPathPinsMount,
    CauseId::FileVolumePinsMount,
    CauseId::StalePublishPath,
    CauseId::CleanUnmountWhereStackNeeded,
];

/// Causes for which nobody can use the mount of the node.
const DEAD_ON_THE_NODE: [CauseId; 4] = [
    CauseId::DaemonDead,
    CauseId::DaemonDiesWithParent,
    CauseId::DaemonOutOfMemory,
    CauseId::UnmountBusy,
];

/// Class of causes that are mere hazards.
const HAZARD: u8 = 3;

/// Order of causes, by the first number: those that last, those that are over, then mere hazards. An empty
/// directory is a hazard where the unmount was wanted. While the node's own mount is dead in the end, no change of a
/// consumer brings anything back.
fn weight(cause: &Cause, all: &Found) -> (u8, bool, bool) {
    let growing = cause.id == CauseId::StackedLayers && cause.mounts.len() >= stacking::GROWING;
    let hazard = match cause.id {
        CauseId::ReadOnlyNotInherited => true,
        CauseId::StackedLayers => !growing,
        // Expected as it is.
        CauseId::MountReadOnly => cause.confidence == Confidence::Possible,
        CauseId::LowerFilesystemExposed => all.pinned || all.unmount_wanted,
        CauseId::MountGone => all.unmount_wanted && is_gone_for_all(cause),
        // Whom another mount refused has no mount at all.
        CauseId::MountsOfSeveralProducers => {
            !cause.actors.iter().any(|actor| all.without_a_mount.contains(actor))
        }
        _ => false,
    };
    let class = match cause.id {
        _ if hazard => HAZARD,
        // An open file that stays behind is what is left of something else.
        CauseId::DescriptorHeld if !all.held_only => 2,
        _ if cause.is_over() => 2,
        _ if all.dead_on_the_node && KEEPS_A_DEAD_MOUNT.contains(&cause.id) => 1,
        _ => 0,
    };
    // Whom a mount on top has reached before, another volume would help too, and the way of the repair is the cause.
    let is_volume = all.stack_reached && cause.id == CauseId::VolumeIsMountpoint;
    (class, !growing, is_volume)
}

/// What is known of all causes together.
struct Found {
    /// A private copy keeps what the node has unmounted.
    pinned: bool,
    /// Nothing but open files is left.
    held_only: bool,
    /// Somebody unmounted through a copy, which says why the mount is gone.
    unmounted_from_copy: bool,
    /// The unmount at the end was wanted.
    unmount_wanted: bool,
    /// The node's own mount is dead in the end.
    dead_on_the_node: bool,
    /// A mount on top reached everybody whom a later clean unmount cut off.
    stack_reached: bool,
    /// Producers that could not mount.
    without_a_mount: Vec<Actor>,
}

impl Found {
    fn of(scene: &Scene<'_>, causes: &[Cause]) -> Self {
        let cut_off = causes.iter().find(|one| one.id == CauseId::CleanUnmountWhereStackNeeded);
        let left = [CauseId::DescriptorHeld, CauseId::DaemonDead];
        Self {
            pinned: causes.iter().any(|cause| cause.id == CauseId::ConsumerPinsMount),
            held_only: causes.iter().all(|cause| left.contains(&cause.id)),
            unmounted_from_copy: causes.iter().any(|one| one.id == CauseId::UnmountFromSharedCopy),
            unmount_wanted: causes.iter().any(|one| {
                one.id == CauseId::LowerFilesystemExposed && silent::is_wanted(scene, one)
            }),
            dead_on_the_node: causes.iter().any(|cause| {
                DEAD_ON_THE_NODE.contains(&cause.id)
                    && !cause.is_over()
                    && cause.actors.contains(&Actor::Node)
            }),
            stack_reached: cut_off.is_some_and(|cause| {
                cause.actors.iter().all(|actor| stacking::has_reached(scene, actor))
            }),
            without_a_mount: scene
                .report
                .failures
                .iter()
                .map(|failure| Actor::workload(failure.workload.clone()))
                .collect(),
        }
    }
}

/// The causes of what a run showed: those that last before those that are over, then the most severe first, and
/// within one subject the most likely first.
///
/// A run in which no actor was ever wrong has exactly one, `nothing-wrong`; so do five phases that come out as they
/// should, although they break the mount themselves. Trouble that no rule explains gives `unexplained`. A run that
/// was cut short or could not be carried out may have none.
pub fn explain(report: &Report) -> Vec<Cause> {
    with_hazards(report).0
}

/// The causes, and how many of them, from the last one back, are mere hazards.
pub(crate) fn with_hazards(report: &Report) -> (Vec<Cause>, usize) {
    let (away, rest) = served::apart(report);
    let scene = Scene::new(&rest);
    let mut causes: Vec<Cause> = Vec::from_iter(away);
    for rule in RULES {
        let mut found = rule(&scene);
        found.sort_by_key(|cause| cause.confidence);
        found.iter_mut().for_each(|cause| scene.history.stamp(cause));
        causes.extend(found);
    }
    let all = Found::of(&scene, &causes);
    // A copy that is given up keeps nothing: who is without the mount in the end, and should not be, is so because it is gone.
    let is_pin = |one: &Cause| one.id == CauseId::ConsumerPinsMount && !one.is_over();
    let mut spells = scene.history.spells.iter().filter(|spell| spell.lasts());
    let without = spells.any(|spell| {
        scene.role_of(spell.actor) == Some(Role::Consumer) && !scene.is_expected(spell.seen[0])
    });
    let pinned = causes.iter().any(is_pin) || all.pinned && !without;
    causes.retain(|cause| {
        let told = all.unmounted_from_copy || pinned || all.pinned && cause.is_over();
        !(told && is_gone_for_all(cause))
    });
    causes.sort_by_key(|cause| weight(cause, &all));
    tell_once(&scene, &mut causes);
    causes.iter_mut().filter(|cause| cause.is_over()).for_each(for_the_next_time);
    if causes.is_empty() {
        causes.extend(nothing::otherwise(&scene));
    } else if causes.iter().all(|cause| weight(cause, &all).0 > 1) {
        // What is over, or a mere hazard, does not explain what failed at another time.
        let untold = nothing::beside(&scene, &causes);
        causes.splice(0..0, untold);
    }
    let hazards = causes.iter().filter(|cause| weight(cause, &all).0 == HAZARD);
    let hazards = hazards.count();
    (causes, hazards)
}

/// Whether a mount is gone on the node, and not for one consumer only.
fn is_gone_for_all(cause: &Cause) -> bool {
    // Of a mount in the mount the cause names which it was.
    cause.id == CauseId::MountGone && cause.actors.contains(&Actor::Node) && cause.mounts.is_empty()
}

/// First line of a command for what is over: run now, it would meet what is right again.
const FOR_THE_NEXT_TIME: &str =
    "# only when it has come again: it is over, and a healthy mount may lie there now";

/// What is over needs no fix now. The command is copied without its words, so it says so too.
fn for_the_next_time(cause: &mut Cause) {
    if cause.fix.kind == FixKind::Command {
        cause.fix.words = format!("it is over; should it come again: {}", cause.fix.words);
        cause.fix.text = format!("{FOR_THE_NEXT_TIME}\n{}", cause.fix.text);
    }
}

/// Two rules may come to the same cause from different evidence: the first one counts. It is another one where it
/// concerns other actors and other mounts, or another time.
fn tell_once(scene: &Scene<'_>, causes: &mut Vec<Cause>) {
    let mut told: Vec<Cause> = Vec::new();
    for cause in causes.drain(..) {
        let same = |known: &Cause| {
            known.id == cause.id
                && !is_of_others(known, &cause)
                && !is_before(scene, known, &cause)
                && !is_before(scene, &cause, known)
        };
        if !told.iter().any(same) {
            told.push(cause);
        }
    }
    *causes = told;
}

/// Whether one cause was over when the other began.
fn is_before(scene: &Scene<'_>, one: &Cause, other: &Cause) -> bool {
    let (Some(until), Some(from)) = (&one.until_step, &other.from_step) else { return false };
    scene.history.place(until) < scene.history.place(from)
}

/// Whether two causes concern different actors, and no mount of both.
fn is_of_others(one: &Cause, other: &Cause) -> bool {
    let named = !one.actors.is_empty() && !other.actors.is_empty();
    let apart = !one.actors.iter().any(|actor| other.actors.contains(actor));
    named && apart && !one.mounts.iter().any(|mount| other.mounts.contains(mount))
}
