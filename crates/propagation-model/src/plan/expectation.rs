//! Expectations that nothing can meet or miss, and those that repeat another.

use std::collections::BTreeMap;

use super::expect::{Aspect, Expected, Subject};
use super::problem::Problem;
use super::{Plan, Role, Step};
use crate::class::Class;

/// Expectations of one step that are about the same look as another of it.
pub(super) fn same_looks(plan: &Plan, at: &str, step: &Step) -> Vec<Problem> {
    let mut seen: BTreeMap<(String, u32, &str), &String> = BTreeMap::new();
    let mut problems = Vec::new();
    for key in step.expect.keys() {
        let Ok(subject) = Subject::parse(key) else { continue };
        let own = plan.workload(&subject.actor).map_or(0, |spec| spec.uid);
        let aspect = Aspect::NAMES.iter().find(|(_, aspect)| *aspect == subject.aspect);
        let aspect = aspect.map_or("", |(name, _)| *name);
        let look = (subject.actor, subject.uid.unwrap_or(own), aspect);
        if let Some(other) = seen.insert(look, key) {
            problems.push(Problem::new(
                format!("{at}.expect.{key}"),
                format!("the same look as {other:?}"),
                "write one expectation for it",
            ));
        }
    }
    problems
}

/// Why an expectation is met or missed whatever is seen, and what to write.
pub(super) fn decided(
    plan: &Plan,
    subject: &Subject,
    expected: &Expected,
) -> Option<(String, &'static str)> {
    if let Some(code) = expected.exit.filter(|code| !(0..=255).contains(code)) {
        let reason = format!("no program exits with {code}");
        return Some((reason, "use 0 to 255, or a signal such as SIGKILL as the outcome"));
    }
    let words = &expected.outcome;
    if words.contains(&Class::Ok) && words.contains(&Class::NotOk) {
        return Some(("ok or not_ok is always met".into(), "write one of them"));
    }
    never_said(plan, subject, expected)
}

/// Why nobody can have said the text, or met the errno, that is expected beside an outcome.
fn never_said(
    plan: &Plan,
    subject: &Subject,
    expected: &Expected,
) -> Option<(String, &'static str)> {
    let key = match (&expected.text, expected.errno) {
        (Some(_), _) => "text",
        (None, Some(_)) => "errno",
        (None, None) => return None,
    };
    if subject.is_run() || matches!(subject.aspect, Aspect::Log | Aspect::Load | Aspect::Program) {
        return None;
    }
    let fix = "leave it out, or expect create_error or mount_error";
    let Some(spec) = plan.workload(&subject.actor) else {
        let reason = format!("{key} is of a refusal, and {} is never refused", subject.actor);
        return Some((reason, "write it under a workload or run"));
    };
    let refused = |word: &Class| match spec.role {
        // What a producer could not mount does not keep it from looking.
        Role::Producer => *word != Class::Ok || subject.aspect != Aspect::Read,
        Role::Consumer | Role::Control => word.describes(Class::CreateError),
    };
    let outcomes = &expected.outcome;
    (!outcomes.is_empty() && !outcomes.iter().any(refused)).then(|| {
        let words: Vec<String> = outcomes.iter().map(Class::to_string).collect();
        let reason = format!("{key} is of a refusal, and {} is none", words.join(" or "));
        (reason, fix)
    })
}
