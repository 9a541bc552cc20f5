//! What was done in a run, and what of it a change makes fail: whoever is right only because a step of the incident
//! did not happen is not healed.

use crate::plan::PhaseName;
use crate::program::ProgramState;
use crate::report::{Act, CheckId, Deed, Report};

/// One thing that was done, to one workload or to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    what: &'static str,
    /// The workload; none for the node.
    on: Option<String>,
    ok: bool,
    /// Whether the incident is another one without it.
    needed: bool,
}

/// What the steps of a scenario did, in order. The five phases have checks of their own for it.
pub(super) fn of(report: &Report) -> Vec<Done> {
    let five = |act: &&Act| PhaseName::ALL.iter().any(|phase| phase.as_str() == act.step);
    let acts = report.acts.iter().filter(|act| !five(act));
    let each = acts.flat_map(|act| {
        let (what, ok) = (what(&act.deed), succeeded(report, act));
        let needed = matches!(act.deed, Deed::Unpublish | Deed::Run { .. } | Deed::Fault { .. });
        let named = act.on.iter().map(|name| Some(name.clone()));
        let nobody = act.on.is_empty().then_some(None);
        named.chain(nobody).map(move |on| Done { what, on, ok, needed })
    });
    each.collect()
}

fn what(deed: &Deed) -> &'static str {
    match deed {
        Deed::Start => "start",
        Deed::Stop => "stop",
        Deed::Restart { recreate: false } => "restart",
        Deed::Restart { recreate: true } => "recreate",
        Deed::Publish => "publish",
        Deed::Unpublish => "unpublish",
        Deed::Fault { .. } => "fault",
        Deed::Repair { repair } => repair.name(),
        Deed::Run { .. } => "run",
    }
}

/// Whether it was done; a program that was run says so by its exit code.
fn succeeded(report: &Report, act: &Act) -> bool {
    let exited_with_0 = || {
        let ran = report.phase(&act.step).and_then(|phase| phase.check(&CheckId::Run));
        let end = ProgramState::Exited { code: 0 }.to_string();
        ran.is_some_and(|check| check.observed.ends_with(&format!(": {end}")))
    };
    act.refused.is_none() && (!matches!(act.deed, Deed::Run { .. }) || exited_with_0())
}

/// What succeeds in one run and not in another: it is refused there, or finds nothing to act on.
pub(super) fn fails(before: &[Done], now: &[Done]) -> Vec<String> {
    let same = |one: &Done, other: &Done| (one.what, &one.on) == (other.what, &other.on);
    let mut failing = Vec::new();
    for (at, done) in before.iter().enumerate().filter(|(_, done)| done.ok) {
        let nth = before[..at].iter().filter(|other| same(done, other)).count();
        let fails = match now.iter().filter(|other| same(done, other)).nth(nth) {
            Some(other) => !other.ok,
            None => done.needed,
        };
        if fails {
            let on = done.on.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
            let words = format!("`{}`{on}", done.what);
            if !failing.contains(&words) {
                failing.push(words);
            }
        }
    }
    failing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(what: &'static str, on: Option<&str>, ok: bool) -> Done {
        Done { what, on: on.map(ToOwned::to_owned), ok, needed: what != "restart" }
    }

    #[test]
    fn what_fails_anew_is_named_once() {
        let run = |ok| done("run", Some("app"), ok);
        assert_eq!(fails(&[run(true), run(true)], &[run(true), run(false)]), ["`run` of app"]);
        assert_eq!(fails(&[run(true), run(true)], &[run(false), run(false)]), ["`run` of app"]);
        assert_eq!(fails(&[run(false)], &[run(false)]), Vec::<String>::new());
        assert_eq!(fails(&[run(true)], &[run(true), run(false)]), Vec::<String>::new());
    }

    #[test]
    fn what_finds_nothing_to_act_on_has_failed() {
        let unpublished = [done("unpublish", Some("pod"), true)];
        assert_eq!(fails(&unpublished, &[done("unpublish", None, true)]), ["`unpublish` of pod"]);
        // A probe that finds nothing restarts nobody.
        assert_eq!(fails(&[done("restart", Some("pod"), true)], &[]), Vec::<String>::new());
    }
}
