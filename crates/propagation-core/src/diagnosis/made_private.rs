//! Volumes that were connected when their containers started, and were made private while these ran.

use super::cause::{Cause, CauseId, Fix};
use super::commands::{ON_THE_NODE, bind_again};
use super::dead::cause;
use super::scene::{Scene, Stranded};
use super::text::{SHARED_SUBTREES, line, names, shell};
use super::volumes::is_private;
use crate::mountinfo::{MountEntry, MountPath, MountRef, MountTable};
use crate::observation::{Actor, Observation, Outcome};
use crate::report::{Act, Capture, Deed};

/// How a volume became private.
pub(super) struct MadePrivate<'r> {
    /// The step after which it was.
    step: &'r str,
    /// The command that did it, where one was run.
    command: Option<String>,
    /// The volume before, and since.
    before: &'r MountEntry,
    after: &'r MountEntry,
    /// The mount of the node that covers the volume's source, where that was made private.
    covering: Option<&'r MountEntry>,
}

/// How the volume of a consumer was made private before a look; none where it has been private since its start.
pub(super) fn of<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<MadePrivate<'r>> {
    let Actor::Workload { name, .. } = &seen.actor else { return None };
    let actor = Actor::workload(name.clone());
    let paths = scene.paths(scene.spec(name)?);
    let bottom = |table: &'r MountTable| {
        let stack = table.stack_at(&paths.destination.as_str().into());
        // The mount under test may be the volume itself, which no later mount lies on.
        stack.into_iter().next().filter(|mount| !mount.is_fuse())
    };
    let now = scene.table_for(seen).and_then(bottom).filter(|mount| is_private(mount))?;
    let captures: Vec<(&Capture, &MountEntry)> = scene
        .report
        .captures
        .iter()
        .filter(|one| one.at_us <= seen.at_us)
        .filter_map(|one| Some((one, one.table(&actor).and_then(bottom)?)))
        .filter(|(_, mount)| mount.mount_id == now.mount_id && mount.device == now.device)
        .collect();
    let connected = captures.iter().rposition(|(_, mount)| !is_private(mount))?;
    let ((earlier, before), (later, after)) = (captures[connected], *captures.get(connected + 1)?);
    let between = |act: &&Act| act.until_us > earlier.at_us && act.from_us <= later.at_us;
    let mut acts = scene.report.acts.iter().filter(between);
    // A container that started meanwhile has another volume.
    let starts = |act: &Act| matches!(act.deed, Deed::Start | Deed::Restart { .. });
    if acts.clone().any(|act| starts(act) && act.on.contains(name)) {
        return None;
    }
    let source = paths.source.as_str().into();
    let covers = |capture: &'r Capture| capture.table(&Actor::Node)?.covering(&source);
    let sent = covers(earlier).is_some_and(|mount| mount.shared.is_some());
    let covering = covers(later).filter(|mount| sent && mount.shared.is_none());
    let ran = acts.find_map(|act| match &act.deed {
        Deed::Run { command } if act.on.contains(name) || act.on.is_empty() => {
            (act.on.is_empty() == covering.is_some()).then(|| command.join(" "))
        }
        _ => None,
    });
    Some(MadePrivate { step: &later.step, command: ran, before, after, covering })
}

/// The causes of consumers whose volumes were made private.
pub(super) fn causes(scene: &Scene<'_>, found: &[(&Stranded<'_>, MadePrivate<'_>)]) -> Vec<Cause> {
    let (on_node, own): (Vec<_>, Vec<_>) =
        found.iter().partition(|(_, made)| made.covering.is_some());
    let own = own.into_iter().map(|(stranded, made)| by_itself(scene, stranded, made));
    covered(scene, &on_node).into_iter().chain(own).collect()
}

/// A mount of the node was made private, which cut off all those whose volumes it covers.
fn covered(scene: &Scene<'_>, found: &[&(&Stranded<'_>, MadePrivate<'_>)]) -> Option<Cause> {
    let (first, made) = found.first()?;
    let covering = made.covering?;
    let path = &covering.mount_point;
    let whose: Vec<&str> = found.iter().map(|(stranded, _)| stranded.name).collect();
    let who = names(whose);
    let mut lines = Vec::new();
    if !sends_by_now(scene, path) {
        lines.push(format!("mount --make-rshared {}{ON_THE_NODE}", shell(&path.to_string_lossy())));
    }
    let restarts = found.iter().filter(|(stranded, _)| !stranded.spec.host);
    lines.extend(restarts.map(|(stranded, _)| bind_again(scene, stranded.spec)));
    let mut evidence = vec![first.sample().to_string(), line("node", covering)];
    for (stranded, made) in found {
        evidence.push(format!("before {}, {}", made.step, line(stranded.name, made.before)));
        evidence.push(format!("since then, {}", line(stranded.name, made.after)));
    }
    Some(Cause {
        actors: found.iter().flat_map(|(stranded, _)| stranded.actors()).collect(),
        mounts: vec![MountRef::new(Actor::Node.to_string(), covering.mount_id)],
        source: SHARED_SUBTREES.into(),
        ..cause(
            CauseId::CoveringPrivate,
            format!(
                "{} made the mount private that covers the volume of {who} ({path}): it sends nothing since then, and {who} \
                 keeps what was there",
                made.by()
            ),
            evidence,
            Fix::command(
                format!(
                    "make {path} shared again, and leave out what made it private; then restart {who}: a volume is connected \
                     when its container starts"
                ),
                lines.join("\n"),
            ),
            format!(
                "findmnt -n -o PROPAGATION --target {}   # shared",
                shell(&path.to_string_lossy())
            ),
        )
    })
}

/// A program in the container made the volume private.
fn by_itself(scene: &Scene<'_>, stranded: &Stranded<'_>, made: &MadePrivate<'_>) -> Cause {
    let name = stranded.name;
    Cause {
        actors: stranded.actors(),
        mounts: vec![MountRef::new(name, made.after.mount_id)],
        source: SHARED_SUBTREES.into(),
        ..cause(
            match stranded.sample().outcome {
                // It has no copy that it could keep.
                Outcome::Absent => CauseId::PropagationNotApplied,
                _ => CauseId::ConsumerFrozenCopy,
            },
            format!(
                "{} made the volume of {} private, which was connected: it keeps what was there, and no later mount reaches it",
                made.by(),
                stranded.title()
            ),
            vec![
                format!("before {}, {}", made.step, line(name, made.before)),
                format!("since then, {}", line(name, made.after)),
                stranded.sample().to_string(),
                stranded.node.to_string(),
            ],
            made.restart(scene, stranded),
            format!("kubectl exec {name} -- grep -F master: /proc/self/mountinfo   # the volume"),
        )
    }
}

impl MadePrivate<'_> {
    /// Who did it, as the subject of a sentence.
    fn by(&self) -> String {
        match &self.command {
            Some(command) => format!("`{command}` in {}", self.step),
            None => format!("something in {}", self.step),
        }
    }

    /// The subject of a sentence, and the words of a fix, for a copy that stays behind.
    pub(super) fn of_a_copy(&self, name: &str) -> (String, String) {
        let made = format!("{} made the volume of {name} private", self.by());
        (made, format!("{}, and restart {name}", self.leave_out()))
    }

    fn leave_out(&self) -> String {
        match &self.command {
            Some(command) => format!("leave out `{command}`"),
            None => format!("leave out what made the volume private in {}", self.step),
        }
    }

    fn restart(&self, scene: &Scene<'_>, stranded: &Stranded<'_>) -> Fix {
        let words = format!(
            "{}, and restart {}: a volume is connected anew when its container starts",
            self.leave_out(),
            stranded.name
        );
        Fix::command(words, bind_again(scene, stranded.spec))
    }
}

/// Whether a mount of the node that was made private is shared in the end.
fn sends_by_now(scene: &Scene<'_>, path: &MountPath) -> bool {
    let table = scene.last_table(&Actor::Node).map(|(_, table)| table);
    table.and_then(|table| table.at(path)).is_some_and(|mount| mount.shared.is_some())
}
