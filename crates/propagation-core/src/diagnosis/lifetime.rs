//! The daemon and its connection: dead, or outlived by the mount.

use std::collections::BTreeMap;

use super::below;
use super::blocked::stale_source;
use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands;
use super::dead::{cause, is_dead, probe};
use super::dentry;
use super::errors;
use super::hang;
use super::read_only;
use super::scene::{Scene, Spell, first_replicas};
use super::text::names;
use crate::errno::Errno;
use crate::mountinfo::DeviceId;
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::{Fault, Role, WorkloadSpec};
use crate::program::RefusalKind;
use crate::report::{CheckId, Deed, Failure, FailureOf};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(dentry::rule(scene));
    causes.extend(stale_source(scene));
    causes.extend(daemon_dead(scene));
    causes.extend(read_only::rule(scene));
    causes.extend(errors::rule(scene));
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
    let mut deaths: BTreeMap<Death<'_>, Vec<&Spell<'_>>> = BTreeMap::new();
    for spell in scene.history.spells.iter().filter(dead) {
        let first = spell.seen[0];
        let device = scene.device_of(first);
        let producer = scene.producer_of(device, first.at_us);
        let name = producer.map(|spec| spec.name.as_str());
        let since = device.and_then(|device| scene.seen_dead(device, first.at_us));
        let since_us = since.map_or(first.at_us, |seen| seen.at_us);
        deaths.entry((name, device, since_us)).or_default().push(spell);
    }
    let mut of_producers: BTreeMap<Option<&str>, Vec<Cause>> = BTreeMap::new();
    let mut causes = Vec::new();
    for ((name, ..), spells) in deaths {
        let (lasting, over): (Vec<_>, Vec<_>) = spells.into_iter().partition(|spell| spell.lasts());
        causes.extend(died(scene, &lasting));
        // The five phases end the daemon themselves.
        if !scene.report.plan.is_five_phases() {
            of_producers.entry(name).or_default().extend(died(scene, &over));
        }
    }
    for mut over in of_producers.into_values() {
        over.sort_by_key(|cause| cause.from_step.as_deref().map(|step| scene.history.place(step)));
        let more = over.split_off(over.len().min(DEATHS_TOLD));
        if let (Some(told), Some(last)) = (over.last_mut(), more.last()) {
            let until = last.until_step.as_deref().unwrap_or_default();
            told.evidence
                .push(format!("it died {} times more, the last until {until}", more.len()));
        }
        causes.extend(over);
    }
    causes
}

/// A death: of which producer's mount, and when it was seen first.
type Death<'r> = (Option<&'r str>, Option<DeviceId>, u64);

/// How many deaths of one producer that are over have a cause of their own; the rest are counted.
const DEATHS_TOLD: usize = 4;

/// Whether somebody sees a dead mount of a producer that mounts at another path than the bridge's, and no other mount
/// lies there on the node.
fn lies_elsewhere(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Some(device) = scene.device_of(seen) else { return false };
    let Some(producer) = scene.producer_of(Some(device), seen.at_us) else { return false };
    let at = scene.on_node(producer);
    let table = scene.table_in(&Actor::Node, &seen.step);
    let there = table.and_then(|table| table.at(&at)).filter(|mount| mount.is_fuse());
    at != scene.fuse_path && there.is_none_or(|mount| mount.device == device)
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

/// Whether a dead mount lies under another one in the end.
fn covered(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Some(mount) = &seen.mount else { return false };
    let Some(table) = scene.last_table(&Actor::Node).map(|(_, table)| table) else { return false };
    let at = match seen.actor {
        Actor::Node => &mount.mount_point,
        _ => &scene.fuse_path,
    };
    let stack = table.stack_at(at);
    stack.iter().rev().skip(1).any(|below| below.device == mount.device)
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
    evidence.extend(producer.and_then(|spec| errors::log_of(scene, spec, first.at_us)));
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
        Some(until) if covered(scene, first) => format!(
            "{what} and its mount stayed behind: until {until} whoever looked got ENOTCONN, and then a fresh mount \
             covered it"
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
    let cause = Cause {
        actors,
        ..cause(id, title, evidence, bring_back(scene, name, last), probe(&scene.place_of(last)))
    };
    Some(when.of(cause))
}

/// Fix that brings a dead daemon's mount back for all actors; where it is back, what would have done so sooner.
fn bring_back(scene: &Scene<'_>, name: &str, last: &Observation) -> Fix {
    let lasts = scene.history.lasts(last);
    let at = scene.place_of(last);
    let kept: Vec<&str> =
        commands::keep_what_was_at(scene, &at).iter().map(|spec| spec.name.as_str()).collect();
    let also = match kept.is_empty() || !lasts {
        true => String::new(),
        false => format!(", and then {}, which keeps the mount that it started with", names(kept)),
    };
    let layers = commands::dead_layers(scene, &at, &last.step, scene.device_of(last));
    // The table is that of the end of the step, in which it may have been taken off.
    let layers = if lasts || last.actor != Actor::Node { layers } else { layers.max(1) };
    let first = if layers == 0 { "" } else { "take the dead mount off, then " };
    let words = match lasts {
        true => format!("{first}restart {name}{also}"),
        false => format!(
            "{first}restart {name} at once; better, let {name} take a dead mount off before it mounts"
        ),
    };
    let words = match covered(scene, last) && !lasts {
        true => format!(
            "{words}. What is dead lies under the fresh mount now, and whoever looks does not meet it"
        ),
        false => words,
    };
    match commands::bring_back(scene, name, &at, layers) {
        none if none.is_empty() && lasts => Fix::words(words),
        none if none.is_empty() => Fix::words(format!("nothing is left to do; next time, {words}")),
        text => Fix::command(words, text),
    }
}

/// What a producer said of an unmount that was refused.
fn said_busy(scene: &Scene<'_>, producer: &WorkloadSpec) -> Option<String> {
    let log = scene.report.logs.iter().find(|log| log.workload == producer.name)?;
    let busy = |said: &&String| {
        ["resource busy", "target is busy", "EBUSY"].iter().any(|part| said.contains(part))
    };
    log.lines.iter().rev().find(busy).map(|said| format!("the log of {}: {said}", producer.name))
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
        Actor::Workload { name, .. } => Some(commands::restart_container(name)),
        _ => None,
    });
    let restart: Vec<String> = restart.collect();
    match restart.is_empty() {
        true => Fix::words(words),
        false => Fix::command(words, restart.join("\n")),
    }
}

/// The fault did not break the mount.
fn outlived(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::BreakageSeen)?;
    if check.evidence.is_empty() {
        return None;
    }
    if let Some(transport) = scene.report.plan.served_by() {
        return Some(cause(
            CauseId::ServerAway,
            format!("the client of {transport} answers from its cache while the server is away"),
            check.evidence.clone(),
            Fix::words(
                "let the client ask its server each time: cache=none and actimeo=0 of mount.cifs(8), actimeo=0 of nfs(5)",
            ),
            probe(&scene.fuse_path),
        ));
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
