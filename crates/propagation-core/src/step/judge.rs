//! Comparing what was seen with what a step expects. Pure: everything is in the arguments.

use std::collections::BTreeMap;

use crate::act::actor;
use crate::backend::Feature;
use crate::context::{Done, RunContext};
use crate::mountinfo::MountTable;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Aspect, Device, Expected, Step, Subject};
use crate::program::{LoadReport, ProgramState};
use crate::report::{Check, CheckId, Failure};
use crate::{Class, Errno};

/// What was seen after a step.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) observations: Vec<Observation>,
    pub(super) programs: BTreeMap<String, ProgramState>,
    pub(super) logs: BTreeMap<String, Vec<String>>,
    pub(super) loads: BTreeMap<String, LoadReport>,
}

/// Makes one check for every expectation, and one for an action that failed unexpectedly.
pub(super) fn judge(
    context: &RunContext<'_>,
    step: &Step,
    done: &Done,
    sight: &Sight,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let failed = match done {
        Done::Failed(failed) => Some(failed.words.clone()),
        Done::Ran(ran) if ran.exit_code() != Some(0) => {
            let state =
                ran.state.as_ref().map_or_else(|| "took too long".into(), |s| s.to_string());
            Some(format!("it {state}{}", tail(&ran.output)))
        }
        Done::Ok | Done::Ran(_) => None,
    };
    if let Some(words) = failed.filter(|_| !step.expect.keys().any(|key| is_run(key))) {
        let expected = "the step can be done";
        checks.push(Check::new(CheckId::Done, false, expected, words));
    }
    for (key, expected) in &step.expect {
        let id = CheckId::Expect(key.clone());
        let Ok(subject) = Subject::parse(key) else { continue };
        checks.push(if let Some(reason) = context.too_old_for(expected.since) {
            Check::skipped(id, words(expected), reason)
        } else if subject.is_run() {
            judge_run(id, done, expected)
        } else {
            judge_actor(context, id, &subject, expected, sight)
        });
    }
    checks
}

/// Makes a check for every workload that could not start or mount and of which the step expects nothing.
pub(super) fn unexpected(step: &Step, failures: &[Failure]) -> Vec<Check> {
    let expected = |name: &str| {
        step.expect.keys().any(|key| Subject::parse(key).is_ok_and(|subject| subject.actor == name))
    };
    let failed = failures.iter().filter(|failure| !expected(&failure.workload));
    failed
        .map(|Failure { workload: name, words, .. }| {
            let expected = format!("{name} starts, and mounts if it is a producer");
            Check::new(CheckId::DoneBy(name.clone()), false, expected, words)
        })
        .collect()
}

/// Whether a key is about what the step itself did.
fn is_run(key: &str) -> bool {
    Subject::parse(key).is_ok_and(|subject| subject.is_run())
}

/// What is expected, in words.
fn words(expected: &Expected) -> String {
    let mut words = Vec::new();
    if !expected.outcome.is_empty() {
        let outcomes: Vec<String> = expected.outcome.iter().map(Class::to_string).collect();
        words.push(outcomes.join(" or "));
    }
    let mut say = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("{name} {value}")));
    };
    say("layers", expected.layers.map(|n| n.to_string()));
    say("mounts added", expected.mounts_added.map(|n| n.to_string()));
    say("mounts grown by", expected.mounts_grown.map(|n| n.to_string()));
    say("FUSE mounts", expected.fuse_mounts.map(|n| n.to_string()));
    for (path, count) in &expected.mounts_at {
        say("mounts at", Some(format!("{path} {count}")));
    }
    say("propagation", expected.propagation.map(|propagation| propagation.to_string()));
    say("root", expected.root.clone());
    say("device", expected.device.map(|device| format!("{device:?}").to_lowercase()));
    say("text", expected.text.as_ref().map(|text| format!("{text:?}")));
    say("errno", expected.errno.map(|errno| errno.to_string()));
    say("exit code", expected.exit.map(|code| code.to_string()));
    say("failed operations at most", expected.failed_at_most.map(|n| n.to_string()));
    words.join(", ")
}

fn judge_run(id: CheckId, done: &Done, expected: &Expected) -> Check {
    let (class, text, exit) = match done {
        Done::Ok => (Class::Ok, String::new(), None),
        Done::Failed(failed) => {
            let errno = failed.refusal.and_then(|refusal| refusal.errno);
            (errno.map_or(Class::Error, Class::Errno), failed.words.clone(), None)
        }
        Done::Ran(ran) => {
            let class = match (&ran.state, ran.exit_code()) {
                (None, _) => Class::Hang,
                (_, Some(0)) => Class::Ok,
                (Some(ProgramState::Signaled { signal }), _) => Class::Signal(*signal),
                _ => Class::Error,
            };
            (class, ran.output.clone(), ran.exit_code())
        }
    };
    // What ended well has met no error, whatever it said.
    let says = |errno: Errno| errno.is_named_in(&text) || Errno::said_in(&text) == Some(errno);
    let errno =
        |word: &Class| matches!(word, Class::Errno(errno) if class != Class::Ok && says(*errno));
    let outcome = expected.outcome.is_empty()
        || expected.outcome.iter().any(|word| word.describes(class) || errno(word));
    let said = expected.text.as_ref().is_none_or(|part| text.contains(part.as_str()));
    let exited = expected.exit.is_none_or(|code| exit == Some(code));
    let code = exit.map(|code| format!(" with exit code {code}")).unwrap_or_default();
    let observed = format!("{class}{code}{}", tail(&text));
    Check::new(id, outcome && said && exited, words(expected), observed)
}

/// The end of what was said, short enough for a line.
fn tail(text: &str) -> String {
    const SHOWN: usize = 200;
    let text = text.trim();
    let from = text.char_indices().rev().nth(SHOWN - 1).map_or(0, |(index, _)| index);
    if text.is_empty() { String::new() } else { format!(": {}", &text[from..]) }
}

fn judge_actor(
    context: &RunContext<'_>,
    id: CheckId,
    subject: &Subject,
    expected: &Expected,
    sight: &Sight,
) -> Check {
    let who = actor(&subject.actor);
    let mut observed = Vec::new();
    let mut evidence = Vec::new();
    let mut met = true;

    let uid = subject.uid.unwrap_or_else(|| context.plan.uid_of(&who));
    let seen = subject.aspect.access().and_then(|access| {
        let fits = |o: &&Observation| o.actor == who && o.access == access && o.uid == uid;
        sight.observations.iter().rev().find(fits)
    });
    let said = said(context, subject, sight);
    let can = context.node.capabilities();
    if let Some(access) = subject.aspect.access().filter(|it| !can.accesses.contains(it)) {
        let reason = format!("this node does not support looking by {}", access.as_str());
        return Check::skipped(id, words(expected), reason);
    }
    if let Some(Outcome::Skipped { reason }) = seen.map(|o| &o.outcome)
        && !expected.outcome.contains(&Class::Skipped)
    {
        return Check::skipped(id, words(expected), reason.clone());
    }
    // Of a node that is not the run's own, others mount and unmount too.
    let shared_node = matches!(who, Actor::Node | Actor::Runtime) && !can.has(Feature::ShapedNode);
    let counted = Expected {
        fuse_mounts: None,
        mounts_added: None,
        mounts_grown: None,
        since: None,
        ..expected.clone()
    };
    let judged = match shared_node {
        true if counted == Expected::default() => {
            return Check::skipped(id, words(expected), NOT_COUNTED);
        }
        true if counted != *expected => {
            observed.push(NOT_COUNTED.into());
            &counted
        }
        _ => expected,
    };
    if !expected.outcome.is_empty() {
        let class = class(context, subject, seen, sight);
        // What a producer could not mount does not keep anybody from looking there.
        let looked = seen.filter(|_| class == Class::MountError).map(Observation::class);
        met &= expected.outcome.iter().any(|word| {
            let also = |looked| *word != Class::Ok && word.describes(looked);
            word.describes(class) || looked.is_some_and(also)
        });
        observed.push(match (seen, looked) {
            (Some(seen), Some(_)) => format!("{class}; a look gives {}", told(&seen.outcome)),
            (Some(seen), None) => told(&seen.outcome),
            (None, _) => class.to_string(),
        });
    }
    evidence.extend(seen.map(ToString::to_string));
    // A refusal, or why a producer could not mount, in the words of whoever said it.
    evidence.extend(Some(said.trim()).filter(|said| !said.is_empty()).map(ToOwned::to_owned));
    if let Some(part) = &expected.text {
        met &= said.contains(part.as_str());
        observed.push(format!("said {:?}", tail(&said)));
    }
    if let Some(errno) = expected.errno {
        let refusal = context.refusal(&subject.actor);
        let behind = refusal.and_then(|refusal| refusal.errno).or_else(|| Errno::said_in(&said));
        met &= behind == Some(errno);
        observed.push(format!("errno {}", behind.map_or("none".into(), |errno| errno.to_string())));
    }
    if let Some(most) = expected.failed_at_most {
        let load = sight.loads.get(&subject.actor).cloned().unwrap_or_default();
        met &= load.failed <= most && load.operations > 0;
        observed.push(format!(
            "{} of {} operations failed{}, the longest took {:.1} ms",
            load.failed,
            load.operations,
            load.last_errno.map(|errno| format!(" ({errno})")).unwrap_or_default(),
            load.longest_us as f64 / 1e3
        ));
    }
    met &= judge_mounts(context, &who, judged, &mut observed, &mut evidence);
    let observed = if observed.is_empty() { "nothing".into() } else { observed.join("; ") };
    Check::new(id, met, words(expected), observed).with_evidence(evidence)
}

/// Why the mounts of a node of a cluster are not counted.
const NOT_COUNTED: &str = "mounts not counted: others mount on this node too";

/// The outcome that counts for a subject: what it saw, or why it could see nothing.
fn class(
    context: &RunContext<'_>,
    subject: &Subject,
    seen: Option<&Observation>,
    sight: &Sight,
) -> Class {
    match subject.aspect {
        Aspect::Program => return program_class(sight.programs.get(&subject.actor)),
        Aspect::Load => {
            let load = sight.loads.get(&subject.actor);
            return match load {
                Some(load) if load.operations == 0 => Class::Idle,
                Some(load) if load.failed == 0 => Class::Ok,
                Some(load) => load.last_errno.map_or(Class::Error, Class::Errno),
                None => Class::Skipped,
            };
        }
        _ => {}
    }
    if context.refusal(&subject.actor).is_some() {
        return Class::CreateError;
    }
    if subject.aspect == Aspect::Read && context.mount_failure(&subject.actor).is_some() {
        return Class::MountError;
    }
    match seen {
        Some(observation) => observation.class(),
        None => program_class(sight.programs.get(&subject.actor)),
    }
}

fn program_class(program: Option<&ProgramState>) -> Class {
    match program {
        Some(ProgramState::Running) => Class::Running,
        Some(ProgramState::Signaled { signal }) => Class::Signal(*signal),
        _ => Class::Exited,
    }
}

/// What was seen, by the word that expectations have for it, and the details.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::WrongContent { detail } => format!("{} ({detail})", outcome.class()),
        other => other.to_string(),
    }
}

/// Everything that the subject has said in words.
fn said(context: &RunContext<'_>, subject: &Subject, sight: &Sight) -> String {
    if subject.aspect == Aspect::Log {
        return sight.logs.get(&subject.actor).map(|lines| lines.join("\n")).unwrap_or_default();
    }
    let refusal = context.refusal(&subject.actor).map(|refusal| refusal.text.clone());
    let failure = context.mount_failure(&subject.actor).map(ToOwned::to_owned);
    refusal.into_iter().chain(failure).collect::<Vec<_>>().join("\n")
}

/// What is expected of mount tables.
fn judge_mounts(
    context: &RunContext<'_>,
    who: &Actor,
    expected: &Expected,
    observed: &mut Vec<String>,
    evidence: &mut Vec<String>,
) -> bool {
    let about_mounts = expected.layers.is_some()
        || expected.mounts_added.is_some()
        || expected.mounts_grown.is_some()
        || expected.fuse_mounts.is_some()
        || !expected.mounts_at.is_empty()
        || expected.propagation.is_some()
        || expected.root.is_some()
        || expected.device.is_some();
    let path = context.fuse_path_of(who);
    let (before, now) = context.last_two_tables(who);
    // Of an actor that has ended, or never ran, nothing can be counted: that is not 0 mounts.
    if about_mounts && now.is_none() {
        observed.push("no mount table".into());
        return false;
    }
    let mut met = true;
    let mut compare = |ok: bool, words: String| {
        met &= ok;
        observed.push(words);
    };
    let stack = now.map(|table| table.stack_at(&path)).unwrap_or_default();
    if let Some(layers) = expected.layers {
        compare(stack.len() as u64 == layers, format!("{} layers", stack.len()));
        evidence.extend(stack.iter().map(ToString::to_string));
    }
    if let Some(count) = expected.fuse_mounts {
        let there = now.map_or(0, |table| table.fuse_mounts().count());
        compare(there as u64 == count, format!("{there} FUSE mounts"));
    }
    for (path, count) in &expected.mounts_at {
        let there = now.map_or(0, |table| table.stack_at(&path.as_str().into()).len());
        compare(there as u64 == *count, format!("{there} mounts at {path}"));
    }
    let count = |table: Option<&MountTable>| {
        table.map_or(0, |table| i64::try_from(table.entries().len()).unwrap_or(i64::MAX))
    };
    if let Some(grown) = expected.mounts_grown {
        let there = count(now) - count(context.first_table(who));
        compare(there == grown, format!("{there} mounts more than at first ({} now)", count(now)));
    }
    if let Some(added) = expected.mounts_added {
        let there = count(now) - count(before);
        compare(there == added, format!("{there} mounts added ({} now)", count(now)));
    }
    if let Some(propagation) = expected.propagation {
        let there = stack.last().map(|mount| mount.propagation());
        let words = there.map_or_else(|| "no mount".into(), |there| there.to_string());
        compare(there == Some(propagation), words);
    }
    if let Some(root) = &expected.root {
        let there = stack.last().map_or_else(|| "no mount".into(), |mount| mount.root.to_string());
        compare(there == *root, format!("root {there}"));
    }
    if let Some(device) = expected.device {
        let (_, node) = context.last_two_tables(&Actor::Node);
        let node_path = context.fuse_path_of(&Actor::Node);
        let theirs = node.and_then(|table| table.at(&node_path)).map(|mount| mount.device);
        let own = stack.last().map(|mount| mount.device);
        let same = own.is_some() && own == theirs;
        let name = |device: Option<_>| {
            device.map_or_else(
                || "none".into(),
                |device: crate::mountinfo::DeviceId| device.to_string(),
            )
        };
        compare(
            same == (device == Device::Same),
            format!("device {}, the node's {}", name(own), name(theirs)),
        );
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Executed;
    use crate::report::Status;

    fn holds(word: &str, code: i32, output: &str) -> bool {
        let state = Some(ProgramState::Exited { code });
        let done = Done::Ran(Executed { state, output: output.into() });
        let outcome = vec![word.parse().expect("an outcome")];
        let expected = Expected { outcome, ..Expected::default() };
        judge_run(CheckId::Expect("run".into()), &done, &expected).status == Status::Passed
    }

    #[test]
    fn an_error_is_expected_of_what_fails_and_says_it() {
        assert!(holds("EBUSY", 1, "umount: EBUSY"));
        assert!(holds("ENOTCONN", 1, "stat /srv: Transport endpoint is not connected"));
        assert!(holds("EIO", 1, "read (EIO)"));
        assert!(!holds("EBUSY", 0, "umount: EBUSY, tried again"));
        assert!(!holds("EIO", 1, "VIDEIO.DAT: no such channel"));
        assert!(!holds("EIO", 1, "umount: EBUSY"));
    }
}
