//! What a dead mount blocks: starts of containers, and recoveries that came too early.

use super::cause::{Cause, CauseId, Fix};
use super::commands;
use super::dead::{cause, is_dead, probe};
use super::dead_source;
use super::runtime::said_by_the_runtime;
use super::scene::Scene;
use super::text::{line, names, shell};
use crate::errno::Errno;
use crate::mountinfo::{MountPath, MountRef};
use crate::observation::Actor;
use crate::plan::{Repair, Role};
use crate::program::RefusalKind;
use crate::report::{Act, Deed, FailureOf};

/// Why a recovery did not come about: the producer was refused by its own dead mount, or was tried too early.
pub(super) fn rule_of_recovery(scene: &Scene<'_>) -> Vec<Cause> {
    let of_producer = |cause: &Cause| {
        cause.actors.iter().any(|actor| scene.role_of(actor) == Some(Role::Producer))
    };
    let blocked = stale_source(scene).filter(of_producer).or_else(|| stale_stage_path(scene));
    recovery_before_mount(scene).into_iter().chain(blocked).collect()
}

/// A bind of the fresh mount that was tried before there was one.
fn recovery_before_mount(scene: &Scene<'_>) -> Option<Cause> {
    let act = scene.report.acts.iter().find(|act| match act.deed {
        Deed::Repair { repair } => act.refused.is_some() && binds(repair) && no_mount_lived(act),
        _ => false,
    })?;
    let seen = scene.node.iter().rev().find(|seen| seen.step == act.step)?;
    if seen.outcome.is_ok() {
        return None;
    }
    let later = scene.node.iter().find(|one| one.at_us > seen.at_us && one.outcome.is_ok());
    let mut evidence = vec![seen.to_string()];
    evidence.extend(act.refused.clone());
    let cause = cause(
        CauseId::RecoveryBeforeMount,
        "a recovery ran before the fresh mount was there: it found the dead one, and nothing to bind".into(),
        evidence,
        again(scene, &act.step),
        probe(&scene.fuse_path),
    );
    Some(Cause {
        from_step: Some(act.step.clone()),
        until_step: later.map(|one| one.step.clone()),
        actors: vec![Actor::Node],
        ..cause
    })
}

/// Fix for a recovery that came too early: the mount is brought back first.
fn again(scene: &Scene<'_>, step: &str) -> Fix {
    let words = "let the recovery wait for a mount that answers, and not for a container that is ready; do it again once the \
                 node reads the mount";
    let at = &scene.fuse_path;
    let text = scene.report.plan.producer().map(|spec| {
        commands::bring_back(scene, &spec.name, at, commands::dead_layers(scene, at, step, None))
    });
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Fix::command(format!("{words}; until then, by hand"), text),
        None => Fix::words(words),
    }
}

/// Whether a repair binds what the node has mounted. One that reconnects a volume needs no mount.
fn binds(repair: Repair) -> bool {
    matches!(repair, Repair::RebindConsumer | Repair::RebindHost | Repair::RebindHostDeduplicated)
}

/// Whether a re-bind was refused because no mount lived on the node: of that the agent tells in words, or the
/// kernel with ENOTCONN.
fn no_mount_lived(act: &Act) -> bool {
    act.refusal.is_none_or(|refusal| refusal.kind == RefusalKind::DeadSource)
}

/// The runtime looks at the volume's source before it binds it, and the source is dead.
pub(super) fn stale_source(scene: &Scene<'_>) -> Option<Cause> {
    let mut failures = scene.refused(RefusalKind::DeadSource);
    let words: Vec<(&str, &str)> = failures
        .iter()
        .map(|failure| (failure.workload.as_str(), failure.words.as_str()))
        .collect();
    let mut evidence = said_by_the_runtime(&words);
    // A producer that looks at its mountpoint before it mounts.
    let looked_first = scene.report.failures.iter().filter(|failure| {
        failure.of == FailureOf::Mount && Errno::said_in(&failure.words) == Some(Errno::ENOTCONN)
    });
    for failure in looked_first {
        evidence.push(format!("{}: {}", failure.workload, failure.words));
        failures.push(failure);
    }
    let lasts = failures.iter().any(|failure| scene.came_about(failure).is_none());
    failures.retain(|failure| !lasts || scene.came_about(failure).is_none());
    let last = *failures.last()?;
    let (source, dead) = dead_source::of(scene, last);
    let mut blocked: Vec<&str> = failures.iter().map(|one| one.workload.as_str()).collect();
    blocked.sort_unstable();
    blocked.dedup();
    let seen = scene.node.iter().find(|seen| is_dead(seen));
    evidence.extend(seen.map(ToString::to_string));
    evidence.extend(dead.map(|mount| line("node", mount)));
    let at = dead.map_or_else(|| source.clone(), |mount| mount.mount_point.clone());
    let path = shell(&at.to_string_lossy());
    let who = names(blocked.iter().copied());
    let fix = dead_source::fix(scene, &at, dead, &blocked, &last.step);
    let cause = Cause {
        actors: blocked.iter().map(|name| Actor::workload(*name)).collect(),
        mounts: dead.map(|mount| MountRef::new("node", mount.mount_id)).into_iter().collect(),
        ..cause(
            CauseId::StaleSourceBlocksStart,
            format!(
                "a dead FUSE mount at {at} blocks the start of {who}: its source is looked at first and \
                 gives ENOTCONN (a denied source would give EACCES)"
            ),
            evidence,
            fix,
            format!("stat {path}   # no error"),
        )
    };
    let cause = match failures.iter().all(|one| one.of == FailureOf::Mount) {
        true => daemon_looked_first(cause, &at, &who),
        false => cause,
    };
    Some(scene.when_failed(&failures).of(cause))
}

/// The daemon itself looks at its mountpoint before it mounts: no volume is in the way.
fn daemon_looked_first(cause: Cause, at: &MountPath, who: &str) -> Cause {
    Cause {
        title: format!(
            "a dead FUSE mount at {at} blocks the mount of {who}: the daemon looks at its mountpoint first, gets \
             ENOTCONN and ends"
        ),
        fix: Fix {
            words: format!(
                "take the dead mount off the node, then start {who} again; to be safe from it, let {who} take a dead \
                 mount off before it looks"
            ),
            ..cause.fix.clone()
        },
        ..cause
    }
}

/// A driver looks at its own mountpoint before it publishes a volume, finds a dead mount, and gives up.
fn stale_stage_path(scene: &Scene<'_>) -> Option<Cause> {
    let refused = |act: &&Act| {
        act.deed == Deed::Publish
            && act.refusal.is_some_and(|refusal| refusal.kind == RefusalKind::DeadSource)
    };
    let act = scene.report.acts.iter().rev().find(refused)?;
    let later = scene.report.acts.iter().find(|one| {
        one.deed == Deed::Publish
            && one.from_us > act.from_us
            && one.refused.is_none()
            && act.on.iter().all(|name| one.on.contains(name))
    });
    let at = &scene.fuse_path;
    let path = shell(&at.to_string_lossy());
    let who = names(act.on.iter().map(String::as_str));
    let table = scene.table_in(&Actor::Node, &act.step);
    let dead = table.and_then(|table| table.at(at)).filter(|mount| mount.is_fuse());
    let mut evidence: Vec<String> = act.refused.iter().cloned().collect();
    evidence.extend(dead.map(|mount| line("node", mount)));
    Some(Cause {
        from_step: Some(act.step.clone()),
        until_step: later.map(|one| one.step.clone()),
        actors: act.on.iter().map(|name| Actor::workload(name.clone())).collect(),
        mounts: dead.map(|mount| MountRef::new("node", mount.mount_id)).into_iter().collect(),
        ..cause(
            CauseId::StaleSourceBlocksStart,
            format!(
                "a dead FUSE mount at {path} blocks the volume of {who}: whoever publishes it looks at that path first, \
                 gets ENOTCONN and takes it for an error instead of for a volume that is not staged"
            ),
            evidence,
            Fix::command(
                format!(
                    "take the dead mount off the node, let the producer mount again, then publish the volume of {who}"
                ),
                dead_source::take_off(scene, &path, dead, &[]),
            ),
            format!("stat {path}   # no error"),
        )
    })
}
