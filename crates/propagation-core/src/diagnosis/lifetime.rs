//! The daemon and its connection: dead, answering errors, outlived by the mount; and what a dead mount blocks.

use std::collections::BTreeMap;

use super::below;
use super::cause::{Cause, CauseId, Confidence, Fix};
use super::dead::{cause, is_dead, probe};
use super::hang;
use super::read_only;
use super::runtime::said_by_the_runtime;
use super::scene::{Scene, Spell, first_replicas};
use super::text::{line, names, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountPath, MountRef};
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::{Fault, Propagation, Repair, Role, Volume, WorkloadSpec};
use crate::program::RefusalKind;
use crate::report::{Act, CheckId, Deed, Failure, FailureOf};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(dead_dentry(scene));
    causes.extend(stale_source(scene));
    causes.extend(daemon_dead(scene));
    causes.extend(read_only::rule(scene));
    causes.extend(daemon_errors(scene));
    causes.extend(descriptor_held(scene));
    causes.extend(outlived(scene));
    causes.extend(consumer_died(scene));
    causes
}

/// The node reads ENOTCONN, or consumers do and nothing is mounted on the node any more: nobody has mounted
/// again.
fn daemon_dead(scene: &Scene<'_>) -> Vec<Cause> {
    let over_lost = below::devices(scene);
    let dead = |spell: &&Spell<'_>| {
        if hang::was_ended(scene, spell.seen[0]) {
            return false;
        }
        let last = spell.seen[spell.seen.len() - 1];
        is_dead(last)
            && last.access == Access::Read
            && !below::explains(&over_lost, last)
            && (*spell.actor == Actor::Node
                || nothing_on_the_node(scene, last)
                || lies_elsewhere(scene, last))
    };
    let mut of_producers: BTreeMap<Option<&str>, Vec<&Spell<'_>>> = BTreeMap::new();
    for spell in scene.history.spells.iter().filter(dead) {
        let first = spell.seen[0];
        let producer = scene.producer_of(scene.device_of(first), first.at_us);
        let name = producer.map(|spec| spec.name.as_str());
        of_producers.entry(name).or_default().push(spell);
    }
    let mut causes = Vec::new();
    for spells in of_producers.into_values() {
        let (lasting, over): (Vec<_>, Vec<_>) = spells.into_iter().partition(|spell| spell.lasts());
        // The five phases end the daemon themselves.
        let over = if scene.report.plan.is_five_phases() { Vec::new() } else { over };
        causes.extend([lasting, over].into_iter().filter_map(|spells| died(scene, &spells)));
    }
    causes
}

/// Whether somebody sees a dead mount of a producer that mounts at another path than the bridge's, and that still
/// lies there on the node.
fn lies_elsewhere(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Some(device) = scene.device_of(seen) else { return false };
    let Some(producer) = scene.producer_of(Some(device), seen.at_us) else { return false };
    let at = scene.on_node(producer);
    let table = scene.table_in(&Actor::Node, &seen.step);
    let there = table.and_then(|table| table.at(&at)).map(|mount| mount.device);
    at != scene.fuse_path && there == Some(device)
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
        Fix::words(
            "let the recovery wait for a mount that answers, and not for a container that is ready; do it again once the \
             node reads the mount",
        ),
        probe(scene),
    );
    Some(Cause {
        from_step: Some(act.step.clone()),
        until_step: later.map(|one| one.step.clone()),
        actors: vec![Actor::Node],
        ..cause
    })
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

/// Why a recovery did not come about: the producer was refused by its own dead mount, or was tried too early.
pub(super) fn rule_of_recovery(scene: &Scene<'_>) -> Vec<Cause> {
    let of_producer = |cause: &Cause| {
        cause.actors.iter().any(|actor| scene.role_of(actor) == Some(Role::Producer))
    };
    let blocked = stale_source(scene).filter(of_producer).or_else(|| stale_stage_path(scene));
    recovery_before_mount(scene).into_iter().chain(blocked).collect()
}

/// Whether the node sees no mount in the step in which a consumer sees a dead one.
fn nothing_on_the_node(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Actor::Workload { name, .. } = &seen.actor else { return false };
    let on_bridge = scene.spec(name).is_some_and(|spec| scene.is_on_bridge(spec));
    if scene.role_of(&seen.actor) != Some(Role::Consumer) || !on_bridge {
        return false;
    }
    let mut in_step = scene.node.iter().rev().filter(|one| one.step == seen.step);
    in_step.next().is_some_and(|node| matches!(node.outcome, Outcome::Absent))
}

fn died(scene: &Scene<'_>, spells: &[&Spell<'_>]) -> Option<Cause> {
    let seen: Vec<&Observation> =
        spells.iter().map(|spell| spell.seen[spell.seen.len() - 1]).collect();
    let last = *seen.iter().max_by_key(|one| one.at_us)?;
    // A container that could not be started says why nobody brought it back.
    let blocked = scene.refused(RefusalKind::DeadSource);
    let is_producer = |failure: &&Failure| {
        let spec = scene.report.plan.workload(&failure.workload);
        spec.is_some_and(|spec| spec.role == Role::Producer)
    };
    let looked_first = |failure: &Failure| {
        failure.of == FailureOf::Mount && Errno::said_in(&failure.words) == Some(Errno::ENOTCONN)
    };
    if scene.history.lasts(last)
        && (blocked.iter().any(is_producer) || scene.report.failures.iter().any(looked_first))
    {
        return None;
    }
    let first = spells.iter().map(|spell| spell.seen[0]).min_by_key(|one| one.at_us)?;
    let producer = scene.producer_of(scene.device_of(first), first.at_us);
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    let mut evidence = vec![first.to_string()];
    let act = producer.and_then(|spec| scene.last_act(spec, first.at_us));
    evidence.extend(act.into_iter().flat_map(|act| act.proof.clone()));
    evidence.extend(producer.and_then(|spec| log_of(scene, spec)));
    let failed = scene.mount_failures().into_iter().filter(|(whose, _)| *whose == name);
    evidence.extend(failed.map(|(_, words)| words.to_owned()));
    let fault = act.and_then(|act| match &act.deed {
        Deed::Fault { fault } => Some(fault),
        _ => None,
    });
    let busy = producer.and_then(|spec| said_busy(scene, spec));
    let (id, what) = match fault {
        Some(Fault::Abort) => (CauseId::DaemonDead, "the connection of the mount was aborted"),
        Some(Fault::Oom) => {
            (CauseId::DaemonOutOfMemory, "the FUSE daemon was killed for its memory")
        }
        Some(Fault::KillParent) => (
            CauseId::DaemonDiesWithParent,
            "the FUSE daemon was killed with the process that started it",
        ),
        Some(Fault::Terminate | Fault::Delete | Fault::Exit) if busy.is_some() => (
            CauseId::UnmountBusy,
            "the FUSE daemon could not unmount when it ended, because somebody uses the mount,",
        ),
        _ => (CauseId::DaemonDead, "the FUSE daemon ended"),
    };
    evidence.extend(busy);
    let when = scene.history.when(&seen);
    let title = match &when.until {
        None => format!(
            "{what} and nobody has brought it back: its mount stays behind and gives ENOTCONN"
        ),
        Some(until) => format!(
            "{what} and its mount stayed behind: until {until} whoever looked got ENOTCONN, because only an \
             unmount takes it off"
        ),
    };
    let actors = first_replicas(&seen);
    let actors = match actors.contains(&Actor::Node) {
        true => vec![Actor::Node],
        false => actors,
    };
    let cause =
        Cause { actors, ..cause(id, title, evidence, bring_back(scene, name, last), probe(scene)) };
    Some(when.of(cause))
}

/// Fix that brings a dead daemon's mount back for all actors.
fn bring_back(scene: &Scene<'_>, name: &str, last: &Observation) -> Fix {
    if !scene.history.lasts(last) {
        return Fix::words(format!(
            "nothing is left to do; to make it shorter, let {name} be restarted at once and take a dead mount \
             off before it mounts"
        ));
    }
    let elsewhere = lies_elsewhere(scene, last);
    let producer = scene.producer_of(scene.device_of(last), last.at_us).filter(|_| elsewhere);
    let at = match (&last.actor, &last.mount, producer) {
        (Actor::Node, Some(mount), _) => mount.mount_point.clone(),
        (.., Some(producer)) => scene.on_node(producer),
        _ => scene.fuse_path.clone(),
    };
    let path = shell(&at.to_string_lossy());
    let kept: Vec<&str> = keep_what_they_have(scene).map(|spec| spec.name.as_str()).collect();
    let also = match kept.is_empty() {
        true => String::new(),
        false => format!(", and then {}, which keeps the mount that it started with", names(kept)),
    };
    let words = format!("take the dead mount off, then restart {name}{also}");
    let table = scene.table_in(&Actor::Node, &last.step);
    let layers =
        table.map_or(0, |table| table.stack_at(&at).iter().filter(|mount| mount.is_fuse()).count());
    match layers {
        0 => start_again(scene, name, format!("restart {name}{also}")),
        count => Fix::command(
            words,
            format!("{}   # on the node", vec![format!("umount --lazy {path}"); count].join("; ")),
        ),
    }
}

/// Consumers that a fresh mount does not reach.
fn keep_what_they_have<'r>(scene: &Scene<'r>) -> impl Iterator<Item = &'r WorkloadSpec> {
    scene.report.plan.with_role(Role::Consumer).filter(|spec| {
        let is_mount =
            matches!(spec.volume, Volume::Mountpoint | Volume::File) || spec.sub_path.is_some();
        !spec.host && (is_mount || spec.propagation == Propagation::None)
    })
}

/// What a producer said of an unmount that was refused.
fn said_busy(scene: &Scene<'_>, producer: &WorkloadSpec) -> Option<String> {
    let log = scene.report.logs.iter().find(|log| log.workload == producer.name)?;
    let busy = |said: &&String| {
        ["resource busy", "target is busy", "EBUSY"].iter().any(|part| said.contains(part))
    };
    log.lines.iter().rev().find(busy).map(|said| format!("the log of {}: {said}", producer.name))
}

/// The last thing that a producer said.
fn log_of(scene: &Scene<'_>, producer: &WorkloadSpec) -> Option<String> {
    let name = &producer.name;
    let log = scene.report.logs.iter().find(|log| log.workload == *name)?;
    log.lines.last().map(|said| format!("the log of {name} ends with: {said}"))
}

/// Whether an errno of an access through a FUSE mount is the daemon's own answer: the kernel says none of these by
/// itself. An expected refusal, such as ENOSYS, is not counted.
fn only_a_daemon_says(scene: &Scene<'_>, seen: &Observation) -> bool {
    const TROUBLE: [Errno; 3] = [Errno::EDQUOT, Errno::EIO, Errno::ENOSPC];
    const NATURE: [Errno; 3] = [Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EROFS];
    let class = seen.outcome.class();
    TROUBLE.map(Class::Errno).contains(&class)
        || NATURE.map(Class::Errno).contains(&class) && !scene.is_expected_as_seen(seen)
}

/// The daemon answers, with an error.
fn daemon_errors(scene: &Scene<'_>) -> Option<Cause> {
    let over_lost = below::devices(scene);
    let answers = |seen: &Observation| {
        let by_the_kernel = match seen.outcome.class() {
            Class::Errno(Errno::ENOTCONN | Errno::ECONNABORTED) => true,
            Class::Errno(Errno::EACCES | Errno::EPERM) => !scene.is_answered(seen),
            Class::Errno(Errno::EROFS) => read_only::mount_of(scene, seen).is_some(),
            _ => !matches!(seen.outcome, Outcome::Errno { .. }),
        };
        let mounted = seen.mount.as_ref().is_some_and(|mount| mount.is_fuse());
        !by_the_kernel && mounted && !below::explains(&over_lost, seen)
    };
    let mut spells: Vec<&Spell<'_>> = scene
        .history
        .spells
        .iter()
        .filter(|spell| {
            let last = spell.seen[spell.seen.len() - 1];
            let by_the_daemon = *spell.actor == Actor::Node
                || scene.is_answered(last)
                || only_a_daemon_says(scene, last);
            by_the_daemon && answers(last)
        })
        .collect();
    let of_node = spells.iter().any(|spell| *spell.actor == Actor::Node);
    spells.retain(|spell| !of_node || *spell.actor == Actor::Node);
    let lasts = spells.iter().any(|spell| spell.lasts());
    let seen: Vec<&Observation> = spells
        .iter()
        .filter(|spell| !lasts || spell.lasts())
        .map(|spell| spell.seen[spell.seen.len() - 1])
        .collect();
    let last = *seen.last()?;
    let Outcome::Errno { errno, call } = &last.outcome else { return None };
    let producer = scene.producer_of(last.mount.as_ref().map(|mount| mount.device), last.at_us);
    let mut evidence = vec![last.to_string()];
    evidence.extend(producer.and_then(|spec| log_of(scene, spec)));
    let (id, title, fix) = match *errno {
        Errno::EACCES | Errno::EPERM => (
            CauseId::DaemonDenies,
            format!(
                "the daemon lives and answers {call} itself with {errno}, also to those who could read before: no \
                 mount option and no confinement is in the way"
            ),
            "look into what the daemon checks for itself, and into its log; mounts and propagation are in order",
        ),
        Errno::ENOSPC => (
            CauseId::DaemonAnswersErrors,
            format!("the daemon lives and answers {call} with {errno}: its backing store is full"),
            "make room in what the daemon stores to, or in its cache; mounts and propagation are in order",
        ),
        Errno::ENOSYS | Errno::EOPNOTSUPP => (
            CauseId::DaemonAnswersErrors,
            format!(
                "the daemon lives and answers {call} with {errno}: it does not implement that operation"
            ),
            "use a daemon or a release that implements it; mounts and propagation are in order",
        ),
        _ => (
            CauseId::DaemonAnswersErrors,
            format!("the daemon lives and answers {call} with {errno}: its backing store fails"),
            "look into the producer's log; mounts and propagation are in order",
        ),
    };
    let cause = cause(id, title, evidence, Fix::words(fix), probe(scene));
    let actors = if of_node { vec![Actor::Node] } else { first_replicas(&seen) };
    Some(scene.history.when(&seen).of(Cause { actors, ..cause }))
}

/// The runtime looks at the volume's source before it binds it, and the source is dead.
fn stale_source(scene: &Scene<'_>) -> Option<Cause> {
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
    let (source, dead) = dead_source(scene, last);
    let mut blocked: Vec<&str> = failures.iter().map(|one| one.workload.as_str()).collect();
    blocked.sort_unstable();
    blocked.dedup();
    let seen = scene.node.iter().find(|seen| is_dead(seen));
    evidence.extend(seen.map(ToString::to_string));
    evidence.extend(dead.map(|mount| line("node", mount)));
    let at = dead.map_or_else(|| source.clone(), |mount| mount.mount_point.clone());
    let path = shell(&at.to_string_lossy());
    let who = names(blocked.iter().copied());
    let of_bridge = at == scene.fuse_path;
    let fuse = shell(&scene.report.plan.bridge.fuse_path());
    let fix = match of_bridge {
        true => Fix::command(
            format!(
                "take the dead mount off the node, let the producer mount again, then start {who}; to be safe \
                 from it, use the directory above the mountpoint as the volume"
            ),
            format!("umount --lazy {path}   # on the node"),
        ),
        false => Fix::command(
            format!(
                "take the dead bind off ({at}, not the mount at {fuse}), bind what is mounted now, then start {who}"
            ),
            format!("umount --lazy {path}; mount --bind {fuse} {path}   # on the node"),
        ),
    };
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
    Some(scene.when_failed(&failures).of(cause))
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
                format!("umount --lazy {path}   # on the node"),
            ),
            format!("stat {path}   # no error"),
        )
    })
}

/// The source that a start failed to look at, with the mount of the node on which it lies.
fn dead_source<'r>(scene: &Scene<'r>, failure: &Failure) -> (MountPath, Option<&'r MountEntry>) {
    let spec = scene.spec(&failure.workload);
    let source = match (spec, failure.of) {
        (Some(spec), FailureOf::Start) => MountPath::from(scene.paths(spec).source.as_str()),
        _ => scene.fuse_path.clone(),
    };
    let table = scene.table_in(&Actor::Node, &failure.step);
    // The kubelet's own bind of a subPath is named after the pod.
    let of_pod = |mount: &&MountEntry| {
        mount.is_fuse()
            && mount.mount_point.to_string_lossy().ends_with(&format!("/{}", failure.workload))
    };
    let by_kubelet = spec.filter(|spec| spec.sub_path.is_some() && failure.of == FailureOf::Start);
    if let Some(bind) = by_kubelet.and_then(|_| table?.iter().find(of_pod)) {
        return (bind.mount_point.clone(), Some(bind));
    }
    let covering = table.and_then(|table| table.covering(&source)).filter(|mount| mount.is_fuse());
    (source, covering)
}

/// A descriptor opened before the end of a daemon, of an actor whose path works again.
fn descriptor_held(scene: &Scene<'_>) -> Option<Cause> {
    if scene.report.plan.is_five_phases() {
        return None;
    }
    let reads = |actor: &Actor| {
        let own = scene.probes().filter(|seen| seen.actor == *actor && seen.access == Access::Read);
        own.last().is_some_and(|seen| seen.outcome.is_ok())
    };
    let held = scene.history.spells.iter().filter(|spell| {
        let last = spell.seen[spell.seen.len() - 1];
        spell.lasts() && last.access == Access::Held && reads(spell.actor)
    });
    let seen: Vec<&Observation> = held.map(|spell| spell.seen[spell.seen.len() - 1]).collect();
    let first = seen.first()?;
    let actors = first_replicas(&seen);
    let who: Vec<String> = actors.iter().map(ToString::to_string).collect();
    let who = names(who.iter().map(String::as_str));
    let cause = cause(
        CauseId::DescriptorHeld,
        format!(
            "a descriptor that {who} opened before stays on the old connection ({}): the path is right again, \
             and an open file never moves to another filesystem",
            first.outcome.class()
        ),
        seen.iter().map(ToString::to_string).collect(),
        reopen(&who, &actors),
        format!("kubectl exec {} -- ls -l /proc/1/fd   # none on the old mount", first.actor),
    );
    Some(scene.history.when(&seen).of(Cause { actors, ..cause }))
}

/// Fix for files that are open on a dead connection.
fn reopen(who: &str, actors: &[Actor]) -> Fix {
    let words = format!(
        "let the program of {who} close the file and open it again when it gets this error, or restart its container; \
         to keep open files over a restart of the daemon, hand its connection over"
    );
    let restart = actors.iter().filter_map(|actor| match actor {
        Actor::Workload { name, .. } => Some(restart_container(name)),
        _ => None,
    });
    let restart: Vec<String> = restart.collect();
    match restart.is_empty() {
        true => Fix::words(words),
        false => Fix::command(words, restart.join("\n")),
    }
}

/// The command that restarts the container of a workload in its pod.
fn restart_container(name: &str) -> String {
    format!("kubectl exec {} -- kill 1", shell(name))
}

/// The command that deletes a pod, which its controller makes again.
pub(super) fn delete_pod(name: &str) -> String {
    format!("kubectl delete pod {}", shell(name))
}

/// Fix that starts a producer again; a process of the node is started there.
pub(super) fn start_again(scene: &Scene<'_>, name: &str, words: String) -> Fix {
    match scene.spec(name) {
        Some(spec) if !spec.host => Fix::command(words, delete_pod(name)),
        _ => Fix::words(words),
    }
}

/// A volume, such as the bind of a subPath, whose directory has been deleted under it.
fn dead_dentry(scene: &Scene<'_>) -> Option<Cause> {
    let mut found = Vec::new();
    for capture in scene.report.captures.iter().rev() {
        // Where nothing is mounted any more, a deleted directory is fine.
        let of_step = scene.node.iter().rev().find(|seen| seen.step == capture.step);
        if of_step.is_some_and(|seen| matches!(seen.outcome, Outcome::Absent)) {
            continue;
        }
        for one in &capture.tables {
            let path = scene.path_of(&one.actor);
            let covering = one.table.covering(&path);
            // Behind a dead connection every directory looks deleted.
            let alive = |mount: &&MountEntry| {
                !mount.is_fuse() || scene.seen_dead(mount.device, capture.at_us).is_none()
            };
            if let Some(mount) = covering.filter(|m| m.root_deleted).filter(alive) {
                found.push((&one.actor, mount));
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    let (_, first) = found.first()?;
    let at = shell(&first.mount_point.to_string_lossy());
    let of_sub_path = found.iter().any(|(actor, _)| match actor {
        Actor::Workload { name, .. } => {
            scene.spec(name).is_some_and(|spec| spec.sub_path.is_some())
        }
        _ => false,
    });
    let whose: Vec<String> = found.iter().map(|(actor, _)| actor.to_string()).collect();
    Some(Cause {
        actors: found.iter().map(|(actor, _)| (*actor).clone()).collect(),
        mounts: found.iter().map(|(a, m)| MountRef::new(a.to_string(), m.mount_id)).collect(),
        source: "https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath; proc_pid_mountinfo(5)"
            .into(),
        ..cause(
            CauseId::SubPathOnDeadDentry,
            format!(
                "the {} of {} is bound to a directory that has been deleted: what is mounted or made at that path now is \
                 another directory",
                if of_sub_path { "subPath" } else { "volume" },
                names(whose.iter().map(String::as_str))
            ),
            found.iter().map(|(actor, mount)| line(actor, mount)).collect(),
            match of_sub_path {
                true => Fix::command(
                    "use no subPath but the directory above it; until then delete the pod, which is made again (a restart \
                     of its container keeps the same bind)",
                    whose.iter().map(|name| delete_pod(name)).collect::<Vec<_>>().join("\n"),
                ),
                false => Fix::command(
                    "restart the container, which binds the directory that is there now; empty a directory that is a volume \
                     instead of removing it",
                    whose.iter().map(|name| restart_container(name)).collect::<Vec<_>>().join("\n"),
                ),
            },
            format!("grep -F {at} /proc/self/mountinfo   # in the container: without //deleted"),
        )
    })
}

/// The fault did not break the mount.
fn outlived(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::BreakageSeen)?;
    if check.evidence.is_empty() {
        return None;
    }
    Some(Cause {
        confidence: Confidence::Likely,
        ..cause(
            CauseId::MountOutlivesDaemon,
            "the mount goes on after the fault: somebody else holds its connection open".into(),
            check.evidence.clone(),
            Fix::words(
                "find the second holder of /dev/fuse: a keeper, a supervisor, a forked daemon",
            ),
            "ls -l /proc/[0-9]*/fd 2> /dev/null | grep -c /dev/fuse".into(),
        )
    })
}

/// Consumers that ended.
fn consumer_died(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::ConsumersAlive)?;
    Some(cause(
        CauseId::ConsumerDied,
        "a consumer ended because of the dead mount instead of noticing it".into(),
        vec![check.observed.clone()],
        Fix::words("handle ENOTCONN in the consumer, or let its restart policy bring it back"),
        "kubectl get pod --watch   # no restarts while the producer is away".into(),
    ))
}
