//! Bounds of a plan: more is a mistake, or meant to use up the machine.

use super::problem::Problem;
use super::{Action, Deadlines, Fault, Plan, Step, WorkloadSpec};

/// The most processes that read and write continuously, in all workloads together.
const MOST_LOAD: u32 = 1_000;

/// The most replicas of all workloads together.
const MOST_REPLICAS: u32 = 50_000;

/// The longest time to wait for anything, in milliseconds: a day.
const LONGEST_MS: u64 = 86_400_000;

/// The parts of a plan that exceed its bounds.
pub(super) fn bound_problems(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(load_problem(plan));
    problems.extend(replicas_problem(plan));
    for (index, workload) in plan.workloads.iter().enumerate() {
        problems.extend(users_problem(&format!("workloads[{index}]"), workload));
    }
    problems.extend(deadline_problems(&plan.deadlines));
    problems.extend(fault_problem("fault", &plan.fault));
    step_problems("steps", &plan.steps, &mut problems);
    problems
}

/// The first workload at which a sum over all exceeds `most`: its index and the sum.
fn beyond(counts: impl Iterator<Item = u32>, most: u32) -> Option<(usize, u32)> {
    let sums = counts.scan(0_u32, |sum, count| {
        *sum = sum.saturating_add(count);
        Some(*sum)
    });
    sums.enumerate().find(|(_, sum)| *sum > most)
}

fn load_problem(plan: &Plan) -> Option<Problem> {
    let counts = plan.workloads.iter().map(|one| one.readers.saturating_add(one.writers));
    let (index, count) = beyond(counts, MOST_LOAD)?;
    let key = if plan.workloads[index].readers > 0 { "readers" } else { "writers" };
    Some(Problem::new(
        format!("workloads[{index}].{key}"),
        format!("{count} readers and writers, each of which is a process"),
        format!("use {MOST_LOAD} at the most, in all workloads together"),
    ))
}

fn replicas_problem(plan: &Plan) -> Option<Problem> {
    let (index, count) = beyond(plan.workloads.iter().map(|one| one.replicas), MOST_REPLICAS)?;
    Some(Problem::new(
        format!("workloads[{index}].replicas"),
        format!("{count} replicas, each of which is a mount namespace"),
        format!("use {MOST_REPLICAS} at the most, in all workloads together"),
    ))
}

fn users_problem(at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    let listed = |key: &str, kind, numbers: &[u32]| {
        let mut numbers = numbers.iter().enumerate();
        numbers.find_map(|(index, id)| user_problem(&format!("{at}.{key}[{index}]"), kind, *id))
    };
    user_problem(&format!("{at}.uid"), "UID", workload.uid)
        .or_else(|| listed("groups", "GID", &workload.groups))
        .or_else(|| listed("also_read_as", "UID", &workload.also_read_as))
}

/// The number that the kernel has for nobody: setresuid(2) leaves an id of -1 as it is.
pub(super) fn user_problem(at: &str, kind: &str, id: u32) -> Option<Problem> {
    (id == u32::MAX).then(|| {
        let reason = format!("{id} is -1 to the kernel, and not a {kind}");
        Problem::new(at, reason, format!("use {} or less", u32::MAX - 1))
    })
}

fn deadline_problems(deadlines: &Deadlines) -> impl Iterator<Item = Problem> {
    let times = [
        ("start_ms", deadlines.start_ms),
        ("marker_ms", deadlines.marker_ms),
        ("probe_ms", deadlines.probe_ms),
        ("breakage_ms", deadlines.breakage_ms),
        ("recovery_ms", deadlines.recovery_ms),
        ("run_ms", deadlines.run_ms),
    ];
    times.into_iter().filter_map(|(key, time_ms)| {
        let at = format!("deadlines.{key}");
        // To let no time pass for a recovery is to look at once.
        if time_ms == 0 && key != "recovery_ms" {
            let reason = "0 ms pass before anything is done";
            return Some(Problem::new(at, reason, "use 1 or more, or leave it out"));
        }
        time_problem(&at, time_ms)
    })
}

pub(super) fn time_problem(at: &str, time_ms: u64) -> Option<Problem> {
    (time_ms > LONGEST_MS).then(|| {
        let reason = format!("{time_ms} ms is longer than a day");
        Problem::new(at, reason, format!("use {LONGEST_MS} (a day) or less"))
    })
}

fn fault_problem(at: &str, fault: &Fault) -> Option<Problem> {
    match fault {
        Fault::Slow(delay_ms) => delay_ms.values().find_map(|delay_ms| time_problem(at, *delay_ms)),
        _ => None,
    }
}

fn step_problems(at: &str, steps: &[Step], problems: &mut Vec<Problem>) {
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match &step.action {
            Action::Wait(ms) => problems.extend(time_problem(&format!("{at}.wait_ms"), *ms)),
            Action::Pause(ms) => problems.extend(time_problem(&format!("{at}.pause_ms"), *ms)),
            Action::Fault(fault) => problems.extend(fault_problem(&format!("{at}.fault"), fault)),
            Action::Repeat { steps, .. } => step_problems(&format!("{at}.steps"), steps, problems),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Role, WorkloadSpec};
    use super::*;

    fn places(change: impl FnOnce(&mut Plan)) -> Vec<String> {
        let mut plan = Plan::default();
        change(&mut plan);
        plan.problems().into_iter().map(|problem| problem.at).collect()
    }

    fn consumer(plan: &mut Plan) -> &mut WorkloadSpec {
        plan.workloads.iter_mut().find(|one| one.role == Role::Consumer).expect("a consumer")
    }

    #[test]
    fn the_load_is_bounded_whatever_it_adds_up_to() {
        let load = |readers, writers| {
            places(|plan| {
                consumer(plan).readers = readers;
                consumer(plan).writers = writers;
            })
        };
        assert_eq!(load(600, 400), [""; 0]);
        assert_eq!(load(601, 400), ["workloads[1].readers"]);
        assert_eq!(load(u32::MAX, 1), ["workloads[1].readers"]);
        assert_eq!(load(0, u32::MAX), ["workloads[1].writers"]);
    }

    #[test]
    fn replicas_are_bounded() {
        let replicas = |count| places(|plan| consumer(plan).replicas = count);
        assert_eq!(replicas(20_000), [""; 0]);
        assert_eq!(replicas(u32::MAX), ["workloads[1].replicas"]);
    }

    #[test]
    fn no_user_is_minus_one() {
        let user = |change: fn(&mut WorkloadSpec)| places(|plan| change(consumer(plan)));
        assert_eq!(user(|one| one.uid = u32::MAX - 1), [""; 0]);
        assert_eq!(user(|one| one.uid = u32::MAX), ["workloads[1].uid"]);
        assert_eq!(user(|one| one.groups = vec![0, u32::MAX]), ["workloads[1].groups[1]"]);
        assert_eq!(user(|one| one.also_read_as = vec![u32::MAX]), ["workloads[1].also_read_as[0]"]);
    }

    #[test]
    fn a_deadline_is_not_over_at_once() {
        assert_eq!(places(|plan| plan.deadlines.probe_ms = 0), ["deadlines.probe_ms"]);
        assert_eq!(places(|plan| plan.deadlines.recovery_ms = 0), [""; 0]);
    }

    #[test]
    fn times_are_a_day_at_the_most() {
        let probe = |ms| places(|plan| plan.deadlines.probe_ms = ms);
        assert_eq!(probe(LONGEST_MS), [""; 0]);
        assert_eq!(probe(18_446_744_073_709), ["deadlines.probe_ms"]);
        let step = |action| {
            places(|plan| {
                let steps = vec![Step::from(action)];
                plan.steps = vec![Action::Repeat { times: 1, steps }.into()];
            })
        };
        assert_eq!(step(Action::Pause(LONGEST_MS)), [""; 0]);
        assert_eq!(step(Action::Pause(u64::MAX)), ["steps[0].steps[0].pause_ms"]);
        assert_eq!(step(Action::Fault(Fault::slow(u64::MAX))), ["steps[0].steps[0].fault"]);
    }
}
