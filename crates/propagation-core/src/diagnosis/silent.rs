//! Failures without an error: lower filesystems, empty mounts; and runs without a failure.

use std::collections::{BTreeMap, HashSet};

use super::below;
use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again, delete_pod, keep_what_they_have, start_again};
use super::groups;
use super::hidden;
use super::own_copy;
use super::scene::{Scene, first_replicas};
use super::text::{KUBERNETES_MODES, line, names, shell, yaml};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{MountPath, MountTable};
use crate::observation::{Access, Actor, MountView, Observation, Outcome};
use crate::plan::{Bridge, Fault, Propagation, Role, Volume, WorkloadSpec};
use crate::probed_consumer::probed_consumer;
use crate::report::{CheckId, Deed};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(lower_read(scene));
    causes.extend(made_as_a_directory(scene));
    causes.extend(mounted_but_empty(scene));
    causes.extend(did_not_notice(scene));
    causes.extend(unmounted_from_a_copy(scene));
    causes.extend(own_copy::rule(scene));
    let exposed = lower_exposed(scene);
    // Whoever was without it for a time needs to know what a clean end does; what lasts needs the mount.
    causes.extend(mount_gone(scene).filter(|gone| exposed.is_empty() || !gone.is_over()));
    causes.extend(exposed);
    causes
}

/// A program unmounted inside a container, and the unmount propagated to the node.
fn unmounted_from_a_copy(scene: &Scene<'_>) -> Option<Cause> {
    let absent = scene.node.iter().filter(|seen| matches!(seen.outcome, Outcome::Absent));
    let (seen, act) = absent.rev().find_map(|seen| {
        let act = scene.report.acts.iter().rev().find(|act| act.from_us <= seen.at_us)?;
        (act.step == seen.step).then_some((*seen, act))
    })?;
    let Deed::Run { command } = &act.deed else { return None };
    let name = act.on.first()?;
    let before = scene.node.iter().rev().find(|one| one.at_us < act.from_us)?;
    if !before.outcome.is_ok() {
        return None;
    }
    let actor = Actor::workload(name.clone());
    let table = scene.table_in(&actor, &before.step)?;
    let copy = table.at(&scene.path_of(&actor)).filter(|mount| mount.shared.is_some())?;
    let command = command.join(" ");
    let cause = Cause {
        id: CauseId::UnmountFromSharedCopy,
        from_step: None,
        until_step: None,
        title: format!(
            "`{command}` in {name} unmounted for everybody: its volume is Bidirectional, so an unmount propagates from \
             it to the node and to all other copies"
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::Node],
        mounts: Vec::new(),
        evidence: vec![before.to_string(), seen.to_string(), line(name, copy)],
        fix: Fix::yaml(
            format!(
                "set mountPropagation: HostToContainer on the volume of {name}, then let the producer mount again"
            ),
            format!(
                "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    mountPropagation: HostToContainer\n",
                yaml(&scene.paths(scene.spec(name)?).destination)
            ),
        ),
        verify: format!(
            "kubectl exec {name} -- grep fuse /proc/self/mountinfo   # with master:N and no shared:N"
        ),
        source: SHARED.into(),
    };
    Some(scene.history.when(&[seen]).of(cause))
}

/// A file volume was started before its file was there.
fn made_as_a_directory(scene: &Scene<'_>) -> Option<Cause> {
    let seen: Vec<&Observation> =
        scene.asked().filter(|seen| seen.outcome.class() == Class::Errno(Errno::EISDIR)).collect();
    let source = scene.report.plan.workloads.iter().find(|spec| spec.volume == Volume::File)?;
    let path = shell(&scene.paths(source).source);
    silent(
        scene,
        CauseId::SourceMadeAsDirectory,
        "the file of a volume was not there when a container started: the runtime makes a directory in its place, \
         which stays under the mountpoint",
        &seen,
        again_after_the_mount(&seen, &path),
        format!("stat -c %F {path}   # a regular file"),
    )
}

/// Fix for consumers that were bound to a directory in place of a file.
fn again_after_the_mount(seen: &[&Observation], path: &str) -> Fix {
    let mut pods: Vec<String> = Vec::new();
    for one in seen {
        if let Actor::Workload { name, .. } = &one.actor
            && !pods.contains(&delete_pod(name))
        {
            pods.push(delete_pod(name));
        }
    }
    let words = format!(
        "start whoever has the file as its volume after the mount; remove the directory {path} of the node once nothing \
         is mounted there"
    );
    match pods.is_empty() {
        true => Fix::words(words),
        false => Fix::command(words, pods.join("\n")),
    }
}

/// The node could read the mount and has none any more; a mount that was dead before is another cause.
fn mount_gone(scene: &Scene<'_>) -> Option<Cause> {
    if scene.report.plan.is_five_phases() {
        return None;
    }
    let mut before: Option<&Observation> = None;
    let mut gone: Vec<(&Observation, &Observation)> = Vec::new();
    let is_hidden = |one: &Observation| hidden::hider(scene, one).is_some();
    for seen in scene.node.iter().filter(|seen| seen.access == Access::Read) {
        match (&seen.outcome, before) {
            (Outcome::Absent, Some(read)) if read.outcome.is_ok() && !is_hidden(seen) => {
                gone.push((read, seen));
            }
            (Outcome::Absent, _) => {}
            _ => before = Some(seen),
        }
        if matches!(seen.outcome, Outcome::Absent) {
            before = None;
        }
    }
    let (read, seen) =
        *gone.iter().rev().find(|(_, seen)| scene.history.lasts(seen)).or(gone.last())?;
    let device = read.mount.as_ref().map(|mount| mount.device);
    let producer = scene.producer_of(device, seen.at_us);
    // Who ends a producer on purpose, and says so, has no trouble.
    let act = producer.and_then(|spec| scene.last_act(spec, seen.at_us));
    let on_purpose = act.is_some_and(|act| {
        use crate::plan::Fault::{Delete, ForceDelete, Terminate};
        match &act.deed {
            Deed::Stop => true,
            Deed::Fault { fault } => matches!(fault, Delete | ForceDelete | Terminate),
            _ => false,
        }
    });
    if on_purpose && scene.is_expected(seen) {
        return None;
    }
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    let path = shell(&scene.report.plan.bridge.fuse_path());
    let when = scene.history.when(&[seen]);
    let title = match &when.until {
        None => format!(
            "the mount has been unmounted and nobody has mounted again: what is seen at {path} of the node is the \
             directory under it, without any error"
        ),
        Some(until) => format!(
            "the mount was unmounted, and until {until} nobody had mounted again: what was seen at {path} of the \
             node was the directory under it, without any error"
        ),
    };
    let mut evidence = vec![read.to_string(), seen.to_string()];
    evidence.extend(act.into_iter().flat_map(|act| act.proof.clone()));
    let cause = Cause {
        id: CauseId::MountGone,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: vec![Actor::Node],
        mounts: Vec::new(),
        evidence,
        fix: mounted_again(scene, name),
        verify: format!("findmnt --mountpoint {path}   # on the node"),
        source: "umount(2)".into(),
    };
    Some(when.of(cause))
}

/// Fix for a mount that is gone for all: its producer mounts again, and whoever a later mount does not reach starts anew.
fn mounted_again(scene: &Scene<'_>, name: &str) -> Fix {
    let fix = start_again(scene, name, format!("start {name} again, which mounts"));
    let kept = keep_what_they_have(scene);
    let without = scene.report.plan.with_role(Role::Consumer).filter(|spec| {
        let actor = Actor::workload(spec.name.clone());
        let is_wrong = scene.history.of_actor(&actor).any(|spell| spell.lasts());
        let is_private = spec.propagation == Propagation::None && !spec.host;
        is_wrong && is_private && !kept.iter().any(|one| one.name == spec.name)
    });
    let private: Vec<&WorkloadSpec> = without.collect();
    if fix.text.is_empty() || private.is_empty() {
        return fix;
    }
    let who = names(private.iter().map(|spec| spec.name.as_str()));
    let restarts = private.iter().map(|spec| bind_again(scene, spec));
    let lines: Vec<String> = std::iter::once(fix.text.clone()).chain(restarts).collect();
    Fix {
        words: format!("{}; then restart {who}, which no later mount reaches", fix.words),
        text: lines.join("\n"),
        ..fix
    }
}

/// A read succeeded at the path though no FUSE mount is there: the lower filesystem was written to.
fn lower_read(scene: &Scene<'_>) -> Vec<Cause> {
    let wrong = scene.probes().filter(|seen| {
        let on_fuse = seen.mount.as_ref().is_some_and(MountView::is_served);
        matches!(seen.outcome, Outcome::WrongContent { .. }) && !on_fuse
    });
    let told = |(at, seen): (MountPath, Vec<&Observation>)| {
        let path = shell(&at.to_string_lossy());
        silent(
            scene,
            CauseId::LowerFilesystemWritten,
            "files lie in the directory under the mountpoint, on the lower filesystem: somebody wrote \
             there while nothing was mounted, and the next mount hides them",
            &seen,
            move_away(scene, &at),
            format!("ls -A {path}   # nothing, while it is not mounted"),
        )
    };
    by_place(scene, wrong).into_iter().filter_map(told).collect()
}

/// What was seen, by the path on the node of the mount that was to be there.
fn by_place<'r>(
    scene: &Scene<'r>,
    seen: impl Iterator<Item = &'r Observation>,
) -> BTreeMap<MountPath, Vec<&'r Observation>> {
    let mut places: BTreeMap<MountPath, Vec<&Observation>> = BTreeMap::new();
    for one in seen {
        places.entry(scene.wanted_by_actor(&one.actor)).or_default().push(one);
    }
    places
}

/// Fix for files that lie under a mountpoint: they go out of the way, and what was to be mounted there is.
fn move_away(scene: &Scene<'_>, at: &MountPath) -> Fix {
    let words = "move the files away while nothing is mounted there, and let the producer mount; then make the directory \
                 refuse writes (chattr +i) while nothing is mounted on it";
    let path = shell(&at.to_string_lossy());
    // The directory stays: containers may be bound to it.
    let mv = format!(
        "mkdir {path}.before && find {path} -mindepth 1 -maxdepth 1 -exec mv {{}} {path}.before/ ';'{ON_THE_NODE}"
    );
    let mut producers = scene.report.plan.with_role(Role::Producer);
    match producers.find(|spec| scene.on_node(spec) == *at).filter(|spec| !spec.host) {
        Some(spec) => Fix::command(words, format!("{mv}\n{}", delete_pod(&spec.name))),
        None => Fix::command(words, mv),
    }
}

/// The mount is there and the sentinel is not in it, or is an old one: told of each mount by itself.
fn mounted_but_empty(scene: &Scene<'_>) -> Vec<Cause> {
    let over_lost = below::devices(scene);
    let wrong = scene.probes().filter(|seen| {
        let on_fuse = seen.mount.as_ref().is_some_and(MountView::is_served);
        // A producer with its own mount does not read another's.
        scene.role_of(&seen.actor) != Some(Role::Producer)
            && matches!(seen.outcome, Outcome::WrongContent { .. } | Outcome::Empty)
            && on_fuse
            && !below::explains(&over_lost, seen)
            && !groups::explains(scene, seen)
            && !scene.is_of_another_producer(seen)
    });
    let mut places: BTreeMap<MountPath, Vec<&Observation>> = BTreeMap::new();
    for seen in wrong {
        places.entry(scene.place_of(seen)).or_default().push(seen);
    }
    let told = |(at, seen): (MountPath, Vec<&Observation>)| {
        deleted_through_mount(scene, &at, &seen).or_else(|| wrong_content(scene, &at, &seen))
    };
    places.into_iter().filter_map(told).collect()
}

fn wrong_content(scene: &Scene<'_>, at: &MountPath, seen: &[&Observation]) -> Option<Cause> {
    let words = "let consumers look for a sentinel file, not only for the mount";
    silent(
        scene,
        CauseId::MountedButWrongContent,
        "the mount is there, answers, and its content is not that of the producer that started last: \
         a check by exit code alone would pass",
        seen,
        probed(scene, at, words),
        format!(
            "propagation probe {} --sentinel producer-marker.txt   # ok, exit status 0",
            shell(&at.to_string_lossy())
        ),
    )
}

/// A program ran on the node, and files of the same mount that could be read before are gone.
fn deleted_through_mount(
    scene: &Scene<'_>,
    at: &MountPath,
    seen: &[&Observation],
) -> Option<Cause> {
    let first = *seen.first()?;
    let device = scene.device_of(first)?;
    let could = |one: &Observation| {
        one.outcome.is_ok() && one.at_us < first.at_us && scene.device_of(one) == Some(device)
    };
    let act = scene.report.acts.iter().rev().find(|act| act.from_us <= first.at_us)?;
    let Deed::Run { command } = &act.deed else { return None };
    // Where the node has another mount on top by then, or none any more, this one was covered or taken off there.
    let on_top = |table: &MountTable| table.at(at).is_some_and(|mount| mount.device == device);
    let mut before = scene.report.captures.iter().filter_map(|one| one.table(&Actor::Node));
    let is_left =
        before.any(on_top) && !scene.table_in(&Actor::Node, &first.step).is_some_and(on_top);
    // What another generation left is an old one.
    if first.generation.is_some() || is_left || act.step != first.step || !scene.asked().any(could)
    {
        return None;
    }
    let command = command.join(" ");
    let cause = silent(
        scene,
        CauseId::DeletedThroughMount,
        "the content was removed through the mount: the same filesystem is mounted as before, and what was in it \
         is gone",
        seen,
        Fix::words(format!(
            "unmount before a clean-up removes the directory, and never let it cross a filesystem (rm \
             --one-file-system, find -xdev): what ran was `{command}`; bring the content back from where it is kept"
        )),
        format!("ls {}   # the content", shell(&at.to_string_lossy())),
    )?;
    Some(Cause {
        evidence: [vec![format!("run in {}: {command}", act.step)], cause.evidence.clone()]
            .concat(),
        ..cause
    })
}

/// Fix that gives a consumer a probe with a sentinel file. Its volume is the directory above the mountpoint; where that
/// is the root of the node, no pod is to have it.
fn probed(scene: &Scene<'_>, at: &MountPath, words: &str) -> Fix {
    let bridge = &scene.report.plan.bridge;
    if *at == scene.fuse_path {
        return Fix::yaml(words, probed_consumer(bridge, true));
    }
    match at.to_string_lossy().rsplit_once('/') {
        Some((above, name)) if !above.is_empty() => {
            let above = Bridge { path: above.to_owned(), mountpoint: name.to_owned() };
            Fix::yaml(words, probed_consumer(&above, true))
        }
        _ => Fix::words(format!(
            "{words}; mount below a directory of its own instead of at {at}, so that consumers need not have the root of the \
             node as their volume"
        )),
    }
}

fn did_not_notice(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::Noticed)?;
    let producer = scene.report.plan.producer();
    let at = producer.map_or_else(|| scene.fuse_path.clone(), |spec| scene.on_node(spec));
    Some(Cause {
        id: CauseId::ConsumerDidNotNotice,
        from_step: None,
        until_step: None,
        title: "a consumer went on as if nothing had happened while its mount was broken".into(),
        confidence: Confidence::Likely,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence: vec![check.observed.clone()],
        fix: probed(
            scene,
            &at,
            "let consumers look for a sentinel file, not only for the directory; the image has the probe, and \
             `propagation image agent.tar` writes it",
        ),
        verify: "kubectl describe pod   # Liveness probe failed, while the producer is away".into(),
        source: KUBERNETES_MODES.into(),
    })
}

/// Whether the mount was unmounted on purpose at the end, for all actors, as an expectation says.
pub(super) fn is_wanted(scene: &Scene<'_>, cause: &Cause) -> bool {
    let Some(from) = &cause.from_step else { return false };
    let gone = scene.node.last().is_some_and(|seen| matches!(seen.outcome, Outcome::Absent));
    let of_step = scene.report.timeline.iter().filter(|seen| {
        seen.step == *from && cause.actors.contains(&seen.actor) && seen.outcome == Outcome::Absent
    });
    let unmounts = scene.report.acts.iter().any(|act| {
        act.step == *from
            && match &act.deed {
                Deed::Fault { fault } => fault.is_on_the_node() || *fault == Fault::Terminate,
                Deed::Run { command } => command.iter().any(|word| word.contains("umount")),
                _ => false,
            }
    });
    // What follows shows that it was no tidying up.
    let is_last = scene.report.acts.last().is_some_and(|act| act.step == *from);
    is_last
        && !cause.is_over()
        && gone
        && unmounts
        && of_step.into_iter().all(|seen| scene.is_expected(seen))
}

/// After a clean unmount consumers see the empty lower directory, without any error.
fn lower_exposed(scene: &Scene<'_>) -> Vec<Cause> {
    let mut seen: Vec<&Observation> = Vec::new();
    let mut could_read: HashSet<&Actor> = HashSet::new();
    let is_hidden = |one: &Observation| {
        hidden::hider(scene, one).is_some() || own_copy::unmount_of(scene, one).is_some()
    };
    for one in scene.probes().filter(|one| scene.role_of(&one.actor) == Some(Role::Consumer)) {
        match one.outcome {
            Outcome::Ok if one.mount.is_some() => {
                could_read.insert(&one.actor);
            }
            Outcome::Absent if could_read.contains(&one.actor) && !is_hidden(one) => seen.push(one),
            _ => {}
        }
    }
    let told = |(at, seen): (MountPath, Vec<&Observation>)| {
        let path = shell(&at.to_string_lossy());
        silent(
            scene,
            CauseId::LowerFilesystemExposed,
            "after a clean unmount consumers see the empty directory under the mountpoint and no error: \
             what they write then lands on the lower filesystem, and the next mount hides it",
            &seen,
            Fix::command(
                "make the directory under the mountpoint refuse writes, and let consumers look for a \
                 sentinel file",
                format!("chattr +i {path}   # while nothing is mounted there"),
            ),
            format!("touch {path}/x   # fails, while nothing is mounted there"),
        )
    };
    by_place(scene, seen.into_iter()).into_iter().filter_map(told).collect()
}

fn silent(
    scene: &Scene<'_>,
    id: CauseId,
    title: &str,
    seen: &[&Observation],
    fix: Fix,
    verify: String,
) -> Option<Cause> {
    const SHOWN: usize = 4;
    let lasts = seen.iter().any(|one| scene.history.lasts(one));
    let seen: Vec<&Observation> =
        seen.iter().filter(|one| !lasts || scene.history.lasts(one)).copied().collect();
    let seen = scene.history.seen_last_time(seen);
    let first = seen.first()?;
    let mut evidence: Vec<String> = seen.iter().take(SHOWN).map(ToString::to_string).collect();
    if seen.len() > SHOWN {
        evidence.push(format!("and {} more, in {}", seen.len() - SHOWN, first.step));
    }
    let cause = Cause {
        id,
        from_step: None,
        until_step: None,
        title: title.into(),
        confidence: Confidence::Likely,
        actors: first_replicas(&seen),
        mounts: Vec::new(),
        evidence,
        fix,
        verify,
        source: "mount(8); chattr(1), i".into(),
    };
    Some(scene.history.when(&seen).of(cause))
}

const SHARED: &str = super::text::SHARED_SUBTREES;
