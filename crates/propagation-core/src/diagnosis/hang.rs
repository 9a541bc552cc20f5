//! Accesses that wait for a daemon: it is stopped, was killed under a keeper, is slow, or does not serve yet.

use std::collections::BTreeMap;

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{self, ON_THE_NODE};
use super::dead::{cause, is_dead, probe};
use super::errors::only_a_daemon_says;
use super::runtime::said_by_the_runtime;
use super::scene::{Scene, first_replicas};
use super::silence::{Silence, silence_after};
use super::text::{line, names, shell, yaml};
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountRef};
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::{Fault, WorkloadSpec};
use crate::program::RefusalKind;
use crate::report::{Act, Deed, Failure, FailureOf};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut hung: BTreeMap<Option<DeviceId>, Vec<&Observation>> = BTreeMap::new();
    for seen in scene.asked().filter(|seen| matches!(seen.outcome, Outcome::Hang { .. })) {
        hung.entry(scene.device_of(seen)).or_default().push(seen);
    }
    let mut causes: Vec<Cause> =
        hung.iter().filter_map(|(device, seen)| hang(scene, *device, seen)).collect();
    causes.extend(left_out(scene));
    if causes.is_empty() {
        causes.extend(start_hangs(scene).or_else(|| never_served(scene)));
    }
    causes
}

/// Why accesses to one superblock wait.
enum Why {
    /// Others were answered at the same time, or it was told to be slow.
    Slow(String),
    /// Its daemon was ended, and a keeper holds its connection.
    Kept,
    /// Its daemon was ended, and somebody else holds its connection.
    Outlived,
    NotYetServed,
    Stopped,
}

fn hang(scene: &Scene<'_>, device: Option<DeviceId>, seen: &[&Observation]) -> Option<Cause> {
    // Of several times the last one that lasts, or the last one.
    let last = seen.iter().rev().find(|one| scene.history.lasts(one)).or(seen.last())?;
    let in_this_time = |one: &&&Observation| {
        !scene.history.lasts(last) || scene.history.lasts(one) || one.step == last.step
    };
    let hung: Vec<&Observation> = seen.iter().filter(in_this_time).copied().collect();
    let producer = scene.producer_of(device, last.at_us);
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    let mut evidence: Vec<String> = hung.iter().take(4).map(ToString::to_string).collect();
    let mounted = scene.fuse_mounts().into_iter().find(|(_, mount)| Some(mount.device) == device);
    evidence.extend(mounted.map(|(actor, mount)| line(actor, mount)));
    let act = producer.and_then(|spec| broke(scene, spec, &hung));
    evidence.extend(act.into_iter().flat_map(|act| act.proof.clone()));
    let keeper = producer.is_some_and(|spec| scene.report.plan.fuse_of(spec).keeper);
    let at = scene.place_of(last);
    let cause = match why(scene, device, &hung, act, keeper) {
        Why::Slow(answered) => {
            evidence.push(answered);
            slow(scene, name, &at, &hung, evidence)
        }
        Why::Kept => kept(name, &at, anew(scene, name, &at, device), evidence),
        Why::Outlived => outlived(name, &at, anew(scene, name, &at, device), evidence),
        Why::NotYetServed => cause(
            CauseId::NotYetServed,
            NOT_YET_SERVED.into(),
            evidence,
            wait_for(&at, device),
            probe(&at),
        ),
        Why::Stopped => stopped(name, &at, device, evidence),
    };
    let mounts = mounted.map(|(actor, mount)| MountRef::new(actor.to_string(), mount.mount_id));
    let cause =
        Cause { actors: first_replicas(&hung), mounts: mounts.into_iter().collect(), ..cause };
    let cause = scene.history.when(&hung).of(cause);
    // Once the node has a fresh mount, whoever keeps the dead one has another cause.
    let is_right = scene.node.last().is_some_and(|seen| seen.outcome.is_ok());
    let ended = !is_right
        && scene.history.spells.iter().any(|spell| {
            let first = spell.seen[0];
            spell.lasts()
                && is_dead(first)
                && scene.device_of(first) == device
                && was_ended(scene, first)
        });
    if !ended {
        return Some(cause);
    }
    let fix = bring_back_after(name, anew(scene, name, &at, device));
    let title = format!(
        "the daemon of {name} did not answer, and its connection was ended for that: whoever looks gets ENOTCONN, and nobody \
         has mounted again"
    );
    let mut evidence = cause.evidence;
    let dead = scene.probes().filter(|seen| is_dead(seen) && scene.device_of(seen) == device);
    evidence.extend(dead.last().map(ToString::to_string));
    Some(Cause { title, until_step: None, fix, evidence, ..cause })
}

/// What remains to do once the connection has been aborted.
fn bring_back_after(name: &str, anew: String) -> Fix {
    let words = format!(
        "the connection has been ended: kill the daemon, and restart {name} once the dead mount is off the node, then \
         those whose volume is the mount itself"
    );
    Fix::command(words, anew)
}

/// Whether a mount is dead because somebody ended the connection of a daemon that did not answer: then the stop
/// is what is wrong, and the end of the connection is what was done about it.
pub(super) fn was_ended(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Some(device) = scene.device_of(seen) else { return false };
    let producer = scene.producer_of(Some(device), seen.at_us);
    let act = producer.and_then(|spec| scene.last_act(spec, seen.at_us));
    let aborted = act.is_some_and(|act| act.deed == Deed::Fault { fault: Fault::Abort });
    let hung = |one: &Observation| {
        matches!(one.outcome, Outcome::Hang { .. })
            && one.at_us < seen.at_us
            && scene.device_of(one) == Some(device)
    };
    aborted && scene.asked().any(hung)
}

/// What was done to a producer that may make accesses wait: its last fault, or its end, before the last of them
/// or, where it was started again meanwhile, before the first.
fn broke<'r>(scene: &Scene<'r>, spec: &WorkloadSpec, hung: &[&Observation]) -> Option<&'r Act> {
    let (first, last) = (hung[0], hung[hung.len() - 1]);
    let breaks = |act: &&Act| matches!(act.deed, Deed::Fault { .. } | Deed::Stop);
    [last.at_us, first.at_us]
        .into_iter()
        .find_map(|at_us| scene.last_act(spec, at_us).filter(breaks))
}

fn why(
    scene: &Scene<'_>,
    device: Option<DeviceId>,
    hung: &[&Observation],
    act: Option<&Act>,
    keeper: bool,
) -> Why {
    let on_it = |seen: &&Observation| seen.outcome.is_ok() && scene.device_of(seen) == device;
    let ended = if keeper { Why::Kept } else { Why::Outlived };
    match act.and_then(silence_after) {
        Some(Silence::Stopped) => return Why::Stopped,
        Some(Silence::Slow(fault)) => return Why::Slow(format!("done to it before: {fault}")),
        Some(Silence::Ended) => return ended,
        None => {}
    }
    // Whoever got an answer got it after the last who waited: the daemon began to serve.
    let last_began = hung.iter().map(|one| one.at_us.saturating_sub(one.took_us)).max();
    let before = |seen: &Observation| last_began.is_some_and(|at_us| seen.at_us < at_us);
    if act.is_none() && !scene.asked().filter(on_it).any(before) {
        return Why::NotYetServed;
    }
    // Answered while others waited, and nothing was done between the two. Attributes may be the kernel's own.
    let asks =
        |seen: &&Observation| matches!(seen.access, Access::Read | Access::List | Access::Write);
    let answers = |seen: &&Observation| {
        on_it(seen) || only_a_daemon_says(scene, seen) && scene.device_of(seen) == device
    };
    let answered = scene.asked().filter(answers).filter(asks).find(|seen| {
        let beside = |one: &&Observation| {
            one.step == seen.step && scene.acts_before(one) == scene.acts_before(seen)
        };
        hung.iter().any(beside)
    });
    if let Some(answered) = answered {
        return Why::Slow(format!(
            "answered in {:.0} ms: {answered}",
            answered.took_us as f64 / 1e3
        ));
    }
    Why::Stopped
}

fn slow(
    scene: &Scene<'_>,
    name: &str,
    at: &MountPath,
    hung: &[&Observation],
    evidence: Vec<String>,
) -> Cause {
    let after_ms = hung.iter().filter_map(|seen| match seen.outcome {
        Outcome::Hang { after_ms } => Some(after_ms),
        _ => None,
    });
    let after_ms = after_ms.max().unwrap_or_default();
    let mut accesses: Vec<&str> = hung.iter().map(|seen| seen.access.as_str()).collect();
    accesses.sort_unstable();
    accesses.dedup();
    cause(
        CauseId::DaemonSlow,
        format!(
            "the daemon of {name} is alive and slow: {} got no answer within {after_ms} ms, and others do or would",
            accesses.join(", ")
        ),
        evidence,
        Fix::yaml(
            format!(
                "nothing is to be killed or unmounted: give whoever looks more than {after_ms} ms (a listing needs \
                 several requests), and look at the backing store of {name}"
            ),
            patient_probe(scene, scene.report.plan.workload(name), hung[0], after_ms),
        ),
        format!("time ls {}", shell(&at.to_string_lossy())),
    )
}

/// A probe that waits several times as long as somebody waited in vain, of whoever waited. The node has no probes, so it
/// is that of the producer there.
fn patient_probe(
    scene: &Scene<'_>,
    producer: Option<&WorkloadSpec>,
    seen: &Observation,
    after_ms: u64,
) -> String {
    let path = match (&seen.actor, producer.filter(|spec| !spec.host)) {
        (Actor::Node | Actor::Runtime, Some(spec)) => {
            scene.path_of(&Actor::workload(spec.name.clone()))
        }
        (actor, _) => scene.path_of(actor),
    };
    format!(
        "livenessProbe:\n  exec:\n    command: [ls, {}]\n  timeoutSeconds: {}\n",
        yaml(&path.to_string_lossy()),
        (after_ms * 10).div_ceil(1_000)
    )
}

/// Takes the mount off, and makes the pod anew that holds its connection; where it is none, names the processes that
/// hold one.
fn anew(scene: &Scene<'_>, name: &str, at: &MountPath, device: Option<DeviceId>) -> String {
    const HOLDERS: &str = "for p in /proc/[0-9]*; do if ls -l $p/fd 2> /dev/null | grep -q /dev/fuse; then echo \
                           ${p#/proc/} $(cat $p/comm); fi; done   # on the node: who holds /dev/fuse";
    let last = scene.last_table(&Actor::Node).map(|(capture, _)| capture.step.as_str());
    let layers = last.map_or(0, |step| commands::dead_layers(scene, at, step, device));
    match scene.report.plan.workload(name).is_some_and(|spec| !spec.host) {
        true => commands::bring_back(scene, name, at, layers),
        false => HOLDERS.to_owned(),
    }
}

fn kept(name: &str, at: &MountPath, anew: String, evidence: Vec<String>) -> Cause {
    let path = shell(&at.to_string_lossy());
    cause(
        CauseId::DaemonKilledKeeperHolds,
        format!(
            "the daemon of {name} was killed, and a keeper holds its connection open: every access waits for a \
             successor instead of failing"
        ),
        evidence,
        Fix::command(
            format!(
                "start a successor on the descriptor that the keeper holds (hand over): the same mount goes on, and \
                 nobody gets an error. Where there will be none, let the keeper go: unmount {path} lazily and \
                 make {name} anew with its keeper, and whoever waits gets ENOTCONN"
            ),
            anew,
        ),
        probe(at),
    )
}

/// The daemon was ended, and accesses wait: without a keeper somebody else holds its connection.
fn outlived(name: &str, at: &MountPath, anew: String, evidence: Vec<String>) -> Cause {
    let path = shell(&at.to_string_lossy());
    cause(
        CauseId::MountOutlivesDaemon,
        format!(
            "the daemon of {name} was ended, and its connection stays open without anybody who answers: somebody \
             else holds /dev/fuse, so every access waits instead of failing"
        ),
        evidence,
        Fix::command(
            format!(
                "end the second holder of /dev/fuse (a supervisor, a forked daemon; its pod takes it along), so that whoever \
                 waits gets ENOTCONN; unmount {path} lazily and make {name} anew"
            ),
            anew,
        ),
        probe(at),
    )
}

fn stopped(name: &str, at: &MountPath, device: Option<DeviceId>, evidence: Vec<String>) -> Cause {
    let connection = device.map_or_else(|| "N".to_owned(), |device| device.minor.to_string());
    let pid = evidence.iter().filter(|words| words.ends_with(IS_STOPPED)).find_map(|words| {
        let words = words.strip_prefix("process ")?;
        words.split(' ').next()?.parse::<u32>().ok()
    });
    let resume = match pid {
        Some(pid) => format!("kill -CONT {pid}{ON_THE_NODE}: the daemon of {name}"),
        None => RESUME.to_owned(),
    };
    cause(
        CauseId::DaemonStopped,
        format!(
            "the daemon of {name} is alive and does not answer: its connection stays open, and every access \
             waits instead of failing"
        ),
        evidence,
        Fix::command(
            format!(
                "continue the daemon. Where it cannot be, end connection {connection} (mount -t fusectl fusectl \
                 /sys/fs/fuse/connections; echo 1 > /sys/fs/fuse/connections/{connection}/abort), unmount {} \
                 lazily and restart {name}",
                shell(&at.to_string_lossy())
            ),
            resume,
        ),
        probe(at),
    )
}

/// Continues the daemons that are stopped: those in state T with /dev/fuse open.
pub(crate) const RESUME: &str = "for p in /proc/[0-9]*; do grep -q '^State:.T' $p/status && ls -l $p/fd | grep -q \
                                 /dev/fuse && kill -CONT ${p#/proc/}; done   # on the node";

/// Text of the evidence that proves a stop.
const IS_STOPPED: &str = "is stopped";

const NOT_YET_SERVED: &str = "the mount is made and nobody answers: /dev/fuse is open and its daemon \
                              has not begun to serve, so every access waits";

/// A start that hangs in its look at the volume's source, when no other access reported it.
fn start_hangs(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refused(RefusalKind::Hangs);
    let first = refused.first()?;
    let table = scene.table_in(&Actor::Node, &first.step)?;
    let (volume, mount) = scene.hung_volume(first, table)?;
    let device = mount.map(|mount| mount.device);
    let at_us =
        scene.report.acts.iter().rev().find(|act| act.step == first.step).map(|act| act.until_us);
    let producer = scene.producer_of(device, at_us.unwrap_or(u64::MAX));
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    let at = mount.map_or_else(|| volume.source.as_str().into(), |mount| mount.mount_point.clone());
    let words: Vec<(&str, &str)> =
        refused.iter().map(|one| (one.workload.as_str(), one.words.as_str())).collect();
    let mut evidence = said_by_the_runtime(&words);
    evidence.extend(mount.map(|mount| line("node", mount)));
    let act = producer.and_then(|spec| scene.last_act(spec, at_us.unwrap_or(u64::MAX)));
    evidence.extend(act.into_iter().flat_map(|act| act.proof.clone()));
    let cause = stopped(name, &at, device, evidence);
    let actors = refused.iter().map(|one| Actor::workload(one.workload.clone())).collect();
    Some(scene.when_failed(&refused).of(Cause { actors, ..cause }))
}

/// Starts that were given up while a daemon did not answer, and that nobody has tried again since it does.
fn left_out(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refused(RefusalKind::Hangs);
    let left: Vec<&Failure> =
        refused.into_iter().filter(|one| scene.came_about(one).is_none()).collect();
    let first = *left.first()?;
    let table = scene.table_in(&Actor::Node, &first.step)?;
    let device = scene.hung_volume(first, table)?.1?.device;
    let looks = scene.asked().filter(|seen| scene.device_of(seen) == Some(device));
    let answers = looks.last().filter(|seen| seen.outcome.is_ok())?;
    if scene.history.place(&answers.step) <= scene.history.place(&first.step) {
        return None;
    }
    let mut whose: Vec<&str> = left.iter().map(|one| one.workload.as_str()).collect();
    whose.sort_unstable();
    whose.dedup();
    let who = names(whose.iter().copied());
    let words: Vec<(&str, &str)> =
        left.iter().map(|one| (one.workload.as_str(), one.words.as_str())).collect();
    let mut evidence = said_by_the_runtime(&words);
    evidence.push(answers.to_string());
    let fix = Fix::command(
        format!("start {who} again: the daemon answers by now"),
        whose.iter().map(|name| commands::delete_pod(name)).collect::<Vec<_>>().join("\n"),
    );
    let cause = Cause {
        actors: whose.iter().map(|name| Actor::workload(*name)).collect(),
        ..cause(
            CauseId::DaemonStopped,
            format!(
                "the start of {who} was given up in {} while the daemon did not answer, and nobody has started it again since",
                first.step
            ),
            evidence,
            fix,
            format!("kubectl get pod {}   # Running", whose.join(" ")),
        )
    };
    Some(scene.when_failed(&left).of(cause))
}

/// The producer mounted but never answered, so that no actor went on to look.
fn never_served(scene: &Scene<'_>) -> Option<Cause> {
    scene.report.failures.iter().find_map(|failure| serves_nothing(scene, failure))
}

fn serves_nothing(scene: &Scene<'_>, failure: &Failure) -> Option<Cause> {
    let name = &failure.workload;
    let spec = scene.report.plan.workload(name)?;
    let actor = Actor::workload(spec.name.clone());
    let (_, table) = scene.last_table(&actor)?;
    let mount = table.at(&scene.path_of(&actor)).filter(|mount| mount.is_fuse())?;
    let evidence = vec![failure.words.clone(), line(&actor, mount)];
    if let Some(expected) = &scene.report.plan.fuse_of(spec).fs_type
        && *expected != mount.fs_type
        && failure.of != FailureOf::Start
    {
        let said = failure.of == FailureOf::Mount;
        return Some(other_type(name, expected, mount, evidence, said));
    }
    if failure.of != FailureOf::Serve {
        return None;
    }
    let mounts = vec![MountRef::new(actor.to_string(), mount.mount_id)];
    let at = scene.on_node(spec);
    let fix = wait_for(&at, Some(mount.device));
    let found = cause(CauseId::NotYetServed, NOT_YET_SERVED.into(), evidence, fix, probe(&at));
    Some(Cause { actors: vec![actor], mounts, ..found })
}

/// A mount is there, but not of the expected type; the flag tells whether the supervisor said so.
fn other_type(
    name: &str,
    expected: &str,
    mount: &MountEntry,
    evidence: Vec<String>,
    said: bool,
) -> Cause {
    let there = &mount.fs_type;
    Cause {
        confidence: if said { Confidence::Likely } else { Confidence::Possible },
        actors: vec![Actor::workload(name)],
        mounts: vec![MountRef::new(name, mount.mount_id)],
        source: "mount.fuse3(8), subtype; proc_pid_mountinfo(5)".into(),
        ..cause(
            CauseId::MountTypeUnexpected,
            format!(
                "{} has mounted a {there}, and its fuse.type waits for {expected}",
                names([name])
            ),
            evidence,
            Fix::yaml(
                format!("write `type: {there}`, or leave it out: any FUSE type will do then"),
                format!("fuse:\n  type: {there}\n"),
            ),
            format!("grep -F {} /proc/self/mountinfo   # in {name}", shell(expected)),
        )
    }
}

/// Fix for a daemon that has not begun to serve.
fn wait_for(at: &MountPath, device: Option<DeviceId>) -> Fix {
    let connection = device.map_or_else(|| "N".into(), |device| device.minor.to_string());
    let path = shell(&at.to_string_lossy());
    Fix::command(
        format!(
            "wait for the daemon, and look at what it waits for (its backing store, its log); to free those that wait, abort \
             its connection (echo 1 > /sys/fs/fuse/connections/{connection}/abort)"
        ),
        format!(
            "timeout --signal KILL 60 ls {path} > /dev/null{ON_THE_NODE}: returns when it serves"
        ),
    )
}
