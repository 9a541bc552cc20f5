//! Whether the steps of a plan make sense for its workloads.

use super::bounds::user_problem;
use super::expect::{Aspect, Expected, Subject};
use super::expectation::decided;
use super::fault::Fault;
use super::placeholder;
use super::problem::Problem;
use super::repair::Repair;
use super::step::{Action, Names, PhaseName, Step};
use super::{Plan, Role, Volume, WorkloadSpec};
use crate::class::Class;
use crate::suggest::nearest;

/// The most steps of a plan, with repetitions counted.
const MOST_STEPS: u64 = 10_000;

/// Problems of the steps.
pub(super) fn step_problems(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    if plan.steps.is_empty() {
        let fix = "leave out `steps` for the five phases, or write `- start: all`";
        problems.push(Problem::new("steps", "no steps", fix));
    }
    walk(plan, "steps", &plan.steps, 1, false, &mut problems);
    problems
}

fn walk(
    plan: &Plan,
    at: &str,
    steps: &[Step],
    rounds: u64,
    repeated: bool,
    problems: &mut Vec<Problem>,
) {
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}[{index}]");
        problems.extend(action_problem(plan, &at, step, repeated));
        problems.extend(step.on.iter().filter_map(|names| {
            names_problem(plan, &format!("{at}.on"), names, &wanted_by(&step.action))
        }));
        for (key, expected) in &step.expect {
            problems.extend(expectation_problem(plan, &at, key, expected));
        }
        if let Action::Repeat { times, steps } = &step.action {
            let rounds = rounds.saturating_mul(u64::from(*times));
            if rounds.saturating_mul(steps.len() as u64) > MOST_STEPS {
                let reason = format!("more than {MOST_STEPS} steps");
                problems.push(Problem::new(format!("{at}.repeat"), reason, "repeat less often"));
            }
            walk(plan, &format!("{at}.steps"), steps, rounds, true, problems);
        }
    }
}

/// The roles that a fault or a repair applies to.
fn wanted_by(action: &Action) -> Vec<Role> {
    match action {
        Action::Repair(Repair::LivenessProbe) => {
            vec![Role::Producer, Role::Consumer, Role::Control]
        }
        Action::Repair(repair) if repair.is_of_consumers() => vec![Role::Consumer, Role::Control],
        Action::Repair(_) => vec![Role::Producer],
        _ => vec![Role::Producer, Role::Consumer, Role::Control],
    }
}

fn action_problem(plan: &Plan, at: &str, step: &Step, repeated: bool) -> Option<Problem> {
    let every = [Role::Producer, Role::Consumer, Role::Control];
    let names =
        |key: &str, names: &Names| names_problem(plan, &format!("{at}.{key}"), names, &every);
    match &step.action {
        Action::Phase(_) if repeated => Some(Problem::new(
            format!("{at}.phase"),
            "the five phases run only once",
            "move it out of `repeat`, or use start, fault and repair",
        )),
        Action::Phase(PhaseName::StaleMount) => {
            let told = plan.producer().and_then(|spec| impossible(plan, &plan.fault, spec));
            told.map(|(reason, fix)| Problem::new("fault", reason, fix))
        }
        Action::Start(who) => names("start", who),
        Action::Stop(who) => names("stop", who),
        Action::Restart(who) => names("restart", who),
        Action::Recreate(who) => names("recreate", who),
        Action::Publish(who) => {
            names("publish", who).or_else(|| unpublishable(plan, &format!("{at}.publish"), who))
        }
        Action::Unpublish(who) => {
            names("unpublish", who).or_else(|| unpublishable(plan, &format!("{at}.unpublish"), who))
        }
        Action::Reopen(who) => names("reopen", who),
        Action::Fault(fault) => fault_problem(plan, at, step, fault),
        Action::Repair(repair) => repair_problem(plan, at, step, *repair),
        Action::Execute { command, .. } if command.is_empty() => {
            let reason = "no program given";
            let fix = "write a program and its arguments: [umount, --lazy, \"{mountpoint}\"]";
            Some(Problem::new(format!("{at}.run"), reason, fix))
        }
        Action::Execute { inside, command } => {
            actor_problem(plan, &format!("{at}.in"), inside, false).or_else(|| {
                command.iter().enumerate().find_map(|(index, word)| {
                    placeholder::misspelt(
                        &format!("{at}.run[{index}]"),
                        word,
                        &placeholder::OF_STEPS,
                    )
                })
            })
        }
        Action::Wait(_) if step.expect.is_empty() => Some(Problem::new(
            format!("{at}.wait_ms"),
            "no expectation to wait for",
            "add `expect`, or use pause_ms",
        )),
        Action::Repeat { times: 0, .. } => {
            Some(Problem::new(format!("{at}.repeat"), "0 times", "use 1 or more"))
        }
        _ => None,
    }
}

/// Problems of a published volume that is not a separate path.
fn unpublishable(plan: &Plan, at: &str, names: &Names) -> Option<Problem> {
    let at_a_path = |spec: &&WorkloadSpec| matches!(spec.volume, Volume::Path(_)) && !spec.host;
    if names.is_all() {
        let none = !plan.workloads.iter().any(|spec| at_a_path(&spec));
        let fix = "give a workload a volume of its own: `volume: {path: /var/lib/publish}`";
        return none.then(|| Problem::new(at, "no workload has a path as its volume", fix));
    }
    let other = |name: &&String| plan.workload(name).is_some_and(|spec| !at_a_path(&spec));
    names.as_slice().iter().find(other).map(|name| {
        let reason = format!("the volume of {name:?} is not a path of its own");
        Problem::new(at, reason, "write `volume: {path: /var/lib/publish}`")
    })
}

fn fault_problem(plan: &Plan, at: &str, step: &Step, fault: &Fault) -> Option<Problem> {
    let at = format!("{at}.fault");
    let targets: Vec<&WorkloadSpec> = match &step.on {
        Some(names) if !names.is_all() => {
            names.as_slice().iter().filter_map(|name| plan.workload(name)).collect()
        }
        Some(_) => plan.with_role(Role::Producer).collect(),
        None => plan.producer().into_iter().collect(),
    };
    if targets.is_empty() {
        // An unknown name is reported at its own place.
        let named = step.on.as_ref().is_some_and(|names| !names.is_all());
        let fix = "add a workload with role producer, or name a workload with `on`";
        return (!named).then(|| Problem::new(at, "no producer to apply the fault to", fix));
    }
    targets
        .into_iter()
        .find_map(|spec| impossible(plan, fault, spec))
        .map(|(reason, fix)| Problem::new(at, reason, fix))
}

/// Why a fault can never be done to a workload, and which one can.
fn impossible(plan: &Plan, fault: &Fault, spec: &WorkloadSpec) -> Option<(String, &'static str)> {
    let name = &spec.name;
    let serves = spec.role == Role::Producer;
    let builtin = plan.fuse_of(spec).is_builtin();
    match fault {
        Fault::Exit | Fault::Slow(_) | Fault::Errors(_) | Fault::Oom if !serves => {
            let reason = format!("{name:?} is a {}: it serves no filesystem", spec.role);
            Some((reason, "name a producer with `on`, or use kill, terminate or stop"))
        }
        Fault::Slow(_) | Fault::Errors(_) if !builtin => {
            let reason = "only the built-in filesystem can answer slowly or with errors";
            Some((reason.into(), "leave out `command`, or use stop"))
        }
        Fault::Oom if !builtin || plan.is_supervised(spec) => {
            let reason = "only a built-in daemon that is process 1 can outgrow its memory limit";
            Some((reason.into(), "leave out `command` and `supervised`, or use kill"))
        }
        _ => None,
    }
}

fn repair_problem(plan: &Plan, at: &str, step: &Step, repair: Repair) -> Option<Problem> {
    let meant = |spec: &&WorkloadSpec| step.on.as_ref().is_none_or(|names| names.mean(&spec.name));
    let meant: Vec<&WorkloadSpec> = plan.with_role(Role::Producer).filter(meant).collect();
    // A workload of another role is reported at its name.
    let others = step.on.is_some() && meant.is_empty();
    let kept = meant.iter().any(|spec| plan.fuse_of(spec).keeper);
    (repair == Repair::HandOver && !others && !kept).then(|| {
        Problem::new(
            format!("{at}.repair"),
            "no producer keeps a descriptor to hand over",
            "add `keeper: true` to `fuse`",
        )
    })
}

fn names_problem(plan: &Plan, at: &str, names: &Names, roles: &[Role]) -> Option<Problem> {
    if names.is_all() {
        return None;
    }
    if names.as_slice().is_empty() {
        return Some(Problem::new(at, "no workload named", "name a workload, or write all"));
    }
    names.as_slice().iter().find_map(|name| match plan.workload(name) {
        None => actor_problem(plan, at, name, false).or_else(|| {
            Some(Problem::new(at, format!("{name:?} is not a workload"), "name a workload"))
        }),
        Some(spec) if !roles.contains(&spec.role) => Some(Problem::new(
            at,
            format!("{name:?} is a {}; this applies to {}", spec.role.name(), in_words(roles)),
            "name another workload",
        )),
        Some(_) => None,
    })
}

/// Roles in the plural, as `consumers and controls`.
fn in_words(roles: &[Role]) -> String {
    let words: Vec<String> = roles.iter().map(|role| format!("{}s", role.name())).collect();
    words.join(" and ")
}

/// Whether an actor is a workload of the plan, `node` or `runtime`; in expectations also `run`, the step's own
/// action.
fn actor_problem(plan: &Plan, at: &str, name: &str, expected: bool) -> Option<Problem> {
    let fixed = ["node", "runtime"];
    if plan.workload(name).is_some() || fixed.contains(&name) || (expected && name == Subject::RUN)
    {
        return None;
    }
    let known = plan.workloads.iter().map(|workload| workload.name.as_str());
    let known: Vec<&str> = known.chain(fixed).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("use one of {}", known.join(", ")),
    };
    Some(Problem::new(at, format!("unknown actor {name:?}"), hint))
}

/// The key of an expectation that does not apply to its subject.
fn misplaced(subject: &Subject, expected: &Expected) -> Option<&'static str> {
    if !subject.is_run() {
        return expected.exit.map(|_| "exit");
    }
    [
        ("layers", expected.layers.is_some()),
        ("mounts_added", expected.mounts_added.is_some()),
        ("mounts_grown", expected.mounts_grown.is_some()),
        ("fuse_mounts", expected.fuse_mounts.is_some()),
        ("mounts_at", !expected.mounts_at.is_empty()),
        ("errno", expected.errno.is_some()),
        ("propagation", expected.propagation.is_some()),
        ("root", expected.root.is_some()),
        ("device", expected.device.is_some()),
        ("failed_at_most", expected.failed_at_most.is_some()),
    ]
    .into_iter()
    .find_map(|(key, there)| there.then_some(key))
}

fn expectation_problem(plan: &Plan, at: &str, key: &str, expected: &Expected) -> Option<Problem> {
    let at = format!("{at}.expect.{key}");
    let subject = match Subject::parse(key) {
        Ok(subject) => subject,
        Err(reason) => {
            return Some(Problem::new(at, reason, "write ACTOR, ACTOR.ASPECT or ACTOR@UID.ASPECT"));
        }
    };
    if let Some(problem) = actor_problem(plan, &at, &subject.actor, true) {
        return Some(problem);
    }
    if let Some(problem) = subject.uid.and_then(|uid| user_problem(&at, "UID", uid)) {
        return Some(problem);
    }
    if let Some(path) = expected.mounts_at.keys().find(|path| !path.starts_with('/')) {
        let fix = "write the path as the actor sees it";
        return Some(Problem::new(at, format!("{path:?} is not an absolute path"), fix));
    }
    if let Some(root) = expected.root.as_ref().filter(|root| !root.starts_with('/')) {
        let reason = format!("root {root:?} is not an absolute path");
        let fix = "write a directory of the mounted filesystem, such as / or /sub";
        return Some(Problem::new(at, reason, fix));
    }
    if expected.outcome.contains(&Class::Gone) {
        let reason = "gone is what a cell of the matrix shows when nobody is there to look";
        return Some(Problem::new(at, reason, "use exited, or create_error"));
    }
    if let Some(key) = misplaced(&subject, expected) {
        let (reason, fix) = match subject.is_run() {
            true => (
                format!("{key} does not apply to `run`"),
                "use outcome, text or exit; for mounts name an actor",
            ),
            false => (
                format!(
                    "{key} is the exit code of what the step ran, and not of {}",
                    subject.actor
                ),
                "write it under run",
            ),
        };
        return Some(Problem::new(at, reason, fix));
    }
    let about_a_program = subject.aspect == Aspect::Program || subject.aspect == Aspect::Log;
    if about_a_program && plan.workload(&subject.actor).is_none() {
        let reason = format!("{} runs no program of this run", subject.actor);
        return Some(Problem::new(at, reason, "name a workload"));
    }
    let loaded = |spec: &WorkloadSpec| spec.readers + spec.writers > 0;
    if subject.aspect == Aspect::Load && !plan.workload(&subject.actor).is_some_and(loaded) {
        let reason = format!("{} has no readers and no writers", subject.actor);
        return Some(Problem::new(at, reason, "give the workload `readers` or `writers`"));
    }
    if let Some((reason, fix)) = decided(plan, &subject, expected) {
        return Some(Problem::new(at, reason, fix));
    }
    if *expected == Expected::default() {
        return Some(Problem::new(at, "no expectation given", "write an outcome such as ok"));
    }
    None
}
